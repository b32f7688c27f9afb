"""The journal: audit log and outbox in one SQLite database, so that what is released and what is recorded are one.

An event gets its id, its audit entry and its outbox row in a single transaction (WAL, `synchronous=FULL`): after a
power cut either all three are there or none. The outbox row goes when the broker has acknowledged it (PUBACK), in one
transaction with the audit entry that says so. So the ids delivered are the ids released, less those evicted, which are
counted and recorded too.

The outbox is bounded in bytes and age; the oldest goes first and alarms go last. A database that cannot be read is set
aside, never deleted, and whatever its outbox still gives is carried over.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import logging
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from agent.contract import ALARMS, Event, EventData, EventType, topic
from agent.relay.gate import Release

log = logging.getLogger(__name__)

AuditKind = Literal["opened", "closed", "released", "first_attempt", "acknowledged", "evicted", "salvaged"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS audit (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at TEXT NOT NULL,
    kind TEXT NOT NULL,
    event_id TEXT,
    body TEXT
);
CREATE TABLE IF NOT EXISTS outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id TEXT NOT NULL UNIQUE,
    topic TEXT NOT NULL,
    payload BLOB NOT NULL,
    alarm INTEGER NOT NULL,
    at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS outbox_eviction ON outbox (alarm, seq);
"""
#: A stamp before this was made by a clock that had never been set; the age of such an event is not known.
_FIRST_TRUSTED = dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc).timestamp()
#: Share of the audit log that goes when it is full, so that pruning is rare, and entries that go in one statement.
_PRUNE = 0.1
_PRUNE_ENTRIES = 1000
#: What an audit entry costs beside its body, bytes; measured on a full log, rounded up.
_ENTRY_BYTES = 80


class JournalError(RuntimeError):
    """The journal cannot be used; the text says why and what to do."""


class JournalFullError(JournalError):
    """Nothing was written, since the disk is full or somebody has the database locked; try the same call again."""


@dataclass(frozen=True, slots=True)
class Row:
    """An event that waits for its acknowledgement.

    Attributes:
        seq: Place in the outbox.
        event_id: Id of the event.
        topic: MQTT topic.
        payload: MQTT payload.
    """

    seq: int
    event_id: str
    topic: str
    payload: bytes


def _now() -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc)


