"""`vigie fleet keep` and `kept`: what a broker forgets, remembered beside it."""

from __future__ import annotations

import contextlib
import json
import logging
from pathlib import Path
from typing import Annotated

import typer

from agent.cli.common import AsJson, fail, start_log
from agent.cli.fleet_common import broker, stopping

log = logging.getLogger(__name__)

File = Annotated[Path | None, typer.Option("--file", help="Its file.  [default: vigie/kept.sqlite in $XDG_STATE_HOME]")]
_REPORT_EVERY_S = 60.0


def _file(file: Path | None) -> Path:
    from agent.fleet.verdicts import default_file

    return file or default_file().with_name("kept.sqlite")


def keep(
    context: typer.Context,
    site: Annotated[
        list[str] | None, typer.Option("--site", help="Devices of this site; several: any of them.")
    ] = None,
    file: File = None,
) -> None:
    """Remember what a RabbitMQ cluster forgets, and send it again; runs until Ctrl-C. Other brokers do not need it.

    A device that connects anew gets its desired configuration again, and `vigie fleet kept` lists the fleet.
    """
    from agent.fleet.bridges.bridge import running
    from agent.fleet.client import FleetError
    from agent.fleet.keep import Keeper, KeepError

    start_log()
    try:
        with (
            contextlib.closing(Keeper(_file(file), site or ())) as keeper,
            stopping() as stop,
            running(broker(context), keeper, "keep") as connection,
        ):
            log.info("event=ready file=%s", _file(file))
            refused = 0
            while not stop.wait(_REPORT_EVERY_S):
                connection.check()
                if (number := sum(keeper.refused.values())) != refused:
                    refused = number
                    log.warning("event=messages_refused number=%d reasons=%s", refused, dict(keeper.refused))
    except KeepError as error:
        fail(str(error), 2)
    except FleetError as error:
        fail(str(error), 3)


def kept(file: File = None, as_json: AsJson = False) -> None:
    """List the fleet as `vigie fleet keep` knows it: without the broker, and after a node of it was lost."""
    from agent.fleet.keep import KeepError, listing

    try:
        rows = listing(_file(file))
    except KeepError as error:
        fail(str(error), 2)
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return

    from rich.console import Console
    from rich.table import Table

    table = Table("device", "state", "agent", "wanted", "in force", box=None, header_style="bold")
    for row in rows:
        cells = ("" if row[key] is None else str(row[key]) for key in ("state", "agent", "desired", "in_force"))
        table.add_row(f"{row['site']}/{row['device']}", *cells)
    Console().print(table)
    typer.echo(f"{len(rows)} devices", err=True)
