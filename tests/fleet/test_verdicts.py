"""Verdicts of operators: what is kept, for how long, and what stays of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.contract import Event, EventData
from agent.fleet.said import Device
from agent.fleet.verdicts import Tally, VerdictError, Verdicts


def event(number: int, label: str = "sound.gunshot", device: str = "old-port/cam-07") -> Event:
    return Event(
        id=f"5f3a9c01-{number:06d}",
        source=f"/vigie/{device}",
        type=f"vigie.{label}.v1",
        time=f"2026-11-23T10:15:{number:02d}Z",
        data=EventData(episode="9b1e", phase="started", confidence="high", clock="synced", basis="DEMO", zone="quay"),
    )


@pytest.fixture
def verdicts(tmp_path: Path) -> Iterator[Verdicts]:
    opened = Verdicts(tmp_path / "state" / "fleet.sqlite")
    yield opened
    opened.close()


def test_a_verdict_is_recorded_and_may_be_corrected(verdicts: Verdicts) -> None:
    verdicts.note([(event(1), 100.0), (event(2), 100.0), (event(2), 100.0), (event(3, "person.down"), 100.0)])
    said = verdicts.judge("5f3a9c01-000001", False)
    assert (said.device, said.type, said.zone, said.verdict) == (
        Device("old-port", "cam-07"),
        "sound.gunshot",
        "quay",
        False,
    )
    assert verdicts.tallies() == [
        Tally("old-port", "person.down", 1, 0, 0),
        Tally("old-port", "sound.gunshot", 2, 0, 1),
    ]
    verdicts.judge("5f3a9c01-000001", True)
    verdicts.judge("5f3a9c01-000002", False)
    assert verdicts.tallies()[1] == Tally("old-port", "sound.gunshot", 2, 1, 1)
    assert [judged.id[-1] for judged in verdicts.judged(10)] == ["2", "1"]
    assert len(verdicts.judged(1)) == 1


def test_an_event_that_comes_again_keeps_its_verdict(verdicts: Verdicts) -> None:
    verdicts.note([(event(1), 100.0)])
    verdicts.judge("5f3a9c01-000001", False)
    verdicts.note([(event(1), 200.0)])
    assert verdicts.judged(10)[0].verdict is False


def test_an_event_that_is_not_kept_cannot_be_judged(verdicts: Verdicts) -> None:
    with pytest.raises(VerdictError, match="older than its retention, or no bridge recorded it"):
        verdicts.judge("5f3a9c01-000001", True)


def test_an_id_that_two_devices_used_needs_the_device(verdicts: Verdicts) -> None:
    verdicts.note([(event(1), 100.0), (event(1, device="new-port/cam-1"), 100.0)])
    with pytest.raises(VerdictError, match="new-port/cam-1, old-port/cam-07; name one with --device"):
        verdicts.judge("5f3a9c01-000001", True)
    assert verdicts.judge("5f3a9c01-000001", True, "new-port/cam-1").device.site == "new-port"
    with pytest.raises(VerdictError, match="no event"):
        verdicts.judge("5f3a9c01-000001", True, "new-port/cam-2")


def test_after_its_retention_only_the_number_stays(verdicts: Verdicts) -> None:
    verdicts.note([(event(1), 100.0), (event(2), 100.0), (event(3), 200.0)])
    verdicts.judge("5f3a9c01-000001", False)
    verdicts.judge("5f3a9c01-000003", True)
    before = verdicts.tallies()
    verdicts.prune(150.0)
    assert verdicts.tallies() == before == [Tally("old-port", "sound.gunshot", 3, 1, 1)]
    assert [judged.id for judged in verdicts.judged(10)] == ["5f3a9c01-000003"]
    with pytest.raises(VerdictError):
        verdicts.judge("5f3a9c01-000001", True)
    verdicts.prune(250.0)
    verdicts.prune(250.0)
    assert verdicts.tallies() == before


def test_the_oldest_go_where_there_are_too_many(verdicts: Verdicts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.fleet.verdicts._MAX_EVENTS", 2)
    verdicts.note([(event(n), 100.0 + n) for n in range(5)])
    verdicts.prune(0.0)
    assert verdicts.tallies() == [Tally("old-port", "sound.gunshot", 5, 0, 0)]
    verdicts.judge("5f3a9c01-000003", True)
    with pytest.raises(VerdictError):
        verdicts.judge("5f3a9c01-000002", True)


def test_a_second_process_may_write_at_the_same_time(verdicts: Verdicts, tmp_path: Path) -> None:
    def write() -> None:
        other = Verdicts(tmp_path / "state" / "fleet.sqlite")
        for number in range(30, 60):
            other.note([(event(number), 100.0)])
        other.close()

    thread = threading.Thread(target=write)
    thread.start()
    for number in range(30):
        verdicts.note([(event(number), 100.0)])
    thread.join()
    assert verdicts.tallies()[0].events == 60


def test_nobody_else_can_read_the_file(verdicts: Verdicts, tmp_path: Path) -> None:
    assert (tmp_path / "state" / "fleet.sqlite").stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("this is no database, and it is longer than a header of one would be " * 20)
    with pytest.raises(VerdictError, match="cannot be used"):
        Verdicts(tmp_path / "file")
