"""`vigie bench`: speed, as a ratio to a reference run beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli.common import AsJson, fail, loaded

if TYPE_CHECKING:
    from agent.evaluate.bench import PipelineBench
    from agent.evaluate.bench_inference import InferenceBench, Skipped

app = typer.Typer(no_args_is_help=True, help="Measure speed beside a reference run.")


@app.command()
def pipeline(
    clip: Annotated[
        Path | None, typer.Option(help="Clip to run.  [default: the clip of `make run`]", show_default=False)
    ] = None,
    frames: Annotated[int, typer.Option(min=20, help="Frames to measure in each loop.")] = 400,
    as_json: AsJson = False,
) -> None:
    """Measure the agent's whole path and, beside it, the bare model loop: the same clip, network, threads and core."""
    from rich.console import Console
    from rich.progress import Progress

    from agent.capture.frame import SourceError
    from agent.demo.clip import ClipError, fetch
    from agent.evaluate.bench import BenchError, measure

    inference = loaded(None).inference
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        try:
            if clip is None:
                fetching = progress.add_task("clip", total=None)
                clip = fetch(lambda have, want: progress.update(fetching, completed=have, total=want))
            task = progress.add_task(clip.name, total=frames)
            result = measure(clip, inference, frames, lambda done: progress.advance(task, done))
        except (BenchError, ClipError, SourceError) as error:
            fail(str(error), 3)
    if as_json:
        typer.echo(json.dumps({"clip": clip.name, "threads": inference.threads, **asdict(result)}))
    else:
        _print(clip.name, inference.threads, result)


@app.command()
def behaviours(
    frames: Annotated[int, typer.Option(min=20, help="Frames to measure in each loop.")] = 400,
    people: Annotated[int, typer.Option(min=0, max=200, help="People in the picture.")] = 10,
    width: Annotated[int, typer.Option(min=160, max=3840, help="Of the frames, pixels.")] = 768,
    height: Annotated[int, typer.Option(min=90, max=2160, help="Of the frames, pixels.")] = 576,
    as_json: AsJson = False,
) -> None:
    """Measure what tracking and all behaviours at once cost a frame, beside plain background subtraction."""
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

    from agent.evaluate.bench_behaviours import measure

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("simulated square", total=frames)
        result = measure(frames, people, width, height, lambda done: progress.advance(task, done))
    if as_json:
        typer.echo(json.dumps(asdict(result)))
        return
    table = Table("behaviours", "people", "frame", "ms a frame", "background subtraction", "ratio")
    figures = [f"{result.behaviours_ms:.2f}", f"{result.reference_ms:.2f} ms", f"{result.ratio:.2f}"]
    table.add_row(str(len(result.types)), str(people), f"{width}x{height}", *figures)
    Console().print(table)


