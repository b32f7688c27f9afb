"""`vigie eval locate`: how well shots are located, on simulated streets."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli.common import AsJson

if TYPE_CHECKING:
    from agent.evaluate.locating import Located

#: What is wanted of a street of six devices.
_MEDIAN_M, _COVERAGE = 15.0, 0.9


def locate(
    devices: Annotated[list[int] | None, typer.Option(min=1, max=50, help="Devices; several rows.")] = None,
    side_m: Annotated[float, typer.Option(min=10, help="Side of the square they are in, metres.")] = 200.0,
    clock_error_ms: Annotated[float, typer.Option(min=0, help="Standard deviation of each clock, milliseconds.")] = 5.0,
    echo: Annotated[float, typer.Option(min=0, max=1, help="Share of arrivals that are an echo.")] = 0.15,
    echo_ms: Annotated[float, typer.Option(min=1, help="Mean lateness of an echo, milliseconds.")] = 60.0,
    shots: Annotated[int, typer.Option(min=1, help="Shots of each row.")] = 400,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all places, clocks and echoes.")] = 1,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 when a row misses what is wanted.")] = False,
    as_json: AsJson = False,
) -> None:
    """Locate simulated shots by the onsets of several devices; the figures are the simulator's, never field accuracy.

    Wanted: a median error of at most 15 m, and at least 90 % of the shots in their 95 % ellipse.
    """
    from rich.console import Console
    from rich.progress import Progress

    from agent.evaluate.locating import Street, evaluate

    counts = devices or [6]
    rows = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("locating", total=shots * len(counts))
        for count in counts:
            street = Street(count, side_m, clock_error_ms / 1000, echo, echo_ms / 1000)
            rows.append((street, evaluate(street, shots, seed, lambda: progress.advance(task))))
    if as_json:
        typer.echo(json.dumps({"seed": seed, "streets": [{**asdict(street), **asdict(row)} for street, row in rows]}))
    else:
        for street, row in rows:
            _print(street.devices, row)
    if check and not all(_reached(row) for _, row in rows):
        raise typer.Exit(1)


def _reached(row: Located) -> bool:
    return (row.median_error_m or 0.0) <= _MEDIAN_M and (row.coverage or 0.0) >= _COVERAGE


def _print(devices: int, row: Located) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("devices", "shots", "located", "refused", "median error", "9 in 10 below", "in ellipse", "half axis")
    refused = ", ".join(f"{number} {reason}" for reason, number in sorted(row.refused.items()))
    figures = ["" if figure is None else f"{figure:.1f} m" for figure in (row.median_error_m, row.p90_error_m)]
    table.add_row(
        str(devices),
        str(row.shots),
        str(row.located),
        refused,
        *figures,
        "" if row.coverage is None else f"{100 * row.coverage:.1f} %",
        "" if row.median_major_m is None else f"{row.median_major_m:.1f} m",
        style=None if _reached(row) else "yellow",
    )
    Console().print(table)
