from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.behaviours.episode import BLINK_S, HEARTBEAT_S, Episode
from agent.contract import EventType, Level, Phase

SECONDS = st.floats(0.01, 20)


def episode(hold_s: float = 3.0, release_s: float = 5.0) -> Episode:
    return Episode(EventType.CROWD_DENSITY, "zone", hold_s=hold_s, release_s=release_s)


def phases(rule: Episode, ticks: list[tuple[float, bool]]) -> list[tuple[float, Phase]]:
    return [(change.time, change.phase) for time, met in ticks for change in rule.update(time, met)]


def every(step: float, begin: float, end: float, *, met: bool) -> list[tuple[float, bool]]:
    return [(begin + k * step, met) for k in range(round((end - begin) / step))]


def test_starts_when_the_condition_has_held_and_ends_when_it_has_been_missed() -> None:
    ticks = every(0.5, 10, 20, met=True) + every(0.5, 20, 30, met=False)

    assert phases(episode(), ticks) == [(13, Phase.STARTED), (24.5, Phase.ENDED)]


def test_a_blink_interrupts_neither_the_hold_nor_the_episode() -> None:
    blink = every(0.1, 11, 11 + BLINK_S - 0.1, met=False)
    ticks = [*every(0.1, 10, 11, met=True), *blink, *every(0.1, 12, 15, met=True)]
    ticks += [*every(0.5, 15, 19, met=False), *every(0.5, 19, 30, met=True)]

    assert [phase for _, phase in phases(episode(), ticks)] == [Phase.STARTED]


def test_a_longer_interruption_begins_the_hold_again() -> None:
    ticks = every(0.5, 0, 2.5, met=True) + every(0.5, 2.5, 4, met=False) + every(0.5, 4, 8, met=True)

    assert phases(episode(), ticks) == [(7, Phase.STARTED)]


def test_an_episode_that_goes_on_says_so_every_minute() -> None:
    changes = phases(episode(hold_s=0), every(1, 0, 3 * HEARTBEAT_S, met=True))

    assert changes == [(0, Phase.STARTED), (HEARTBEAT_S, Phase.ONGOING), (2 * HEARTBEAT_S, Phase.ONGOING)]


def test_a_change_of_level_is_told_at_once() -> None:
    rule = episode(hold_s=0)
    rule.update(0, met=True, level=Level.MEDIUM)
    (change,) = rule.update(1, met=True, level=Level.HIGH)

    assert (change.phase, change.level) == (Phase.ONGOING, Level.HIGH)
    assert rule.update(2, met=True, level=Level.HIGH) == []


def test_the_end_repeats_what_was_last_known() -> None:
    rule = episode(hold_s=0)
    rule.update(0, met=True, level=Level.HIGH, count=20)
    (change,) = rule.close(1)

    assert (change.phase, change.level, change.count) == (Phase.ENDED, Level.HIGH, 20)


@given(
    st.lists(st.tuples(SECONDS, st.sampled_from([True, False, None]), st.sampled_from(list(Level)))),
    st.floats(0, 10),
    st.floats(0, 10),
)
def test_phases_only_go_forward_and_closing_ends_whatever_is_open(
    ticks: list[tuple[float, bool | None, Level]], hold_s: float, release_s: float
) -> None:
    rule = episode(hold_s, release_s)
    time, open_, told = 0.0, False, []
    for step, met, level in ticks:
        time += step
        told += rule.close(time) if met is None else rule.update(time, met, level=level)
        if met is None:
            assert not rule.open
    told += rule.close(time)

    for change in told:
        assert (change.phase is Phase.STARTED) is not open_, "it starts once, and goes on or ends only when open"
        open_ = change.phase is not Phase.ENDED
    assert not open_
    assert rule.close(time) == []
    assert [change.time for change in told] == sorted(change.time for change in told)
