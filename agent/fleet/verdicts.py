"""What operators say of events: true or false alarm, kept beside the events' own metadata on the manager's side.

An event is kept no longer than its policy allows (`retention_days` of the notice). Then it goes, and of its verdict a
number by site and type stays, so that how often a type is wrong can be seen for good.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.contract import Event
from agent.fleet.said import Device, device_of, label_of

#: For how long an event is kept where no notice says so, days.
KEEP_DAYS = 30
#: Events kept at most, about 150 bytes each; the oldest go first.
_MAX_EVENTS = 1_000_000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS event (
    id TEXT NOT NULL,
    site TEXT NOT NULL,
    device TEXT NOT NULL,
    type TEXT NOT NULL,
    zone TEXT,
    time TEXT NOT NULL,
    until REAL NOT NULL,
    verdict INTEGER,
    PRIMARY KEY (id, site, device)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS event_until ON event (until);
CREATE TABLE IF NOT EXISTS total (
    site TEXT NOT NULL,
    type TEXT NOT NULL,
    events INTEGER NOT NULL,
    true_alarms INTEGER NOT NULL,
    false_alarms INTEGER NOT NULL,
    PRIMARY KEY (site, type)
) WITHOUT ROWID;
"""
_SUMS = "COUNT(*) AS events, COALESCE(SUM(verdict), 0) AS true_alarms, COALESCE(SUM(1 - verdict), 0) AS false_alarms"


def default_file() -> Path:
    """Where the file lies unless another one is named, by the XDG base directory specification."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "vigie" / "fleet.sqlite"


class VerdictError(ValueError):
    """A verdict that cannot be recorded; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Judged:
    """An event and what was said of it.

    Attributes:
        id: Id of the event.
        device: Whose.
        type: Such as `crowd.gathering`.
        zone: Zone, where it has one.
        time: When it happened.
        verdict: Whether it was a true alarm; None: nobody has said.
    """

    id: str
    device: Device
    type: str
    zone: str | None
    time: str
    verdict: bool | None


@dataclass(frozen=True, slots=True)
class Tally:
    """The verdicts on one type of a site.

    Attributes:
        site: The site.
        type: Such as `crowd.gathering`.
        events: Events that came, those of which nobody said anything too.
        true_alarms: What was said to be one.
        false_alarms: What was said to be none.
    """

    site: str
    type: str
    events: int
    true_alarms: int
    false_alarms: int


class Verdicts:
    """The file with events and verdicts. One thread uses it; several processes may have it open."""

    def __init__(self, path: Path) -> None:
        """Open or create it.

        Raises:
            VerdictError: it cannot be used.
        """
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._database = sqlite3.connect(path, isolation_level=None, timeout=10)
            try:
                self._database.execute("PRAGMA journal_mode = WAL")
                self._database.executescript(_SCHEMA)
            except BaseException:
                self._database.close()
                raise
        except (OSError, sqlite3.Error) as error:
            raise VerdictError(f"{path}: cannot be used: {error}; name another file with --verdicts") from error

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def note(self, events: Iterable[tuple[Event, float]]) -> None:
        """Keep events, each with the moment until which it may be kept, seconds since 1970; doubles are one."""
        rows = []
        for event, until in events:
            _, _, site, device = event.source.split("/")
            rows.append((event.id, site, device, label_of(event), event.data.zone, event.time, until))
        with self._transaction():
            self._database.executemany("INSERT OR IGNORE INTO event VALUES (?, ?, ?, ?, ?, ?, ?, NULL)", rows)

    def judge(self, event_id: str, verdict: bool, device: str | None = None) -> Judged:
        """Record what an operator says of an event that is kept; what was said of it before is replaced.

        Args:
            event_id: Its id.
            verdict: Whether it was a true alarm.
            device: `<site>/<device>`, should two devices have used the same id.

        Raises:
            VerdictError: no event of this id is kept, or several are.
        """
        with self._transaction():
            rows = self._database.execute("SELECT site, device FROM event WHERE id = ?", (event_id,))
            found = [(site, name) for site, name in rows if device in {None, f"{site}/{name}"}]
            if not found:
                raise VerdictError(
                    f"no event {event_id} is kept here: it is older than its retention, or no bridge recorded it "
                    "(vigie fleet bridge prometheus --verdicts FILE)"
                )
            if len(found) > 1:
                names = ", ".join(f"{site}/{name}" for site, name in found)
                raise VerdictError(f"several devices have an event {event_id}: {names}; name one with --device")
            key = (event_id, *found[0])
            self._database.execute(
                "UPDATE event SET verdict = ? WHERE id = ? AND site = ? AND device = ?", (verdict, *key)
            )
            return next(self._select("id = ? AND site = ? AND device = ?", key, 1))

    def judged(self, limit: int) -> list[Judged]:
        """The latest events that somebody has judged, newest first."""
        return list(self._select("verdict IS NOT NULL", (), limit))

    def tallies(self) -> list[Tally]:
        """How often each type of each site was right and wrong, since the file began."""
        rows = self._database.execute(
            f"SELECT site, type, SUM(events), SUM(true_alarms), SUM(false_alarms) FROM (SELECT * FROM total UNION ALL "  # noqa: S608 - fixed text
            f"SELECT site, type, {_SUMS} FROM event GROUP BY site, type) GROUP BY site, type ORDER BY site, type"
        )
        return [Tally(*row) for row in rows]

    def prune(self, now: float) -> None:
        """Let go of the events whose time is over, and keep their verdicts as numbers.

        Args:
            now: Seconds since 1970.
        """
        with self._transaction():
            (kept,) = self._database.execute("SELECT COUNT(*) FROM event WHERE until > ?", (now,)).fetchone()
            if kept > _MAX_EVENTS:
                (now,) = self._database.execute(
                    "SELECT until FROM event WHERE until > ? ORDER BY until LIMIT 1 OFFSET ?",
                    (now, kept - _MAX_EVENTS - 1),
                ).fetchone()
            self._database.execute(
                f"INSERT INTO total SELECT site, type, {_SUMS} FROM event WHERE until <= ? GROUP BY site, type "  # noqa: S608 - fixed text
                "ON CONFLICT DO UPDATE SET events = events + excluded.events, "
                "true_alarms = true_alarms + excluded.true_alarms, false_alarms = false_alarms + excluded.false_alarms",
                (now,),
            )
            self._database.execute("DELETE FROM event WHERE until <= ?", (now,))

    def _select(self, where: str, keys: tuple[str, ...], limit: int) -> Iterator[Judged]:
        rows = self._database.execute(
            f"SELECT id, site, device, type, zone, time, verdict FROM event WHERE {where} "  # noqa: S608 - fixed text
            "ORDER BY time DESC, id DESC LIMIT ?",
            (*keys, limit),
        )
        for event_id, site, device, label, zone, time, verdict in rows:
            said = None if verdict is None else bool(verdict)
            yield Judged(event_id, device_of(site, device), label, zone, time, said)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")
