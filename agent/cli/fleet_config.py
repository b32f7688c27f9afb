"""`vigie fleet config`: what devices look and listen for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.common import AsJson, fail
from agent.cli.fleet_common import (
    Devices,
    Everything,
    Labels,
    Patience,
    Quiet,
    SigningKey,
    Site,
    choice,
    chosen,
    connection,
    counted,
    print_outcomes,
)
from agent.cli.fleet_keys import signing_key

if TYPE_CHECKING:
    from agent.fleet.roster import Device

app = typer.Typer(
    help="What devices look and listen for: wanted, compared, and what became of it.", no_args_is_help=True
)

File = Annotated[
    Path,
    typer.Argument(help="TOML file with [[camera]] and [microphone] as in a device's own, but only what you want."),
]


@app.command()
def push(
    context: typer.Context,
    file: File,
    key: SigningKey,
    site: Site = None,
    label: Labels = None,
    device: Devices = None,
    everything: Everything = False,
    accept_local: Annotated[
        bool, typer.Option("--accept-local", help="Also where a technician has edited the device's own files.")
    ] = False,
    patience: Patience = 300.0,
    quiet: Quiet = 1.0,
    as_json: AsJson = False,
) -> None:
    """Want settings of devices, and wait for each to apply them or say why not. Exit code 1 if not all have."""
    from agent.fleet.push import push as push_all

    wanted, signer = _wanted(file), signing_key(key)
    with connection(context) as client:
        devices = chosen(client, site, label, device, everything, quiet)
        problems = [line for one in devices if one.reported for line in _problems(one, wanted)]
        if problems:
            fail("\n".join(problems), 2)
        with counted("config", len(devices)) as progress:
            pushes = push_all(
                client,
                signer,
                devices,
                wanted,
                accept_local=accept_local,
                patience_s=patience,
                progress=progress,
            )
    rows = [(item.device.target, item.state, item.reason) for item in pushes]
    if as_json:
        typer.echo(json.dumps([dict(zip(("device", "state", "reason"), row, strict=True)) for row in rows], indent=2))
    else:
        print_outcomes(rows)
    raise typer.Exit(0 if all(item.state == "applied" for item in pushes) else 1)


@app.command()
def diff(
    context: typer.Context,
    file: File,
    site: Site = None,
    label: Labels = None,
    device: Devices = None,
    quiet: Quiet = 1.0,
    as_json: AsJson = False,
) -> None:
    """Print what a push would change, device by device; exit code 1 if it would change anything."""
    from agent.fleet.push import differences, merged
    from agent.fleet.roster import roster

    wanted = _wanted(file)
    with connection(context) as client:
        devices = roster(client, choice(site, label, device), quiet)
    changes: dict[str, Any] = {}
    for one in devices:
        if one.reported is None:
            changes[one.target] = None
            continue
        problems = _problems(one, wanted)
        if problems:
            fail("\n".join(problems), 2)
        changes[one.target] = [
            {"key": path, "now": before, "wanted": after}
            for path, before, after in differences(one.reported.settings, merged(one, wanted))
        ]
    if as_json:
        typer.echo(json.dumps(changes, indent=2))
    for target, lines in changes.items() if not as_json else ():
        typer.echo(f"{target}: {'has never reported' if lines is None else '' if lines else 'nothing changes'}")
        for line in lines or ():
            typer.echo(f"  {line['key']}: {json.dumps(line['now'])} → {json.dumps(line['wanted'])}")
    raise typer.Exit(1 if any(lines or lines is None for lines in changes.values()) else 0)


@app.command()
def status(
    context: typer.Context,
    site: Site = None,
    label: Labels = None,
    device: Devices = None,
    quiet: Quiet = 1.0,
    as_json: AsJson = False,
) -> None:
    """Print what became of the configuration of each device; exit code 1 if one has not applied what is wanted."""
    from agent.fleet.roster import roster

    with connection(context) as client:
        devices = roster(client, choice(site, label, device), quiet)
    rows = [one.row() for one in devices]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    else:
        from rich.console import Console
        from rich.table import Table

        table = Table("device", "state", "reason", "wanted", "in force", "local edits", box=None, header_style="bold")
        for one, row in zip(devices, rows, strict=True):
            keys = ("config", "config_reason", "config_desired", "config_in_force", "local_version")
            table.add_row(one.target, *("" if row[key] is None else str(row[key]) for key in keys))
        Console().print(table)
    behind = [row for row in rows if row["config"] not in {"applied", "local"} or row["config_desired"] is None]
    raise typer.Exit(1 if any(row["config"] != "local" for row in behind) else 0)


def _wanted(file: Path) -> dict[str, Any]:
    from pydantic import ValidationError

    from agent.desired import Wanted
    from agent.settings import SettingsError, explain, read_toml

    try:
        table = read_toml(file)
        Wanted.model_validate(table)
    except SettingsError as error:
        fail(str(error), 2)
    except ValidationError as error:
        fail("\n".join(f"{file}: {line}" for line in explain(error, Wanted)), 2)
    return table


def _problems(device: Device, wanted: dict[str, Any]) -> list[str]:
    """Why a device would refuse the settings, so that none is sent that cannot be."""
    from agent.fleet.push import as_merged
    from agent.sense import check_rules
    from agent.settings import SettingsError

    try:
        check_rules(as_merged(device, wanted))
    except SettingsError as error:
        return [f"{device.target}: {problem}" for problem in error.problems]
    return []
