"""`vigie fleet bridge`: what the fleet says, for other systems. Each runs until it is stopped."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import math
import sqlite3
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli.common import fail, start_log
from agent.cli.fleet_common import broker, stopping

if TYPE_CHECKING:
    from agent.fleet.bridges.bridge import Bridge, Connection
    from agent.fleet.bridges.prometheus import Prometheus
    from agent.fleet.verdicts import Tally, Verdicts

app = typer.Typer(
    help="Tell other systems what the fleet says, and nothing that it does not say. Each command runs until Ctrl-C.",
    no_args_is_help=True,
)

log = logging.getLogger(__name__)

Sites = Annotated[list[str] | None, typer.Option("--site", help="Devices of this site; several: any of them.")]
VerdictsFile = Annotated[
    Path | None,
    typer.Option("--verdicts", help="File with events and verdicts.  [default: vigie/fleet.sqlite in $XDG_STATE_HOME]"),
]
_FLUSH_EVERY_S = 5.0
_REPORT_EVERY_S = 20.0
_PRUNE_EVERY_S = 3600.0


@app.command()
def homeassistant(
    context: typer.Context,
    key: Annotated[
        Path | None,
        typer.Option(
            "--key",
            help="PEM file of the Ed25519 key that signs the pause switch; role `pause-only` is enough. "
            "Without it there is no switch.",
            envvar="VIGIE_FLEET_KEY",
        ),
    ] = None,
    site: Sites = None,
    discovery: Annotated[str, typer.Option(help="Home Assistant's discovery prefix.")] = "homeassistant",
    prefix: Annotated[str, typer.Option(help="Root of the bridge's own topics.")] = "vigie-homeassistant",
) -> None:
    """Show each device in Home Assistant, by MQTT device discovery: zones, health, people, and a pause switch."""
    from agent.fleet.bridges.homeassistant import HomeAssistant, signed_pause
    from agent.relay.keys import KeyFileError, read_private_key

    pause = None
    if key is not None:
        try:
            pause = signed_pause(read_private_key(key), lambda: dt.datetime.now(dt.timezone.utc))
        except KeyFileError as error:
            fail(str(error), 2)
    _serve(context, HomeAssistant(pause, sites=site or (), discovery=discovery, prefix=prefix), "homeassistant")


@app.command()
def onvif(
    context: typer.Context,
    site: Sites = None,
    prefix: Annotated[
        str, typer.Option(help="Topic prefix of a device, with {device} and, if wanted, {site}.")
    ] = "vigie-{device}",
) -> None:
    """Tell each event as ONVIF event JSON (`onvif-ej`) on the same broker."""
    from agent.fleet.bridges.onvif import Onvif

    try:
        bridge = Onvif(sites=site or (), prefix=prefix)
    except ValueError as error:
        fail(f"--prefix: {error}", 2)
    _serve(context, bridge, "onvif")


@app.command()
def prometheus(
    context: typer.Context,
    site: Sites = None,
    listen: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="TCP port of /metrics.")] = 9745,
    verdicts: VerdictsFile = None,
) -> None:
    """Give Prometheus metrics of the fleet's health at /metrics, and keep events for `vigie fleet verdict`."""
    from agent.fleet.bridges.bridge import running
    from agent.fleet.bridges.prometheus import Prometheus, exporting
    from agent.fleet.client import FleetError
    from agent.fleet.verdicts import VerdictError, Verdicts, default_file

    tallies: list[Tally] = []
    bridge = Prometheus(sites=site or (), tallies=lambda: tallies)
    start_log()
    try:
        with (
            contextlib.closing(Verdicts(verdicts or default_file())) as file,
            stopping() as stop,
            running(broker(context), bridge, "prometheus") as connection,
            exporting(listen, port, lambda: bridge.text(connected=connection.there.is_set())) as at,
        ):
            log.info("event=ready metrics=http://%s:%d/metrics", listen, at)
            _keep(bridge, connection, file, tallies, stop)
    except VerdictError as error:
        fail(str(error), 2)
    except FleetError as error:
        fail(str(error), 3)
    except OSError as error:
        fail(f"{listen}:{port}: cannot listen there: {error.strerror or error}", 3)


def _keep(
    bridge: Prometheus, connection: Connection, file: Verdicts, tallies: list[Tally], stop: threading.Event
) -> None:
    """Keep events and read verdicts until it is time to stop; where the file fails, measuring goes on."""
    pruned = -math.inf
    while True:
        ending = stop.wait(_FLUSH_EVERY_S)
        try:
            file.note(bridge.kept())
            if time.monotonic() - pruned >= _PRUNE_EVERY_S:
                file.prune(time.time())
                pruned = time.monotonic()
            tallies[:] = file.tallies()
        except sqlite3.Error as error:
            log.error("event=verdicts_not_kept reason=%r", str(error))  # noqa: TRY400 - the reason says it all
        if ending:
            return
        connection.check()


def _serve(context: typer.Context, bridge: Bridge, kind: str) -> None:
    """Run a bridge until it is stopped."""
    from agent.fleet.bridges.bridge import running
    from agent.fleet.client import FleetError

    start_log()
    try:
        with stopping() as stop, running(broker(context), bridge, kind) as connection:
            log.info("event=ready bridge=%s", kind)
            refused = 0
            while not stop.wait(_REPORT_EVERY_S):
                connection.check()
                if bridge.refused.total() != refused:
                    refused = bridge.refused.total()
                    log.warning("event=messages_refused number=%d reasons=%s", refused, dict(bridge.refused))
    except FleetError as error:
        fail(str(error), 3)
