"""A zone of the picture: a polygon in fractions of width and height, and who stands in it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.perception.scene import FloatArray, Scene


class Calibration:
    """From the picture to the ground: the homography of four points (Hartley and Zisserman, 2004, section 4.1)."""

    def __init__(self, picture: Sequence[tuple[float, float]], ground_m: Sequence[tuple[float, float]]) -> None:
        """Set up.

        Args:
            picture: Four points, fractions of width and height.
            ground_m: The same points on the ground, metres.
        """
        matrix = cv2.getPerspectiveTransform(np.array(picture, np.float32), np.array(ground_m, np.float32))
        # Its sign is free: the calibrated points are before the camera.
        depths = np.column_stack([np.asarray(picture), np.ones(4)]) @ matrix[2]
        self._matrix = matrix * np.sign(depths[0])
        if not (depths * np.sign(depths[0]) > 0).all():
            raise ValueError("the calibration's points do not lie in the same order in the picture and on the ground")

    def ground(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Places on the ground, (N, 2) metres, of points in the picture, (N, 2) fractions.

        Raises:
            ValueError: a point is not below the horizon.
        """
        mapped = np.column_stack([points, np.ones(len(points))]) @ self._matrix.T
        if (mapped[:, 2] <= 1e-9).any():
            raise ValueError("a corner of the zone is not below the horizon that its calibration gives")
        return np.asarray(mapped[:, :2] / mapped[:, 2:])


def _area(corners: NDArray[np.float64]) -> float:
    """Of a polygon, by the shoelace formula; square units of its corners."""
    x, y = corners.T
    return abs(float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum())) / 2


#: (5, 2): a point, and beside it to each side.
_AROUND = np.array([(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)], np.float32)
#: The last place inside the picture: a box that leaves it below or at the right stands on its edge.
_LAST = np.nextafter(np.float32(1), np.float32(0))


class Zone:
    """A named polygon; it may be concave, its last corner is joined to its first.

    Attributes:
        name: Its name; None for the whole picture of a camera.
        area_m2: Its area on the ground, square metres; None where it is not calibrated.
        key: Equal for zones of one shape.
    """

    def __init__(
        self, name: str | None, polygon: Sequence[tuple[float, float]], calibration: Calibration | None = None
    ) -> None:
        """Set up.

        Raises:
            ValueError: seen by the calibration, the polygon reaches to the horizon or beyond.
        """
        self.name = name
        self.area_m2 = None if calibration is None else _area(calibration.ground(np.asarray(polygon, np.float64)))
        corners = np.asarray(polygon, np.float32)
        self._x0, self._y0 = corners[:, 0], corners[:, 1]
        x1, self._y1 = np.roll(self._x0, -1), np.roll(self._y0, -1)
        down = self._y1 - self._y0
        self._slope = np.divide(x1 - self._x0, down, out=np.zeros_like(down), where=down != 0)  # level: crosses no ray
        self.key = corners.tobytes()

    def standing(self, scene: Scene) -> NDArray[np.bool_]:
        """Which tracks have their feet inside, (N,) bool."""
        return scene.once(("standing", self.key), lambda: self.contains(scene.feet))

    def touches(self, points: FloatArray, margins: FloatArray) -> NDArray[np.bool_]:
        """Which points lie inside, or so close to it: an edge of a box jitters.

        Args:
            points: As of `contains`.
            margins: (N, 2) float32, to each side, fractions of width and height.

        Returns:
            (N,) bool.
        """
        tried = points + margins * _AROUND[:, None]
        return np.asarray(self.contains(tried.reshape(-1, 2)).reshape(len(_AROUND), -1).any(axis=0))

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
        crossing_x = self._x0 + (y - self._y0) * self._slope
        return np.asarray(np.logical_xor.reduce(crosses & (x < crossing_x), axis=1))