@app.command()
def journal(
    events: Annotated[int, typer.Option(min=64, help="Events to drain in each loop.")] = 10_000,
    folder: Annotated[
        Path | None, typer.Option(help="On the disk to measure.  [default: the folder for temporary files]")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure how fast the journal drains an outbox, audit log and signatures included, beside a bare SQLite queue."""
    from tempfile import TemporaryDirectory

    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

    from agent.evaluate.bench_journal import measure

    console = Console(stderr=True)
    progress = Progress(console=console, transient=True, disable=not console.is_terminal)
    try:
        with TemporaryDirectory(dir=folder) as place, progress:
            task = progress.add_task("outbox", total=events)
            result = measure(Path(place), events, lambda done: progress.advance(task, done))
    except OSError as error:
        fail(f"{folder or 'the folder for temporary files'}: cannot be written: {error.strerror}", 3)
    if as_json:
        typer.echo(json.dumps({**asdict(result), "ratio": result.ratio}))
        return
    table = Table("drained", "bare queue", "ratio", "processor", "released", "one alone")
    rates = f"{result.drained_per_s:.0f}/s", f"{result.bare_per_s:.0f}/s", f"{result.ratio:.2f}"
    table.add_row(*rates, f"{result.cpu_us:.0f} µs", f"{result.released_per_s:.0f}/s", f"{result.single_ms:.1f} ms")
    Console().print(table)


@app.command()
def inference(
    model: Annotated[
        str | None, typer.Option(help="Network of the registry.  [default: the first detector]", show_default=False)
    ] = None,
    batch: Annotated[str, typer.Option(help="Batch sizes, with commas between them.")] = "1,2,4",
    threads: Annotated[
        int | None,
        typer.Option(min=1, max=64, help="CPU threads.  [default: as in the settings]", show_default=False),
    ] = None,
    calls: Annotated[int, typer.Option(min=10, help="Calls to measure in each loop.")] = 200,
    as_json: AsJson = False,
) -> None:
    """Measure a network on each backend that serves and, beside it, a plain onnxruntime loop on the same input."""
    from rich.console import Console
    from rich.progress import Progress

    from agent.evaluate.bench_inference import measure
    from agent.inference.backend import OPENERS, InferenceError
    from agent.inference.registry import DetectorModel, Registry

    settings = loaded(None).inference
    threads = threads or settings.threads
    sizes = _sizes(batch)
    console = Console(stderr=True)
    try:
        registry = Registry(settings.models)
        chosen = registry.find(model) if model else next(iter(registry.of(DetectorModel)), None)
        if chosen is None:
            fail("the registry has no detector: name a network with --model", 3)
        content = registry.read(chosen)
    except InferenceError as error:
        fail(str(error), 3)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(chosen.name, total=len(OPENERS) * len(sizes))
        results, skipped = measure(content, sizes, threads, calls, lambda done: progress.advance(task, done))
    if as_json:
        figures = {"results": [asdict(result) for result in results], "skipped": [asdict(one) for one in skipped]}
        typer.echo(json.dumps({"model": chosen.name, "threads": threads, **figures}))
    else:
        _print_inference(chosen.name, threads, results, skipped)
    if not results:
        fail("no backend serves with any of these batch sizes", 3)


@app.command()
def sound(
    seconds: Annotated[float, typer.Option(min=10, help="Seconds of sound in each loop.")] = 120,
    as_json: AsJson = False,
) -> None:
    """Measure what it costs to listen to one channel and, beside it, librosa's front end where that is installed."""
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

    from agent.evaluate.bench_sound import measure, turns
    from agent.inference.backend import InferenceError

    inference = loaded(None).inference
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("made-up sound", total=turns(seconds))
        try:
            result = measure(inference, seconds, lambda done: progress.advance(task, done))
        except InferenceError as error:
            fail(str(error), 3)
    if as_json:
        typer.echo(json.dumps({"threads": inference.threads, **asdict(result)}))
        return
    table = Table("one channel", "", title=f"{result.model}, {result.seconds:.0f} s of sound")
    table.add_row("something is heard all the time", f"{result.busy_percent:.2f} % of a core")
    table.add_row("nothing stands out", f"{result.quiet_percent:.2f} % of a core")
    table.add_row("front end, half a second", f"{result.front_ms:.3f} ms")
    if result.librosa_ms is None:
        table.add_row("librosa's front end", "not measured: pip install librosa")
    else:
        table.add_row(f"librosa {result.librosa}'s front end", f"{result.librosa_ms:.3f} ms")
        table.add_row("ours is so many times as fast", f"{result.ratio:.2f}")
    Console().print(table)


def _sizes(text: str) -> list[int]:
    try:
        sizes = sorted({int(part) for part in text.split(",")})
    except ValueError:
        sizes = []
    if not sizes or sizes[0] < 1:
        fail(f"--batch {text}: write whole numbers from 1 up with commas between them, such as 1,2,4", 2)
    return sizes


def _print_inference(model: str, threads: int, results: Sequence[InferenceBench], skipped: Sequence[Skipped]) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    units = ("batch", "inferences/s", "p50 ms", "p95 ms", "p99 ms", "MiB", "ratio")
    title = f"{model}, {threads} thread{'s' if threads > 1 else ''}"
    caption = "MiB: resident memory added; ratio: rate / bare onnxruntime's"
    columns = [Column(unit, justify="right", no_wrap=True) for unit in units]
    table = Table(Column("loop", no_wrap=True), *columns, title=title, caption=caption)
    for result in results:
        for name, speed, ratio in (
            (result.backend, result.served, f"{result.ratio:.3f}"),
            ("  bare loop", result.bare, ""),
        ):
            figures = (speed.inferences_per_s, speed.p50_ms, speed.p95_ms, speed.p99_ms)
            cells = [f"{figure:.2f}" for figure in figures]
            table.add_row(name, str(result.batch), *cells, f"{speed.memory_mib:.0f}", ratio)
        table.add_section()
    console = Console()
    if results:
        console.print(table)
    for one in skipped:
        what = one.backend if one.batch is None else f"{one.backend}, batch {one.batch}"
        console.print(f"not measured: {what}: {one.reason}", markup=False, highlight=False)


def _print(clip: str, threads: int, result: PipelineBench) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    title = (
        f"{clip}, {result.width}x{result.height}, {result.frames} frames, {result.persons:.1f} persons; "
        f"{result.model}, {threads} thread{'s' if threads > 1 else ''}, one core"
    )
    table = Table("a frame", Column("processor ms", justify="right"), Column("wall ms", justify="right"), title=title)
    for name, cost in (
        ("bare model loop", result.bare),
        ("agent", result.agent),
        ("  inference", result.inference),
        ("  all the rest", result.rest),
    ):
        table.add_row(name, f"{cost.cpu_ms:.2f}", f"{cost.wall_ms:.2f}")
    table.add_section()
    table.add_row("agent's rate / bare loop's", f"{result.ratio:.3f}", f"{result.wall_ratio:.3f}")
    Console().print(table)
