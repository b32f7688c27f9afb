"""`vigie replay`: what the agent would tell of a clip or a recording, offline."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli.clip import Fps, sound_ticks, source_of, ticks, with_fps
from agent.cli.common import fail, loaded
from agent.settings import CameraSettings, InferenceSettings, Settings, SettingsError

if TYPE_CHECKING:
    from agent.behaviours.episode import EpisodeChange
    from agent.replay import Tick


def replay(
    clip: Annotated[str, typer.Argument(help="Clip, sound recording, or a scenario such as sim:crowd.")],
    rules: Annotated[str, typer.Option(help="labels.json#CLIPNAME, or a configuration file.")],
    out: Annotated[Path, typer.Option(help="File for one JSON line per episode change; - is standard output.")] = Path(
        "-"
    ),
    camera: Annotated[str | None, typer.Option(help="Camera of the configuration whose rules to use.")] = None,
    fps: Fps = None,
) -> None:
    """Run a clip, with its sound track, or a recording offline through the code of the live path, on its own clock.

    The result is for evaluation on this machine; nothing is published and no policy is asked. A clip does not know
    when it was, so every rule is on whatever its schedule.
    """
    try:
        with nullcontext(sys.stdout) if str(out) == "-" else out.open("w", encoding="utf-8") as file:
            for tick in _ticks(clip, rules, camera, fps):
                file.writelines(f"{_line(change)}\n" for change in tick.changes)
    except OSError as error:
        fail(f"{out}: cannot be written: {error.strerror}", 3)


def _ticks(clip: str, rules: str, camera: str | None, fps: float | None) -> Iterator[Tick]:
    path, _, name = rules.partition("#")
    title = Path(clip).name
    if not path.endswith(".toml"):
        with_rules, inference = _labelled(path, name or title, clip)
        return ticks(with_fps(with_rules, fps), inference, title)
    settings = loaded(Path(path))
    seen, heard = _tracks(clip) if settings.microphone.rules else (True, False)
    if not seen:
        return sound_ticks(clip, settings, title)
    with_rules = with_fps(_configured(path, settings, camera, clip), fps)
    return ticks(with_rules, settings.inference, title, settings.microphone if heard else None)


def _tracks(clip: str) -> tuple[bool, bool]:
    """Whether there is something to see, and something to hear."""
    from agent.capture.frame import SourceError
    from agent.capture.sound import tracks

    if clip.startswith("sim:"):
        return True, False
    try:
        return tracks(Path(clip.removeprefix("file:")))
    except SourceError as error:
        fail(str(error), 3)


def _configured(path: str, settings: Settings, camera: str | None, clip: str) -> CameraSettings:
    """The camera of a configuration that watches the clip, with the rules that there is a behaviour for."""
    from agent.behaviours.registry import BEHAVIOURS

    found = [c for c in settings.cameras if camera in {None, c.name}]
    if len(found) != 1:
        names = ", ".join(c.name for c in settings.cameras) or "none"
        fail(f"{path}: name one camera with --camera; it has: {names}", 2)
    skipped = [rule for rule in found[0].rules if rule.event_type not in BEHAVIOURS]
    _tell_skipped([(rule.type, rule.zone) for rule in skipped])
    built = tuple(rule for rule in found[0].rules if rule not in skipped)
    return found[0].model_copy(update={"source": source_of(clip), "rules": built})


def _labelled(path: str, name: str, clip: str) -> tuple[CameraSettings, InferenceSettings]:
    """The camera that watches a labelled clip, with the rules that there is a behaviour for."""
    from agent.evaluate.labels import read_labels

    settings = loaded(None)
    try:
        labels = read_labels(Path(path)).clips
        if name not in labels:
            fail(f"{path}: labels no clip called {name}; it has: {', '.join(labels)}", 2)
        with_rules = labels[name].camera(source_of(clip))
    except SettingsError as error:
        fail(str(error), 2)
    _tell_skipped([(rule.type, rule.zone) for rule in labels[name].split()[1]])
    return with_rules, settings.inference


def _tell_skipped(rules: list[tuple[str, str | None]]) -> None:
    for event_type, zone in rules:
        where = f" in zone {zone}" if zone else ""
        typer.echo(f"vigie: skipped: {event_type}{where}: this version has no behaviour for it", err=True)


def _line(change: EpisodeChange) -> str:
    return json.dumps(
        {
            "t": round(change.time, 3),
            "type": change.type.label,
            "zone": change.zone,
            "phase": change.phase.name.lower(),
            "confidence": change.confidence.name.lower(),
            **({"evidence": change.evidence.name.lower()} if change.evidence else {}),
            **({"onset": round(change.onset, 4)} if change.onset is not None else {}),
        }
    )
