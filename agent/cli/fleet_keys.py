"""`vigie fleet keys`: keys that sign, and the trust file that says what each may."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli.common import AsJson, fail

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

app = typer.Typer(help="Keys that sign commands and configurations, and what they may.", no_args_is_help=True)

TrustFile = Annotated[Path, typer.Option("--trust-file", help="The trust file that provisioning carries to devices.")]
_TRUST = Path("trust.toml")


@app.command()
def make(
    file: Annotated[Path, typer.Argument(help="Where the private key goes; its public half goes to FILE.pub.")],
    as_json: AsJson = False,
) -> None:
    """Make a key: FILE is secret and stays with you, FILE.pub is for `vigie fleet keys trust`."""
    from agent.command import key_id
    from agent.relay.keys import make_key, public_pem, read_private_key

    if file.exists():
        fail(f"{file}: is there already; a key is never replaced", 2)
    public_file = file.with_name(f"{file.name}.pub")
    with _done():
        make_key(file)
        public = read_private_key(file).public_key()
        public_file.write_text(public_pem(public))
    if as_json:
        typer.echo(json.dumps({"id": key_id(public), "private": str(file), "public": str(public_file)}, indent=2))
    else:
        typer.echo(f"key {key_id(public)}: {file} (secret), {public_file}")


@app.command()
def trust(
    public: Annotated[Path, typer.Argument(help="PEM file of the public key, as `make` wrote it.")],
    role: Annotated[
        list[str], typer.Option(help="observe, operate, configure or pause-only; several: all of these together.")
    ],
    name: Annotated[str, typer.Option(help="Whose key it is, for people.")],
    trust_file: TrustFile = _TRUST,
    not_before: Annotated[
        str | None, typer.Option(help="When it becomes valid, such as 2026-12-01T00:00:00+01:00.")
    ] = None,
    not_after: Annotated[str | None, typer.Option(help="When it ceases to be valid.")] = None,
) -> None:
    """Write a key into the trust file. Old and new keys are valid side by side until you give the old one an end."""
    from typing import cast

    from agent.command import MAY, Role
    from agent.fleet.trusted import entry, read_or_new, with_entry, write
    from agent.relay.keys import read_public_key

    unknown = [word for word in role if word not in MAY]
    if unknown:
        fail(f"--role {unknown[0]}: there is no such role; there are {', '.join(MAY)}", 2)
    begin, end = _time("--not-before", not_before), _time("--not-after", not_after)
    with _done():
        key = entry(read_public_key(public), name, cast("list[Role]", role), begin, end)
        write(trust_file, with_entry(read_or_new(trust_file), key))
    typer.echo(f"{trust_file}: key {key.id} ({name}) may {', '.join(role)}; carry the file to the devices")


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(help="Id of the key, or its public PEM file.")], trust_file: TrustFile = _TRUST
) -> None:
    """Mark a key as revoked in the trust file; `vigie fleet send key.revoke --key FILE` ends it at once."""
    from agent.command import key_id
    from agent.fleet.trusted import read_or_new, without, write
    from agent.relay.keys import read_public_key

    with _done():
        named = key_id(read_public_key(Path(key))) if Path(key).is_file() else key
        write(trust_file, without(read_or_new(trust_file), named))
    typer.echo(f"{trust_file}: key {named} is revoked; carry the file to the devices")


@app.command(name="list")
def list_(trust_file: TrustFile = _TRUST, as_json: AsJson = False) -> None:
    """Print whom the trust file names."""
    from agent.fleet.trusted import read_or_new

    with _done():
        keys = read_or_new(trust_file).keys
    if as_json:
        typer.echo(json.dumps([key.model_dump(mode="json") for key in keys], indent=2))
        return

    from rich.console import Console
    from rich.table import Table

    table = Table("id", "name", "roles", "valid", box=None, header_style="bold")
    for key in keys:
        begin, end = key.not_before or "", key.not_after or ""
        table.add_row(
            key.id,
            key.name,
            ", ".join(key.roles),
            "revoked" if key.revoked else f"{begin} to {end}" if begin or end else "always",
        )
    Console().print(table)


def signing_key(file: Path) -> Ed25519PrivateKey:
    """The key that signs; ends the command with 2 when it cannot be used."""
    from agent.relay.keys import read_private_key

    with _done():
        return read_private_key(file)


@contextmanager
def _done() -> Iterator[None]:
    """Ends the command when a file cannot be used."""
    try:
        yield
    except ValueError as error:
        fail(str(error), 2)
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}", 3)


def _time(option: str, text: str | None) -> dt.datetime | None:
    if text is None:
        return None
    try:
        time = dt.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        fail(f"{option} {text}: is no time; write 2026-12-01T00:00:00Z", 2)
    return time if time.tzinfo else time.replace(tzinfo=dt.timezone.utc)
