"""Who may look, and until when: a token that is good once, then a cookie, and an end that nothing puts off.

A token that was used makes place for another one, for a technician who changes from the laptop to the phone; whoever
comes with it takes the view over. A view that nobody looks at ends by itself: the device senses nothing meanwhile.
"""

from __future__ import annotations

import hmac
import math
import secrets
import threading
import time
from collections.abc import Callable

#: Time without anybody who looks, after which a view ends, seconds.
IDLE_S = 90.0


class Session:
    """One view. Safe to use from several threads."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin now.

        Args:
            seconds: How long it lasts.
            clock: Monotonic seconds.
        """
        self.token = secrets.token_urlsafe(24)
        """Good once, in the address that the technician opens."""
        self._cookie: str | None = None
        self._clock = clock
        self._end = clock() + seconds
        self._asked_at = clock()
        self._ended = False
        self._lock = threading.Lock()

    @property
    def left_s(self) -> int:
        """Seconds that are left, rounded up."""
        return 0 if self._ended else max(0, math.ceil(self._end - self._clock()))

    @property
    def over(self) -> bool:
        """Whether nobody may look any more."""
        now = self._clock()
        return self._ended or now >= self._end or now - self._asked_at >= IDLE_S

    def end(self) -> None:
        """End it before its time."""
        self._ended = True

    def redeem(self, token: str) -> str | None:
        """The cookie for the token, once; None for any other word, and for this token ever after."""
        with self._lock:
            if self.over or not hmac.compare_digest(token.encode(), self.token.encode()):
                return None
            self.token, self._cookie = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
            return self._cookie

    def knows(self, cookie: str) -> bool:
        """Whether somebody with this cookie may look now."""
        known = self._cookie
        if self.over or known is None or not hmac.compare_digest(cookie.encode(), known.encode()):
            return False
        self._asked_at = self._clock()
        return True
