"""The journal: audit log and outbox in one SQLite database, so that what is released and what is recorded are one.

An event gets its id, its audit entry and its outbox row in a single transaction (WAL, `synchronous=FULL`), which ends
with a signed head of the audit log (`agent.relay.audit_log`): after a power cut either all are there or none. The
outbox row goes when the broker has acknowledged it (PUBACK), in one transaction with the audit entry that says so. So
the ids delivered are the ids released, less those evicted, which are counted and recorded too.

An event of a clock that is not set is held: it is in the outbox and in the audit log at once, with its moments on the
monotonic clock and the id of the machine's start, and does not leave. When the clock is set it gets its time, and is
released with it; when it shall not wait any longer, or after another start of the machine, it is released as it is,
marked `unsynced`. What follows it waits for it. A journal of before knows nothing of this and sends it, so marked.

The outbox is bounded in bytes and age; the oldest goes first and alarms go last. A database that cannot be read is set
aside, never deleted, and whatever its outbox still gives is carried over; so is one whose audit log is not what the
device's key signed.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import fcntl
import json
import logging
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import ValidationError

from agent.canonical import canonical
from agent.contract import ALARMS, AuditHead, Event, EventData, EventType, topic
from agent.relay.audit import ActKind, MessageKind, lenient
from agent.relay.audit_log import AuditLog
from agent.relay.gate import Moment, Release
from agent.relay.keys import KeyFileError, make_key, read_private_key
from agent.relay.ledger import Ledger

log = logging.getLogger(__name__)

#: Name of the database in the journal's folder, and of the key there that signs the audit log.
DATABASE = "journal.sqlite"
KEY = "audit.key"

_OUTBOX = """
CREATE TABLE IF NOT EXISTS outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id TEXT NOT NULL UNIQUE,
    topic TEXT NOT NULL,
    payload BLOB NOT NULL,
    alarm INTEGER NOT NULL,
    at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS outbox_eviction ON outbox (alarm, seq);
