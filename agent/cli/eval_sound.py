"""`vigie eval sound`: our taggers beside YAMNet, on recordings that none of them learnt from."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli.common import AsJson, fail, loaded

if TYPE_CHECKING:
    from rich.progress import Progress

    from agent.evaluate.operating import Rate
    from agent.evaluate.sound import Estimate, Figures, System
    from agent.evaluate.street import StreetFigures
    from agent.perception.tag import Tagger
    from agent.settings import InferenceSettings


def sound(
    audio: Annotated[Path, typer.Option(help="Folder of the sounds.")],
    manifest: Annotated[
        Path | None, typer.Option(help="Their labels.  [default: manifest.csv in that folder]", show_default=False)
    ] = None,
    folds: Annotated[
        Path | None,
        typer.Option(
            help="Networks that the recipe made for each fold; else those of the registry.", show_default=False
        ),
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="Only the network of this name; may be repeated.", show_default=False)
    ] = None,
    unheard: Annotated[
        list[str] | None,
        typer.Option(
            help="Test on recordings for this use (ship, noncommercial, evaluate), from which the networks, folds "
            "apart, did not learn; may be repeated.  [default: evaluate; with --folds all]",
            show_default=False,
        ),
    ] = None,
    continuous: Annotated[
        bool,
        typer.Option(
            "--continuous", help="Also listen to hours of street as the agent does, with events laid over it."
        ),
    ] = False,
    alone: Annotated[bool, typer.Option("--alone", help="Without YAMNet beside.")] = False,
    yamnet: Annotated[
        Path | None,
        typer.Option(help="Folder of YAMNet.  [default: models beside the folder of the sounds]", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Name sounds and compare with their labels, at thresholds that were set on other recordings.

    With --folds each recording is heard by a network that learnt nothing of it (cross-validation). Without, only those
    are heard that nothing learnt from. YAMNet stands beside as it comes, and with heads that learnt our classes from
    its embedding in the same folds.
    """
    import numpy as np
    from rich.console import Console
    from rich.progress import Progress

    from agent.evaluate.sound import compare
    from agent.evaluate.sounds import SoundsError, read_manifest
    from agent.evaluate.sounds import folds as deal
    from agent.evaluate.yamnet import Yamnet
    from agent.inference.backend import InferenceError

    inference = loaded(None).inference
    uses = set(unheard or (["ship", "noncommercial", "evaluate"] if folds else ["evaluate"]))
    walked: dict[str, StreetFigures] = {}
    try:
        sounds = read_manifest(manifest or audio / "manifest.csv")
        tested = np.array([item.use in uses and not item.unsure for item in sounds], np.bool_)
        dealt = np.where(tested, deal(sounds), -1)
        taggers = _of_folds(folds, inference) if folds else _registered(inference)
        taggers = {name: taggers[name] for name in taggers if not model or name in model}
        if not tested.any() or not taggers:
            fail("nothing to test: no recording is for this use, or no network has this name", 2)
        reference = None if alone else Yamnet(yamnet or audio.parent / "models")
        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("listening", total=len(sounds))
            systems = compare(audio, sounds, dealt, taggers, reference, lambda: progress.advance(task))
            for system in systems if continuous else ():
                if system.name in taggers:
                    members = {
                        fold: [item for item, place in zip(sounds, dealt, strict=True) if place == fold]
                        for fold in system.points
                    }
                    walked[system.name] = _walked(audio, system, taggers[system.name], members, progress)
    except (SoundsError, InferenceError) as error:
        fail(str(error), 2)
    if as_json:
        plain = {system.name: _plain(system.figures) | {"ms_per_patch": system.ms_per_patch} for system in systems}
        typer.echo(json.dumps({"systems": plain, "street": _plain(walked)}))
    else:
        how = f"four folds by recording, {', '.join(sorted(uses))}"
        _print(systems, how)
        for name, figures in walked.items():
            _print_street(name, figures)


def _walked(
    audio: Path, system: System, taggers: Mapping[int, Tagger], members: Mapping[int, Sequence[object]], bar: Progress
) -> StreetFigures:
    from agent.evaluate.street import Fold, length, walk

    tested = {fold: Fold(taggers[fold], point, members[fold]) for fold, point in system.points.items()}  # type: ignore[arg-type]
    task = bar.add_task(f"{system.name} in the street", total=length(tested))
    return walk(audio, tested, lambda: bar.advance(task))


def _of_folds(folder: Path, inference: InferenceSettings) -> dict[str, dict[int, Tagger]]:
    """The taggers of a recipe by name, and in each name by the fold that they have not heard."""
    from agent.evaluate.sounds import FOLDS
    from agent.inference.backend import InferenceError, select
    from agent.perception.tag import Tagger

    names = sorted({path.stem.rpartition("-")[0] for path in folder.glob("*-[0-9].onnx")})
    if not names:
        raise InferenceError(f"{folder}: no networks of folds, such as vigie-sound-0.onnx")
    taggers: dict[str, dict[int, Tagger]] = {name: {} for name in names}
    for name in names:
        for fold in range(FOLDS):
            path = folder / f"{name}-{fold}.onnx"
            try:
                content = path.read_bytes()
            except OSError as error:
                raise InferenceError(f"{path}: cannot be read: {error.strerror}") from error
            taggers[name][fold] = Tagger(select(inference.backend, content, inference.threads)[0])
    return taggers


