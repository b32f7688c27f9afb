"""`vigie fleet simulate`: a simulated fleet against a real broker."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli.common import AsJson, fail
from agent.cli.fleet_common import broker

if TYPE_CHECKING:
    from agent.fleet.simulate import Figures
    from agent.settings import MqttSettings


def simulate(
    context: typer.Context,
    devices: Annotated[int, typer.Option(min=1, max=20_000, help="Simulated devices.")] = 100,
    rate: Annotated[float, typer.Option(min=0.1, max=100_000, help="Events a second, of all devices together.")] = 50.0,
    seconds: Annotated[float, typer.Option(min=1, max=86_400, help="For how long events are made, seconds.")] = 30.0,
    node: Annotated[
        list[str] | None,
        typer.Option("--node", help="HOST:PORT of a node, several for a cluster.  [default: the broker of `fleet`]"),
    ] = None,
    certificates: Annotated[
        Path | None,
        typer.Option(
            help="Folder with sim-00001.pem, sim-00001.key and so on (vigie fleet pki issue device); needed where the "
            "broker takes the certificate's name for the user."
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Threads that serve the devices.")] = 2,
    as_json: AsJson = False,
) -> None:
    """Connect simulated devices, let them publish, and check that nothing that was acknowledged is lost.

    They are `sim-00001` and so on at site `simulated`, and speak as devices do: birth, last will, status, health, and
    events with QoS 1 that are sent again until they are acknowledged. An observer, who needs the right to read them,
    compares. Their retained messages stay on the broker. Exit code 1 when something acknowledged was lost, or a device
    could not connect.
    """
    from rich.console import Console
    from rich.progress import Progress

    from agent.fleet.simulate import SimulationError
    from agent.fleet.simulate import simulate as run

    settings = broker(context)
    nodes = [_at(settings, name) for name in node or ()] or [settings]

    def own(name: str) -> list[MqttSettings]:
        if certificates is None:
            return nodes
        files = {"cert_file": certificates / f"{name}.pem", "key_file": certificates / f"{name}.key"}
        return [one.model_copy(update=files) for one in nodes]

    if certificates is not None and not (certificates / "sim-00001.pem").exists():
        fail(f"--certificates: no {certificates / 'sim-00001.pem'}: vigie fleet pki issue device sim-00001 …", 2)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("connecting", total=devices)
        try:
            figures = run(
                nodes,
                devices,
                rate,
                seconds,
                device_brokers=own,
                workers=workers,
                progress=lambda what, done, of: progress.update(task, description=what, completed=done, total=of),
            )
        except SimulationError as error:
            fail(str(error), 3)
    if as_json:
        typer.echo(json.dumps(asdict(figures)))
    else:
        _print(figures)
    if figures.lost or figures.connected < devices:
        raise typer.Exit(1)


def _at(settings: MqttSettings, name: str) -> MqttSettings:
    host, _, port = name.rpartition(":")
    if not host or not port.isdigit() or not 1 <= int(port) <= 65535:
        fail(f"--node: {name!r} is not HOST:PORT", 2)
    return settings.model_copy(update={"host": host, "port": int(port)})


def _print(figures: Figures) -> None:
    from rich.console import Console
    from rich.table import Table

    def three(milliseconds: tuple[float, float, float] | None) -> str:
        return "" if milliseconds is None else " / ".join(f"{one:.0f}" for one in milliseconds) + " ms"

    table = Table("figure", "", show_header=False)
    rows = {
        "devices connected": f"{figures.connected} of {figures.devices} in {figures.connect_s:.1f} s",
        "events made": f"{figures.made} in {figures.seconds:.0f} s",
        "acknowledged": f"{figures.acknowledged}, {figures.per_second:.0f} a second",
        "received by the observer": f"{figures.received}",
        "acknowledged and lost": f"{figures.lost}",
        "received again": f"{figures.repeated}",
        "sent again": f"{figures.resent}",
        "time to acknowledgement (50, 95, 99 %)": three(figures.ack_ms),
        "time to the observer (50, 95, 99 %)": three(figures.seen_ms),
        "reconnections of devices": f"{figures.reconnects}",
        "reconnections of the observer": f"{figures.observer_reconnects}",
    }
    for name, value in rows.items():
        table.add_row(name, value, style="bold red" if name.endswith("lost") and figures.lost else None)
    Console().print(table)