class Journal:
    """Audit log and outbox of one device. One thread uses it."""

    def __init__(
        self,
        folder: Path,
        site: str,
        device: str,
        *,
        outbox_max_bytes: int,
        outbox_max_age_s: float,
        audit_max_bytes: int,
        wall: Callable[[], dt.datetime] = _now,
    ) -> None:
        """Open or create the journal, and set aside one that cannot be read.

        Args:
            folder: Where it lies; only relay writes there.
            site: Site of the device.
            device: Name of the device.
            outbox_max_bytes: Payload kept for delivery.
            outbox_max_age_s: Age at which an undelivered event is evicted.
            audit_max_bytes: Size of the audit log, about.
            wall: Aware wall time.

        Raises:
            JournalError: the folder cannot be written, or another relay uses it.
        """
        self.boot = secrets.token_hex(4)
        """Random id of this start: the first half of every event id."""
        self.evicted = 0
        self.salvaged = 0
        self.damaged = False
        """Whether a database that could not be read was set aside at this start."""
        self._number = 0
        self._site = site
        self._device = device
        self._outbox_max_bytes = outbox_max_bytes
        self._outbox_max_age_s = outbox_max_age_s
        self._audit_max_bytes = audit_max_bytes
        self._wall = wall
        self._path = folder / "journal.sqlite"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = _locked(folder / "journal.lock")
        except OSError as error:
            raise JournalError(f"{folder}: cannot be written: {error.strerror}") from error
        try:
            self._database = self._open()
        except sqlite3.OperationalError as error:  # the database may be sound: locked, read-only, a full disk
            os.close(self._lock)
            raise _unwritten(folder, error) from error
        except sqlite3.DatabaseError as error:
            self._database = self._replace(error)
        self._outbox_bytes: int
        self.depth: int
        self._outbox_bytes, self.depth = self._database.execute(
            "SELECT COALESCE(SUM(LENGTH(payload)), 0), COUNT(*) FROM outbox"
        ).fetchone()
        self._audit_bytes: int = self._database.execute(
            "SELECT COALESCE(SUM(LENGTH(body)), 0) + ? * COUNT(*) FROM audit", (_ENTRY_BYTES,)
        ).fetchone()[0]
        try:
            with self._transaction():
                self._record("opened", [(None, self.boot)])
        except sqlite3.Error as error:
            self._database.close()
            os.close(self._lock)
            raise _unwritten(folder, error) from error
        except JournalFullError:
            self._database.close()
            os.close(self._lock)
            raise

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, isolation_level=None)
        try:
            self._path.chmod(0o600)
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            _check(database)
            database.executescript(_SCHEMA)
        except BaseException:
            database.close()
            raise
        return database

    def _replace(self, error: sqlite3.DatabaseError) -> sqlite3.Connection:
        """Set the damaged database aside and carry over what its outbox still gives."""
        stamp = self._wall().strftime("%Y%m%dT%H%M%SZ")
        aside = self._path.with_name(f"journal-damaged-{stamp}-{self.boot}.sqlite")
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                Path(f"{self._path}{suffix}").rename(f"{aside}{suffix}")
        database = self._open()
        rows = list(_readable_outbox(aside))
        database.execute("BEGIN IMMEDIATE")
        database.executemany("INSERT INTO outbox (event_id, topic, payload, alarm, at) VALUES (?,?,?,?,?)", rows)
        database.executemany(
            "INSERT INTO audit (at, kind, event_id) VALUES (?, 'salvaged', ?)",
            [(self._stamp(), row[0]) for row in rows],
        )
        database.execute("COMMIT")
        self.damaged = True
        self.salvaged = len(rows)
        log.error(
            "event=journal_damaged reason=%r kept_as=%s salvaged_events=%d", str(error), aside.name, self.salvaged
        )
        return database

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        kept = (self._number, self._outbox_bytes, self._audit_bytes, self.depth, self.evicted)
        try:
            self._database.execute("BEGIN IMMEDIATE")
            yield
            self._database.execute("COMMIT")
        except BaseException as error:
            with contextlib.suppress(sqlite3.Error):
                self._database.execute("ROLLBACK")
            self._number, self._outbox_bytes, self._audit_bytes, self.depth, self.evicted = kept
            if isinstance(error, sqlite3.OperationalError):
                raise _unwritten(self._path, error) from error
            raise

    def _stamp(self) -> str:
        return self._wall().strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def _record(self, kind: AuditKind, entries: Iterable[tuple[str | None, str | None]]) -> None:
        stamp = self._stamp()
        rows = [(stamp, kind, event_id, body) for event_id, body in entries]
        self._database.executemany("INSERT INTO audit (at, kind, event_id, body) VALUES (?, ?, ?, ?)", rows)
        self._audit_bytes += sum(_ENTRY_BYTES + len(row[3] or "") for row in rows)

    def release(self, releases: Sequence[Release]) -> list[Event]:
        """Make these releases events: id, audit entry and outbox row, all of them or none.

        Raises:
            JournalFullError: the disk is full; nothing was released.
        """
        events = []
        with self._transaction():
            for item in releases:
                self._number += 1
                event = self._event(f"{self.boot}-{self._number:06d}", item.event_type.label, item.time, item.data)
                payload = event.to_json()
                self._database.execute(
                    "INSERT INTO outbox (event_id, topic, payload, alarm, at) VALUES (?, ?, ?, ?, ?)",
                    (
                        event.id,
                        topic(self._site, self._device, "event", item.event_type.label),
                        payload,
                        item.alarm,
                        self._wall().timestamp(),
                    ),
                )
                self._outbox_bytes += len(payload)
                self.depth += 1
                self._record("released", [(event.id, payload.decode())])
                events.append(event)
            self._make_room()
            self._prune_audit()
        return events

    def _event(self, event_id: str, label: str, time: str, data: EventData) -> Event:
        return Event(
            id=event_id,
            source=f"/vigie/{self._site}/{self._device}",
            type=f"vigie.{label}.v1",
            time=time,
            data=data,
        )

    def _make_room(self) -> None:
        """Evict the oldest events until the rest fits, alarms last: a new event that is none goes before an old one."""
        while self._outbox_bytes > self._outbox_max_bytes:
            victims = self._database.execute(
                "SELECT seq, event_id, LENGTH(payload) FROM outbox ORDER BY alarm, seq LIMIT 1"
            ).fetchall()
            self._evict(victims)

    def expire(self) -> int:
        """Evict events older than the limit; how many went."""
        now = self._wall().timestamp()
        victims = self._database.execute(
            "SELECT seq, event_id, LENGTH(payload) FROM outbox WHERE at < ? AND at > ?",
            (now - self._outbox_max_age_s, _FIRST_TRUSTED),
        ).fetchall()
        if victims:
            with self._transaction():
                self._evict(victims)
        return len(victims)

    def _evict(self, victims: Sequence[tuple[int, str, int]]) -> None:
        self._database.executemany("DELETE FROM outbox WHERE seq = ?", [(seq,) for seq, _, _ in victims])
        self._record("evicted", [(event_id, None) for _, event_id, _ in victims])
        self._outbox_bytes -= sum(size for _, _, size in victims)
        self.depth -= len(victims)
        self.evicted += len(victims)

    def _prune_audit(self) -> None:
        """Drop the oldest tenth of a full audit log, but nothing about events that are still in the outbox."""
        if self._audit_bytes <= self._audit_max_bytes:
            return
        while self._audit_bytes > (1 - _PRUNE) * self._audit_max_bytes:
            gone = self._database.execute(
                "DELETE FROM audit WHERE seq IN (SELECT seq FROM audit WHERE event_id IS NULL"
                " OR event_id NOT IN (SELECT event_id FROM outbox) ORDER BY seq LIMIT ?) RETURNING LENGTH(body)",
                (_PRUNE_ENTRIES,),
            ).fetchall()
            if not gone:
                return
            self._audit_bytes -= sum(_ENTRY_BYTES + (size or 0) for (size,) in gone)

    def waiting(self, after: int, limit: int) -> list[Row]:
        """Rows of the outbox in their order.

        Args:
            after: Place of the last row that is already under way; 0 for all.
            limit: At most so many.
        """
        rows = self._database.execute(
            "SELECT seq, event_id, topic, payload FROM outbox WHERE seq > ? ORDER BY seq LIMIT ?", (after, limit)
        )
        return [Row(*row) for row in rows]

    def attempted(self, rows: Sequence[Row]) -> None:
        """Record that these events are handed to the broker's connection for the first time in this boot."""
        with self._transaction():
            self._record("first_attempt", [(row.event_id, None) for row in rows])

    def acknowledged(self, seqs: Sequence[int]) -> None:
        """The broker has these: their rows go, and the audit log says so."""
        with self._transaction():
            for seq in seqs:
                row = self._database.execute(
                    "DELETE FROM outbox WHERE seq = ? RETURNING event_id, LENGTH(payload)", (seq,)
                ).fetchone()
                if row is None:  # evicted meanwhile
                    continue
                self._record("acknowledged", [(row[0], None)])
                self._outbox_bytes -= row[1]
                self.depth -= 1

    @property
    def outbox_bytes(self) -> int:
        """Payload that waits for delivery, bytes."""
        return self._outbox_bytes

    def close(self) -> None:
        """Close the database; safe to call on a full disk."""
        with contextlib.suppress(JournalFullError, sqlite3.Error), self._transaction():
            self._record("closed", [(None, self.boot)])
        self._database.close()
        os.close(self._lock)