CREATE TABLE IF NOT EXISTS held (
    seq INTEGER PRIMARY KEY,
    machine_boot TEXT NOT NULL,
    at REAL NOT NULL,
    grain_s REAL NOT NULL,
    onset REAL,
    onset_error_s REAL NOT NULL
);
"""
#: What is under way may not overtake what is held.
_NOT_HELD = "seq < COALESCE((SELECT MIN(seq) FROM held), 9223372036854775807)"
#: A stamp before this was made by a clock that had never been set; the age of such an event is not known.
_FIRST_TRUSTED = dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc).timestamp()
#: A message that says what an earlier one said is recorded by that one's number, if it is longer than this, bytes.
_WORTH_A_REFERENCE = 200


class JournalError(RuntimeError):
    """The journal cannot be used; the text says why and what to do."""


class JournalBusyError(JournalError):
    """Another process uses the journal; nothing was touched."""


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
        key_file: Path | None = None,
        wall: Callable[[], dt.datetime] = _now,
        machine_boot: str | None = None,
    ) -> None:
        """Open or create the journal, and set aside one that cannot be read.

        Args:
            folder: Where it lies; only relay writes there.
            site: Site of the device.
            device: Name of the device.
            outbox_max_bytes: Payload kept for delivery.
            outbox_max_age_s: Age at which an undelivered event is evicted.
            audit_max_bytes: Size of the audit log, about.
            key_file: Key that signs the audit log; None for one in the folder, which is made if it is not there.
            wall: Aware wall time.
            machine_boot: Id of this start of the machine, for which the monotonic clock holds; None: unknown, so that
                it holds for this process alone.

        Raises:
            JournalError: the folder cannot be written, another relay uses it, or the key cannot be used.
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
        self._machine_boot = machine_boot or self.boot
        self._said: dict[str, tuple[int, str]] = {}
        self._path = folder / DATABASE
        self._outbox_bytes = 0
        self.depth = 0
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = _locked(folder / "journal.lock")
        except OSError as error:
            raise JournalError(f"{folder}: cannot be written: {error.strerror}") from error
        try:
            self._key = _key(folder, key_file)
            self._start()
        except BaseException:
            os.close(self._lock)
            raise

    @property
    def filled(self) -> float:
        """Share of the room for events that wait which they fill."""
        return self._outbox_bytes / self._outbox_max_bytes

    def _start(self) -> None:
        """Open the database, or begin a new one, and record the start."""
        try:
            self._open()
        except sqlite3.OperationalError as error:  # the database may be sound: locked, read-only, a full disk
            raise _unwritten(self._path.parent, error) from error
        except sqlite3.DatabaseError as error:
            self._replace(error)
        try:
            self._outbox_bytes, self.depth = self._database.execute(
                "SELECT COALESCE(SUM(LENGTH(payload)), 0), COUNT(*) FROM outbox"
            ).fetchone()
            with self._transaction():
                self._audit.append("opened", [(None, self.boot)])
                self._settle("machine_boot <> ?", (self._machine_boot,), None)
        except BaseException as error:
            self._database.close()
            if isinstance(error, sqlite3.Error):
                raise _unwritten(self._path.parent, error) from error
            raise

    def _open(self) -> None:
        database = sqlite3.connect(self._path, isolation_level=None)
        database.text_factory = lenient
        try:
            self._path.chmod(0o600)
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            _check(database)
            database.executescript(_OUTBOX)
            source = f"/vigie/{self._site}/{self._device}"
            self._audit = AuditLog(database, self._key, source, self._audit_max_bytes, self._wall)
            self.ledger = Ledger(database)
        except BaseException:
            database.close()
            raise
        self._database = database

    def _replace(self, error: sqlite3.DatabaseError) -> None:
        """Set a database aside that cannot be read or trusted, and carry over what its outbox still gives."""
        stamp = self._wall().strftime("%Y%m%dT%H%M%SZ")
        aside = self._path.with_name(f"journal-damaged-{stamp}-{self.boot}.sqlite")
        _move(self._path, aside)
        try:
            self._begin_anew(aside, error)
        except BaseException as failed:  # such as a full disk: the next start shall find it where it was
            _move(aside, self._path)
            if isinstance(failed, sqlite3.Error):
                raise _unwritten(self._path.parent, failed) from failed
            raise
        self.damaged = True
        log.error(
            "event=journal_damaged reason=%r kept_as=%s salvaged_events=%d", str(error), aside.name, self.salvaged
        )

    def _begin_anew(self, aside: Path, error: sqlite3.DatabaseError) -> None:
        self._open()
        rows = list(_readable_outbox(aside))
        told = canonical({"kept_as": aside.name, "reason": str(error)}).decode()
        try:
            with self._transaction():
                self._database.executemany(
                    "INSERT INTO outbox (event_id, topic, payload, alarm, at) VALUES (?,?,?,?,?)", rows
                )
                self._audit.append("replaced", [(None, told)])
                self._audit.append("salvaged", [(event_id, payload.decode()) for event_id, _, payload, _, _ in rows])
        except BaseException:
            self._database.close()
            raise
        self.salvaged = len(rows)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        kept = (self._number, self._outbox_bytes, self.depth, self.evicted, self._audit.state)
        try:
            self._database.execute("BEGIN IMMEDIATE")
            yield
            self._audit.seal()
            self._database.execute("COMMIT")
        except BaseException as error:
            with contextlib.suppress(sqlite3.Error):
                self._database.execute("ROLLBACK")
            self._number, self._outbox_bytes, self.depth, self.evicted, self._audit.state = kept
            if isinstance(error, sqlite3.OperationalError):
                raise _unwritten(self._path, error) from error
            raise

    def release(self, releases: Sequence[Release]) -> list[Event]:
        """Make these releases events: id, audit entry and outbox row, all of them or none.

        Returns:
            The events that may leave; those of a clock that is not set are held.

        Raises:
            JournalFullError: the disk is full; nothing was released.
        """
        events, released, held = [], [], []
        with self._transaction():
            for item in releases:
                self._number += 1
                event = self._event(f"{self.boot}-{self._number:06d}", item.event_type.label, item.time, item.data)
                payload = event.to_json()
                place = self._database.execute(
                    "INSERT INTO outbox (event_id, topic, payload, alarm, at) VALUES (?, ?, ?, ?, ?)",
                    (
                        event.id,
                        topic(self._site, self._device, "event", item.event_type.label),
                        payload,
                        item.alarm,
                        self._wall().timestamp(),
                    ),
                ).lastrowid
                self._outbox_bytes += len(payload)
                self.depth += 1
                if item.moment is not None:
                    self._hold(place, item.moment)
                    held.append((event.id, payload.decode()))
                    continue
                released.append((event.id, payload.decode()))
                events.append(event)
            self._audit.append("held", held)
            self._audit.append("released", released)
            self._make_room()
            self._audit.prune()
        return events

    def _hold(self, place: int | None, moment: Moment) -> None:
        self._database.execute(
            "INSERT INTO held VALUES (?, ?, ?, ?, ?, ?)",
            (place, self._machine_boot, moment.at, moment.grain_s, moment.onset, moment.onset_error_s),
        )

    @property
    def holds(self) -> bool:
        """Whether an event waits for the clock to be set."""
        return bool(self._database.execute("SELECT EXISTS (SELECT 1 FROM held)").fetchone()[0])

    def settle(self, clock: tuple[float, float, float | None] | None) -> list[Event]:
        """Release what is held: with its time by a clock that is set, or as it is.

        Args:
            clock: Monotonic seconds, the same moment in seconds since 1970, and how far off that may be in seconds or
                None for unknown; None for a clock that is not set.

        Returns:
            The events, which may leave now.

        Raises:
            JournalFullError: the disk is full; nothing was released.
        """
        with self._transaction():
            return self._settle("1", (), clock)

    def _settle(
        self, which: str, values: tuple[str, ...], clock: tuple[float, float, float | None] | None
    ) -> list[Event]:
        rows = self._database.execute(
            "SELECT outbox.seq, payload, held.at, grain_s, onset, onset_error_s"  # noqa: S608 - of this module
            f" FROM held JOIN outbox USING (seq) WHERE {which} ORDER BY seq",
            values,
        ).fetchall()
        events, released = [], []
        for seq, payload, at, grain_s, onset, onset_error_s in rows:
            try:
                event = Event.model_validate_json(payload)
            except ValidationError:  # a page can be readable and wrong
                continue
            moment = 0.0  # of a wrong clock: its age is not known
            if clock is not None:
                event = _corrected(event, Moment(at, grain_s, onset, onset_error_s), clock)
                now, wall, _ = clock
                moment = wall - (now - at)
                self._outbox_bytes += len(event.to_json()) - len(payload)
            self._database.execute(
                "UPDATE outbox SET payload = ?, at = ? WHERE seq = ?", (event.to_json(), moment, seq)
            )
            events.append(event)
            released.append((event.id, event.to_json().decode()))
        self._audit.append("released", released)
        self._database.execute(f"DELETE FROM held WHERE {which}", values)  # noqa: S608 - of this module
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
            "SELECT seq, event_id, LENGTH(payload) FROM outbox"
            " WHERE at < ? AND at > ? AND seq NOT IN (SELECT seq FROM held)",
            (now - self._outbox_max_age_s, _FIRST_TRUSTED),
        ).fetchall()
        if victims:
            with self._transaction():
                self._evict(victims)
        return len(victims)

    def _evict(self, victims: Sequence[tuple[int, str, int]]) -> None:
        for table in ("outbox", "held"):
            self._database.executemany(
                f"DELETE FROM {table} WHERE seq = ?",  # noqa: S608 - of this module
                [(seq,) for seq, _, _ in victims],
            )
        self._audit.append("evicted", [(event_id, None) for _, event_id, _ in victims])
        self._outbox_bytes -= sum(size for _, _, size in victims)
        self.depth -= len(victims)
        self.evicted += len(victims)

    def record(self, kind: MessageKind | ActKind, body: str, at: dt.datetime | None = None) -> None:
        """Record a message that is about to leave and is no event, or an act that an officer wants to know of.

        Args:
            kind: What it is.
            body: A message word for word, or canonical JSON that tells of an act.
            at: When it happened; None for now.

        Raises:
            JournalFullError: the disk is full; nothing was recorded.
        """
        self.record_all([(kind, body, at)])

    def record_all(self, items: Sequence[tuple[MessageKind | ActKind, str, dt.datetime | None]]) -> None:
        """Record several in one transaction: kind, body and time of each, as for `record`.

        Raises:
            JournalFullError: the disk is full; nothing was recorded.
        """
        said = dict(self._said)
        with self._transaction():
            for kind, body, at in items:
                seq, before = said.get(kind, (0, ""))
                if body == before and seq >= self._audit.state.kept_from:
                    body = canonical({"again": seq}).decode()  # noqa: PLW2901 - it stands for the same
                elif len(body) > _WORTH_A_REFERENCE:
                    said[kind] = (self._audit.state.tree.end + 1, body)
                self._audit.append(kind, [(None, body)], at)
            self._audit.prune()
        self._said = said

    @contextlib.contextmanager
    def changing(self) -> Iterator[Callable[[ActKind, str], None]]:
        """One transaction that changes the ledger; what it gives records an act with it, as `record` does.

        Raises:
            JournalFullError: the disk is full; nothing was changed.
        """
        with self._transaction():
            yield lambda kind, body: self._audit.append(kind, [(None, body)])
            self._audit.prune()

    def note_in_force(self, kind: Literal["configuration", "policy"], digest: str) -> None:
        """Record which configuration or policy is in force from now on, if it is another one than before.

        Args:
            kind: Which of the two.
            digest: Its SHA-256.

        Raises:
            JournalFullError: the disk is full; nothing was recorded.
        """
        old = None
        with contextlib.suppress(ValueError, KeyError, TypeError):  # none before, or somebody meddled with it
            old = json.loads(self._audit.last(kind) or "")["new"]
        if digest != old:
            self.record(kind, canonical({"new": digest, "old": old}).decode())

    def publish_head(self, *, final: bool = False) -> AuditHead:
        """A signed head of the audit log, to be published.

        It is no entry itself: the log would never be at rest, since each head would make the next one differ. It says
        nothing but how many entries there are and what their hash is.

        Args:
            final: Whether it is the last one, of a device that is decommissioned.

        Raises:
            JournalFullError: the disk is full; there is no head.
        """
        with self._transaction():
            return self._audit.publish(final=final)

    def waiting(self, after: int, limit: int) -> list[Row]:
        """Rows of the outbox in their order, up to the first one that is held.

        Args:
            after: Place of the last row that is already under way; 0 for all.
            limit: At most so many.
        """
        rows = self._database.execute(
            f"SELECT seq, event_id, topic, payload FROM outbox WHERE seq > ? AND {_NOT_HELD}"  # noqa: S608
            " ORDER BY seq LIMIT ?",
            (after, limit),
        )
        return [Row(*row) for row in rows]

    def attempted(self, rows: Sequence[Row]) -> None:
        """Record that these events are handed to the broker's connection for the first time in this boot."""
        with self._transaction():
            self._audit.append("first_attempt", [(row.event_id, None) for row in rows])

    def acknowledged(self, seqs: Sequence[int]) -> None:
        """The broker has these: their rows go, and the audit log says so."""
        with self._transaction():
            gone = []
            for seq in seqs:
                row = self._database.execute(
                    "DELETE FROM outbox WHERE seq = ? RETURNING event_id, LENGTH(payload)", (seq,)
                ).fetchone()
                if row is None:  # evicted meanwhile
                    continue
                gone.append((row[0], None))
                self._outbox_bytes -= row[1]
                self.depth -= 1
            self._audit.append("acknowledged", gone)

    @property
    def outbox_bytes(self) -> int:
        """Payload that waits for delivery, bytes."""
        return self._outbox_bytes

    def close(self) -> None:
        """Close the database; safe to call on a full disk."""
        with contextlib.suppress(JournalFullError, sqlite3.Error), self._transaction():
            self._audit.append("closed", [(None, self.boot)])
        self._database.close()
        os.close(self._lock)


