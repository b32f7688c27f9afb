"""What the commands of `vigie fleet` share: the broker, and which devices are meant."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.common import fail

if TYPE_CHECKING:
    from agent.fleet.client import Client
    from agent.settings import MqttSettings

Site = Annotated[str | None, typer.Option("--site", help="Devices of this site alone.")]
Labels = Annotated[
    list[str] | None, typer.Option("--label", help="Devices that have this label; several: all of them.")
]
Devices = Annotated[list[str] | None, typer.Option("--device", help="Devices of this name; several: any of them.")]
SigningKey = Annotated[
    Path, typer.Option("--key", help="PEM file of the Ed25519 key that signs.", envvar="VIGIE_FLEET_KEY")
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
