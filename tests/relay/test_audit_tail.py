"""A reader beside the agent sees what is added to the log, and how long each delivery took."""

from __future__ import annotations

import datetime as dt
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agent.cli.events import json_of, place_of, words_of
from agent.contract import EventData, EventType
from agent.relay.audit_read import AuditError, NoAuditError
from agent.relay.audit_tail import Tail
from agent.relay.gate import Release
from agent.relay.journal import DATABASE, Journal

NOON = dt.datetime(2026, 11, 23, 12, 0, tzinfo=dt.timezone.utc)
DATA = EventData.model_validate(
    {"episode": "9b1e", "phase": "started", "zone": "quay", "confidence": "high", "clock": "synced", "basis": "B"}
)
RELEASE = Release(EventType.PERSON_LOITERING, DATA, "2026-11-23T12:00:00Z", alarm=False)


class Wall:
    """A wall clock in the test's hand."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> dt.datetime:
        return self.now


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def journal(tmp_path: Path, wall: Wall) -> Iterator[Journal]:
    limits = {"outbox_max_bytes": 2**20, "outbox_max_age_s": 1e9, "audit_max_bytes": 2**20}
    made = Journal(tmp_path, "old-port", "cam-07", wall=wall, **limits)  # type: ignore[arg-type]
    yield made
    made.close()


def test_what_comes_is_given_once_with_the_time_of_its_delivery(journal: Journal, wall: Wall, tmp_path: Path) -> None:
    tail = Tail(tmp_path / DATABASE)
    assert tail.new() == []
    journal.release([RELEASE])
    (released,) = tail.new()
    assert words_of(released).startswith("2026-11-23 12:00:00  person.loitering started in zone quay")
    row = journal.waiting(0, 1)[0]
    journal.attempted([row])
    wall.now += dt.timedelta(seconds=1.25)
    journal.acknowledged([row.seq])
    attempt, delivered = tail.new()
    assert words_of(attempt) == ""
    assert delivered.after_s == 1.25
    assert words_of(delivered) == "2026-11-23 12:00:01  delivered in 1.2 s: person.loitering in zone quay"
    assert '"after_s": 1.25' in json_of(delivered)
    assert delivered.released is not None
    assert place_of(delivered.released) == "person.loitering in zone quay"
    assert tail.new() == []


def test_entries_of_the_past_come_first_when_they_are_asked_for(journal: Journal, tmp_path: Path) -> None:
    journal.release([RELEASE] * 5)
    assert [added.entry.seq for added in Tail(tmp_path / DATABASE, past=2).new()] == [5, 6]
    assert len(Tail(tmp_path / DATABASE, past=100).new()) == 6


def test_a_delivery_of_an_older_event_is_told_without_its_time(journal: Journal, tmp_path: Path) -> None:
    journal.release([RELEASE])
    tail = Tail(tmp_path / DATABASE)
    journal.acknowledged([journal.waiting(0, 1)[0].seq])
    (delivered,) = tail.new()
    assert (delivered.released, delivered.after_s) == (None, None)
    assert words_of(delivered) == ""


def test_an_entry_that_somebody_changed_is_told(journal: Journal, tmp_path: Path) -> None:
    tail = Tail(tmp_path / DATABASE)
    journal.release([RELEASE])
    with closing(sqlite3.connect(tmp_path / DATABASE)) as database:
        database.execute("UPDATE audit SET body = '[1]' WHERE kind = 'released'")
        database.commit()
    with pytest.raises(AuditError, match="it was changed"):
        tail.new()


def test_without_a_log_there_is_nothing_to_follow(tmp_path: Path) -> None:
    with pytest.raises(NoAuditError):
        Tail(tmp_path / "none.sqlite")