def _locked(path: Path) -> int:
    """A lock that dies with the process.

    Raises:
        JournalError: another process has it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise JournalError(f"{path.parent}: another relay uses this journal; two agents cannot share one") from None
    return descriptor


def _check(database: sqlite3.Connection) -> None:
    verdict: str = database.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        raise sqlite3.DatabaseError(verdict)


def _unwritten(path: Path, error: sqlite3.Error) -> JournalError:
    """What to say of an error that leaves the database as it was."""
    # Python 3.10 has no error codes; a full tmpfs or quota may show as an I/O error.
    if any(text in str(error) for text in ("is full", "disk I/O error", "unable to open")):
        return JournalFullError(f"{path}: the disk is full; free some space")
    if "locked" in str(error):
        return JournalFullError(f"{path}: another program has the database locked; end it")
    return JournalError(f"{path}: cannot be written: {error}")


def _readable_outbox(damaged: Path) -> Iterator[tuple[str, str, bytes, bool, float]]:
    """Events of a damaged database, up to the first page that cannot be read, from either end.

    A page can be readable and wrong, so only what is an event of the contract is given, under the topic that it names.
    """
    seen: set[str] = set()
    for order in ("ASC", "DESC"):
        with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(damaged)) as database:
            query = f"SELECT payload, at FROM outbox ORDER BY seq {order}"  # noqa: S608 - fixed
            for payload, at in database.execute(query):
                if not isinstance(payload, bytes) or not isinstance(at, float):
                    continue
                with contextlib.suppress(ValidationError):
                    event = Event.model_validate_json(payload)
                    if event.id not in seen:
                        seen.add(event.id)
                        label = event.type.removeprefix("vigie.").removesuffix(".v1")
                        _, _, site, device = event.source.split("/")
                        where = topic(site, device, "event", label)
                        yield event.id, where, payload, EventType.parse(label) in ALARMS, at
