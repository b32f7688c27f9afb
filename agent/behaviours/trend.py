"""Where a count is heading, and how sure that is: a local trend that may end at any moment.

The count is filtered as a level with a slope (Harvey, Forecasting, Structural Time Series Models and the Kalman Filter,
1989, section 2.3). Trends that go on for good foretell too much (Gardner and McKenzie, "Forecasting trends in time
series", Management Science 31(10), 1985), and how long a rush lasts differs from a doorway to a stadium. So a rise is
taken to be seen at no special moment of its course: it lasts as long again as it has lasted with probability one half
(Gott, "Implications of the Copernican principle for our future prospects", Nature 363, 1993). A count is thus likelier
than not to reach a limit once it has come half of the way there from where the rise began. How far counts wander beside
is set in shares of the limit that is asked about, so that the same figures hold for a passage and a square; they were
chosen on simulated occupancies (steady, rising, stepping up, emptying), not on a camera's.
"""

from __future__ import annotations

import math

import numpy as np

#: One minute's wandering, shares of the limit: of the level apart from its slope (people come in groups), and of the
#: slope per minute (a train arrives, a show ends).
_LEVEL, _SLOPE = 0.05, 0.1
#: A slope is forgotten in this time to 1/e, minutes: a rush lasts for minutes, not for hours.
_FADES = 4.0
#: Standard deviation of a count around the truth, share of the limit, but at least one person.
_COUNTING = 0.05
#: Slope per minute, share of the limit, that is thought possible before anything is seen: as wide as it wanders.
_FIRST_SLOPE = _SLOPE * math.sqrt(_FADES / 2)
#: The future is looked at in so many steps.
_STEPS = 12


class Trend:
    """Follows one count towards one limit."""

    def __init__(self, limit: float) -> None:
        """Set up.

        Args:
            limit: The count that is asked about, at least 1.
        """
        self._limit = limit
        self._state: np.ndarray[tuple[int], np.dtype[np.float64]] | None = None
        self._spread = np.zeros((2, 2))
        self._time = 0.0
        self._begun_at = 0.0  # the level at which the rise began

    def update(self, time: float, count: float) -> None:
        """Take in a count; times grow, seconds."""
        noise = max(1.0, _COUNTING * self._limit) ** 2
        if self._state is None:
            self._state = np.array([count, 0.0])
            self._spread = np.diag([noise, (_FIRST_SLOPE * self._limit) ** 2])
            self._time, self._begun_at = time, count
            return
        minutes, self._time = (time - self._time) / 60, time
        state, spread = self._after(minutes)
        gain = spread[:, 0] / (spread[0, 0] + noise)
        self._state = state + gain * (count - state[0])
        self._spread = spread - np.outer(gain, spread[0])
        level, slope = self._state.tolist()
        self._begun_at = min(self._begun_at, level) if slope > 0 else level

    def _after(self, minutes: float) -> tuple[np.ndarray[tuple[int], np.dtype[np.float64]], np.ndarray]:
        """Level and slope per minute after so much more time, and their covariance."""
        assert self._state is not None  # noqa: S101 - only called once a count is known
        left = math.exp(-minutes / _FADES)
        step = np.array([[1.0, _FADES * (1 - left)], [0.0, left]])
        # Of an Ornstein-Uhlenbeck process and its integral.
        level = _FADES * (minutes - 2 * _FADES * (1 - left) + _FADES / 2 * (1 - left**2))
        both = _FADES / 2 * (1 - left) ** 2
        slope = (1 - left**2) / 2
        wandering = (_SLOPE * self._limit) ** 2 * _FADES * np.array([[level, both], [both, slope]])
        wandering[0, 0] += (_LEVEL * self._limit) ** 2 * minutes
        return step @ self._state, step @ self._spread @ step.T + wandering

    def crossing(self, horizon_s: float) -> tuple[float, float | None]:
        """Whether the count will be at the limit at some moment of the horizon.

        Args:
            horizon_s: How far ahead, seconds.

        Returns:
            How likely it is at the likeliest moment, 0 to 1; and the seconds until it is first likelier than not, None
            where it never is.
        """
        if self._state is None:
            return 0.0, None
        level, slope = self._state.tolist()
        lasted = (level - self._begun_at) / slope if slope > 0 else 0.0
        shares = np.arange(1, _STEPS + 1) / _STEPS
        # Moments of the horizon, a row each, and how much of the time until then the count may rise, minutes.
        moments = horizon_s / 60 * shares[:, None]
        rises = moments * (shares - 0.5 / _STEPS)
        ended = rises / (lasted + rises)
        ended[:, -1] = 1.0
        spread = self._spread[0, 0] + 2 * rises * self._spread[0, 1] + rises**2 * self._spread[1, 1]
        spread += (_LEVEL * self._limit) ** 2 * moments
        short = (self._limit - level - max(slope, 0.0) * rises) / np.sqrt(2 * spread)
        reaches = 0.5 * np.array([math.erfc(far) for far in short.ravel().tolist()]).reshape(short.shape)
        likely = (np.diff(ended, axis=1, prepend=0.0) * reaches).sum(axis=1)
        crosses = likely > 0.5
        lead = float(horizon_s * shares[crosses.argmax()]) if crosses.any() else None
        return float(likely.max()), lead
