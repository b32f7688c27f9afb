"""`vigie status`: how the running agent on this machine is."""

from __future__ import annotations

import typer

from agent.cli.common import AsJson, ConfigFile, fail, loaded


def status(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Ask the running agent how it is, over its local socket. Exit code 1 when it is not ready, 3 when none runs."""
    from rich.console import Console
    from rich.table import Table

    from agent.relay.local import LocalError, ask

    try:
        found = ask(loaded(config).pipe.status_socket)
    except LocalError as error:
        fail(str(error.strerror), 3)
    if as_json:
        typer.echo(found.model_dump_json())
    else:
        table = Table("what", "how", title="vigie status")
        reasons = ", ".join(found.status.reasons)
        table.add_row("state", found.status.state + (f" ({reasons})" if reasons else ""))
        table.add_row("broker", f"connected, MQTT {found.broker}" if found.broker else found.broker_reason)
        table.add_row("sense", found.sense)
        table.add_row("cameras", ", ".join(found.cameras) or "unknown")
        table.add_row("microphone", found.microphone)
        table.add_row("detector", found.detector)
        table.add_row("frame rate", found.rate)
        table.add_row("outbox", f"{found.outbox_events} events, {found.outbox_bytes / 1024:.1f} KiB")
        table.add_row("released", str(found.released))
        table.add_row("acknowledged", str(found.acknowledged))
        table.add_row("evicted", str(found.evicted))
        for name, number in sorted(found.counters.items()):
            table.add_row(name, str(number))
        table.add_row("up for", f"{found.uptime_s} s")
        Console().print(table)
    if found.status.state != "ready":
        raise typer.Exit(1)
