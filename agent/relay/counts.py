"""The noisy counts on `count/<zone>`: one message for each zone at the end of each grain of crowd types.

A number is told only of a zone that the events call busy, and it is the last one that `crowd.density` has said:
counting opens no channel of its own. Whether there is a number, `<k` or nothing follows from the events, the budget and
the bits alone, all of which the receiver knows.

The noise is discrete Laplace. Of each number told, nobody who was in the zone in that grain can be told from nobody by
more than a factor of `exp(epsilon)`, whatever else is known of the others (a person-bin); who stays for n grains has
n epsilon, and `Budget` bounds the sum of a day. That the zone is busy at all is said by `crowd.density` without noise,
and is not covered by that.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Literal

from agent.contract import MAX_COUNT, Count, EventType
from agent.policy import Policy, local_day
from agent.relay.budget import Budget
from agent.relay.gate import Gate, utc
from agent.relay.laplace import discrete_laplace


def exact(number: float) -> Fraction:
    """A number of the policy file as it was written there: 0.1 is a tenth."""
    return Fraction(str(number))


class Counts:
    """Tells the counts of one device."""

    def __init__(
        self,
        zones: Sequence[str],
        policy: Policy,
        gate: Gate,
        budget: Budget,
        *,
        wall: Callable[[], dt.datetime],
        synced: Callable[[], bool],
        noise: Callable[[Fraction], int] = discrete_laplace,
    ) -> None:
        """Begin with the grain that has just begun.

        Args:
            zones: Names of the zones.
            policy: The policy.
            gate: Knows which zones are busy, and has the bits.
            budget: What may still be told.
            wall: UTC, aware.
            synced: Whether the wall clock is synchronised.
            noise: Draws noise of this epsilon.
        """
        told = (zone for zone in zones if policy.may_tell(EventType.CROWD_DENSITY, zone))
        self._zones = sorted(told) if policy.gate.count_epsilon else []
        self._policy = policy
        self._gate = gate
        self._budget = budget
        self._wall = wall
        self._synced = synced
        self._noise = noise
        self._epsilon = exact(policy.gate.count_epsilon)
        self._grain_s = policy.gate.crowd_grain_s or 60
        self._grain = self._grain_now()

    def due(self, *, heard: bool = True) -> list[tuple[str, Count]]:
        """Zones and their counts, once for each grain, when it is over. Ask after the gate's `due`.

        Args:
            heard: Whether anybody would hear them; if not, they are not told and cost nothing.
        """
        grain, last = self._grain_now(), self._grain
        self._grain = grain
        if grain == last or not heard:
            return []
        return [(zone, self._count(zone, last)) for zone in self._zones]

    def _grain_now(self) -> int:
        return int(self._wall().timestamp() // self._grain_s)

    def _count(self, zone: str, grain: int) -> Count:
        today = self._wall().date()
        entry = self._policy.entry(EventType.CROWD_DENSITY, zone, local_day(self._wall()))
        permitted = not isinstance(entry, str) and entry.mode == "on"
        people = self._gate.people(zone) if permitted else None
        told: int | Literal["<k"] | None = "<k"
        if people is not None:
            told = self._noisy(people) if self._may_spend(zone, today) else None
        return Count(
            time=utc(grain * self._grain_s),
            grain_s=self._grain_s,
            count=told,
            epsilon=float(self._epsilon) if people is not None and told is not None else 0.0,
            epsilon_left=float(self._budget.left(zone, today)),
            clock="synced" if self._synced() else "unsynced",
        )

    def _may_spend(self, zone: str, today: dt.date) -> bool:
        has = self._budget.left(zone, today) > 0 and self._gate.pay(self._gate.capacity.count)
        return has and self._budget.spend(zone, today)

    def _noisy(self, people: int) -> int | Literal["<k"]:
        told = min(MAX_COUNT, people + self._noise(self._epsilon))
        return told if told >= self._policy.gate.k else "<k"