def _registered(inference: InferenceSettings) -> dict[str, dict[int, Tagger]]:
    from agent.evaluate.sounds import FOLDS
    from agent.inference.backend import select
    from agent.inference.registry import Registry, SoundModel
    from agent.perception.tag import Tagger

    registry = Registry(inference.models)
    taggers = {}
    for model in registry.of(SoundModel):
        if registry.path(model):
            tagger = Tagger(select(inference.backend, registry.read(model), inference.threads)[0])
            taggers[model.name] = dict.fromkeys(range(FOLDS), tagger)
    return taggers


def _plain(figures: object) -> dict[str, object]:
    """The same for JSON, which knows no NaN: null stands where there is no figure."""
    plain = _value(figures)
    return plain if isinstance(plain, dict) else {"value": plain}


def _value(figures: object) -> object:
    from agent.evaluate.operating import Rate

    if isinstance(figures, Rate):
        rate: Mapping[str, object] = {"per_hour": figures.per_hour, "at_most": figures.at_most}
        return {"count": figures.count, "hours": figures.hours, **{name: _value(one) for name, one in rate.items()}}
    if is_dataclass(figures):
        return {field.name: _value(getattr(figures, field.name)) for field in fields(figures)}
    if isinstance(figures, Mapping):
        return {name: _value(figure) for name, figure in figures.items()}
    if isinstance(figures, list | tuple):
        return [_value(figure) for figure in figures]
    return None if isinstance(figures, float) and math.isnan(figures) else figures


def _print(systems: Sequence[System], how: str) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    console = Console()
    table = Table(Column("class", no_wrap=True), "recordings", title=f"average precision, {how}")
    for system in systems:
        table.add_column(system.name)
    for name, figures in systems[0].figures.classes.items():
        shown = [_show(system.figures.classes[name].average_precision) for system in systems]
        table.add_row(name, str(figures.recordings), *shown)
    table.add_section()
    for title, hard in (("mean", False), ("mean, hard negatives among the sounds", True)):
        means = [s.figures.average_precision_hard if hard else s.figures.average_precision for s in systems]
        table.add_row(title, "", *map(_show, means), style="" if hard else "bold")
    console.print(table)
    for system in systems:
        console.print(_operating(system.name, system.figures))
        console.print(_registry(system.figures), markup=False, highlight=False, soft_wrap=True)
    costs = [f"{system.name} {system.ms_per_patch:.1f}" for system in systems]
    console.print(f"Milliseconds a patch, front end included: {', '.join(costs)}", highlight=False)
    hours = systems[0].figures.classes["gunshot"].false_alarms.hours
    console.print(f"False alarms are of {hours:.2f} h of street; behind a figure: its 90 % interval", highlight=False)


def _operating(name: str, figures: Figures) -> object:
    """What comes of the thresholds; it fits 80 columns."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Column, Table

    table = Table(
        Column("class", no_wrap=True),
        Column("precision", min_width=9),
        Column("recall", min_width=9),
        "F1",
        "false alarms /h (95 % below)",
        "hard nega- tives",
        Column("found at 1 false alarm/h", min_width=9),
        "thres- hold",
        title=f"{name}, thresholds of the other folds; temperature {figures.temperature:.2f}",
        caption="*: experimental, off unless a rule asks",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        show_edge=False,
    )
    for label, one in figures.classes.items():
        table.add_row(
            f"{label} *" if label in figures.experimental else label,
            *map(_show, (one.precision, one.recall)),
            f"{one.f1.value:.2f}",
            _rate(one.false_alarms),
            f"{one.fooled:.0%}",
            _show(one.found),
            f"{figures.thresholds[label]:.2f}",
        )
    return table


def _registry(figures: Figures) -> str:
    """The lines of the registry that all folds together ask for."""
    levels = ", ".join(f"{name} = {level:.2f}" for name, level in figures.thresholds.items())
    doubtful = ", ".join(f'"{name}"' for name in figures.experimental)
    return f"temperature = {figures.temperature:.2f}\nthresholds = {{ {levels} }}\nexperimental = [{doubtful}]"


def _print_street(name: str, figures: StreetFigures) -> None:
    from itertools import pairwise

    from rich.console import Console
    from rich.table import Column, Table

    from agent.evaluate.street import BANDS_DB

    console = Console()
    bands = [f"{low} to {high} dB" for low, high in pairwise(BANDS_DB)]
    table = Table(
        Column("class", no_wrap=True), "false alarms/h (95 % below)", *bands, title=f"{name}, events laid over street"
    )
    for label, rows in figures.heard.items():
        table.add_row(label, _rate(figures.false_alarms[label]), *(f"{one.heard}/{one.of}" for one in rows))
    console.print(table)
    fooled = ", ".join(f"{kind} {one.heard}/{one.of}" for kind, one in figures.fooled.items())
    console.print(f"Imitated hard negatives heard as any class: {fooled}", highlight=False)


def _rate(rate: Rate) -> str:
    return f"{rate.per_hour:.2f} ({rate.at_most:.2f})"


def _show(estimate: Estimate) -> str:
    return f"{estimate.value:.2f} {estimate.low:.2f}-{estimate.high:.2f}"
