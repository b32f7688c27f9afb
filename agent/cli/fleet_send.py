"""`vigie fleet send`: one command to many devices."""

from __future__ import annotations

import datetime as dt
import json
from typing import Annotated

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
    chosen,
    connection,
    counted,
    print_outcomes,
)
from agent.cli.fleet_keys import signing_key


def send(
    context: typer.Context,
    verb: Annotated[
        str,
        typer.Argument(
            help="announce, detector.disable, detector.enable, diagnostics, key.revoke, log.level, pause, restart, "
            "resume or selftest."
        ),
    ],
    key: SigningKey,
    site: Site = None,
    label: Labels = None,
    device: Devices = None,
    everything: Everything = False,
    event_type: Annotated[
        str | None, typer.Option("--type", help="Event type (detector.enable, detector.disable).")
    ] = None,
    zone: Annotated[str | None, typer.Option(help="Zone; unset: all of the device.")] = None,
    level: Annotated[str | None, typer.Option(help="debug, info, warning or error (log.level).")] = None,
    lasts_min: Annotated[
        int, typer.Option("--valid", min=1, max=1440, help="How long a device that is away may obey it, minutes.")
    ] = 60,
    patience: Patience = 90.0,
    quiet: Quiet = 1.0,
    as_json: AsJson = False,
) -> None:
    """Send a signed command to devices, and wait for what becomes of it. Exit code 1 if not all have succeeded."""
    from agent.command import VERBS
    from agent.fleet.send import send as send_all
    from agent.settings import did_you_mean

    if verb not in VERBS:
        fail(f"{verb}: there is no such verb{did_you_mean(verb, VERBS)}", 2)
    named = {"type": event_type, "zone": zone, "level": level}
    signer = signing_key(key)
    with connection(context) as client:
        devices = chosen(client, site, label, device, everything, quiet)
        with counted(verb, len(devices)) as progress:
            answers = send_all(
                client,
                signer,
                devices,
                verb,
                {name: value for name, value in named.items() if value is not None},
                lasts=dt.timedelta(minutes=lasts_min),
                patience_s=patience,
                progress=progress,
            )
    if as_json:
        rows = [
            {
                "device": answer.device.target,
                "request_id": answer.request,
                "state": answer.state,
                "reason": answer.reason or None,
                "diagnostics": answer.result.model_dump(mode="json")["diagnostics"] if answer.result else None,
            }
            for answer in answers
        ]
        typer.echo(json.dumps(rows, indent=2))
    else:
        print_outcomes([(a.device.target, a.state, a.reason) for a in answers])
    raise typer.Exit(0 if all(answer.succeeded for answer in answers) else 1)
