"""A token bucket: so many at once, and so many a second after that (ITU-T I.371, annex A, as a counter)."""

from __future__ import annotations

from collections.abc import Callable


class TokenBucket:
    """Lets through at most `burst` at once and `rate` a second on average, whatever comes."""

    def __init__(self, rate: float, burst: float, now: Callable[[], float], *, first: float | None = None) -> None:
        """A bucket.

        Args:
            rate: Tokens that come back, per second.
            burst: Tokens it holds.
            now: Monotonic time, seconds.
            first: Tokens it begins with; None: it begins full.
        """
        self._rate = rate
        self._burst = burst
        self._now = now
        self._tokens = float(burst) if first is None else min(first, burst)
        self._filled_at = now()

    def take(self, cost: float = 1.0, keep: float = 0.0) -> bool:
        """Take tokens; False, and none is taken, when there are too few.

        Args:
            cost: How many.
            keep: How many must be left: what others have in reserve.
        """
        now = self._now()
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        if self._tokens < cost + keep:
            return False
        self._tokens -= cost
        return True
