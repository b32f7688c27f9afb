"""`vigie bench`: speed, as a ratio to a reference run beside it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli.common import AsJson, fail, loaded

if TYPE_CHECKING:
    from agent.evaluate.bench import PipelineBench

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
