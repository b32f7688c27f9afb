"""`vigie eval`: accuracy, measured on labelled data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli.clip import Fps, ticks, with_fps
from agent.cli.common import AsJson, fail, loaded
from agent.cli.eval_detector import detector
from agent.cli.eval_forecast import forecast
from agent.cli.eval_locate import locate
from agent.cli.eval_patch import patch
from agent.cli.eval_simulated import errors, simulated
from agent.cli.eval_sound import sound
from agent.contract import ContractError, EventType
from agent.settings import CameraSettings, SettingsError

if TYPE_CHECKING:
    from agent.evaluate.events import Verdict
    from agent.evaluate.tracking import Figures, TrackerResult

app = typer.Typer(no_args_is_help=True, help="Measure accuracy on labelled data.")
app.command()(detector)
app.command()(errors)
app.command()(forecast)
app.command()(locate)
app.command()(patch)
app.command()(simulated)
app.command()(sound)


@app.command()
def events(
    labels: Annotated[Path, typer.Option(help="labels.json, format vigie-eval/1.")],
    clips: Annotated[Path, typer.Option(help="Folder of the clips.")],
    only: Annotated[str | None, typer.Option(help="Event types to look at, with commas between them.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 when a clip fails.")] = False,
    fps: Fps = None,
    as_json: AsJson = False,
) -> None:
    """Replay labelled clips and say, clip by clip, what was hit, what was missed and what was told for nothing.

    A hit is the one episode that starts within the span of a labelled event; its delay counts from the span's
    beginning. A clip for whose rules there is no behaviour yet is shown as `not built`.
    """
    from agent.evaluate.events import judge
    from agent.evaluate.labels import read_labels

    inference = loaded(None).inference
    verdicts = []
    try:
        labelled = read_labels(labels)
        if only is not None:
            labelled = labelled.only({EventType.parse(name.strip()).label for name in only.split(",")})
        for name, clip in labelled.clips.items():
            changes = []
            if clip.split()[0]:
                camera = with_fps(clip.camera(f"file:{clips / name}"), fps)
                changes = [change for tick in ticks(camera, inference, name) for change in tick.changes]
            verdicts.append(judge(name, clip, changes))
    except (SettingsError, ContractError) as error:
        fail(str(error), 2)
    if as_json:
        typer.echo(json.dumps({"clips": [{**asdict(verdict), "result": verdict.result} for verdict in verdicts]}))
    else:
        _print_verdicts(verdicts)
    if check and any(verdict.result == "fail" for verdict in verdicts):
        raise typer.Exit(1)


def _print_verdicts(verdicts: Sequence[Verdict]) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    styles = {"pass": "green", "fail": "bold red", "not built": "dim"}
    table = Table(Column("clip", no_wrap=True), "result", "types built", "hits", "misses", "false alarms", "delay")
    for verdict in verdicts:
        watched = len(verdict.built)
        figures = [str(figure) for figure in (verdict.hits, verdict.misses, verdict.false_alarms)]
        table.add_row(
            verdict.clip,
            f"[{styles[verdict.result]}]{verdict.result}[/]",
            f"{watched} of {watched + len(verdict.not_built)}",
            *(figures if watched else [""] * len(figures)),
            "" if verdict.delay_s is None else f"{verdict.delay_s:.1f} s",
        )
    console = Console()
    console.print(table)
    if not_built := sorted({name for verdict in verdicts for name in verdict.not_built}):
        console.print(f"Not built: {', '.join(not_built)}", highlight=False)


@app.command()
def counting(
    clip: Annotated[Path, typer.Option(help="Clip, its first frame being frame 1 of the ground truth.")],
    gt: Annotated[Path, typer.Option(help="Ground truth, MOTChallenge text.")],
    fps: Fps = None,
    as_json: AsJson = False,
) -> None:
    """Count the persons in each frame by their tracks, and compare with ground truth."""
    from rich.console import Console
    from rich.table import Table

    from agent.evaluate.counting import TruthError, count, read_truth

    camera = with_fps(CameraSettings(name="clip", source=f"file:{clip}"), fps)
    try:
        result = count(ticks(camera, loaded(None).inference, clip.name), read_truth(gt))
    except TruthError as error:
        fail(str(error), 2)
    if as_json:
        typer.echo(json.dumps({"clip": clip.name, **asdict(result)}))
        return
    table = Table("clip", "frames", "persons there", "persons counted", "mean absolute error", "bias")
    figures = [f"{figure:.2f}" for figure in (result.truth, result.counted, result.mae)]
    table.add_row(clip.name, str(result.frames), *figures, f"{result.bias:+.2f}")
    Console().print(table)


@app.command()
def tracker(
    mot: Annotated[Path, typer.Option(help="MOTChallenge folder: a folder a sequence, with det.txt and gt.txt.")],
    beside: Annotated[bool, typer.Option("--beside", help="Run the trackers of the package `trackers` too.")] = False,
    fps: Annotated[
        float | None,
        typer.Option(min=1, max=240, help="Frame rate of sequences without seqinfo.ini.  [default: MOT15's, or 30]"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Track public detections, and compare with ground truth: MOTA, IDF1, switches and milliseconds a frame."""
    from rich.console import Console
    from rich.progress import Progress

    from agent.evaluate.tracking import BESIDE, OURS, TrackingError, evaluate, read_sequences

    repeats = 3
    names = (OURS, *BESIDE) if beside else (OURS,)
    try:
        sequences = read_sequences(mot, fps)
        frames = sum(len(sequence.detections) for sequence in sequences)
        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("tracking", total=frames * repeats * len(names))
            results = evaluate(names, sequences, repeats, lambda done: progress.advance(task, done))
    except TrackingError as error:
        fail(str(error), 2)
    ours = results[0].overall.ms_per_frame
    faster = {result.tracker: result.overall.ms_per_frame / ours for result in results[1:]}
    if as_json:
        rates = {sequence.name: sequence.fps for sequence in sequences}
        typer.echo(json.dumps({"fps": rates, "trackers": [asdict(result) for result in results], "faster": faster}))
    else:
        _print_trackers(results, faster)


def _print_trackers(results: Sequence[TrackerResult], faster: dict[str, float]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("tracker and sequence")
    for column in ("MOTA", "IDF1", "switches", "false", "missed", "ms/frame"):
        table.add_column(column, justify="right")

    def add(name: str, figures: Figures, style: str | None = None) -> None:
        rates, counts = (figures.mota, figures.idf1), (figures.switches, figures.false_positives, figures.misses)
        cells = (*(f"{rate:.3f}" for rate in rates), *(f"{count}" for count in counts), f"{figures.ms_per_frame:.3f}")
        table.add_row(name, *cells, style=style)

    for result in results:
        add(result.tracker, result.overall, style="bold")
        for name, figures in result.sequences.items():
            add(f"  {name}", figures)
        table.add_section()
    console = Console()
    console.print(table)
    for name, times in faster.items():
        console.print(f"{results[0].tracker} is {times:.1f} times as fast as {name}")
