"""`vigie certificate`: the device's own key, its request, and its certificate."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli.common import AsJson, ConfigFile, fail, loaded

if TYPE_CHECKING:
    from agent.relay.certificate import Certificates

app = typer.Typer(
    help="The device's key and certificate. The key is made on the device and never leaves it; the site's authority "
    "signs a request (`vigie fleet pki sign-csr device`).",
    no_args_is_help=True,
)

Folder = Annotated[Path, typer.Option("--folder", help="Where device.key, device.pem and ca.pem are; root's alone.")]
_DEFAULT = Path("/etc/vigie/keys")


@app.command()
def status(folder: Folder = _DEFAULT, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Say whether the certificate holds, and when it is to be renewed. Exit code 1 where something is to be done."""
    with _speaking():
        standing = _certificates(folder, config).standing()
    if as_json:
        typer.echo(json.dumps(asdict(standing)))
    else:
        from rich.console import Console
        from rich.table import Table

        table = Table("what", "how", title="vigie certificate")
        for name, value in asdict(standing).items():
            if value:
                table.add_row(name.replace("_", " "), value)
        Console().print(table)
    if standing.state != "valid":
        raise typer.Exit(1)


@app.command()
def request(
    folder: Folder = _DEFAULT,
    out: Annotated[Path | None, typer.Option(help="File for the request.  [default: standard output]")] = None,
    config: ConfigFile = None,
) -> None:
    """Write a request for a certificate in the device's name; the key is made where there is none."""
    with _speaking():
        pem = _certificates(folder, config).request()
        if out is None:
            typer.echo(pem.decode(), nl=False)
        else:
            out.write_bytes(pem)
            typer.echo(out)


@app.command()
def install(
    certificate: Annotated[Path, typer.Argument(help="PEM file of the certificate.")],
    ca: Annotated[
        Path | None, typer.Option("--ca", help="PEM file of the authority.  [default: the one that is there]")
    ] = None,
    folder: Folder = _DEFAULT,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Install a certificate, if it fits the key, the device and the authority; else nothing is changed.

    Relay takes it with its next start: systemctl try-restart vigie-relay.
    """
    with _speaking():
        certificates = _certificates(folder, config)
        changed = certificates.install(certificate.read_bytes(), ca.read_bytes() if ca else None)
        standing = certificates.standing()
    if as_json:
        typer.echo(json.dumps({"changed": changed, **asdict(standing)}))
    else:
        typer.echo(f"{'installed' if changed else 'was there already'}: holds until {standing.until}")


def _certificates(folder: Path, config: Path | None) -> Certificates:
    from agent.relay.certificate import Certificates

    return Certificates(folder, loaded(config).device.name)


@contextlib.contextmanager
def _speaking() -> Iterator[None]:
    """End the command with a line instead of a traceback."""
    from agent.relay.certificate import CertificateError

    try:
        yield
    except CertificateError as error:
        fail(str(error), 2)
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}", 3)
