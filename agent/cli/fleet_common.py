"""What the commands of `vigie fleet` share: the broker, and which devices are meant."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.common import fail

if TYPE_CHECKING:
    from agent.fleet.client import Client
    from agent.fleet.roster import Choice, Device
    from agent.settings import MqttSettings

Site = Annotated[str | None, typer.Option("--site", help="Devices of this site alone.")]
Labels = Annotated[
    list[str] | None, typer.Option("--label", help="Devices that have this label; several: all of them.")
]
Devices = Annotated[list[str] | None, typer.Option("--device", help="Devices of this name; several: any of them.")]
SigningKey = Annotated[
    Path, typer.Option("--key", help="PEM file of the Ed25519 key that signs.", envvar="VIGIE_FLEET_KEY")
]
Everything = Annotated[bool, typer.Option("--all", help="All devices, where no site, label or device is named.")]
Patience = Annotated[float, typer.Option(min=1, help="How long the answers are waited for, seconds.")]
Quiet = Annotated[
    float, typer.Option(min=0.1, help="The broker has told of all devices when it is silent for so long, seconds.")
]


class Broker:
    """Where the fleet's broker is, as the options before the command's name say; read when it is needed."""

    def __init__(self, config: Path | None, options: dict[str, Any]) -> None:
        self._config = config
        self._options = {name: value for name, value in options.items() if value is not None}

    def settings(self) -> MqttSettings:
        """The settings; ends the command with 2 when they cannot be used."""
        from agent.settings import SettingsError, load

        try:
            return load(self._config, {"mqtt": self._options}).mqtt
        except SettingsError as error:
            fail(str(error), 2)


def broker(context: typer.Context) -> MqttSettings:
    """The broker that the options of `vigie fleet` name."""
    named: Broker = context.obj
    return named.settings()


@contextmanager
def connection(context: typer.Context) -> Iterator[Client]:
    """A client of that broker; whatever goes wrong with it ends the command with 3."""
    from agent.fleet.client import FleetError, connected

    try:
        with connected(broker(context)) as client:
            yield client
    except FleetError as error:
        fail(str(error), 3)


def choice(site: str | None, labels: list[str] | None, devices: list[str] | None) -> Choice:
    """Which devices are meant."""
    from agent.fleet.roster import Choice

    return Choice(site, frozenset(labels or ()), frozenset(devices or ()))


def chosen(
    client: Client,
    site: str | None,
    labels: list[str] | None,
    devices: list[str] | None,
    everything: bool,
    quiet: float,
) -> list[Device]:
    """The devices that something is to be done to; ends the command where none is, or nobody said that all are."""
    from agent.fleet.roster import roster

    if not (site or labels or devices or everything):
        fail("which devices? --site, --label, --device, or --all", 2)
    found = roster(client, choice(site, labels, devices), quiet)
    if not found:
        fail("the broker knows no such device", 3)
    return found


@contextmanager
def counted(what: str, number: int) -> Iterator[Callable[[int], None]]:
    """A progress bar of devices, on a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=number)
        yield lambda done: bar.update(task, completed=done)


def print_outcomes(rows: Sequence[tuple[str, str, str]]) -> None:
    """A table of devices, states and reasons, and how many there are of each state."""
    from collections import Counter

    from rich.console import Console
    from rich.table import Table

    table = Table("device", "state", "reason", box=None, header_style="bold")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    typer.echo(", ".join(f"{n} {state}" for state, n in Counter(state for _, state, _ in rows).items()), err=True)


@contextmanager
def stopping() -> Iterator[threading.Event]:
    """An event that is set by Ctrl-C or SIGTERM."""
    stop = threading.Event()
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda *_: stop.set()) for number in numbers]
    try:
        yield stop
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
