"""A token bucket: so many at once, and so many a second after that (ITU-T I.371, annex A, as a counter)."""

from __future__ import annotations

from collections.abc import Callable


class TokenBucket:
    """Lets through at most `burst` at once and `rate` a second on average, whatever comes."""

    def __init__(self, rate: float, burst: int, now: Callable[[], float]) -> None:
        """A full bucket.

        Args:
            rate: Tokens that come back, per second.
            burst: Tokens it holds.
            now: Monotonic time, seconds.
        """
        self._rate = rate
        self._burst = burst
        self._now = now
        self._tokens = float(burst)
        self._filled_at = now()

    def take(self) -> bool:
        """Take one token; False when there is none."""
        now = self._now()
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
