"""A zone of the picture: a polygon in fractions of width and height, and who stands in it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from agent.perception.scene import FloatArray

#: The last place inside the picture: a box that leaves it below or at the right stands on its edge.
_LAST = np.nextafter(np.float32(1), np.float32(0))


class Zone:
    """A named polygon; it may be concave, its last corner is joined to its first."""

    def __init__(self, name: str | None, polygon: Sequence[tuple[float, float]]) -> None:
        self.name = name
        corners = np.asarray(polygon, np.float32)
        self._x0, self._y0 = corners[:, 0], corners[:, 1]
        self._x1, self._y1 = np.roll(self._x0, -1), np.roll(self._y0, -1)

    def contains(self, points: FloatArray) -> NDArray[np.bool_]:
        """Which points lie inside, by the crossing number (Shimrat, CACM 5(8), 1962, algorithm 112).

        A point on an upper or left edge is inside, on a lower or right edge outside, so that zones that share an
        edge share no point; but the picture's own edge belongs to the zones that touch it.

        Args:
            points: (N, 2) float32, fractions of width and height, y down; outside the picture they count as on its
                edge.

        Returns:
            (N,) bool.
        """
        x, y = np.clip(points, 0, _LAST).T[:, :, np.newaxis]
        crosses = (self._y0 <= y) != (self._y1 <= y)
        with np.errstate(divide="ignore", invalid="ignore"):  # a level edge crosses no level ray
            crossing_x = self._x0 + (y - self._y0) * (self._x1 - self._x0) / (self._y1 - self._y0)
        return np.asarray(np.count_nonzero(crosses & (x < crossing_x), axis=1) % 2 == 1)
