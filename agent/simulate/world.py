"""People on a ground plane, and a camera that looks at it. Everything is a function of time: nothing is stepped.

Each person is a path of key points: a place at a time, with straight walks and waits in between. So a moment can be
asked for in any order, two cameras see the same world, and the frame rate changes nothing.
People do not avoid one another; who wants crowd dynamics does not find them here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: One person: (K, 3), time in seconds, x and y in metres; times grow.
Path = Floats
#: Width of a walking person's box as a share of its height.
_WIDTH = 0.38


@dataclass(frozen=True, slots=True)
class View:
    """A pinhole camera above the origin of the ground plane, looking along y and down.

    Attributes:
        width: Pixels.
        height: Pixels.
        above_m: Height of the camera, metres.
        pitch_deg: Angle below the horizon, degrees.
        fov_deg: Horizontal field of view, degrees.
    """

    width: int = 640
    height: int = 360
    above_m: float = 5.0
    pitch_deg: float = 22.0
    fov_deg: float = 70.0

    def project(self, points: Floats) -> tuple[Floats, Floats]:
        """Where points of the world are seen.

        Args:
            points: (N, 3), x to the right, y away from the camera, z up, metres.

        Returns:
            (N, 2) pixels, and (N,) depth in metres; what has no positive depth is behind the camera.
        """
        pitch = math.radians(self.pitch_deg)
        focal = self.width / 2 / math.tan(math.radians(self.fov_deg) / 2)
        x, y, z = points[:, 0], points[:, 1], points[:, 2] - self.above_m
        depth = y * math.cos(pitch) - z * math.sin(pitch)
        down = -y * math.sin(pitch) - z * math.cos(pitch)
        with np.errstate(divide="ignore", invalid="ignore"):
            pixels = np.stack([self.width / 2 + focal * x / depth, self.height / 2 + focal * down / depth], axis=1)
        return pixels, depth

    def polygon(self, corners: Sequence[tuple[float, float]]) -> list[list[float]]:
        """A piece of ground as a zone: its corners (metres) as fractions of the frame, cut at the frame's edge."""
        ground = np.array([[x, y, 0.0] for x, y in corners])
        fractions = self.project(ground)[0] / (self.width, self.height)
        return np.clip(fractions, 0, 1).round(4).tolist()  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class Truth:
    """Who is where at a moment, the farthest first.

    Attributes:
        ids: (N,) int64, number of the person.
        boxes: (N, 4) float32, x0 y0 x1 y1, pixels, cut at the frame's edge.
        visible: (N,) float32, share of the box that nobody nearer covers.
    """

    ids: NDArray[np.int64]
    boxes: NDArray[np.float32]
    visible: NDArray[np.float32]


class World:
    """Some people and their paths."""

    def __init__(self, paths: Sequence[Path], rng: np.random.Generator) -> None:
        """Set up.

        Args:
            paths: One for each person.
            rng: Gives them their heights: 1.70 m on average, standard deviation 0.08 m.
        """
        self._paths = list(paths)
        self._heights = np.clip(rng.normal(1.70, 0.08, len(self._paths)), 1.4, 2.0)

    def people(self, time: float) -> tuple[NDArray[np.int64], Floats]:
        """Numbers of those who are there, and their places, (N, 2) metres."""
        there = [i for i, path in enumerate(self._paths) if path[0, 0] <= time <= path[-1, 0]]
        places = [[np.interp(time, path[:, 0], path[:, i]) for i in (1, 2)] for path in (self._paths[n] for n in there)]
        return np.array(there, np.int64), np.array(places, np.float64).reshape(-1, 2)

    def truth(self, time: float, view: View) -> Truth:
        """What the camera could see of them at best."""
        ids, places = self.people(time)
        feet, depth = view.project(np.column_stack([places, np.zeros(len(ids))]))
        heads, _ = view.project(np.column_stack([places, self._heights[ids]]))
        half = _WIDTH / 2 * (feet[:, 1] - heads[:, 1])
        boxes = np.column_stack([feet[:, 0] - half, heads[:, 1], feet[:, 0] + half, feet[:, 1]])
        inside = np.clip(boxes, 0, [view.width, view.height, view.width, view.height])
        seen = (depth > 0.5) & (_area(inside) > 0.5 * _area(boxes)) & (boxes[:, 3] - boxes[:, 1] > 8)
        order = np.flatnonzero(seen)[np.argsort(-depth[seen])]
        chosen = inside[order].astype(np.float32)
        return Truth(ids[order], chosen, _visible(chosen))


def _area(boxes: NDArray[np.floating]) -> NDArray[np.floating]:
    return np.asarray((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))


def _visible(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Share of each box that no later (nearer) single box covers."""
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    nearer = np.triu(shared, k=1)
    covered = nearer.max(axis=1, initial=0.0) / np.maximum(_area(boxes), 1e-6)
    return np.asarray(1 - covered, np.float32)
