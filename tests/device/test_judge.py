from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from agent.device.bundle import Manifest
from agent.device.judge import EVERY_S, Look, judge, lacking, understood
from agent.device.slots import Before, Last, Slots, Trial

TRIAL = Trial("0.2.0", 60.0, 5.0, by_hand=False, before=Before("ready", (), broker=True))
GOOD = Look("ready", broker=True, starts=("0", "17"))


class Agent:
    """An agent that is as a list says, one entry a second, and as the last one for ever."""

    def __init__(self, looks: Sequence[Look]) -> None:
        self._looks = list(looks)
        self.done: list[str] = []
        self.time = 0.0

    def look(self) -> Look:
        return self._looks.pop(0) if len(self._looks) > 1 else self._looks[0]

    def reload(self) -> None:
        self.done.append("reload")

    def restart(self) -> None:
        self.done.append("restart")

    def forget(self) -> None:
        self.done.append("forget")

    def sleep(self, seconds: float) -> None:
        self.time += seconds


def put(slots: Slots, version: str) -> None:
    """A release that is whole."""
    manifest = Manifest(version, "x86_64", "x86_64", "3.11", "0" * 16, 0, ())
    slots.make_room(manifest)
    slots.complete(manifest)


@pytest.fixture
def slots(tmp_path: Path) -> Slots:
    """A device with 0.2.0 on trial."""
    made = Slots(tmp_path / "vigie")
    with made.locked():
        put(made, "0.1.0")
        made.begin_first("0.1.0")
        put(made, "0.2.0")
        made.begin(TRIAL)
    return made


def judged(slots: Slots, agent: Agent) -> Last | None:
    return judge(slots, agent, lambda _word, _share: None, now=lambda: agent.time, sleep=agent.sleep)


def test_a_release_that_stays_ready_is_committed(slots: Slots) -> None:
    agent = Agent([Look("unknown", why="it does not answer"), Look("starting"), GOOD])
    last = judged(slots, agent)
    assert last == Last("0.2.0", "committed", "as good as before for 5 s")
    assert slots.state().running == slots.state().committed == "0.2.0"
    assert agent.time == pytest.approx(3 + 5, abs=EVERY_S)
    assert "restart" not in agent.done


def test_a_release_that_is_never_ready_is_taken_back_in_time(slots: Slots) -> None:
    agent = Agent([Look("degraded", ("sense",), broker=True)])
    last = judged(slots, agent)
    assert last is not None
    assert (last.result, last.reason) == ("failed", "not within 60 s: it is degraded: sense")
    assert agent.time == pytest.approx(60, abs=EVERY_S)
    assert agent.done[:2] == ["reload", "restart"], "systemd reads the old units before it starts them"
    assert slots.state().running == "0.1.0"
    assert slots.state().whole == ("0.1.0",)


def test_a_part_that_systemd_has_given_up_ends_the_trial_at_once(slots: Slots) -> None:
    agent = Agent([Look("degraded", ("sense",), failed="vigie-sense.service failed (exit-code)")])
    last = judged(slots, agent)
    assert last == Last("0.2.0", "failed", "vigie-sense.service failed (exit-code)")
    assert agent.time == 0


def test_one_that_is_started_anew_again_and_again_is_never_ready_for_long_enough(slots: Slots) -> None:
    looks = [Look("ready", broker=True, starts=(str(second // 4),)) for second in range(100)]
    last = judged(slots, Agent(looks))
    assert last is not None
    assert last.result == "failed"


def test_a_break_begins_the_time_anew(slots: Slots) -> None:
    agent = Agent([GOOD] * 4 + [Look("ready", broker=False, starts=GOOD.starts)] + [GOOD])
    last = judged(slots, agent)
    assert last is not None
    assert last.result == "committed"
    assert agent.time == pytest.approx(5 + 5, abs=EVERY_S)


def test_by_hand_it_waits_for_a_word_that_does_not_come(slots: Slots) -> None:
    with slots.locked():
        slots.fall_back("rolled_back", "")
        slots.begin(replace(TRIAL, by_hand=True))
    last = judged(slots, Agent([GOOD]))
    assert last is not None
    assert last.result == "failed"


def test_a_trial_that_somebody_else_ends_is_left_to_them(slots: Slots) -> None:
    agent = Agent([GOOD])

    def sleep(seconds: float) -> None:
        agent.time += seconds
        if agent.time > 2:
            with slots.locked():
                slots.commit("somebody said so")

    assert judge(slots, agent, lambda _word, _share: None, now=lambda: agent.time, sleep=sleep) is None
    assert slots.state().last == Last("0.2.0", "committed", "somebody said so")
    assert judged(slots, agent) is None, "there is nothing to judge"


def test_a_later_release_may_say_more_of_itself_than_the_judge_knows() -> None:
    said = b'{"status": {"state": "ready", "reasons": ["novelty"], "more": 1}, "broker": "5", "more": {}}'
    assert understood(said, ("0",), None) == Look("ready", ("novelty",), broker=True, starts=("0",))
    for nothing in (
        b"",
        b"[]",
        b"{}",
        b'{"status": 1}',
        b'{"status": {"state": "ready", "reasons": null}, "broker": 1}',
    ):
        assert understood(nothing, (), "it failed").state == "unknown"
        assert understood(nothing, (), "it failed").failed == "it failed"


@pytest.mark.parametrize(
    ("look", "before", "said"),
    [
        (Look("ready", broker=True), Before("ready", (), broker=True), None),
        (Look("ready", broker=False), Before("ready", (), broker=False), None),
        (Look("ready", broker=False), Before("ready", (), broker=True), "it has not reached the broker"),
        (Look("degraded", ("camera",)), Before("degraded", ("camera", "disk")), None),
        (Look("degraded", ("camera",)), Before("ready"), "it is degraded: camera"),
        (Look("degraded", ("camera", "sense")), Before("degraded", ("camera",)), "it is degraded: sense"),
        (Look("paused"), Before("paused"), None),
        (Look("paused"), Before("ready"), "it is paused, and was not"),
        (Look("starting"), Before(), "it is starting"),
        (Look("unknown", why="it does not answer"), Before(), "it does not answer"),
        (Look("ready", ("policy",)), Before("ready", ("policy",)), None),
        (Look("ready"), Before(), None),
    ],
)
def test_a_release_need_not_be_better_than_the_one_before(look: Look, before: Before, said: str | None) -> None:
    assert lacking(look, before) == said
