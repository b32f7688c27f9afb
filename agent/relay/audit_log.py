"""The audit log in the journal's database: it only grows, and every commit ends with a signed head.

The journal begins and ends the transactions; what is appended, pruned and signed here commits with what it is about. In
memory are the Merkle tree of all entries (a few hashes) and the leaf hash of the last one, so that appending costs two
hashes whatever the size of the log.

A log that is full is pruned from its old end, apart from what the outbox still needs. What goes leaves its part of the
Merkle tree behind (`pruned`), cut where a published head ends: the root under each of these heads, and the present one,
can still be computed. A head says from which entry on all are kept, so nobody without the key can call a removal
pruning. When such stretches take a quarter of the log, the oldest cuts go, and with them the possibility to check the
heads that ended there.
"""

from __future__ import annotations

import datetime as dt
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import ValidationError

from agent.canonical import canonical
from agent.contract import AuditHead
from agent.relay.audit import AuditKind, Entry, Pruned, chain_start, fault_of_head, head_line, sign_head
from agent.relay.merkle import HASH_BYTES, Range, spans

_TABLES = """
CREATE TABLE IF NOT EXISTS audit (
    seq INTEGER PRIMARY KEY,
    at TEXT NOT NULL,
    kind TEXT NOT NULL,
    event_id TEXT,
    body TEXT,
    previous BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS pruned (
    first INTEGER PRIMARY KEY,
    last INTEGER NOT NULL UNIQUE,
    nodes BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS published (size INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS tree (id INTEGER PRIMARY KEY CHECK (id = 1), nodes BLOB NOT NULL, head TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS audit_changes ON audit (kind, seq) WHERE kind IN ('configuration', 'policy');
"""
#: The columns of an entry, in the order of `Entry`.
COLUMNS = "seq, at, kind, event_id, body, previous"
#: The last entry of each kind that says what was in force; pruning spares it, for the next change to name it.
_IN_FORCE = "SELECT MAX(seq) FROM audit WHERE kind IN ('configuration', 'policy') GROUP BY kind"
#: Share of the log that goes when it is full, and the most entries at once, so that no release waits long for it.
_PRUNE = 0.02
_PRUNE_ENTRIES = 5000
#: What an entry costs beside its body, and a pruned stretch or a published size beside its hashes, bytes; measured on
#: a full log, rounded up.
_ENTRY_BYTES = 120
_ROW_BYTES = 24
#: Share of the log that pruned stretches may take.
_PRUNED_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class _State:
    """What an append changes: put back as it was when the transaction fails.

    Attributes:
        tree: All entries there ever were.
        last: Leaf hash of the last one.
        kept_from: Every entry from this one on is kept.
        kept_bytes: Size of the entries, about.
        pruned_bytes: Size of pruned stretches and published sizes, about.
        head: The head as it is stored; None before the first.
    """

    tree: Range
    last: bytes
    kept_from: int
    kept_bytes: int
    pruned_bytes: int
    head: AuditHead | None


