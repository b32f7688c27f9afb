"""How much the gate held back on a day (UTC), as classes: `<k` for a few, since a few could be one person's."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

from agent.contract import Suppressed
from agent.relay.classes import count_class

#: The gate's counters behind each field. What is in shadow is no suppression, and is never told.
_COUNTERS = {
    "rate": ("dropped.rate",),
    "malformed": ("dropped.malformed",),
    "place": ("dropped.place",),
    "order": ("dropped.order", "lost.ended"),
    "full": ("dropped.full",),
    "policy": ("dropped.policy",),
    "k": ("suppressed.k", "suppressed.short"),
    "bits": ("suppressed.bits",),
}


class DailyTotals:
    """Follows the gate's counters from midnight to midnight."""

    def __init__(self, boot: str, k: int, today: dt.date) -> None:
        """Begin with nothing.

        Args:
            boot: Id of this start.
            k: What is fewer is `<k`.
            today: The day that goes on (UTC).
        """
        self._boot = boot
        self._k = k
        self._day = today
        self._before: dict[str, int] = {}

    def due(self, today: dt.date, counters: Mapping[str, int]) -> Suppressed | None:
        """The totals of the day that is over; None while it goes on.

        Args:
            today: The day that goes on now.
            counters: What the gate has counted since its start.
        """
        if today <= self._day:
            return None
        day, before = self._day, self._before
        self._day, self._before = today, dict(counters)
        totals = {
            reason: count_class(sum(counters.get(name, 0) - before.get(name, 0) for name in names), self._k)
            for reason, names in _COUNTERS.items()
        }
        return Suppressed.model_validate({"boot": self._boot, "day": day.isoformat(), **totals})
