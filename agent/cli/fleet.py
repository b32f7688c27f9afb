"""`vigie fleet`: many devices, over their broker."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agent.cli import (
    fleet_bridge,
    fleet_config,
    fleet_conform,
    fleet_correlate,
    fleet_devices,
    fleet_keep,
    fleet_keys,
    fleet_pki,
    fleet_send,
    fleet_simulate,
    fleet_verdict,
)
from agent.cli.common import ConfigFile
from agent.cli.fleet_common import Broker

app = typer.Typer(
    help="See and steer many devices over their broker. The broker is named before the command: "
    "`vigie fleet --host broker.example --cert-file me.pem --key-file me.key list`, or in `[mqtt]` of a file.",
    no_args_is_help=True,
)


@app.callback()
def fleet(
    context: typer.Context,
    config: ConfigFile = None,
    host: Annotated[str | None, typer.Option(help="Host name or address of the broker.")] = None,
    port: Annotated[int | None, typer.Option(help="TCP port.")] = None,
    tls: Annotated[bool | None, typer.Option(help="TLS; off for a broker on this machine only.")] = None,
    ca_file: Annotated[Path | None, typer.Option(help="PEM file of the authority of the broker.")] = None,
    cert_file: Annotated[Path | None, typer.Option(help="PEM file of your certificate.")] = None,
    key_file: Annotated[Path | None, typer.Option(help="PEM file of your certificate's private key.")] = None,
    username: Annotated[str | None, typer.Option(help="User name, where the broker wants one.")] = None,
    password_file: Annotated[Path | None, typer.Option(help="File that holds the password.")] = None,
) -> None:
    """Remember where the broker is."""
    options = {
        "host": host,
        "port": port,
        "tls": tls,
        "ca_file": ca_file,
        "cert_file": cert_file,
        "key_file": key_file,
        "username": username,
        "password_file": password_file,
    }
    context.obj = Broker(config, options)


app.command(name="list")(fleet_devices.list_)
app.command()(fleet_devices.show)
app.command()(fleet_devices.watch)
app.command()(fleet_send.send)
app.add_typer(fleet_keys.app, name="keys")
app.add_typer(fleet_config.app, name="config")
app.add_typer(fleet_bridge.app, name="bridge")
app.command()(fleet_verdict.verdict)
app.command()(fleet_conform.conform)
app.add_typer(fleet_pki.app, name="pki")
app.command()(fleet_correlate.correlate)
app.command()(fleet_simulate.simulate)
app.command()(fleet_keep.keep)
app.command()(fleet_keep.kept)
