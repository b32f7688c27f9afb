"""`vigie replay`: what the agent would tell of a clip, offline."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli.clip import Fps, source_of, ticks, with_fps
from agent.cli.common import fail, loaded
from agent.settings import CameraSettings, InferenceSettings, SettingsError

if TYPE_CHECKING:
    from agent.behaviours.episode import EpisodeChange


def replay(
    clip: Annotated[str, typer.Argument(help="Clip, or a scenario such as sim:crowd.")],
    rules: Annotated[str, typer.Option(help="labels.json#CLIPNAME, or a configuration file.")],
    out: Annotated[Path, typer.Option(help="File for one JSON line per episode change; - is standard output.")] = Path(
        "-"
    ),
    camera: Annotated[str | None, typer.Option(help="Camera of the configuration whose rules to use.")] = None,
    fps: Fps = None,
) -> None:
    """Run a clip offline through the code of the live path, on the clip's own clock.

    The result is for evaluation on this machine; nothing is published and no policy is asked. A clip does not know
    when it was, so every rule is on whatever its schedule.
    """
    with_rules, inference = _rules(rules, clip, camera)
    try:
        with nullcontext(sys.stdout) if str(out) == "-" else out.open("w", encoding="utf-8") as file:
            for tick in ticks(with_fps(with_rules, fps), inference, Path(clip).name):
                file.writelines(f"{_line(change)}\n" for change in tick.changes)
    except OSError as error:
        fail(f"{out}: cannot be written: {error.strerror}", 3)


def _rules(rules: str, clip: str, camera: str | None) -> tuple[CameraSettings, InferenceSettings]:
    """The camera that watches the clip, with the rules that there is a behaviour for; the others are named."""
    from agent.behaviours.registry import BEHAVIOURS
    from agent.evaluate.labels import read_labels

    path, _, name = rules.partition("#")
    if path.endswith(".toml"):
        settings = loaded(Path(path))
        found = [c for c in settings.cameras if camera in {None, c.name}]
        if len(found) != 1:
            names = ", ".join(c.name for c in settings.cameras) or "none"
            fail(f"{path}: name one camera with --camera; it has: {names}", 2)
        skipped = [rule for rule in found[0].rules if rule.event_type not in BEHAVIOURS]
        built = tuple(rule for rule in found[0].rules if rule not in skipped)
        with_rules = found[0].model_copy(update={"source": source_of(clip), "rules": built})
        unserved = [(rule.type, rule.zone) for rule in skipped]
    else:
        settings = loaded(None)
        name = name or Path(clip).name
        try:
            labels = read_labels(Path(path)).clips
            if name not in labels:
                fail(f"{path}: labels no clip called {name}; it has: {', '.join(labels)}", 2)
            with_rules = labels[name].camera(source_of(clip))
        except SettingsError as error:
            fail(str(error), 2)
        unserved = [(rule.type, rule.zone) for rule in labels[name].split()[1]]
    for event_type, zone in unserved:
        where = f" in zone {zone}" if zone else ""
        typer.echo(f"vigie: skipped: {event_type}{where}: this version has no behaviour for it", err=True)
    return with_rules, settings.inference


def _line(change: EpisodeChange) -> str:
    return json.dumps(
        {
            "t": round(change.time, 3),
            "type": change.type.label,
            "zone": change.zone,
            "phase": change.phase.name.lower(),
            "confidence": change.confidence.name.lower(),
        }
    )
