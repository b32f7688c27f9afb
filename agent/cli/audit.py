"""`vigie audit`: what has left this device and the proof of it; what can leave, and what can be made of it."""

from __future__ import annotations

import datetime as dt
import json
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli import audit_attack, audit_capacity
from agent.cli.common import AsJson, ConfigFile, examples, fail, loaded

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from agent.relay.audit_check import Verdict
    from agent.relay.audit_read import Item

app = typer.Typer(help="What has left, what can leave, and what can be made of it.", no_args_is_help=True)
app.command()(audit_capacity.capacity)
app.command()(audit_attack.attack)

DatabaseFile = Annotated[
    Path | None,
    typer.Option("--database", help="Database of the journal, such as one that was set aside.  [default: the agent's]"),
]
PublicKeyFile = Annotated[
    Path | None,
    typer.Option("--public-key", help="Public key of the device, as `vigie audit key` printed it there."),
]


@app.command(
    epilog=examples(
        {
            "sudo vigie audit show --limit 20": "the last things that left, in plain words",
            "sudo vigie audit show --since 2026-11-23 --all": "also what stayed here: starts, deliveries, commands",
        }
    )
)
def show(
    config: ConfigFile = None,
    database: DatabaseFile = None,
    since: Annotated[
        str | None, typer.Option(help="Only from this time on, UTC: 2026-11-23 or 2026-11-23T10:15:00.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the last so many.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also what stayed on the device: starts, deliveries, changes, commands.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print, in plain words, everything that left the device, and which time that covers; JSON is one line each."""
    from agent.relay.audit import MESSAGES, Entry
    from agent.relay.audit_read import database_head, database_items, open_database
    from agent.relay.audit_words import clock, deliveries, left, words

    begin = _time(since)
    wanted = MESSAGES | {"released", "salvaged", "replaced", "migrated"}
    with _reading(), open_database(_database(config, database)) as opened:
        head = database_head(opened)
        became = deliveries(opened, begin)
        entries = (item for item in database_items(opened) if isinstance(item, Entry))
        shown = (entry for entry in entries if entry.at >= begin and (everything or entry.kind in wanted))
        first, last = opened.execute(
            "SELECT (SELECT at FROM audit WHERE seq >= ? ORDER BY seq LIMIT 1),"
            " (SELECT at FROM audit ORDER BY seq DESC LIMIT 1)",
            (head.kept_from,),
        ).fetchone()
        whole = {"log": head.log, "source": head.source, "from": head.kept_from, "to": head.size}
        if as_json:
            typer.echo(json.dumps({**whole, "begin": first, "end": last}))
        else:
            typer.echo(f"Audit log {head.log} of {head.source}")
            typer.echo(
                f"covers {clock(first or '?')} to {clock(last or '?')} UTC: entries {head.kept_from} to {head.size}"
            )
            if head.kept_from > 1:
                typer.echo(
                    f"entries 1 to {head.kept_from - 1} were pruned for room; what they said is not here any more"
                )
            typer.echo("")
        for entry in deque(shown, limit) if limit else shown:
            delivery = became.get(entry.event or "")
            event = entry.kind in {"released", "salvaged"}
            if as_json:
                said = {"seq": entry.seq, "at": entry.at, "kind": entry.kind, "event": entry.event, "body": entry.body}
                typer.echo(json.dumps({**said, "words": words(entry), "left": left(entry, delivery)}))
            else:
                fate = f" ({delivery.words() if delivery else 'has not left yet'})" if event else ""
                typer.echo(f"{clock(entry.at)}  {words(entry)}{fate}")
    if not as_json:
        typer.echo("\nThis is what the log says; `vigie audit verify` checks that nobody changed it.")


@app.command(
    epilog=examples(
        {
            "sudo vigie audit verify": "did somebody change the log?",
            "vigie audit verify --export cam-07.jsonl --public-key cam-07.pem --heads heads.jsonl": "at home",
        }
    )
)
def verify(
    config: ConfigFile = None,
    database: DatabaseFile = None,
    export_file: Annotated[
        Path | None,
        typer.Option("--export", help="Check a file that `vigie audit export` made, instead of the device."),
    ] = None,
    heads: Annotated[
        Path | None,
        typer.Option(help="Heads of the log that were kept elsewhere, one a line, as they came on topic `audit/head`."),
    ] = None,
    proof: Annotated[Path | None, typer.Option(help="Check a file that `vigie audit prove` made, instead.")] = None,
    public_key: PublicKeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Prove that the log is consistent, and with heads held elsewhere that it is complete. Exit code 1 if it is not."""
    from agent.relay.audit_check import verify as check
    from agent.relay.audit_check import verify_database
    from agent.relay.audit_read import open_database, read_export, read_heads

    key = _public_key(config, public_key)
    if proof:
        _verify_proof(proof, key, as_json)
        return
    with _reading():
        held = read_heads(heads) if heads else []
        if export_file:
            try:
                with export_file.open("rb") as file:
                    head, items = read_export(file)
                    verdict, _ = check(head, _watched(items), key, held)
            except OSError as error:
                fail(f"{export_file}: cannot be read: {error.strerror}", 3)
        else:
            with open_database(_database(config, database)) as opened:
                verdict = verify_database(opened, key, held, _watched)
    if as_json:
        typer.echo(json.dumps(_table(verdict), indent=2))
    else:
        typer.echo("\n".join(_sentences(verdict, bool(heads))))
    raise typer.Exit(1 if verdict.problems else 0)


def _verify_proof(file: Path, key: Ed25519PublicKey, as_json: bool) -> None:
    from agent.relay.audit_proof import check_proof

    try:
        lines = file.read_bytes().splitlines()
    except OSError as error:
        fail(f"{file}: cannot be read: {error.strerror}", 3)
    with _reading():
        proven = [check_proof(line, key) for line in lines]
    typer.echo(json.dumps({"proven": proven}, indent=2) if as_json else "\n".join(proven or ["nothing"]))
    raise typer.Exit(0 if proven else 1)


def _table(verdict: Verdict) -> dict[str, Any]:
    return {
        "consistent": not verdict.problems,
        "complete_up_to": verdict.complete and verdict.complete.model_dump(exclude_none=True),
        "problems": verdict.problems,
        "head": verdict.head.model_dump(exclude_none=True),
        "entries": verdict.entries,
        "pruned": verdict.pruned,
        "begin": verdict.begin,
        "end": verdict.end,
        "unprovable_heads": verdict.unprovable,
        "heads_of_others": verdict.strangers,
    }


def _sentences(verdict: Verdict, asked: bool) -> Iterator[str]:
    head, complete = verdict.head, verdict.complete
    pruned = f", and the hashes of {verdict.pruned} that were pruned" if verdict.pruned else ""
    yield f"Log {head.log} of {head.source}: {verdict.entries} entries{pruned}, {verdict.begin} to {verdict.end}"
    yield f"head of {head.time}, signed by key {head.key}"
    if verdict.strangers:
        yield f"{verdict.strangers} of the heads are of other devices, and were left out"
    if verdict.unprovable and not verdict.problems:
        yield f"{verdict.unprovable} of the heads end among pruned entries, and cannot be checked any more"
    if verdict.problems:
        yield "NOT CONSISTENT:"
        yield from (f"- {problem}" for problem in verdict.problems)
    elif complete:
        yield f"consistent; complete up to entry {complete.size}: the head of {complete.time} held elsewhere fits"
        if head.size > complete.size:
            yield f"entries from {complete.size + 1} to {head.size} have the device's own signature alone"
    else:
        yield "consistent; completeness not proven"
        if asked and not verdict.unprovable:
            yield "the file of heads has none of this log"
        elif not asked:
            yield "only heads that somebody else kept can prove that nothing was cut off or told twice: --heads FILE"


@app.command()
def export(
    out: Annotated[Path, typer.Option(help="File to write; one that is there is replaced.")],
    config: ConfigFile = None,
    database: DatabaseFile = None,
) -> None:
    """Write the whole log to a file that can be checked anywhere with the public key: `vigie audit verify --export`."""
    from agent.relay.audit_read import open_database, write_export

    part = out.with_name(f"{out.name}.part")
    with _reading(), open_database(_database(config, database)) as opened:
        try:
            with part.open("wb") as file:
                head = write_export(opened, file)
            part.replace(out)
        except OSError as error:
            fail(f"{out}: cannot be written: {error.strerror}", 3)
    typer.echo(f"{out}: log {head.log} of {head.source}, entries up to {head.size}, signed by key {head.key}")


@app.command()
def prove(
    event: Annotated[str | None, typer.Argument(help="Id of an event, to prove that it was released.")] = None,
    heads: Annotated[
        Path | None,
        typer.Option(help="Older heads of the log, one a line: to prove that it has only grown since each of them."),
    ] = None,
    config: ConfigFile = None,
    database: DatabaseFile = None,
) -> None:
    """Print a proof that discloses nothing else of the log, for `vigie audit verify --proof`; one line each."""
    from agent.relay.audit_proof import prove_event, prove_growth
    from agent.relay.audit_read import database_head, open_database, read_heads

    if not event and not heads:
        fail("name an event, or give --heads FILE", 2)
    with _reading(), open_database(_database(config, database)) as opened:
        lines = [prove_event(opened, event)] if event else []
        source = database_head(opened).source
        older = [held.head for held in read_heads(heads) if held.head.source == source] if heads else []
        lines += [prove_growth(opened, head) for head in older]
    typer.echo(b"\n".join(lines).decode())


@app.command()
def key(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Print the public key that checks this device's log, for somebody else to keep."""
    from agent.relay.keys import fingerprint, public_pem

    public = _public_key(config, None)
    if as_json:
        typer.echo(json.dumps({"sha256": fingerprint(public), "pem": public_pem(public)}, indent=2))
    else:
        typer.echo(public_pem(public), nl=False)


def _database(config: Path | None, database: Path | None) -> Path:
    from agent.relay.journal import DATABASE

    return database or loaded(config).journal.folder / DATABASE


def _public_key(config: Path | None, file: Path | None) -> Ed25519PublicKey:
    from agent.relay.journal import KEY
    from agent.relay.keys import KeyFileError, read_private_key, read_public_key

    try:
        if file:
            return read_public_key(file)
        settings = loaded(config)
        return read_private_key(settings.audit.key_file or settings.journal.folder / KEY).public_key()
    except KeyFileError as error:
        fail(f"{error}\nrun it as the agent's user, or give --public-key FILE" if not file else str(error), 2)


@contextmanager
def _reading() -> Iterator[None]:
    """Ends the command when a log cannot be read: with 1 when it was changed, with 3 when there is none."""
    from agent.relay.audit_read import AuditError, NoAuditError

    try:
        yield
    except NoAuditError as error:
        fail(str(error), 3)
    except AuditError as error:
        fail(f"NOT PROVEN: {error}", 1)


def _watched(items: Iterator[Item]) -> Iterator[Item]:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    yield from track(items, "entries", total=None, console=console, transient=True, disable=not console.is_terminal)


def _time(text: str | None) -> str:
    """A time as the log writes it, to compare with."""
    if text is None:
        return ""
    try:
        time = dt.datetime.fromisoformat(text.removesuffix("Z"))
    except ValueError:
        fail(f"--since {text}: is no time; write 2026-11-23 or 2026-11-23T10:15:00", 2)
    if time.tzinfo is not None:
        time = time.astimezone(dt.timezone.utc)
    return time.strftime("%Y-%m-%dT%H:%M:%S")
