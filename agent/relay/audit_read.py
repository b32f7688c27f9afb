"""Read an audit log: from the journal's database while the agent runs, from an export, and heads that others hold.

An export is JSON lines: the signed head first, then every entry in its order, with a line
`{"nodes":[…],"pruned":[1,9]}` for each stretch of which only the hashes are kept. Every line is canonical JSON, so that
not one byte is free.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import ValidationError

from agent.contract import AuditHead
from agent.relay.audit import Entry, Pruned, head_line, lenient
from agent.relay.audit_log import COLUMNS, split_nodes
from agent.relay.merkle import HASH_BYTES

Item = Entry | Pruned

_LARGEST = 2**53


class AuditError(ValueError):
    """An audit log that cannot be read; the text says where and why."""


class NoAuditError(AuditError):
    """There is nothing that could be read: no file, no log in it, a line that is no head."""


@dataclass(frozen=True, slots=True)
class HeldHead:
    """A head that somebody else kept, and where it stands."""

    origin: str
    head: AuditHead


@contextlib.contextmanager
def open_database(path: Path) -> Iterator[sqlite3.Connection]:
    """The journal's database, read-only and as it was at one moment, whatever the agent writes meanwhile.

    Raises:
        NoAuditError: there is none, or it has no signed log.
        AuditError: it is damaged.
    """
    try:
        is_there = path.is_file()
    except OSError as error:
        raise NoAuditError(f"{path}: {error.strerror}; run it as the user of the agent, or as root") from error
    if not is_there:
        raise NoAuditError(f"{path}: there is no such file; run it as the user of the agent, or as root")
    try:
        with contextlib.closing(_connect(path)) as database:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
            if "tree" not in tables:
                raise NoAuditError(f"{path}: has no signed audit log; an older journal gets one when the agent starts")
            yield database
    except sqlite3.OperationalError as error:
        raise NoAuditError(f"{path}: cannot be read: {error}") from error
    except sqlite3.Error as error:
        raise AuditError(f"{path}: cannot be read: {error}") from error


def _connect(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    try:
        database.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        database.close()
        if Path(f"{path}-wal").exists():
            raise
        # A read-only folder has no room for the index of a write-ahead log; without a writer there is none.
        database = sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True, isolation_level=None)
    database.text_factory = lenient
    database.execute("BEGIN")
    return database


def database_head(database: sqlite3.Connection) -> AuditHead:
    """The head that was signed with the last commit.

    Raises:
        AuditError: there is none, or it cannot be read.
    """
    row = database.execute("SELECT head FROM tree").fetchone()
    try:
        return _head(row[0].encode() if row and isinstance(row[0], str) else b"")
    except ValueError:
        raise AuditError("the log's head is missing or was changed") from None


def database_items(database: sqlite3.Connection) -> Iterator[Item]:
    """Entries and pruned stretches in their order.

    Raises:
        AuditError: a value is of a kind that the agent never writes.
    """
    entries = (_row_entry(*row) for row in database.execute(f"SELECT {COLUMNS} FROM audit ORDER BY seq"))  # noqa: S608
    pruned = (_row_pruned(*row) for row in database.execute("SELECT first, last, nodes FROM pruned ORDER BY first"))
    items: Iterable[Item] = heapq.merge(entries, pruned, key=lambda item: item.first)
    yield from items


def entries_after(database: sqlite3.Connection, seq: int) -> list[Entry]:
    """The entries behind a number, in their order.

    Raises:
        AuditError: a value is of a kind that the agent never writes.
    """
    rows = database.execute(f"SELECT {COLUMNS} FROM audit WHERE seq > ? ORDER BY seq", (seq,))  # noqa: S608 - fixed
    return [_row_entry(*row) for row in rows]


def _row_entry(seq: int, at: Any, kind: Any, event: Any, body: Any, previous: Any) -> Entry:
    texts = (at, kind, "" if event is None else event, "" if body is None else body)
    if not all(isinstance(text, str) for text in texts) or not isinstance(previous, bytes):
        raise AuditError(f"entry {seq} was changed: a value has another type than the agent writes")
    return Entry(seq, at, kind, event, body, previous)


def _row_pruned(first: int, last: Any, nodes: Any) -> Pruned:
    if not isinstance(last, int) or not isinstance(nodes, bytes):
        raise AuditError(f"the hashes of the pruned entries from {first} on were changed")
    return Pruned(first, last, split_nodes(nodes))


def write_export(database: sqlite3.Connection, file: BinaryIO) -> AuditHead:
    """Write the whole log; its head.

    Raises:
        AuditError: the log cannot be read.
        OSError: the file cannot be written.
    """
    head = database_head(database)
    file.write(head_line(head) + b"\n")
    file.writelines(item.line() + b"\n" for item in database_items(database))
    return head


def read_export(file: BinaryIO) -> tuple[AuditHead, Iterator[Item]]:
    """Head and items of an export; the items are read as they are asked for.

    Raises:
        AuditError: a line that no export has; the items raise it too.
    """
    return _line(1, file.readline(), _head), _export_items(file)


def _export_items(file: BinaryIO) -> Iterator[Item]:
    for number, line in enumerate(file, 2):
        yield _line(number, line, _item)


def _line(number: int, line: bytes, parse: Callable[[bytes], Any]) -> Any:
    try:
        return parse(line.removesuffix(b"\n") if line.endswith(b"\n") else b"")
    except (ValueError, RecursionError) as error:
        raise AuditError(f"line {number} was changed, or this is no audit export: {error}") from None


def _head(line: bytes) -> AuditHead:
    try:
        head = AuditHead.model_validate_json(line)
    except ValidationError:
        raise ValueError("no signed head") from None
    if head_line(head) != line:
        raise ValueError("the head is not in canonical form")
    return head


def _item(line: bytes) -> Item:
    table = json.loads(line)
    if isinstance(table, dict) and "pruned" in table:
        part = _pruned(table)
        if part.line() != line:
            raise ValueError("not in canonical form")
        return part
    return _entry(table, line)


def read_entry(line: bytes) -> Entry:
    """The entry that stands on a line, without its end.

    Raises:
        ValueError: it is no entry in canonical form.
    """
    return _entry(json.loads(line), line)


def _entry(table: Any, line: bytes) -> Entry:
    if not isinstance(table, dict):
        raise ValueError("no entry")  # noqa: TRY004 - one error for all that a line can be
    seq = table.get("seq")
    texts = [table.get(key) for key in ("at", "kind", "previous")]
    optional = [table[key] for key in ("event", "body") if key in table]
    if not isinstance(seq, int) or not _is_number(seq) or not all(isinstance(text, str) for text in texts + optional):
        raise ValueError("no entry")
    previous = bytes.fromhex(table["previous"])
    entry = Entry(seq, table["at"], table["kind"], table.get("event"), table.get("body"), previous)
    if entry.line() != line:
        raise ValueError("not in canonical form")
    return entry


def _pruned(table: dict[str, Any]) -> Pruned:
    span, nodes = table["pruned"], table.get("nodes")
    if not (isinstance(span, list) and len(span) == 2 and all(map(_is_number, span)) and isinstance(nodes, list)):
        raise ValueError("no pruned entries")
    if not all(isinstance(node, str) and len(node) == 2 * HASH_BYTES for node in nodes):
        raise ValueError("no hashes")
    return Pruned(span[0], span[1], tuple(map(bytes.fromhex, nodes)))


def _is_number(value: Any) -> bool:
    return type(value) is int and 0 < value < _LARGEST


def read_heads(path: Path) -> list[HeldHead]:
    """Heads as they came over MQTT, one a line: the payload, or what `vigie events --json` makes of it.

    Raises:
        NoAuditError: the file cannot be read, or a line is neither a head nor another message.
    """
    held = []
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise NoAuditError(f"{path}: cannot be read: {error.strerror}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            message = json.loads(line)
            if isinstance(message, dict) and "topic" in message:
                if not str(message["topic"]).endswith("/audit/head"):
                    continue
                message = message.get("payload")
            held.append(HeldHead(f"{path.name} line {number}", AuditHead.model_validate_json(json.dumps(message))))
        except (ValueError, RecursionError):  # ValidationError is one
            raise NoAuditError(f"{path} line {number}: is no head of an audit log") from None
    return held
