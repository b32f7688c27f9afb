"""`vigie eval forecast`: how good forecasts of a count were."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import typer

from agent.cli.clip import source_of, ticks
from agent.cli.common import AsJson, fail, loaded
from agent.settings import CameraSettings


def forecast(
    limit: Annotated[int, typer.Option(min=1, help="Persons that are too many.")],
    counts: Annotated[
        Path | None, typer.Option(help="Persons over time: a CSV file with the columns time_s and count.")
    ] = None,
    clip: Annotated[str | None, typer.Option(help="Count in a clip, or in `sim:NAME?…`, instead.")] = None,
    horizon_s: Annotated[float, typer.Option(min=10, help="How far ahead, seconds.")] = 300.0,
    as_json: AsJson = False,
) -> None:
    """Forecast at each moment whether a count reaches a limit, and compare with what came: the Brier score.

    The Brier score is the mean squared difference of forecast and outcome; it stands beside that of somebody who always
    says how often it happens. Exit code 2 when the counts cannot be used.
    """
    from rich.console import Console
    from rich.table import Table

    from agent.evaluate.forecast import backtest

    if (counts is None) == (clip is None):
        fail("give --counts or --clip, one of them", 2)
    try:
        series = _read(counts) if counts else _count(str(clip))
        result = backtest(series, limit, horizon_s)
    except (OSError, ValueError) as error:
        fail(str(error), 2)
    if as_json:
        typer.echo(json.dumps({"limit": limit, "horizon_s": horizon_s, **asdict(result)}))
        return
    table = Table("forecasts", "Brier score", "of the rate", "right", "crossings", "foreseen", "lead")
    scores = [f"{result.brier:.3f}", f"{result.brier_of_rate:.3f}", f"{100 * result.right:.0f} %"]
    lead = "" if result.lead_s is None else f"{result.lead_s:.0f} s"
    table.add_row(str(result.forecasts), *scores, str(result.crossings), str(result.foreseen), lead)
    Console().print(table)


def _read(path: Path) -> list[tuple[float, float]]:
    """Times and counts of a file.

    Raises:
        OSError: it cannot be read.
        ValueError: it has other columns, a value that is no number, or times that do not grow.
    """
    with path.open(encoding="utf-8", newline="") as lines:
        rows = csv.DictReader(lines)
        if not {"time_s", "count"} <= set(rows.fieldnames or ()):
            raise ValueError(f"{path}: needs the columns time_s and count")
        try:
            series = [(float(row["time_s"]), float(row["count"])) for row in rows]
        except (TypeError, ValueError):
            raise ValueError(f"{path}: line {rows.line_num}: time_s and count must be numbers") from None
    if any(later[0] <= earlier[0] for earlier, later in pairwise(series)):
        raise ValueError(f"{path}: the times must grow")
    return series


def _count(clip: str) -> list[tuple[float, float]]:
    from agent.behaviours.crowd_forecast import SAMPLE_S

    camera = CameraSettings(name="clip", source=source_of(clip))
    series: list[tuple[float, float]] = []
    for tick in ticks(camera, loaded(None).inference, clip):
        if not series or tick.time - series[-1][0] >= SAMPLE_S:
            series.append((tick.time, tick.persons))
    return series
