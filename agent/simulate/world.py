"""People on a ground plane, and cameras that look at it.

Each person has a path of key points, a place at a time, with straight walks and waits in between: that is what they
intend. On the way they make room for one another, as in the social force model (Helbing and Molnár, Physical Review E
51, 4282, 1995; circular repulsion, their strength, range and relaxation time), and hurry after their intention when it
has held them up, so that a scenario keeps its timetable.

The world knows no camera and no frame rate: it moves in steps of its own, so any number of cameras see the same people.
Known limits: no walls, no groups, no sight (people behind push as much as people in front), no foresight: whose paths
meet nearly head-on brush past each other.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]

#: One person: (K, 3), time in seconds, x and y in metres; times grow.
Path = Floats
#: How somebody holds themselves: (K, 4), time in seconds, how tall and how wide they are, and how far above the ground
#: they begin (on a bench), metres; times grow. In between it changes steadily.
Pose = Floats

#: Length of a step, seconds.
_STEP_S = 0.1
#: Steps that are kept for cameras that lag; whoever asks further back has the world begin again.
_KEPT = 600
#: Repulsion of two people, m²/s², and the distance in which it falls to 1/e, metres (Helbing and Molnár).
_REPULSION, _RANGE_M = 2.1, 0.3
#: Time in which people take up the velocity that they want (Helbing and Molnár), and in which they want to be where
#: they intended to be, seconds; four times the first makes a critically damped return.
_RELAX_S, _CATCH_UP_S = 0.5, 2.0
#: Height of people, mean and standard deviation, and width with swinging arms and legs, metres. Chosen, not measured.
HEIGHT_M, WIDTH_M = (1.70, 0.08), 0.65
#: Whatever is nearer to the camera's plane than this is not seen, metres.
_NEAR_M = 0.5
#: Further than every moment: keeps the paths apart on one common time line, seconds.
_APART_S = 1e6


@dataclass(frozen=True, slots=True)
class View:
    """A pinhole camera above the ground plane.

    Attributes:
        width: Pixels.
        height: Pixels.
        x_m: Place on the ground.
        y_m: Place on the ground.
        above_m: Height above the ground.
        heading_deg: Direction of sight over the ground, clockwise from the y axis.
        pitch_deg: Angle below the horizon; boxes are those of people seen upright, so up to about 60.
        fov_deg: Horizontal field of view.
    """

    width: int = 640
    height: int = 360
    x_m: float = 0.0
    y_m: float = 0.0
    above_m: float = 5.0
    heading_deg: float = 0.0
    pitch_deg: float = 22.0
    fov_deg: float = 70.0

    @property
    def focal(self) -> float:
        """Focal length, pixels."""
        return self.width / 2 / math.tan(math.radians(self.fov_deg) / 2)

    def project(self, points: Floats) -> tuple[Floats, Floats]:
        """Where points of the world are seen.

        Args:
            points: (N, 3), x, y on the ground and z up, metres.

        Returns:
            (N, 2) pixels, and (N,) depth in metres; what has no positive depth is behind the camera.
        """
        pitch, heading = math.radians(self.pitch_deg), math.radians(self.heading_deg)
        east, north, up = (points - (self.x_m, self.y_m, self.above_m)).T
        across = east * math.cos(heading) - north * math.sin(heading)
        ahead = east * math.sin(heading) + north * math.cos(heading)
        depth = ahead * math.cos(pitch) - up * math.sin(pitch)
        down = -ahead * math.sin(pitch) - up * math.cos(pitch)
        with np.errstate(divide="ignore", invalid="ignore"):
            offset = np.stack([across, down], axis=1) * (self.focal / depth)[:, None]
        return offset + np.array([self.width / 2, self.height / 2]), depth

    def ground(self, x: float, y: float) -> tuple[float, float]:
        """The place on the ground, metres, that is seen at a place of the picture, fractions of width and height.

        Raises:
            ValueError: it is not below the horizon.
        """
        pitch, heading = math.radians(self.pitch_deg), math.radians(self.heading_deg)
        across, down = (x - 0.5) * self.width / self.focal, (y - 0.5) * self.height / self.focal
        falls = math.sin(pitch) + down * math.cos(pitch)
        if falls <= 0:
            raise ValueError(f"{x:g}, {y:g} lies above the horizon")
        far = self.above_m / falls
        ahead, across = far * (math.cos(pitch) - down * math.sin(pitch)), far * across
        east = ahead * math.sin(heading) + across * math.cos(heading)
        north = ahead * math.cos(heading) - across * math.sin(heading)
        return self.x_m + east, self.y_m + north

    def polygon(self, corners: Sequence[tuple[float, float]]) -> list[list[float]]:
        """A piece of ground as a zone: its corners (metres) as fractions of the frame, cut at the frame's edge.

        Raises:
            ValueError: a corner lies behind the camera.
        """
        pixels, depth = self.project(np.array([[x, y, 0.0] for x, y in corners]))
        if (depth < _NEAR_M).any():
            raise ValueError(f"the camera cannot see all of {corners}: a corner lies behind it")
        return np.clip(pixels / (self.width, self.height), 0, 1).round(4).tolist()  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class Truth:
    """Who is seen where at a moment, the farthest first. For evaluation within the process; it never leaves it.

    Attributes:
        ids: (N,) int64, number of the person.
        boxes: (N, 4) float32, x0 y0 x1 y1, pixels, cut at the frame's edge.
        whole: (N, 4) float32, the same, reaching beyond the frame where the person does.
        visible: (N,) float32, share of the person that is in the frame, less what the nearer person covers who covers
            most of it.
        depths: (N,) float32, distance from the camera along its axis, metres.
        speeds: (N,) float32, metres per second over the ground.
    """

    ids: Ids
    boxes: NDArray[np.float32]
    whole: NDArray[np.float32]
    visible: NDArray[np.float32]
    depths: NDArray[np.float32]
    speeds: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Step:
    """The people at one step; until the next they walk straight on. Places in metres, velocities in metres a second."""

    ids: Ids
    places: Floats
    velocities: Floats


class World:
    """Some people and their paths. One thread uses it; the moment 0 is its beginning."""

    def __init__(
        self,
        paths: Sequence[Path],
        rng: np.random.Generator,
        poses: Mapping[int, Pose] = MappingProxyType({}),
        steadfast: Collection[int] = (),
    ) -> None:
        """Set up.

        Args:
            paths: One for each person, at least two points each.
            rng: Gives the people their heights.
            poses: How people hold themselves, by their number; whoever is not named walks and stands upright.
            steadfast: Numbers of those who keep to their path, whoever is in their way.
        """
        heights = np.clip(rng.normal(*HEIGHT_M, len(paths)), 1.4, 2.0)
        self._upright = np.stack([heights, np.full(len(paths), WIDTH_M), np.zeros(len(paths))], axis=1)
        self._poses = dict(poses)
        self._gives_way = ~np.isin(np.arange(len(paths)), list(steadfast))
        self._begin = np.array([path[0, 0] for path in paths])
        self._end = np.array([path[-1, 0] for path in paths])
        # All paths after one another, so that one search finds everybody's place.
        self._points = np.concatenate([np.empty((0, 3)), *paths])
        counts = np.array([len(path) for path in paths], np.int64)
        self._line = self._points[:, 0] + np.repeat(np.arange(len(paths)) * _APART_S, counts)
        self._goals = np.cumsum(counts) - 1
        self._restart()

    def people(self, time: float) -> tuple[Ids, Floats]:
        """Who is there, as numbers, and where, (N, 2) metres.

        Args:
            time: Seconds from the beginning. Forward is cheap; more than a minute back begins again, to the same end.

        Raises:
            ValueError: the time lies before the beginning.
        """
        step = self._step(time)
        return step.ids, step.places + (time - _number(time) * _STEP_S) * step.velocities

    def _step(self, time: float) -> _Step:
        if time < 0:
            raise ValueError(f"a world begins at 0, not at {time}")
        wanted = _number(time)
        if wanted <= self._now - len(self._steps):
            self._restart()
        while self._now < wanted:
            self._advance()
        return self._steps[wanted - self._now - 1]

    def truth(self, time: float, view: View) -> Truth:
        """What a camera sees of them at a moment, as in `people`."""
        ids, places = self.people(time)
        pose = self.pose(ids, time)
        feet, depth = view.project(np.column_stack([places, pose[:, 2]]))
        heads, _ = view.project(np.column_stack([places, pose[:, 0] + pose[:, 2]]))
        half = pose[:, 1] / 2 * view.focal / np.maximum(depth, _NEAR_M)
        whole = np.column_stack([feet[:, 0] - half, heads[:, 1], feet[:, 0] + half, feet[:, 1]])
        cut = np.clip(whole, 0, (view.width, view.height) * 2)
        seen = (depth > _NEAR_M) & (_area(cut) > 0)
        order = np.flatnonzero(seen)[np.argsort(-depth[seen], kind="stable")]
        boxes = cut[order]
        visible = (_area(boxes) - _covered(boxes)) / _area(whole[order])
        speeds = np.hypot(*self._step(time).velocities[order].T)
        seen_so = (boxes, whole[order], visible, depth[order], speeds)
        return Truth(ids[order], *(values.astype(np.float32) for values in seen_so))

    def pose(self, ids: Ids, time: float) -> Floats:
        """(N, 3) metres: how tall and how wide these people are, and how far above the ground they begin."""
        pose = self._upright[ids]
        for row, number in enumerate(ids.tolist()):
            if number in self._poses:
                way = self._poses[number]
                pose[row] = [np.interp(time, way[:, 0], way[:, column]) for column in (1, 2, 3)]
        return pose

    def _restart(self) -> None:
        self._now = 0
        self._steps = deque([_Step(*self._intended(0.0))], _KEPT)

    def _intended(self, time: float) -> tuple[Ids, Floats, Floats]:
        """Who is there, where they mean to be (metres), and with which velocity (metres a second)."""
        ids = np.flatnonzero((self._begin <= time) & (time <= self._end))
        after = np.minimum(np.searchsorted(self._line, ids * _APART_S + time, side="right"), self._goals[ids])
        start, end = self._points[after - 1], self._points[after]
        velocities = (end[:, 1:] - start[:, 1:]) / (end[:, :1] - start[:, :1])
        return ids, start[:, 1:] + (time - start[:, :1]) * velocities, velocities

    def _advance(self) -> None:
        last = self._steps[-1]
        self._now += 1
        ids, goals, wanted = self._intended(self._now * _STEP_S)
        places, velocities = goals.copy(), wanted.copy()  # newcomers are where they mean to be
        _, here, then = np.intersect1d(ids, last.ids, assume_unique=True, return_indices=True)
        gives_way = self._gives_way[ids[here]]
        if not gives_way.any():
            self._steps.append(_Step(ids, places, velocities))
            return
        here, then = here[gives_way], then[gives_way]
        places[here] = last.places[then] + _STEP_S * last.velocities[then]
        velocities[here] = last.velocities[then]
        force = (wanted + (goals - places) / _CATCH_UP_S - velocities) / _RELAX_S + _repulsion(places)
        force[~self._gives_way[ids]] = 0
        self._steps.append(_Step(ids, places, velocities + _STEP_S * force))


def _number(time: float) -> int:
    """Of the step that a moment lies in."""
    return int(time / _STEP_S + 1e-6)  # 9.1 / 0.1 is less than 91


def _repulsion(places: Floats) -> Floats:
    """(N, 2) m/s²: what pushes each of the people away from all others."""
    x, y = places.T
    across, along = x[:, None] - x, y[:, None] - y
    distance = np.sqrt(across**2 + along**2)
    strength = _REPULSION / _RANGE_M * np.exp(-distance / _RANGE_M) / np.maximum(distance, 1e-6)
    return np.stack([(strength * across).sum(axis=1), (strength * along).sum(axis=1)], axis=1)


def _area(boxes: Floats) -> Floats:
    return np.asarray((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))


def _covered(boxes: Floats) -> Floats:
    """(N,) square pixels of each box that the one nearer (later) box covers which covers most of it."""
    x0, y0, x1, y1 = boxes.T
    wide = np.minimum(x1[:, None], x1) - np.maximum(x0[:, None], x0)
    high = np.minimum(y1[:, None], y1) - np.maximum(y0[:, None], y0)
    shared = np.maximum(wide, 0) * np.maximum(high, 0)
    return np.asarray(np.triu(shared, k=1).max(axis=1, initial=0.0))
