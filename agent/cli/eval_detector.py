"""`vigie eval detector`: networks side by side on labelled pictures, or on a clip with ground truth."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli.common import AsJson, fail, loaded
from agent.settings import InferenceSettings

if TYPE_CHECKING:
    from agent.evaluate.detection import Labelled, Operating, Precision, Result
    from agent.perception.detect import ModelDetector

#: Scores that the table for a clip goes through.
_SCORES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7)


def detector(
    images: Annotated[
        Path | None,
        typer.Option(
            help="Folder of pictures (.jpg) with YOLO labels (.txt), or with a manifest.csv.", show_default=False
        ),
    ] = None,
    clip: Annotated[
        Path | None, typer.Option(help="Instead of pictures: a clip with persons.", show_default=False)
    ] = None,
    gt: Annotated[
        Path | None, typer.Option(help="The clip's ground truth, MOTChallenge text.", show_default=False)
    ] = None,
    fps: Annotated[float, typer.Option(min=0.1, max=60, help="Frames of the clip looked at each second.")] = 2.0,
    overlap: Annotated[
        float, typer.Option(min=0.1, max=0.95, help="Intersection over union that makes a hit, in a clip.")
    ] = 0.4,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="Network of the registry; several may be named.  [default: the first that is there]",
            show_default=False,
        ),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, max=64, help="CPU threads of one inference.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Find objects and compare with the truth: average precision and recall by size, milliseconds a frame.

    On pictures: average precision for each class, and for all motor vehicles taken as one. On a clip: precision and
    recall of persons at the score in use and at others.
    """
    from agent.capture.frame import SourceError
    from agent.evaluate.detection import LabelError, folder, people, read
    from agent.inference.backend import InferenceError

    inference = loaded(None).inference.model_copy(update={"threads": threads})
    if (images is None) == (clip is None) or (clip is None) != (gt is None):
        fail("give either --images, or --clip with --gt", 2)
    try:
        detectors = _open(model, inference)
        if images is not None:
            sets = folder(images)
            results = {name: _find(detectors, map(read, paths), len(paths), name) for name, paths in sets.items()}
            _report_pictures(results, as_json=as_json)
        elif clip is not None and gt is not None:
            result = _find(detectors, people(clip, gt, fps), None, clip.name)
            _report_clip(clip.name, result, inference.score, overlap, as_json=as_json)
    except (LabelError, OSError) as error:
        fail(str(error), 2)
    except (InferenceError, SourceError) as error:
        fail(str(error), 3)


def _open(names: Sequence[str] | None, settings: InferenceSettings) -> dict[str, ModelDetector]:
    from agent.evaluate.detection import LOWEST_SCORE
    from agent.inference.backend import InferenceError, select
    from agent.inference.registry import DetectorModel, Registry
    from agent.perception.detect import ModelDetector

    registry = Registry(settings.models)
    detectors: dict[str, ModelDetector] = {}
    problems = []
    known = list(registry.of(DetectorModel))
    for name in names or [entry.name for entry in known]:
        entry = registry.find(name)
        if not isinstance(entry, DetectorModel):
            raise InferenceError(f"{name} is no detector; there are: {', '.join(one.name for one in known)}")
        try:
            backend, _ = select(settings.backend, registry.read(entry), settings.threads)
            detectors[name] = ModelDetector(backend, entry, LOWEST_SCORE)
        except InferenceError as error:
            if names:
                raise
            problems.append(f"{name}: {error}")
            continue
        if not names:
            break
    if not detectors:
        raise InferenceError("no detector serves: " + "; ".join(problems))
    return detectors


def _find(
    detectors: dict[str, ModelDetector], pictures: Iterable[Labelled], total: int | None, title: str
) -> dict[str, Result]:
    from rich.console import Console
    from rich.progress import track

    from agent.evaluate.detection import find

    console = Console(stderr=True)
    steps = track(
        pictures, total=total, description=title, console=console, transient=True, disable=not console.is_terminal
    )
    return find(detectors, steps)


def _report_pictures(results: dict[str, dict[str, Result]], *, as_json: bool) -> None:
    from agent.evaluate.detection import GROUPS, precision

    figures = {
        name: {
            model: {
                "ms_per_frame": result.ms_per_frame,
                "pictures": len(result.found),
                "classes": {
                    group: found for group, kinds in GROUPS.items() if (found := precision(result.found, kinds))
                },
            }
            for model, result in of_set.items()
        }
        for name, of_set in results.items()
    }
    if as_json:
        typer.echo(json.dumps(figures, default=asdict))
    else:
        _print_pictures(figures)


def _print_pictures(figures: dict[str, dict[str, dict[str, object]]]) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    columns = [
        Column(name, justify="right", no_wrap=True) for name in ("boxes", "AP50", "AP50-95", "small", "medium", "large")
    ]
    for name, of_set in figures.items():
        title = f"{name}: {next(iter(of_set.values()))['pictures']} pictures"
        caption = "ms a frame, median; small (below 32x32 pixels), medium, large (from 96x96): recall at overlap 0.5"
        table = Table(Column("model, class", no_wrap=True), *columns, title=title, caption=caption)
        for model, of_model in of_set.items():
            table.add_row(f"{model}, {of_model['ms_per_frame']:.1f} ms", style="bold")
            classes: dict[str, Precision] = of_model["classes"]  # type: ignore[assignment]
            for group, found in classes.items():
                recalls = [
                    f"{found.recall[size]:.2f}" if size in found.recall else "" for size in ("small", "medium", "large")
                ]
                table.add_row(f"  {group}", str(found.boxes), f"{found.ap50:.3f}", f"{found.ap50_95:.3f}", *recalls)
            table.add_section()
        Console().print(table)


def _report_clip(name: str, results: dict[str, Result], score: float, overlap: float, *, as_json: bool) -> None:
    from agent.evaluate.detection import operating

    scores = sorted({*_SCORES, score})
    figures = {
        model: (result, [operating(result.found, least, overlap) for least in scores])
        for model, result in results.items()
    }
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "clip": name,
                    "overlap": overlap,
                    "score_in_use": score,
                    "models": {
                        model: {
                            "ms_per_frame": result.ms_per_frame,
                            "frames": len(result.found),
                            "at": [asdict(one) for one in at],
                        }
                        for model, (result, at) in figures.items()
                    },
                }
            )
        )
    else:
        _print_clip(name, figures, score, overlap)


def _print_clip(name: str, figures: dict[str, tuple[Result, list[Operating]]], score: float, overlap: float) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    columns = [Column(unit, justify="right") for unit in ("score", "precision", "recall", "count error")]
    frames = len(next(iter(figures.values()))[0].found)
    title = f"{name}: persons in {frames} frames, overlap {overlap:g}; bold: the score in use"
    table = Table(Column("model", no_wrap=True), *columns, title=title)
    for model, (result, at) in figures.items():
        for place, one in enumerate(at):
            label = f"{model}, {result.ms_per_frame:.1f} ms" if place == 0 else ""
            style = "bold" if one.score == score else None
            cells = [f"{figure:.3f}" for figure in (one.precision, one.recall)] + [f"{one.count_error:.2f}"]
            table.add_row(label, f"{one.score:.2f}", *cells, style=style)
        table.add_section()
    Console().print(table)