class AuditLog:
    """The audit log of one device; its database must be in a transaction for whatever changes it."""

    def __init__(
        self,
        database: sqlite3.Connection,
        key: Ed25519PrivateKey,
        source: str,
        max_bytes: int,
        wall: Callable[[], dt.datetime],
    ) -> None:
        """Read where the log stands, or make its tables.

        Args:
            database: The journal's, outside of a transaction.
            key: Signs the heads.
            source: `/vigie/<site>/<device>`.
            max_bytes: Size of the log, about.
            wall: Aware wall time.

        Raises:
            sqlite3.DatabaseError: the database cannot be read or written, or the log in it is not what the key signed.
        """
        self._database = database
        self._key = key
        self._source = source
        self._max_bytes = max_bytes
        self._wall = wall
        unchained = _columns(database) and "previous" not in _columns(database)
        if not unchained:
            database.executescript(_TABLES)
        self.log, self.state = self._read()
        """Random id of the log; and where it stands, to be set back when a transaction fails."""
        if unchained:
            self._migrate()

    def _read(self) -> tuple[str, _State]:
        stored = None
        if "previous" in _columns(self._database):
            stored = self._database.execute("SELECT nodes, head FROM tree").fetchone()
            if stored is None and self._database.execute("SELECT 1 FROM audit").fetchone():
                raise sqlite3.DatabaseError("the head of the audit log is missing")
        if stored is None:
            log = secrets.token_hex(8)
            return log, _State(Range(), chain_start(log), 1, 0, 0, None)
        try:
            head = AuditHead.model_validate_json(stored[1])
        except ValidationError:
            raise sqlite3.DatabaseError("the head of the audit log cannot be read") from None
        fault = fault_of_head(head, self._key.public_key())
        if fault is not None or not isinstance(stored[0], bytes):
            raise sqlite3.DatabaseError(f"the head of the audit log {fault or 'has no Merkle tree'}")
        tree = Range(0, head.size, split_nodes(stored[0]))
        last = self._database.execute(f"SELECT {COLUMNS} FROM audit ORDER BY seq DESC LIMIT 1").fetchone()  # noqa: S608
        if len(tree.nodes) != len(list(spans(0, head.size))) or tree.root().hex() != head.root:
            raise sqlite3.DatabaseError("the stored Merkle tree is not the one that the head of the audit log signs")
        if last is None or last[0] != head.size:
            raise sqlite3.DatabaseError("the audit log does not end where its head says")
        kept_bytes: int = self._database.execute(
            "SELECT COALESCE(SUM(LENGTH(body)), 0) + ? * COUNT(*) FROM audit", (_ENTRY_BYTES,)
        ).fetchone()[0]
        pruned_bytes: int = self._database.execute(
            "SELECT (SELECT COALESCE(SUM(LENGTH(nodes)), 0) + ? * COUNT(*) FROM pruned)"
            " + ? * (SELECT COUNT(*) FROM published)",
            (_ROW_BYTES, _ROW_BYTES),
        ).fetchone()[0]
        return head.log, _State(tree, Entry(*last).leaf(), head.kept_from, kept_bytes, pruned_bytes, head)

    def _migrate(self) -> None:
        """Chain the entries of an older agent, which had a plain table: all of them, in their order."""
        database = self._database
        database.execute("BEGIN IMMEDIATE")
        try:
            database.execute("ALTER TABLE audit RENAME TO audit_unchained")
            for statement in filter(str.strip, _TABLES.split(";")):
                database.execute(statement)
            rows = database.execute("SELECT at, kind, event_id, body FROM audit_unchained ORDER BY seq")
            number = 0
            for at, kind, event_id, body in rows:
                self._append(at, kind, [(event_id, body)])
                number += 1
            database.execute("DROP TABLE audit_unchained")
            waiting = database.execute(
                "SELECT event_id, CAST(payload AS TEXT) FROM outbox WHERE event_id NOT IN"
                " (SELECT event_id FROM audit WHERE kind = 'released')"
            )
            self.append("salvaged", waiting.fetchall())
            self.append("migrated", [(None, canonical({"entries": number}).decode())])
            self.seal()
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise

    def append(
        self, kind: AuditKind, entries: Iterable[tuple[str | None, str | None]], at: dt.datetime | None = None
    ) -> None:
        """Append entries.

        Args:
            kind: Of all of them.
            entries: Event id and body of each.
            at: When it happened; None for now.
        """
        self._append((at or self._wall()).strftime("%Y-%m-%dT%H:%M:%S.%fZ"), kind, entries)

    def _append(self, at: str, kind: str, entries: Iterable[tuple[str | None, str | None]]) -> None:
        tree, last, size = self.state.tree, self.state.last, self.state.kept_bytes
        rows = []
        for event_id, body in entries:
            row = (tree.end + 1, at, kind, event_id, body, last)
            rows.append(row)
            last = Entry(*row).leaf()
            tree = tree.append(last)
            size += _ENTRY_BYTES + len(body or "")
        self._database.executemany(f"INSERT INTO audit ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)", rows)  # noqa: S608
        self.state = replace(self.state, tree=tree, last=last, kept_bytes=size)

    def last(self, kind: AuditKind) -> str | None:
        """The body of the last entry of a kind that is still kept."""
        row = self._database.execute("SELECT body FROM audit WHERE kind = ? ORDER BY seq DESC LIMIT 1", (kind,))
        found: tuple[str | None] | None = row.fetchone()
        return found and found[0]

    def seal(self) -> None:
        """Sign the log as it is now, before the transaction commits."""
        state = self.state
        if state.head is None or (state.head.size, state.head.kept_from) != (state.tree.end, state.kept_from):
            self._sign()

    def _sign(self, *, final: bool = False) -> AuditHead:
        state = self.state
        head = sign_head(self._key, self.log, self._source, state.tree, state.kept_from, self._wall(), final=final)
        self._database.execute(
            "INSERT OR REPLACE INTO tree (id, nodes, head) VALUES (1, ?, ?)",
            (b"".join(state.tree.nodes), head_line(head).decode()),
        )
        self.state = replace(state, head=head)
        return head

    def publish(self, *, final: bool = False) -> AuditHead:
        """A head to publish, signed now; its root stays provable when the entries below it are pruned.

        Args:
            final: Whether it is the last one.
        """
        added = self._database.execute("INSERT OR IGNORE INTO published VALUES (?)", (self.state.tree.end,)).rowcount
        self.state = replace(self.state, pruned_bytes=self.state.pruned_bytes + added * _ROW_BYTES)
        return self._sign(final=final)

    def prune(self) -> None:
        """Let go of the oldest entries of a full log, but of nothing about events that are still in the outbox."""
        if self.state.kept_bytes + self.state.pruned_bytes <= self._max_bytes:
            return
        excess = self.state.kept_bytes + self.state.pruned_bytes - (1 - _PRUNE) * self._max_bytes
        gone = []
        for row in self._database.execute(
            f"SELECT {COLUMNS} FROM audit WHERE seq < ? AND seq NOT IN ({_IN_FORCE}) AND"  # noqa: S608
            " (event_id IS NULL OR event_id NOT IN (SELECT event_id FROM outbox)) ORDER BY seq LIMIT ?",
            (self.state.tree.end, _PRUNE_ENTRIES),
        ):
            entry = Entry(*row)
            gone.append(entry)
            excess -= _ENTRY_BYTES + len(entry.body or "")
            if excess <= 0:
                break
        if gone:
            self._let_go(gone)
        while self.state.pruned_bytes > _PRUNED_SHARE * self._max_bytes and self._forget_oldest_cut():
            pass

    def _let_go(self, entries: Sequence[Entry]) -> None:
        cuts = self._cuts(entries[0].seq - 1, entries[-1].seq)
        for part in _runs(entries, cuts):
            self._keep_hashes(part, cuts)
        self._database.executemany("DELETE FROM audit WHERE seq = ?", [(entry.seq,) for entry in entries])
        self.state = replace(
            self.state,
            kept_from=max(self.state.kept_from, entries[-1].seq + 1),
            kept_bytes=self.state.kept_bytes - sum(_ENTRY_BYTES + len(entry.body or "") for entry in entries),
        )

    def _cuts(self, begin: int, end: int) -> frozenset[int]:
        rows = self._database.execute("SELECT size FROM published WHERE size BETWEEN ? AND ?", (begin, end))
        return frozenset(size for (size,) in rows)

    def _keep_hashes(self, part: Range, cuts: frozenset[int]) -> None:
        """Keep the hashes of a stretch, in one row with its neighbours where no cut is between them."""
        if part.begin not in cuts and (before := self._take("last", part.begin)):
            part = before.join(part)
        if part.end not in cuts and (behind := self._take("first", part.end + 1)):
            part = part.join(behind)
        nodes = b"".join(part.nodes)
        self._database.execute("INSERT INTO pruned VALUES (?, ?, ?)", (part.begin + 1, part.end, nodes))
        self._count_pruned(len(nodes) + _ROW_BYTES)

    def _take(self, column: Literal["first", "last"], entry: int) -> Range | None:
        """Take the row of a stretch that begins or ends with an entry, if there is one."""
        row = self._database.execute(
            f"DELETE FROM pruned WHERE {column} = ? RETURNING first, last, nodes",  # noqa: S608
            (entry,),
        ).fetchone()
        if row is None:
            return None
        self._count_pruned(-len(row[2]) - _ROW_BYTES)
        return Pruned(row[0], row[1], split_nodes(row[2])).range()

    def _count_pruned(self, change: int) -> None:
        self.state = replace(self.state, pruned_bytes=self.state.pruned_bytes + change)

    def _forget_oldest_cut(self) -> bool:
        """Join the stretches that meet at the oldest published size; whether there was one."""
        (size,) = self._database.execute("SELECT MIN(size) FROM published").fetchone()
        if size is None:
            return False
        self._database.execute("DELETE FROM published WHERE size = ?", (size,))
        self._count_pruned(-_ROW_BYTES)
        behind = self._take("first", size + 1)
        if behind is not None:
            self._keep_hashes(behind, self._cuts(behind.begin, behind.end))
        return True


def split_nodes(blob: bytes) -> tuple[bytes, ...]:
    """The hashes in a column; a last one that is too short is given as it is."""
    return tuple(blob[at : at + HASH_BYTES] for at in range(0, len(blob), HASH_BYTES))


def _columns(database: sqlite3.Connection) -> set[str]:
    return {row[1] for row in database.execute("PRAGMA table_info(audit)")}


def _runs(entries: Sequence[Entry], cuts: frozenset[int]) -> Iterator[Range]:
    """The leaves of some entries, as ranges that end at gaps and cuts."""
    part = Range(entries[0].seq - 1, entries[0].seq - 1)
    for entry in entries:
        if entry.seq - 1 != part.end or (part.end in cuts and part.nodes):
            yield part
            part = Range(entry.seq - 1, entry.seq - 1)
        part = part.append(entry.leaf())
    yield part
