"""What the journal keeps through crashes, damage and a full disk, and what it gives up first."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract import ALARMS, Event, EventData, EventType
from agent.relay.gate import Moment, Release
from agent.relay.journal import Journal, JournalError, JournalFullError

NOON = dt.datetime(2026, 11, 23, 12, 0, tzinfo=dt.timezone.utc)
ALARM, PLAIN = EventType.SOUND_SCREAM, EventType.CROWD_DENSITY


class Clock:
    """A wall clock in the test's hand."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> dt.datetime:
        return self.now


class Shelf:
    """The journal of one device, opened and closed as its relay starts and stops."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.folder = folder
        self.clock = clock
        self._journal: Journal | None = None

    def open(self, **limits: Any) -> Journal:
        """Open it, and close it first if it is open."""
        self.close()
        known: dict[str, Any] = {"outbox_max_bytes": 10**6, "outbox_max_age_s": 3600.0, "audit_max_bytes": 10**7}
        self._journal = Journal(self.folder, "old-port", "cam-07", wall=self.clock, **{**known, **limits})
        return self._journal

    def close(self) -> None:
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def audited(self) -> list[tuple[str, str | None]]:
        """Kind and event id of every audit entry, in order."""
        with contextlib.closing(sqlite3.connect(self.folder / "journal.sqlite")) as database:
            return database.execute("SELECT kind, event_id FROM audit ORDER BY seq").fetchall()

    def entries(self, kind: str) -> list[str | None]:
        """Event ids of the audit entries of one kind."""
        return [event_id for found, event_id in self.audited() if found == kind]

    def body_bytes(self) -> int:
        """Bytes of what the audit log has word for word."""
        with contextlib.closing(sqlite3.connect(self.folder / "journal.sqlite")) as database:
            size: int = database.execute("SELECT SUM(LENGTH(body)) FROM audit").fetchone()[0]
            return size


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    device = Shelf(tmp_path / "journal", Clock())
    try:
        yield device
    finally:
        device.close()


def release(event_type: EventType = PLAIN, episode: str = "9b1e") -> Release:
    data = EventData(episode=episode, phase="started", zone="quay", confidence="high", clock="synced", basis="FR-1")
    return Release(event_type, data, "2026-11-23T12:00:00Z", event_type in ALARMS)


def ids_waiting(journal: Journal) -> list[str]:
    return [row.event_id for row in journal.waiting(0, 10_000)]


def test_a_release_is_an_event_an_audit_entry_and_an_outbox_row(shelf: Shelf) -> None:
    journal = shelf.open()
    (event,) = journal.release([release(ALARM)])
    (row,) = journal.waiting(0, 10)
    assert event.id == f"{journal.boot}-000001"
    assert event.source == "/vigie/old-port/cam-07"
    assert event.type == "vigie.sound.scream.v1"
    assert row.topic == "vigie/v1/old-port/cam-07/event/sound.scream"
    assert Event.model_validate_json(row.payload) == event
    assert shelf.audited() == [("opened", None), ("released", event.id)]


def test_the_audit_log_keeps_what_was_released_word_for_word(shelf: Shelf) -> None:
    (event,) = shelf.open().release([release()])
    with contextlib.closing(sqlite3.connect(shelf.folder / "journal.sqlite")) as database:
        (body,) = database.execute("SELECT body FROM audit WHERE kind = 'released'").fetchone()
    assert body.encode() == event.to_json()


def test_an_acknowledged_event_leaves_the_outbox_and_is_recorded(shelf: Shelf) -> None:
    journal = shelf.open()
    first, second = journal.release([release(), release()])
    rows = journal.waiting(0, 10)
    journal.attempted(rows)
    journal.acknowledged([rows[0].seq])
    assert ids_waiting(journal) == [second.id]
    assert journal.depth == 1
    assert journal.outbox_bytes == len(second.to_json())
    assert shelf.audited()[-3:] == [
        ("first_attempt", first.id),
        ("first_attempt", second.id),
        ("acknowledged", first.id),
    ]


def test_a_second_acknowledgement_changes_nothing(shelf: Shelf) -> None:
    journal = shelf.open()
    journal.release([release()])
    (row,) = journal.waiting(0, 10)
    journal.acknowledged([row.seq])
    journal.acknowledged([row.seq])
    assert (journal.depth, journal.outbox_bytes) == (0, 0)
    assert len(shelf.entries("acknowledged")) == 1


def test_what_was_not_acknowledged_is_there_after_a_restart_under_its_old_id(shelf: Shelf) -> None:
    before = shelf.open()
    events = before.release([release(), release(ALARM)])
    size = before.outbox_bytes
    after = shelf.open()
    assert ids_waiting(after) == [event.id for event in events]
    assert (after.depth, after.outbox_bytes) == (2, size)
    assert after.boot != before.boot


def test_a_killed_process_leaves_all_that_it_released(shelf: Shelf) -> None:
    """The writer kills itself right behind the commit; the parent finds event, audit entry and outbox row."""
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from agent.contract import EventData, EventType; from agent.relay.gate import Release\n"
        "from agent.relay.journal import Journal\n"
        "journal = Journal(Path(sys.argv[1]), 'old-port', 'cam-07', outbox_max_bytes=10**6, outbox_max_age_s=3600,"
        " audit_max_bytes=10**7)\n"
        "data = EventData(episode='9b1e', phase='started', confidence='high', clock='synced', basis='FR-1')\n"
        "events = journal.release([Release(EventType.SOUND_SCREAM, data, '2026-11-23T12:00:00Z', True)] * 3)\n"
        "print(*(event.id for event in events), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(shelf.folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    said = done.stdout.split()
    assert ids_waiting(shelf.open()) == said
    assert shelf.entries("released") == said


def test_the_oldest_goes_when_the_outbox_is_full_and_is_counted(shelf: Shelf) -> None:
    size = len(shelf.open().release([release()])[0].to_json())
    journal = shelf.open(outbox_max_bytes=3 * size)
    journal.acknowledged([row.seq for row in journal.waiting(0, 10)])
    events = journal.release([release() for _ in range(5)])
    assert ids_waiting(journal) == [event.id for event in events[2:]]
    assert journal.evicted == 2
    assert shelf.entries("evicted") == [events[0].id, events[1].id]
    assert journal.outbox_bytes <= 3 * size


def test_alarms_are_evicted_last(shelf: Shelf) -> None:
    size = len(shelf.open().release([release(ALARM)])[0].to_json())
    journal = shelf.open(outbox_max_bytes=4 * size)
    journal.acknowledged([row.seq for row in journal.waiting(0, 10)])
    alarm, *_ = journal.release([release(ALARM), *(release() for _ in range(9))])
    assert alarm.id in ids_waiting(journal)


def test_a_new_event_that_is_no_alarm_goes_before_an_old_alarm(shelf: Shelf) -> None:
    size = len(shelf.open().release([release(ALARM)])[0].to_json())
    journal = shelf.open(outbox_max_bytes=4 * size)
    journal.acknowledged([row.seq for row in journal.waiting(0, 10)])
    alarms = journal.release([release(ALARM) for _ in range(4)])
    (plain,) = journal.release([release()])
    assert ids_waiting(journal) == [alarm.id for alarm in alarms]
    assert shelf.entries("evicted") == [plain.id]


def test_an_event_that_is_too_old_is_evicted_and_counted(shelf: Shelf) -> None:
    journal = shelf.open(outbox_max_age_s=3600)
    journal.release([release()])
    shelf.clock.now += dt.timedelta(minutes=50)
    (young,) = journal.release([release()])
    shelf.clock.now += dt.timedelta(minutes=20)
    assert journal.expire() == 1
    assert journal.evicted == 1
    assert ids_waiting(journal) == [young.id]


def test_the_age_of_an_event_from_before_the_clock_was_set_is_not_held_against_it(shelf: Shelf) -> None:
    shelf.clock.now = dt.datetime(1970, 1, 1, 0, 1, tzinfo=dt.timezone.utc)
    journal = shelf.open()
    journal.release([release()])
    shelf.clock.now = NOON
    assert journal.expire() == 0
    assert journal.depth == 1


def test_the_oldest_audit_entries_go_when_the_log_is_full(shelf: Shelf) -> None:
    journal = shelf.open(audit_max_bytes=20_000)
    for _ in range(200):
        journal.release([release()])
        journal.acknowledged([row.seq for row in journal.waiting(0, 10)])
    (last,) = journal.release([release()])
    kinds = shelf.audited()
    assert ("opened", None) not in kinds
    assert kinds[-1] == ("released", last.id)
    assert shelf.body_bytes() <= 20_000


def test_an_event_that_waits_long_does_not_stop_the_log_from_being_pruned(shelf: Shelf) -> None:
    journal = shelf.open(audit_max_bytes=20_000)
    journal.release([release(ALARM)])
    (waits,) = journal.waiting(0, 1)
    for _ in range(300):
        journal.release([release()])
        journal.acknowledged([row.seq for row in journal.waiting(waits.seq, 10)])
    assert shelf.body_bytes() <= 20_000


def test_what_still_waits_stays_in_the_audit_log(shelf: Shelf) -> None:
    journal = shelf.open(audit_max_bytes=20_000)
    (waits,) = journal.release([release(ALARM)])
    (row,) = journal.waiting(0, 1)
    for _ in range(200):
        journal.release([release()])
        journal.acknowledged([later.seq for later in journal.waiting(row.seq, 10)])
    assert ("released", waits.id) in shelf.audited()


def test_only_its_owner_can_read_the_journal(shelf: Shelf) -> None:
    shelf.open()
    assert stat.S_IMODE(shelf.folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in shelf.folder.iterdir()} == {0o600}


def test_two_relays_cannot_share_a_journal(shelf: Shelf) -> None:
    shelf.open()
    with pytest.raises(JournalError, match="another relay uses this journal"):
        Journal(shelf.folder, "a", "b", outbox_max_bytes=1, outbox_max_age_s=1, audit_max_bytes=1)


def test_a_folder_that_cannot_be_made_is_an_error_for_people(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match=r"file/journal: cannot be written: Not a directory"):
        Journal(tmp_path / "file" / "journal", "a", "b", outbox_max_bytes=1, outbox_max_age_s=1, audit_max_bytes=1)


def damage_header(path: Path) -> None:
    path.write_bytes(b"\xff" * 100 + path.read_bytes()[100:])


def damage_one_page_in_the_middle(path: Path) -> None:
    content = bytearray(path.read_bytes())
    page = len(content) // 2 // 4096 * 4096
    content[page : page + 4096] = os.urandom(4096)
    path.write_bytes(content)


def tear(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 + 1234])


@pytest.mark.parametrize("damage", [damage_header, damage_one_page_in_the_middle, tear])
def test_a_damaged_database_is_set_aside_and_a_new_one_serves(
    shelf: Shelf, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    events = shelf.open().release([release() for _ in range(200)])
    shelf.close()
    damage(shelf.folder / "journal.sqlite")
    after = shelf.open()
    assert [file for file in shelf.folder.iterdir() if file.name.startswith("journal-damaged-20261123T120000Z")]
    assert "journal_damaged" in caplog.text
    assert set(ids_waiting(after)) <= {event.id for event in events}
    assert after.salvaged == after.depth == len(ids_waiting(after))
    (new,) = after.release([release()])
    assert new.id in ids_waiting(after)


def test_a_full_disk_releases_nothing_and_the_same_call_succeeds_when_there_is_room(shelf: Shelf) -> None:
    """The file may not grow, which is how SQLite itself says SQLITE_FULL."""
    journal = shelf.open()
    journal.release([release()])
    (pages,) = journal._database.execute("PRAGMA page_count").fetchone()
    journal._database.execute(f"PRAGMA max_page_count = {pages}")
    before = (ids_waiting(journal), journal.depth, journal.outbox_bytes, shelf.audited())
    batch = [release() for _ in range(200)]
    with pytest.raises(JournalFullError, match="the disk is full; free some space"):
        journal.release(batch)
    assert (ids_waiting(journal), journal.depth, journal.outbox_bytes, shelf.audited()) == before
    journal._database.execute("PRAGMA max_page_count = 1000000")
    events = journal.release(batch)
    assert events[0].id == f"{journal.boot}-000002", "numbers of what was not released are not lost"
    assert journal.depth == 201


def test_a_database_that_somebody_has_locked_is_not_taken_for_damaged(shelf: Shelf) -> None:
    (event,) = shelf.open().release([release()])
    shelf.close()
    with contextlib.closing(sqlite3.connect(shelf.folder / "journal.sqlite", isolation_level=None)) as somebody:
        somebody.execute("PRAGMA locking_mode = EXCLUSIVE")
        somebody.execute("BEGIN EXCLUSIVE")
        with pytest.raises(JournalFullError, match="another program has the database locked"):
            shelf.open()
    assert ids_waiting(shelf.open()) == [event.id]


def test_only_events_of_the_contract_are_carried_over_under_their_own_topic(shelf: Shelf) -> None:
    good, bent, _ = shelf.open().release([release(), release(ALARM), release()])
    shelf.close()
    path = shelf.folder / "journal.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE outbox SET topic = 'vigie/#' WHERE event_id = ?", (bent.id,))
        database.execute("UPDATE outbox SET payload = x'00ff' WHERE seq = 3")
        database.commit()
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'audit'").fetchone()
    content = bytearray(path.read_bytes())
    content[(page - 1) * 4096 : page * 4096] = bytes(4096)
    path.write_bytes(content)
    journal = shelf.open()
    assert journal.damaged
    assert [(row.event_id, row.topic) for row in journal.waiting(0, 10)] == [
        (good.id, "vigie/v1/old-port/cam-07/event/crowd.density"),
        (bent.id, "vigie/v1/old-port/cam-07/event/sound.scream"),
    ]


def held(at: float, onset: float | None = None, *, grain_s: float = 1.0) -> Release:
    """What is released while the clock stands in 1970."""
    data = EventData(episode="9b1e", phase="started", confidence="high", clock="unsynced", basis="FR-1")
    return Release(EventType.SOUND_GUNSHOT, data, "1970-01-01T00:00:07Z", True, Moment(at, grain_s, onset, 0.002))


def told(journal: Journal) -> list[tuple[str, str, str | None]]:
    """Time, clock and onset of all that may leave."""
    events = [Event.model_validate_json(row.payload) for row in journal.waiting(0, 100)]
    return [(event.time, event.data.clock, event.data.onset) for event in events]


def bodies(shelf: Shelf, kind: str) -> list[str]:
    with contextlib.closing(sqlite3.connect(shelf.folder / "journal.sqlite")) as database:
        return [body for (body,) in database.execute("SELECT body FROM audit WHERE kind = ? ORDER BY seq", (kind,))]


def test_what_is_held_gets_its_time_when_the_clock_is_set(shelf: Shelf) -> None:
    journal = shelf.open(machine_boot="a")
    assert journal.release([held(107.5, onset=107.25)]) == []
    assert (journal.depth, journal.holds, told(journal)) == (1, True, [])
    (event,) = journal.settle((160.0, NOON.timestamp(), 0.001))
    assert told(journal) == [("2026-11-23T11:59:07Z", "synced", "2026-11-23T11:59:07.2500Z")]
    assert event.data.onset_error == "5ms"
    assert not journal.holds
    assert bodies(shelf, "released") == [event.to_json().decode()]
    assert shelf.entries("held") == [event.id]
    assert journal.outbox_bytes == len(event.to_json())


def test_what_waited_enough_is_released_as_it_is_and_says_so(shelf: Shelf) -> None:
    journal = shelf.open(machine_boot="a")
    journal.release([held(107.5, onset=107.25)])
    journal.settle(None)
    assert told(journal) == [("1970-01-01T00:00:07Z", "unsynced", None)]
    assert bodies(shelf, "released") == bodies(shelf, "held")


def test_what_is_held_survives_relay_and_is_corrected_by_the_next_one(shelf: Shelf) -> None:
    shelf.open(machine_boot="a").release([held(107.5)])
    journal = shelf.open(machine_boot="a")
    assert (journal.depth, journal.holds, told(journal)) == (1, True, [])
    journal.settle((160.0, NOON.timestamp(), None))
    assert told(journal) == [("2026-11-23T11:59:07Z", "synced", None)]


def test_what_was_held_when_the_power_went_leaves_marked(shelf: Shelf) -> None:
    shelf.open(machine_boot="a").release([held(107.5)])
    journal = shelf.open(machine_boot="b")
    assert told(journal) == [("1970-01-01T00:00:07Z", "unsynced", None)]
    assert not journal.holds
    assert shelf.entries("released") == shelf.entries("held")


def test_what_follows_waits_for_what_is_held(shelf: Shelf) -> None:
    journal = shelf.open(machine_boot="a")
    journal.release([release()])
    journal.release([held(107.5)])
    journal.release([release()])
    assert [row.seq for row in journal.waiting(0, 10)] == [1]
    journal.settle((160.0, NOON.timestamp(), None))
    assert [row.seq for row in journal.waiting(0, 10)] == [1, 2, 3]


def test_what_is_held_can_be_evicted(shelf: Shelf) -> None:
    journal = shelf.open(machine_boot="a", outbox_max_bytes=600)
    for number in range(4):
        journal.release([held(100.0 + number)])
    assert journal.depth < 4
    assert len(journal.settle((160.0, NOON.timestamp(), None))) == journal.depth


def test_an_onset_that_a_bad_clock_makes_worthless_is_not_told(shelf: Shelf) -> None:
    journal = shelf.open(machine_boot="a")
    journal.release([held(107.5, onset=107.25)])
    (event,) = journal.settle((160.0, NOON.timestamp(), 0.06))
    assert (event.data.clock, event.data.onset) == ("synced", None)


@given(
    boot=st.floats(1.6e9, 2.5e9),
    at=st.floats(0, 1e6),
    waited=st.floats(0, 1e6),
    grain=st.sampled_from([1.0, 10.0, 60.0]),
    onset_before=st.floats(0, 1),
)
def test_a_corrected_time_is_that_of_a_clock_that_was_always_right(
    boot: float, at: float, waited: float, grain: float, onset_before: float
) -> None:
    moment = Moment(at, grain, at - onset_before, 0.002)
    now = at + waited
    time = dt.datetime.fromisoformat(moment.time(now, boot + now).replace("Z", "+00:00")).timestamp()
    assert time % grain == 0
    assert -1e-5 < boot + at - time < grain + 1e-5
    told = moment.told_onset(now, boot + now, 0.0004)
    onset = dt.datetime.fromisoformat(told["onset"].replace("Z", "00+00:00")).timestamp()
    assert onset == pytest.approx(boot + at - onset_before, abs=1.1e-4)
    assert told["onset_error"] == "5ms"


def test_what_a_clock_that_was_set_back_has_stamped_is_not_too_old_when_it_is_set(shelf: Shelf) -> None:
    shelf.clock.now = NOON - dt.timedelta(days=300)
    journal = shelf.open(machine_boot="a")
    journal.release([held(107.5)])
    shelf.clock.now = NOON
    assert journal.expire() == 0, "before relay has noticed that the clock is set"
    journal = shelf.open(machine_boot="b")
    assert journal.expire() == 0, "nor after the power went"
    assert journal.depth == 1