def _corrected(event: Event, moment: Moment, clock: tuple[float, float, float | None]) -> Event:
    """An event with its time, by a clock that is set."""
    now, wall, error_s = clock
    data = {**event.data.model_dump(exclude_none=True), "clock": "synced", **moment.told_onset(now, wall, error_s)}
    return event.model_copy(update={"time": moment.time(now, wall), "data": EventData.model_validate(data)})


def _key(folder: Path, file: Path | None) -> Ed25519PrivateKey:
    """The key in a file, or in the folder, where it is made if it is not there.

    Raises:
        JournalError: it cannot be used, or not be made.
    """
    try:
        if file is None:
            make_key(folder / KEY)
        return read_private_key(file or folder / KEY)
    except KeyFileError as error:
        raise JournalError(str(error)) from error
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise JournalFullError(f"{folder}: the disk is full; free some space") from error
        raise JournalError(f"{folder / KEY}: cannot be written: {error.strerror}") from error


def _locked(path: Path) -> int:
    """A lock that dies with the process.

    Raises:
        JournalBusyError: another process has it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise JournalBusyError(f"{path.parent}: another relay uses this journal; two agents cannot share one") from None
    return descriptor


def _move(database: Path, to: Path) -> None:
    """Rename a database that is closed, with what SQLite keeps beside it; nothing of another one stays there."""
    for suffix in ("", "-wal", "-shm"):
        try:
            Path(f"{database}{suffix}").replace(f"{to}{suffix}")
        except FileNotFoundError:  # noqa: PERF203 - three at most
            Path(f"{to}{suffix}").unlink(missing_ok=True)


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
