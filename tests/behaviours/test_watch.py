from __future__ import annotations

import datetime as dt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.behaviours.watch import Schedule, Watch
from agent.capture.frame import Frame
from agent.contract import Phase
from agent.perception.scene import Detections
from agent.settings import CameraSettings, SettingsError

MONDAY = dt.datetime(2026, 11, 23)  # noqa: DTZ001 - schedules are in local time
minutes = st.integers(0, 1439)


def clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def camera(*rules: dict[str, object]) -> CameraSettings:
    return CameraSettings.model_validate(
        {
            "name": "camera",
            "source": "file:none",
            "zone": [{"name": "zone", "polygon": [(0, 0), (1, 0), (1, 1), (0, 1)]}],
            "rule": rules,
        }
    )


def somebody(index: int) -> tuple[Frame, Detections]:
    frame = Frame(np.zeros((100, 200, 3), np.uint8), index / 10, index)
    x = 5 * index  # somebody walks
    box = np.array([[10 + x, 20, 30 + x, 80]], np.float32)
    return frame, Detections(box, np.array([0.9], np.float32), np.zeros(1, np.uint8))


@given(minutes, minutes, st.integers(0, 7 * 1440 - 1))
def test_a_schedule_and_its_complement_share_the_week(begin: int, end: int, minute: int) -> None:
    if begin == end:
        return
    now = MONDAY + dt.timedelta(minutes=minute)

    assert Schedule([f"{clock(begin)}-{clock(end)}"]).on(now) != Schedule([f"{clock(end)}-{clock(begin)}"]).on(now)


def test_a_night_belongs_to_the_day_on_which_it_begins() -> None:
    schedule = Schedule(["Fri 22:00-06:00"])
    friday = MONDAY + dt.timedelta(days=4)

    assert not schedule.on(friday.replace(hour=5))
    assert schedule.on(friday.replace(hour=22))
    assert schedule.on(friday.replace(hour=5) + dt.timedelta(days=1))
    assert not schedule.on(friday.replace(hour=22) + dt.timedelta(days=1))


def test_the_last_night_of_the_week_ends_on_monday() -> None:
    assert Schedule(["Sun 22:00-06:00"]).on(MONDAY.replace(hour=5, minute=59))
    assert not Schedule(["Sun 22:00-06:00"]).on(MONDAY.replace(hour=6))


def test_no_schedule_is_always_and_several_add_up() -> None:
    assert Schedule([]).on(MONDAY)
    assert Schedule(["Tue 10:00-11:00", "Mon 00:00-01:00"]).on(MONDAY)


def test_somebody_in_the_picture_becomes_an_episode_and_closing_ends_it() -> None:
    watch = Watch(camera({"type": "zone.intrusion", "zone": "zone"}))
    changes = [change for k in range(20) for change in watch.update(*somebody(k))]

    assert [c.phase for c in changes] == [Phase.STARTED]
    assert watch.persons == 1
    assert [c.phase for c in watch.close(2.0)] == [Phase.ENDED]
    assert watch.persons == 0
    assert watch.close(2.1) == []


def test_after_closing_the_clock_may_begin_again() -> None:
    watch = Watch(camera({"type": "zone.intrusion", "zone": "zone"}))
    for _ in range(2):
        changes = [change for k in range(20) for change in watch.update(*somebody(k))]
        assert [c.phase for c in changes] == [Phase.STARTED]
        watch.close(2.0)


def test_the_end_of_a_schedule_ends_the_episode() -> None:
    now = MONDAY.replace(hour=9, minute=59)
    watch = Watch(camera({"type": "zone.intrusion", "zone": "zone", "schedule": ["09:00-10:00"]}), wall=lambda: now)
    for k in range(20):
        watch.update(*somebody(k))
    now = MONDAY.replace(hour=10)

    assert [c.phase for c in watch.update(*somebody(20))] == [Phase.ENDED]
    assert watch.update(*somebody(21)) == []


def test_only_permitted_rules_are_built() -> None:
    settings = camera({"type": "zone.intrusion", "zone": "zone"}, {"type": "incident.panic", "zone": "zone"})
    watch = Watch(settings, settings.rules[:1])

    assert watch.update(*somebody(0)) == []


def test_two_rules_of_one_type_in_one_zone_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"two rules zone\.intrusion in zone zone"):
        Watch(camera({"type": "zone.intrusion", "zone": "zone"}, {"type": "zone.intrusion", "zone": "zone"}))
