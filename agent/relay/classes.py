"""Numbers become classes: how many people, and for how long."""

from __future__ import annotations

import math

from agent.contract import MAX_COUNT, CountClass, DurationClass

#: Fewest people of each class.
_LOWEST: dict[CountClass, int] = {
    "<k": 0,
    "1-4": 1,
    "5-9": 5,
    "10-19": 10,
    "20-49": 20,
    "50-99": 50,
    "100-199": 100,
    ">=200": 200,
}
#: Seconds below which each class holds.
_BELOW: dict[DurationClass, float] = {
    "<10s": 10,
    "<1min": 60,
    "1-5min": 300,
    "5-15min": 900,
    "15-60min": 3600,
    ">1h": math.inf,
}


def count_class(count: int, k: int, previous: CountClass | None = None) -> CountClass:
    """The class of a count, with hysteresis.

    A class falls as soon as the count is below it, and rises only when the count is a tenth (at least one person)
    above the limit: so a count at the edge of two classes does not flip, and what is said is never above the truth.
    In particular nothing but `<k` is ever said of fewer than k people.

    Args:
        count: People.
        k: Fewest people of whom anything but `<k` is said.
        previous: The class said last; None says the class as it is.
    """
    if count < k:
        return "<k"
    reached = math.inf if previous is None else _LOWEST[previous]
    return next(
        name
        for name, lowest in reversed(_LOWEST.items())
        if count >= (limit := max(lowest, k)) + (0 if lowest <= reached else -(-limit // 10))
    )


def least(count: CountClass | None) -> int:
    """The people that a class holds at least; nobody where there is no class."""
    return 0 if count is None else _LOWEST[count]


def count_classes(k: int) -> tuple[CountClass, ...]:
    """The classes that can be said of at least `k` people."""
    return tuple(dict.fromkeys(count_class(count, k) for count in range(k, MAX_COUNT + 1)))


def duration_class(seconds: float) -> DurationClass:
    """The class of a duration."""
    return next(name for name, limit in _BELOW.items() if seconds < limit)
