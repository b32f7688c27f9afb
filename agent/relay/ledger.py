"""What was asked of this device: which commands it knows, and what they have left in force.

In the journal's database, so that a command, its effect and its audit entry are one transaction. The journal begins and
ends the transactions.

A request is known until its command has expired, and then forgotten. What is left of it is `floor`: the latest expiry
of all that were forgotten. Nothing that expires by then is obeyed any more, so a clock that is set back brings no old
command to life. A ledger that is new, since its device or its database is, obeys nothing that was issued before it had
its first true time, `begun`: what came before may have been obeyed already.
"""

from __future__ import annotations

import math
import sqlite3
from dataclasses import dataclass
from typing import Literal

from agent.command import Reason, Verb

State = Literal["accepted", "executing", "succeeded", "failed", "rejected"]

_TABLES = """
CREATE TABLE IF NOT EXISTS request (
    key TEXT NOT NULL,
    request TEXT NOT NULL,
    digest TEXT NOT NULL,
    verb TEXT NOT NULL,
    args TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT,
    expires REAL NOT NULL,
    topic TEXT NOT NULL,
    correlation BLOB,
    told INTEGER NOT NULL,
    PRIMARY KEY (key, request)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counter (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS holder (key TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS off (type TEXT NOT NULL, zone TEXT NOT NULL, PRIMARY KEY (type, zone)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS revoked (key TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS mark (name TEXT PRIMARY KEY, value REAL NOT NULL) WITHOUT ROWID;
"""
_COLUMNS = "key, request, digest, verb, args, state, reason, expires, topic, correlation, told"
#: Requests of one key that are known at once.
MOST = 1000


@dataclass(frozen=True, slots=True)
class Entry:
    """One request.

    Attributes:
        key: Id of the key that signed it.
        request: Its id; unique for a key.
        digest: SHA-256 of the command's signature: another command under the same id is another one.
        verb: What to do.
        args: What the verb needs, as JSON.
        state: How far it is.
        reason: Why it was rejected or has failed.
        expires: When it may be forgotten, seconds since 1970.
        topic: Where its result goes: below the device's own root.
        correlation: Correlation Data of MQTT 5.
        told: 1 when the broker has its last result.
    """

    key: str
    request: str
    digest: str
    verb: Verb
    args: str
    state: State
    reason: Reason | None
    expires: float
    topic: str
    correlation: bytes | None
    told: int = 0

    @property
    def over(self) -> bool:
        """Whether nothing more will become of it."""
        return self.state in {"succeeded", "failed", "rejected"}


class Ledger:
    """The tables of one journal; its database must be in a transaction for whatever changes them."""

    def __init__(self, database: sqlite3.Connection) -> None:
        """Make the tables where they are not there."""
        self._database = database
        database.executescript(_TABLES)

    def find(self, key: str, request: str) -> Entry | None:
        """The request of that id, if it is known."""
        rows = self._entries("key = ? AND request = ?", key, request)
        return rows[0] if rows else None

    def unfinished(self) -> list[Entry]:
        """Requests that were accepted and are not over."""
        return self._entries("state IN ('accepted', 'executing')")

    def untold(self) -> list[Entry]:
        """Requests whose last result the broker does not have, as far as we know."""
        return self._entries("NOT told")

    def _entries(self, where: str, *values: str) -> list[Entry]:
        rows = self._database.execute(f"SELECT {_COLUMNS} FROM request WHERE {where}", values)  # noqa: S608 - fixed
        return [Entry(*row) for row in rows]

    def put(self, entry: Entry) -> None:
        """Keep a request as it is now."""
        values = tuple(getattr(entry, name) for name in _COLUMNS.split(", "))
        self._database.execute(f"INSERT OR REPLACE INTO request ({_COLUMNS}) VALUES ({'?, ' * 10}?)", values)  # noqa: S608

    def number(self, key: str) -> int:
        """How many requests of a key are known."""
        (number,) = self._database.execute("SELECT COUNT(*) FROM request WHERE key = ?", (key,)).fetchone()
        return int(number)

    def counter(self, key: str) -> int:
        """The highest counter of a key that was obeyed; 0 before the first."""
        row = self._database.execute("SELECT value FROM counter WHERE key = ?", (key,)).fetchone()
        return row[0] if row else 0

    def count(self, key: str, value: int) -> None:
        """Remember a counter, unless a higher one is known."""
        self._database.execute(
            "INSERT INTO counter VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = MAX(value, excluded.value)",
            (key, value),
        )

    def mark(self, name: Literal["begun", "floor"]) -> float | None:
        """A time that is remembered, seconds since 1970."""
        row = self._database.execute("SELECT value FROM mark WHERE name = ?", (name,)).fetchone()
        return row[0] if row else None

    def set_mark(self, name: Literal["begun", "floor"], value: float) -> None:
        """Remember a time."""
        self._database.execute("INSERT OR REPLACE INTO mark VALUES (?, ?)", (name, value))

    def forget(self, before: float) -> int:
        """Forget requests that have expired before a time; how many went."""
        (last,) = self._database.execute("SELECT MAX(expires) FROM request WHERE expires < ?", (before,)).fetchone()
        if last is None:
            return 0
        self.set_mark("floor", max(last, self.mark("floor") or 0.0))
        return self._database.execute("DELETE FROM request WHERE expires < ?", (before,)).rowcount

    def oldest(self) -> float:
        """When the first of the known requests expires; infinity without any."""
        (first,) = self._database.execute("SELECT MIN(expires) FROM request").fetchone()
        return math.inf if first is None else first

    def holders(self) -> frozenset[str]:
        """Keys whose pause is in force."""
        return frozenset(key for (key,) in self._database.execute("SELECT key FROM holder"))

    def hold(self, key: str) -> None:
        """A pause of a key is in force."""
        self._database.execute("INSERT OR IGNORE INTO holder VALUES (?)", (key,))

    def let_go(self, key: str | None) -> None:
        """The pause of a key is over; None: of all keys."""
        self._database.execute("DELETE FROM holder WHERE ?1 IS NULL OR key = ?1", (key,))

    def off(self) -> list[tuple[str, str | None]]:
        """Types, and zones or None for all, that are switched off; in order."""
        rows = self._database.execute("SELECT type, zone FROM off ORDER BY type, zone")
        return [(label, zone or None) for label, zone in rows]

    def switch_off(self, label: str, zone: str | None) -> None:
        """Switch a type off, in a zone or everywhere."""
        self._database.execute("INSERT OR IGNORE INTO off VALUES (?, ?)", (label, zone or ""))

    def switch_on(self, label: str, zone: str | None) -> None:
        """Take back what was switched off: in a zone, or everywhere."""
        self._database.execute("DELETE FROM off WHERE type = ?1 AND (?2 = '' OR zone = ?2)", (label, zone or ""))

    def revoked(self) -> frozenset[str]:
        """Keys that have revoked themselves."""
        return frozenset(key for (key,) in self._database.execute("SELECT key FROM revoked"))

    def revoke(self, key: str) -> None:
        """A key is not valid here ever again."""
        self._database.execute("INSERT OR IGNORE INTO revoked VALUES (?)", (key,))
