"""How fast the journal drains an outbox, and beside it a bare queue in SQLite with the same batches and durability.

Draining is what relay does when the broker is back: read a window of events, record that they are handed over, record
that they are acknowledged. The bare queue reads and deletes the same payloads and records nothing. Both loops run turn
by turn in this process, on the same disk, so that the ratio holds where a bare time would not.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from agent.contract import EventData, EventType
from agent.relay.gate import Release
from agent.relay.journal import Journal

#: Events in one window, as `mqtt.inflight` has it by default.
WINDOW = 64
_MANY = 2**40


@dataclass(frozen=True, slots=True)
class JournalBench:
    """What was measured.

    Attributes:
        events: Events in each loop.
        released_per_s: Events released a second, a window in each transaction.
        drained_per_s: Events drained a second.
        bare_per_s: The same of the bare queue.
        cpu_us: Processor time that draining took, microseconds an event.
        single_ms: Median time of releasing one event alone, milliseconds.
    """

    events: int
    released_per_s: float
    drained_per_s: float
    bare_per_s: float
    cpu_us: float
    single_ms: float

    @property
    def ratio(self) -> float:
        """The journal's rate as a share of the bare queue's."""
        return self.drained_per_s / self.bare_per_s


def measure(folder: Path, events: int, told: Callable[[int], None]) -> JournalBench:
    """Measure on the disk of an empty folder.

    Args:
        folder: Where journal and queue are made.
        events: Events in each loop; whole windows are used.
        told: Called with the events of each turn.
    """
    data = EventData(episode="9b1e", phase="started", zone="quay", confidence="high", clock="synced", basis="BENCH")
    release = Release(EventType.SOUND_SCREAM, data, "2026-11-23T12:00:00Z", alarm=True)
    windows = max(1, events // WINDOW)
    journal = Journal(folder, "bench", "bench", outbox_max_bytes=_MANY, outbox_max_age_s=_MANY, audit_max_bytes=_MANY)
    with closing(_bare_queue(folder)) as queue, closing(journal):
        singles = []
        for _ in range(21):
            began = time.perf_counter()
            journal.release([release])
            singles.append(time.perf_counter() - began)
        journal.acknowledged([row.seq for row in journal.waiting(0, len(singles))])
        began = time.perf_counter()
        for _ in range(windows):
            journal.release([release] * WINDOW)
        released = time.perf_counter() - began
        payload = journal.waiting(0, 1)[0].payload
        queue.execute("BEGIN")
        queue.executemany("INSERT INTO queue (payload) VALUES (?)", [(payload,)] * windows * WINDOW)
        queue.execute("COMMIT")
        drained = bare = cpu = 0.0
        for _ in range(windows):
            began, busy = time.perf_counter(), time.process_time()
            rows = journal.waiting(0, WINDOW)
            journal.attempted(rows)
            journal.acknowledged([row.seq for row in rows])
            drained += time.perf_counter() - began
            cpu += time.process_time() - busy
            began = time.perf_counter()
            _drain_bare(queue)
            bare += time.perf_counter() - began
            told(WINDOW)
    number = windows * WINDOW
    return JournalBench(
        number, number / released, number / drained, number / bare, 1e6 * cpu / number, 1e3 * sorted(singles)[10]
    )


def _bare_queue(folder: Path) -> sqlite3.Connection:
    queue = sqlite3.connect(folder / "queue.sqlite", isolation_level=None)
    queue.execute("PRAGMA journal_mode = WAL")
    queue.execute("PRAGMA synchronous = FULL")
    queue.execute("CREATE TABLE queue (seq INTEGER PRIMARY KEY, payload BLOB NOT NULL)")
    return queue


def _drain_bare(queue: sqlite3.Connection) -> None:
    rows = queue.execute("SELECT seq, payload FROM queue ORDER BY seq LIMIT ?", (WINDOW,)).fetchall()
    queue.execute("BEGIN IMMEDIATE")
    queue.executemany("DELETE FROM queue WHERE seq = ?", [(seq,) for seq, _ in rows])
    queue.execute("COMMIT")
