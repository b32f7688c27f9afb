"""How many persons are in a zone, those included who are surely hidden behind the others.

A detector does not find who is covered by somebody nearer. Whoever is hidden stands among those who are seen, so places
are tried around each of them: the share of these at which a person would be seen is how likely anybody in the group is.
Given so many who are seen, those who are not are as many as failures before that many successes (negative binomial, no
number being likelier than another beforehand), and as many are added as there are almost surely at least: the count
stays a lower bound, and is less of an understatement the denser the crowd. The median over two seconds takes away what
comes and goes with single looks.
Known failure: who stands in the back row of a dense crowd for good is still missed, and so is who is behind a wall.
"""

from __future__ import annotations

import math
from collections import deque
from statistics import median_low

import numpy as np
from numpy.typing import NDArray

from agent.behaviours.confidence import confidence_in
from agent.behaviours.zone import Zone
from agent.contract import MAX_COUNT, Confidence
from agent.perception.scene import FloatArray, ObjectClass, Scene, Tracks

#: Who stands is still there after longer than who walks, since misses come in bursts, if known for longer than a false
#: box lasts, seconds. Slower is standing, body heights per second.
_STANDS_S, _KNOWN_S, _STANDING = 2.0, 3.0, 0.3
#: People neither come nor go in crowds within two seconds; counts that do are a detector's.
_WINDOW_S = 2.0
#: How they stand changes as slowly; who would be hidden is looked at so often, seconds.
_EVERY_S = 0.48
#: So the count is that of so long ago, seconds: what must be held for some time has been held since then.
LATE_S = _WINDOW_S / 2
#: Who is covered by more than this share is not found; a detector finds half of those who are covered by two fifths
#: (fitted: `vigie eval errors`).
_COVERED = 0.5
#: As many as these are hidden with this probability at least.
_SURELY = 0.8
#: Where people stand beside others: so far away, body heights, at least (shoulders touch) and in two rings.
_APART, _RINGS = 0.25, (0.4, 0.8)
#: Depth on the ground is seen shortened, as by a camera that looks down at 30°; width of a person by height.
_TILT, _WIDE = 0.5, 0.38
_ANGLES = np.arange(6) * math.pi / 3
#: (12, 2): the places around somebody, body heights in the picture.
_AROUND = np.concatenate(
    [
        far * np.stack([np.cos(_ANGLES + turn), _TILT * np.sin(_ANGLES + turn)], axis=1)
        for turn, far in zip((math.pi / 12, 0.0), _RINGS, strict=True)
    ]
).astype(np.float32)


class Headcount:
    """Counts the persons in a zone."""

    def __init__(self, zone: Zone) -> None:
        self._zone = zone
        self._counts: deque[tuple[float, int]] = deque()
        self._likely, self._next = 1.0, -math.inf

    def update(self, scene: Scene) -> tuple[int, Confidence]:
        """Persons in the zone, at most `MAX_COUNT`, and how sure their detections are."""
        now, confidence = scene.once(("headcount", self._zone.key), lambda: self._count(scene))
        self._counts.append((scene.time, now))
        while scene.time - self._counts[0][0] > _WINDOW_S:
            self._counts.popleft()
        count = median_low(count for _, count in self._counts)
        return min(count, MAX_COUNT), confidence

    def _count(self, scene: Scene) -> tuple[int, Confidence]:
        """As many as there seem to be at this moment."""
        here = _present(scene.tracks) & self._zone.standing(scene)
        seen = int(here.sum())
        if scene.time >= self._next:
            self._likely, self._next = self._share_seen(scene, here), scene.time + _EVERY_S
        return seen + hidden(seen, self._likely), confidence_in(scene.tracks.scores[here])

    def _share_seen(self, scene: Scene, here: NDArray[np.bool_]) -> float:
        """Share of the places among these persons at which somebody would be seen."""
        size = np.array([scene.width, scene.height], np.float32)
        boxes, feet = scene.tracks.boxes[here], scene.feet[here]
        tall = scene.scale.at(feet[:, 1]) * scene.height
        places = (feet[:, None] * size + _AROUND * tall[:, None, None]).reshape(-1, 2).astype(np.float32)
        places = places[self._zone.contains(np.asarray(places / size, np.float32))]
        tall = scene.scale.at(places[:, 1] / size[1]) * scene.height
        apart = (places[:, None] - feet * size) / (tall[:, None, None] * np.array([1, _TILT], np.float32))
        free = (np.hypot(apart[..., 0], apart[..., 1]) > _APART).all(axis=1)
        if not free.any():
            return 1.0
        return float((_covered(places[free], tall[free], boxes) <= _COVERED).mean())

    def clear(self) -> None:
        """Forget what was counted."""
        self._counts.clear()
        self._next = -math.inf


def hidden(seen: int, likely: float) -> int:
    """How many more there are than are seen, almost surely at least.

    Args:
        seen: How many are seen.
        likely: How likely anybody is seen, above 0 to 1.
    """
    if not seen or not likely:
        return 0
    number, term = 0, likely ** (seen + 1)
    more = 1 - term  # likelihood of more than `number`
    while more >= _SURELY:
        number += 1
        term *= (seen + number) / number * (1 - likely)
        more -= term
    return number


def _present(tracks: Tracks) -> NDArray[np.bool_]:
    """Which tracks are persons who are there now, those included who stood where they were lost: (N,) bool."""
    speeds = np.hypot(*tracks.velocities.T) / np.maximum(tracks.boxes[:, 3] - tracks.boxes[:, 1], 1.0)
    stood = (speeds < _STANDING) & (tracks.unseen <= _STANDS_S) & (tracks.ages >= _KNOWN_S)
    stood &= tracks.classes == ObjectClass.PERSON
    return np.asarray(tracks.persons() | stood)


def _covered(feet: FloatArray, tall: FloatArray, boxes: FloatArray) -> FloatArray:
    """(N,): share of a person, (N, 2) feet and (N,) height in pixels, that the nearer box covers which covers most."""
    wide = _WIDE * tall
    left, top, bottom = feet[:, 0] - wide / 2, feet[:, 1] - tall, feet[:, 1]
    across = np.minimum((left + wide)[:, None], boxes[:, 2]) - np.maximum(left[:, None], boxes[:, 0])
    down = np.minimum(bottom[:, None], boxes[:, 3]) - np.maximum(top[:, None], boxes[:, 1])
    shared = np.maximum(across, 0) * np.maximum(down, 0) * (boxes[:, 3] > bottom[:, None])
    return np.asarray((shared / (wide * tall)[:, None]).max(axis=1, initial=0.0))
