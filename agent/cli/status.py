"""`vigie status`: how the running agent on this machine is."""

from __future__ import annotations

import contextlib
import itertools
import time
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli.common import AsJson, ConfigFile, fail, loaded

if TYPE_CHECKING:
    from rich.table import Table

    from agent.relay.local import LocalStatus
    from agent.settings import Settings

_EVERY_S = 1.0
#: Counters shown on a screen of 24 lines; JSON has them all.
_COUNTERS = 6


def status(
    config: ConfigFile = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Ask every second, on one screen; Ctrl-C ends.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ask the running agent how it is, over its local socket. Exit code 1 when it is not ready, 3 when none runs.

    With `--watch` and `--json` each second is a line of JSON.
    """
    from rich.console import Console

    from agent.relay.local import LocalError, ask

    settings = loaded(config)
    if watch:
        with contextlib.suppress(KeyboardInterrupt):
            _watch(settings, as_json)
        return
    try:
        found = ask(settings.pipe.status_socket)
    except LocalError as error:
        fail(f"{error.strerror}\nsudo systemctl start vigie.target; or: vigie doctor --only agent,units", 3)
    if as_json:
        typer.echo(found.model_dump_json())
    else:
        Console().print(status_table(found, settings))
    if found.status.state != "ready":
        raise typer.Exit(1)


def _watch(settings: Settings, as_json: bool) -> None:
    from rich.console import Console
    from rich.live import Live

    from agent.relay.local import LocalError, ask

    with Live(console=Console(stderr=as_json), auto_refresh=False, screen=False) as live:
        while True:
            try:
                found = ask(settings.pipe.status_socket)
            except LocalError as error:
                if as_json:
                    typer.echo('{"status":null}')
                else:
                    live.update(f"{error.strerror}\nasking again every second", refresh=True)
            else:
                if as_json:
                    typer.echo(found.model_dump_json())
                else:
                    live.update(status_table(found, settings), refresh=True)
            time.sleep(_EVERY_S)


def status_table(found: LocalStatus, settings: Settings) -> Table:
    """One screen of it."""
    from rich.table import Table

    table = Table("what", "how", title=f"{settings.device.site}/{settings.device.name}")
    reasons = ", ".join(found.status.reasons)
    table.add_row("state", found.status.state + (f" ({reasons})" if reasons else ""))
    table.add_row("broker", f"connected, MQTT {found.broker}" if found.broker else found.broker_reason)
    table.add_row("sense", found.sense)
    names = [camera.name for camera in settings.cameras]
    cameras = [f"{name} {state}" for name, state in itertools.zip_longest(names, found.cameras, fillvalue="unknown")]
    table.add_row("cameras", ", ".join(cameras) or "none")
    table.add_row("microphone", found.microphone)
    table.add_row("detector", found.detector)
    table.add_row("frame rate", found.rate)
    error = f", off by {1000 * found.clock_error_s:.0f} ms at most" if found.clock_error_s is not None else ""
    table.add_row("clock", f"{found.clock} ({found.clock_source}{error})")
    table.add_row("outbox", f"{found.outbox_events} events, {found.outbox_bytes / 1024:.1f} KiB")
    table.add_row("events", f"{found.released} released, {found.acknowledged} acknowledged, {found.evicted} evicted")
    most = sorted(found.counters.items(), key=lambda item: -item[1])
    for name, number in sorted(most[:_COUNTERS]):
        table.add_row(name, str(number))
    if most[_COUNTERS:]:
        table.add_row("further counters", f"{len(most) - _COUNTERS}: --json")
    table.add_row("up for", f"{found.uptime_s} s")
    return table
