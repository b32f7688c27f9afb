"""`vigie fleet pki`: the certificates of a fleet, from an authority in a folder. It never needs a network."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from agent.cli.common import AsJson, fail

if TYPE_CHECKING:
    from agent.fleet.pki import Authority, Issued

app = typer.Typer(
    help="Certificates for brokers, devices and managers, from an authority in a folder. Keep that folder offline: "
    "whoever has its key can be any device.",
    no_args_is_help=True,
)

Folder = Annotated[Path, typer.Option("--folder", help="Folder of the authority.", envvar="VIGIE_PKI")]
PasswordFile = Annotated[
    Path | None, typer.Option("--password-file", help="File whose first line is the password of the authority's key.")
]
SortName = Annotated[
    Literal["device", "server", "manager", "correlator", "bridge", "keeper"], typer.Argument(help="What it is for.")
]
Hosts = Annotated[
    list[str] | None, typer.Option("--host", help="More host names or addresses of a server; several: each.")
]
Days = Annotated[
    int | None,
    typer.Option(min=1, max=3650, help="How long it holds, days.  [default: 825 for a device, else 397]"),
]
_EXPIRES_SOON = 30


@contextlib.contextmanager
def _speaking() -> Iterator[None]:
    """End the command with a line instead of a traceback."""
    from agent.fleet.pki import PkiError

    try:
        yield
    except PkiError as error:
        fail(str(error), 2)
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}", 3)


def _password(file: Path | None) -> bytes | None:
    if file is None:
        return None
    try:
        password = (file.read_text(encoding="utf-8").splitlines() or [""])[0].encode()
    except OSError as error:
        fail(f"--password-file: {file}: {error.strerror}", 2)
    if not password:
        fail(f"--password-file: {file}: its first line is empty", 2)
    return password


def _authority(folder: Path, password_file: Path | None = None) -> Authority:
    from agent.fleet.pki import Authority

    return Authority(folder, _password(password_file))


@app.command()
def init(
    folder: Folder,
    name: Annotated[str, typer.Option(help="Name of the authority.")] = "Vigie fleet authority",
    password_file: PasswordFile = None,
    days: Annotated[int, typer.Option(min=1, max=7300, help="How long it holds, days.")] = 3650,
) -> None:
    """Make an authority: its key, its certificate, and an empty list of revocations."""
    from agent.fleet.pki import Authority

    with _speaking():
        Authority.make(folder, name, _password(password_file), days=days)
    typer.echo(folder / "ca.pem")


@app.command()
def issue(
    sort: SortName,
    names: Annotated[
        list[str], typer.Argument(help="Device ids, persons or services; of a server its first host name.")
    ],
    folder: Folder,
    out: Annotated[Path, typer.Option(help="Folder for the certificate and the key of each.")],
    host: Hosts = None,
    days: Days = None,
    password_file: PasswordFile = None,
) -> None:
    """Make keys and certificates, `<name>.pem` and `<name>.key`; where it can, let a device make its own key instead.

    A name that has a certificate which still holds is refused.
    """
    from rich.console import Console
    from rich.progress import track

    with _speaking():
        authority = _authority(folder, password_file)
        for name in track(names, console=Console(stderr=True), transient=True, disable=len(names) < 20):
            for file in authority.issue(sort, name, out, hosts=host or (), days=days):
                typer.echo(file)


@app.command(name="sign-csr")
def sign_csr(
    sort: SortName,
    request: Annotated[Path, typer.Argument(help="PEM file of the request.")],
    folder: Folder,
    out: Annotated[Path, typer.Option(help="File for the certificate.")],
    host: Hosts = None,
    days: Days = None,
    again: Annotated[
        bool, typer.Option("--again", help="Also where a certificate of that name still holds: a renewal.")
    ] = False,
    password_file: PasswordFile = None,
) -> None:
    """Sign the request of a key that stays where it was made. Of the request, key and common name alone are taken."""
    with _speaking():
        _refuse_existing(out)
        try:
            asked = request.read_bytes()
        except OSError as error:
            fail(f"{request}: {error.strerror}", 2)
        authority = _authority(folder, password_file)
        _write(out, authority.sign_request(sort, asked, hosts=host or (), days=days, again=again))


@app.command()
def renew(
    sort: SortName,
    certificate: Annotated[Path, typer.Argument(help="PEM file of the certificate.")],
    folder: Folder,
    out: Annotated[Path, typer.Option(help="File for the new certificate.")],
    days: Days = None,
    password_file: PasswordFile = None,
) -> None:
    """Make a new certificate for the same key and name; the old one holds until its last day."""
    with _speaking():
        _refuse_existing(out)
        _write(out, _authority(folder, password_file).renew(sort, certificate, days=days))


@app.command()
def revoke(
    folder: Folder,
    name: Annotated[str | None, typer.Option(help="Common name, such as cam-07 or manager.alice.")] = None,
    serial: Annotated[str | None, typer.Option(help="Serial number, as `list` prints it.")] = None,
    password_file: PasswordFile = None,
) -> None:
    """Revoke certificates, and write crl.pem anew: give it to every broker, and reload them."""
    if (name is None) == (serial is None):
        fail("give --name or --serial, one of them", 2)
    with _speaking():
        for entry in _authority(folder, password_file).revoke(name, serial):
            typer.echo(f"{entry.name} {entry.serial}")
    typer.echo(folder / "crl.pem")


@app.command()
def crl(folder: Folder, password_file: PasswordFile = None) -> None:
    """Write crl.pem anew without revoking anything: it holds for 90 days, and a broker trusts nobody after that."""
    with _speaking():
        typer.echo(_authority(folder, password_file).write_crl())


@app.command(name="list")
def list_(
    folder: Folder,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 when one ends within 30 days.")] = False,
    as_json: AsJson = False,
) -> None:
    """List certificates, those that end first at the top."""
    from dataclasses import asdict

    with _speaking():
        entries = sorted(_authority(folder).issued(), key=lambda entry: entry.until)
    today = dt.datetime.now(dt.timezone.utc).date()
    if as_json:
        rows = [{**asdict(entry), "state": entry.state(today)} for entry in entries]
        typer.echo(json.dumps({"certificates": rows}))
    else:
        _print(entries, today)
    soon = (today + dt.timedelta(days=_EXPIRES_SOON)).isoformat()
    if check and any(entry.state(today) == "valid" and entry.until <= soon for entry in entries):
        raise typer.Exit(1)


@app.command()
def access(
    broker: Annotated[Literal["mosquitto", "rabbitmq", "emqx"], typer.Argument(help="Which broker.")],
    folder: Folder,
) -> None:
    """Print who may do what: the access list of mosquitto or EMQX, or the users of RabbitMQ, as certificates hold."""
    from agent.fleet.pki import access_list, definitions, emqx_rules

    with _speaking():
        entries = _authority(folder).issued()
    today = dt.datetime.now(dt.timezone.utc).date()
    if broker == "rabbitmq":
        typer.echo(json.dumps(definitions(entries, today), indent=2))
    else:
        typer.echo((access_list if broker == "mosquitto" else emqx_rules)(entries, today), nl=False)


def _refuse_existing(path: Path) -> None:
    if path.exists():
        fail(f"{path}: is there already; nothing was overwritten", 2)


def _write(path: Path, certificate: bytes) -> None:
    path.write_bytes(certificate)
    typer.echo(path)


def _print(entries: list[Issued], today: dt.date) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    styles = {"valid": None, "expired": "dim", "revoked": "red"}
    table = Table(
        "for", Column("name", no_wrap=True), "hosts", "until (UTC)", "state", Column("serial", overflow="fold")
    )
    for entry in entries:
        state = entry.state(today)
        hosts = ", ".join(entry.hosts)
        table.add_row(entry.sort, entry.name, hosts, entry.until, state, entry.serial, style=styles[state])
    Console().print(table)
