"""Counts: when they are told, what they say, and when they stop."""

from __future__ import annotations

import datetime as dt
from fractions import Fraction

import pytest

from agent.contract import Count, EventType, Level, Phase
from agent.policy import Policy
from agent.relay.budget import Budget
from agent.relay.counts import Counts, exact
from tests.relay.test_gate import GATE, NOON, Bench, policy

DENSITY = (EventType.CROWD_DENSITY,)


class Told(Bench):
    """A gate with its counts; the noise is in the test's hand."""

    def __init__(self, rules: Policy | None = None) -> None:
        super().__init__(rules or policy(types=DENSITY))
        self.noise = 0
        gate = self._rules.gate
        self.counts = Counts(
            ["yard", "quay", "gate"],
            self._rules,
            self.gate,
            Budget(exact(gate.count_epsilon), exact(gate.count_epsilon_per_day)),
            wall=lambda: NOON + dt.timedelta(seconds=self.elapsed),
            synced=lambda: self.synced,
            noise=self._noise,
        )

    def _noise(self, epsilon: Fraction) -> int:
        assert epsilon == exact(self._rules.gate.count_epsilon)
        return self.noise

    def minute(self) -> dict[str, Count]:
        self.wait(60)
        return dict(self.counts.due())


def test_every_zone_has_a_message_at_the_end_of_each_grain_whatever_happens() -> None:
    bench = Told()
    assert bench.counts.due() == []
    first = bench.minute()
    assert list(first) == ["gate", "quay", "yard"], "by name, since the order of the configuration says something"
    assert {count.count for count in first.values()} == {"<k"}
    assert first["quay"].time == "2026-11-23T12:00:00Z"
    assert bench.counts.due() == []


def test_a_count_that_nobody_hears_costs_nothing() -> None:
    bench = Told()
    bench.see(EventType.CROWD_DENSITY, count=12, level=Level.MEDIUM)
    bench.wait(60)
    assert bench.counts.due(heard=False) == []
    assert bench.minute()["quay"].epsilon_left == 119.5


def test_a_busy_zone_tells_its_last_count_with_noise() -> None:
    bench = Told()
    bench.see(EventType.CROWD_DENSITY, zone=GATE, count=12, level=Level.MEDIUM)
    bench.noise = 3
    counts = bench.minute()
    assert (counts["gate"].count, counts["gate"].epsilon, counts["gate"].epsilon_left) == (15, 0.5, 119.5)
    assert (counts["quay"].count, counts["quay"].epsilon, counts["quay"].epsilon_left) == ("<k", 0.0, 120.0)
    bench.noise = -8
    assert bench.minute()["gate"].count == "<k"
    bench.noise = 1000
    assert bench.minute()["gate"].count == 255
    bench.see(EventType.CROWD_DENSITY, Phase.ENDED, zone=GATE)
    ended = bench.minute()["gate"]
    assert (ended.count, ended.epsilon, ended.epsilon_left) == ("<k", 0.0, 118.5)


def test_counts_stop_when_the_budget_of_the_day_is_spent() -> None:
    bench = Told(policy(types=DENSITY, count_epsilon=0.5, count_epsilon_per_day=1))
    bench.see(EventType.CROWD_DENSITY, count=12, level=Level.MEDIUM)
    assert [bench.minute()["quay"].count for _ in range(4)] == [12, 12, None, None]


def test_counts_are_paid_for_in_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Told()
    bench.see(EventType.CROWD_DENSITY, count=12, level=Level.MEDIUM)
    monkeypatch.setattr(bench.gate, "pay", lambda bits: bits < bench.gate.capacity.count)
    count = bench.minute()["quay"]
    assert (count.count, count.epsilon, count.epsilon_left) == (None, 0.0, 120.0)


def test_below_k_no_number_is_told() -> None:
    bench = Told()
    bench.see(EventType.CROWD_DENSITY, count=12, level=Level.MEDIUM)
    assert bench.minute()["quay"].count == 12
    bench.see(EventType.CROWD_DENSITY, Phase.ONGOING, count=4, level=Level.LOW)
    assert bench.minute()["quay"].count == "<k"


@pytest.mark.parametrize("rules", [policy(types=DENSITY, mode="shadow"), policy(types=DENSITY, count_epsilon=0)])
def test_without_a_permission_or_an_epsilon_there_are_none(rules: Policy) -> None:
    assert Told(rules).minute() == {}
