"""`vigie fleet verdict`: what operators say of events, so that false alarms become visible."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from agent.cli.common import AsJson, fail

if TYPE_CHECKING:
    from agent.fleet.verdicts import Judged, Tally

_LISTED = 20


def verdict(
    event: Annotated[str | None, typer.Argument(help="Id of the event, such as 5f3a9c01-000123.")] = None,
    alarm: Annotated[Literal["true", "false"] | None, typer.Argument(help="Whether it was a true alarm.")] = None,
    device: Annotated[str | None, typer.Option(help="SITE/DEVICE, should two devices have used the same id.")] = None,
    listed: Annotated[bool, typer.Option("--list", help=f"Show the latest {_LISTED} verdicts.")] = False,
    summary: Annotated[bool, typer.Option("--summary", help="Show true and false alarms by site and type.")] = False,
    verdicts: Annotated[
        Path | None,
        typer.Option(help="File with events and verdicts.  [default: vigie/fleet.sqlite in $XDG_STATE_HOME]"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say whether an event was a true alarm, or see what was said. A later word on an event replaces the earlier one.

    Events are known here by `vigie fleet bridge prometheus`, which keeps them as long as their policy allows, and
    shows the verdicts as a metric.
    """
    from agent.fleet.verdicts import VerdictError, Verdicts, default_file

    if (event is None) == (not listed and not summary) or (event is None) != (alarm is None):
        fail("write vigie fleet verdict EVENT true, or false; or --list, or --summary", 2)
    try:
        with contextlib.closing(Verdicts(verdicts or default_file())) as file:
            if event is not None:
                _show_judged([file.judge(event, alarm == "true", device)], as_json)
            elif listed:
                _show_judged(file.judged(_LISTED), as_json)
            else:
                _show_tallies(file.tallies(), as_json)
    except VerdictError as error:
        fail(str(error), 2)
    except sqlite3.Error as error:
        fail(f"{verdicts or default_file()}: {error}", 3)


def _show_judged(found: list[Judged], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps([asdict(item) | {"device": str(item.device)} for item in found], indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("event", "time (UTC)", "device", "type", "zone", "alarm", title="Verdicts")
    for item in found:
        said = {True: "true", False: "false", None: ""}[item.verdict]
        table.add_row(item.id, item.time, str(item.device), item.type, item.zone or "", said)
    Console().print(table)


def _show_tallies(found: list[Tally], as_json: bool) -> None:
    rows: list[dict[str, Any]] = []
    for tally in found:
        judged = tally.true_alarms + tally.false_alarms
        rows.append({**asdict(tally), "false_share": round(tally.false_alarms / judged, 3) if judged else None})
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    from rich.console import Console
    from rich.table import Column, Table

    numbers = (Column(name, justify="right") for name in ("events", "true", "false", "false of judged"))
    table = Table("site", "type", *numbers, title="True and false alarms")
    for row in rows:
        share = row["false_share"]
        table.add_row(
            row["site"],
            row["type"],
            *(str(row[key]) for key in ("events", "true_alarms", "false_alarms")),
            "nobody said" if share is None else f"{share:.0%}",
        )
    Console().print(table)
