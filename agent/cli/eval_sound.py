"""`vigie eval sound`: our taggers beside YAMNet, on recordings that none of them learnt from."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli.common import AsJson, fail, loaded

if TYPE_CHECKING:
    from agent.evaluate.sound import Estimate, System
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
            help="Networks that the recipe made for each fold; else those of the registry, on sounds for tests alone.",
            show_default=False,
        ),
    ] = None,
    yamnet: Annotated[
        Path | None,
        typer.Option(help="Folder of YAMNet.  [default: models beside the folder of the sounds]", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Name sounds and compare with their labels: average precision, and what is found at one false alarm an hour.

    With --folds each recording is heard by a network that learnt nothing of it (cross-validation). Without, only those
    marked `evaluate` are heard, which nothing may learn from. YAMNet stands beside as it comes, and with heads that
    learnt our classes from its embedding in the same folds.
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
    try:
        sounds = read_manifest(manifest or audio / "manifest.csv")
        dealt = deal(sounds) if folds else np.array([0 if item.use == "evaluate" else -1 for item in sounds])
        taggers = _of_folds(folds, inference) if folds else _registered(inference)
        reference = Yamnet(yamnet or audio.parent / "models")
        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("listening", total=len(sounds))
            systems = compare(audio, sounds, dealt, taggers, reference, lambda: progress.advance(task))
    except (SoundsError, InferenceError) as error:
        fail(str(error), 2)
    if as_json:
        typer.echo(json.dumps({"systems": [_plain(asdict(system)) for system in systems]}))
    else:
        _print(systems, "four folds by recording" if folds else "recordings for tests alone")


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
    from agent.inference.backend import select
    from agent.inference.registry import Registry, SoundModel
    from agent.perception.tag import Tagger

    registry = Registry(inference.models)
    return {
        model.name: {0: Tagger(select(inference.backend, registry.read(model), inference.threads)[0])}
        for model in registry.of(SoundModel)
        if registry.path(model)
    }


def _plain(figures: object) -> object:
    """The same with null where there is no figure: JSON knows no NaN."""
    if isinstance(figures, Mapping):
        return {name: _plain(figure) for name, figure in figures.items()}
    return None if isinstance(figures, float) and math.isnan(figures) else figures


def _print(systems: Sequence[System], how: str) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    console = Console()
    for title, pick in (("average precision", 0), ("found at one false alarm an hour", 1)):
        table = Table(Column("class", no_wrap=True), "recordings", title=f"{title}, {how}")
        for system in systems:
            table.add_column(system.name)
        for name, figures in systems[0].figures.classes.items():
            every = [system.figures.classes[name] for system in systems]
            shown = [_show((item.precision, item.found)[pick]) for item in every]
            table.add_row(name, str(figures.recordings), *shown)
        if pick == 0:
            table.add_section()
            table.add_row("mean", "", *(_show(system.figures.precision) for system in systems), style="bold")
        console.print(table)
    fooled = [f"{system.name} {system.figures.classes['gunshot'].fooled:.0%}" for system in systems]
    console.print(f"Hard negatives taken for gunshots at that threshold: {', '.join(fooled)}", highlight=False)
    costs = [f"{system.name} {system.ms_per_patch:.1f}" for system in systems]
    console.print(f"Milliseconds a patch, front end included: {', '.join(costs)}", highlight=False)
    hours = systems[0].figures.background_hours
    console.print(
        f"False alarms are counted on {hours:.2f} h of background; in brackets: 90 % intervals", highlight=False
    )


def _show(estimate: Estimate) -> str:
    return f"{estimate.value:.2f} ({estimate.low:.2f}-{estimate.high:.2f})"
