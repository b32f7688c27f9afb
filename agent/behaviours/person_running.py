"""`person.running`: somebody moves faster than the zone's limit, in body heights per second.

Source: walking and running differ in speed (people change from one to the other at about 2 m/s, Hreljac, "Preferred and
energetically optimal gait transition speeds in human locomotion", Medicine & Science in Sports & Exercise 25, 1993),
and a body height as the unit needs no calibration. A tracker lets go of whoever moves by more than their own width from
look to look, so who runs is found in the detections themselves: on a straight way over the ground (as in RANSAC,
Fischler and Bolles, CACM 24(6), 1981), which the picture shows with a size that changes as the distance does. The speed
is that of most of a second, of head and feet alike, and less its doubt, so that neither a box's jitter nor half a box
behind a car runs. Who rides is not running, nor is who is known to walk.
Known failure: towards the camera and away from it the picture shows less speed than there is; whoever runs straight at
the camera is missed. Inline skaters and scooter riders run. Who runs in a dense crowd is covered too often.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from agent.behaviours.confidence import confidence_in
from agent.behaviours.episode import Episode, EpisodeChange
from agent.behaviours.parameters import Parameters, class_table
from agent.behaviours.zone import Zone
from agent.contract import EventType
from agent.perception.overlap import overlaps
from agent.perception.scene import FloatArray, ObjectClass, Scene

#: Time over which a speed is taken, seconds: two or three steps. Less than most of it tells nothing yet.
_WINDOW_S, _LEAST_S = 1.0, 0.7
#: Least score of a person's box.
_SURE = 0.5
#: So many looks at least, and this share of those in between, must show somebody on the way: half are missed where
#: people are small.
_LOOKS, _SHARE = 4, 0.5
#: How far from the way an edge of a box may be, body heights: three times its jitter, and the way's own doubt.
_OFF = 0.25
#: Boxes that do not belong together lie on a way by chance, all the more where there are many: so many ways that one
#: would find by chance alone are none (a contrario: Desolneux, Moisan and Morel, IJCV 40, 2000). How many boxes are
#: about is counted within so many body heights, and what is least expected of any place.
_BY_CHANCE, _ABOUT, _ANYWHERE = 0.01, 2.0, 0.02
#: Jitter of a box from look to look, body heights; how often its doubt is taken off a speed.
_JITTER, _DOUBTS = 0.05, 1.0
#: Nobody is faster, body heights per second; nobody's height in the picture changes by more within the time.
_FASTEST, _GROWS = 7.0, 1.6
#: Slower than this share of the limit is walking. An edge of a walker's box is so close to their way, body heights.
_SLOW, _STRAIGHT = 0.8, 0.15
#: Nor does a track run that is so old, seconds, and walks; so much of a box (intersection over union) is theirs.
_KNOWN_S, _THEIRS = 1.0, 0.4
#: Who is seen on something ridden in so many of the looks rides it.
_RIDES = 0.4
_RIDDEN = class_table(("bicycle", "motorcycle"))


class PersonRunningParameters(Parameters):
    """Parameters of `person.running`."""

    speed: float = Field(
        1.8,
        ge=0.5,
        le=10,
        description="Speed that is too fast, body heights per second; people walk at 0.8, jog at 1.3, run from 2 on.",
    )
    hold_s: float = Field(0.5, ge=0, le=60, description="How long somebody must be too fast, seconds.")
    release_s: float = Field(5.0, ge=0, le=3600, description="How long nobody must be too fast, seconds.")


@dataclass(frozen=True, slots=True)
class _Look:
    """Who may run at a moment.

    Attributes:
        time: Seconds.
        places: (N, 3): middle, top and bottom of each box, pixels.
        tall: (N,): how tall each would be if not seen from above, pixels.
        scores: (N,).
        rides: (N,): whether on something ridden.
        walks: (N,): whether on the way of somebody who walks; filled in as that becomes known.
    """

    time: float
    places: NDArray[np.float64]
    tall: NDArray[np.float64]
    scores: FloatArray
    rides: NDArray[np.bool_]
    walks: NDArray[np.bool_]


def _nobody(time: float) -> _Look:
    none = np.empty(0)
    return _Look(time, np.empty((0, 3)), none, none.astype(np.float32), none.astype(np.bool_), none.astype(np.bool_))


class PersonRunning:
    """Somebody who runs in a zone."""

    Parameters = PersonRunningParameters

    def __init__(self, zone: Zone, parameters: PersonRunningParameters) -> None:
        self._zone = zone
        self._speed = parameters.speed
        self._looks: deque[_Look] = deque()
        # A speed is that of the middle of the way.
        hold_s = max(0.0, parameters.hold_s - _LEAST_S / 2)
        self._episode = Episode(EventType.PERSON_RUNNING, zone.name, hold_s=hold_s, release_s=parameters.release_s)

    def update(self, scene: Scene) -> list[EpisodeChange]:
        """What changes with this scene."""
        self._looks.append(self._look(scene))
        while scene.time - self._looks[0].time > _WINDOW_S:
            self._looks.popleft()
        scores = self._runs()
        return self._episode.update(scene.time, len(scores) > 0, confidence=confidence_in(scores))

    def _look(self, scene: Scene) -> _Look:
        """Who may run now; a box that the picture's edge cuts tells nothing."""
        found, tracks = scene.detections, scene.tracks
        boxes = found.boxes
        whole = (boxes[:, :2] > 1).all(axis=1) & (boxes[:, 2:] < np.array([scene.width, scene.height]) - 1).all(axis=1)
        slow = np.hypot(*tracks.velocities.T) < _SLOW * self._speed * (tracks.boxes[:, 3] - tracks.boxes[:, 1])
        known = tracks.boxes[(tracks.ages >= _KNOWN_S) & (tracks.unseen == 0) & slow]
        maybe = (found.classes == ObjectClass.PERSON) & (found.scores >= _SURE) & whole
        maybe &= ~(overlaps(boxes, known) >= _THEIRS).any(axis=1)
        if not maybe.any():
            return _nobody(scene.time)
        feet = np.stack([(boxes[:, 0] + boxes[:, 2]) / 2 / scene.width, boxes[:, 3] / scene.height], axis=1)
        maybe &= self._zone.contains(feet.astype(np.float32))
        ridden = np.concatenate([of.boxes[_RIDDEN[of.classes]] for of in (found, tracks)])
        places = np.stack([(boxes[:, 0] + boxes[:, 2]) / 2, boxes[:, 1], boxes[:, 3]], axis=1)[maybe]
        tall = (places[:, 2] - places[:, 1]) * scene.scale.shortened(places[:, 2] / scene.height)
        return _Look(
            scene.time,
            places.astype(np.float64),
            tall.astype(np.float64),
            found.scores[maybe],
            _on(places, ridden),
            np.zeros(len(places), np.bool_),
        )

    def _runs(self) -> FloatArray:
        """The scores of whoever runs now; empty: nobody does."""
        looks = [look for look in self._looks if len(look.places)]
        if not looks or looks[-1].time < self._looks[-1].time:
            return np.empty(0, np.float32)
        number = np.repeat(np.arange(len(looks)), [len(look.places) for look in looks])
        times = np.array([look.time for look in looks])[number]
        places, tall, scores, rides, walks = (
            np.concatenate([getattr(look, name) for look in looks])
            for name in ("places", "tall", "scores", "rides", "walks")
        )
        first, last = np.flatnonzero(times <= times[-1] - _LEAST_S), np.flatnonzero(number == number[-1])
        pairs, speeds = _pairs(places, tall, times, first, last)
        tick = np.array([look.time for look in self._looks])

        def way(i: int, j: int, off: float, pairs: int) -> NDArray[np.int64]:
            """The boxes on the way from one to another, one a look; empty if they are too few."""
            far = _off(places, (times - times[i]) / (times[j] - times[i]), places[i], places[j])
            near = np.flatnonzero((far <= off) & (times >= times[i]) & ~walks)
            near = near[np.lexsort((far[near], number[near]))]
            near = near[np.unique(number[near], return_index=True)[1]]
            looks = int((tick >= times[i]).sum())
            if len(near) < max(_LOOKS, _SHARE * looks):
                return near[:0]
            others = ((far <= _ABOUT) & (times >= times[i]) & ~walks).sum() - len(near)
            chance = max(others / looks * (off / _ABOUT) ** 2, _ANYWHERE)
            return near if pairs * _at_least(len(near) - 2, looks - 2, chance) < _BY_CHANCE else near[:0]

        for i, j in pairs[speeds <= _SLOW * self._speed].tolist():
            if not (walks[i] or walks[j]):
                walks[way(i, j, _STRAIGHT, 0)] = True
        for look, walk in zip(looks, np.split(walks, np.flatnonzero(np.diff(number)) + 1), strict=True):
            look.walks[:] = walk
        fast = pairs[(speeds > self._speed) & (speeds < _FASTEST)]
        fast = fast[~walks[fast].any(axis=1)]
        for i, j in fast.tolist():
            seen = way(i, j, _OFF, len(fast))
            if (
                len(seen)
                and rides[seen].mean() < _RIDES
                and _speed(times[seen], places[seen], tall[seen]) > self._speed
            ):
                return np.asarray(scores[seen], np.float32)
        return np.empty(0, np.float32)

    def close(self, time: float) -> list[EpisodeChange]:
        """End what is open."""
        self._looks.clear()
        return self._episode.close(time)


def _pairs(
    places: NDArray[np.float64],
    tall: NDArray[np.float64],
    times: NDArray[np.float64],
    first: NDArray[np.int64],
    last: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(P, 2): a place then and one now that may be of one person, slow ones first; (P,): how fast, heights a second."""
    i, j = (side.ravel() for side in np.meshgrid(first, last, indexing="ij"))
    moved = (places[j] - places[i]) / ((tall[i] + tall[j]) / 2 * (times[j] - times[i]))[:, None]
    speeds = np.minimum(*np.hypot(moved[:, :1], moved[:, 1:]).T)
    alike = np.maximum(tall[i], tall[j]) < _GROWS * np.minimum(tall[i], tall[j])
    order = np.flatnonzero(alike)[np.argsort(speeds[alike], kind="stable")]
    return np.stack([i, j], axis=1)[order], np.asarray(speeds[order])


def _at_least(hits: int, looks: int, chance: float) -> float:
    """Likelihood of so many hits or more in so many looks."""
    chance = min(chance, 1.0)
    return sum(math.comb(looks, k) * chance**k * (1 - chance) ** (looks - k) for k in range(hits, looks + 1))


def _off(
    places: NDArray[np.float64], passed: NDArray[np.float64], start: NDArray[np.float64], end: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(M,): how far places are from a straight way over the ground, at the share of the time that has passed; heights.

    The picture shows what moves evenly as a quotient of two even movements, that of its distance below.
    """
    far = (1 - passed) / (start[2] - start[1]), passed / (end[2] - end[1])
    way = (far[0][:, None] * start + far[1][:, None] * end) / (far[0] + far[1])[:, None]
    return np.asarray(np.abs(places - way).max(axis=1) * np.abs(far[0] + far[1]))


def _speed(times: NDArray[np.float64], places: NDArray[np.float64], tall: NDArray[np.float64]) -> float:
    """Body heights per second, less what the jitter of so many boxes may add."""
    # Straight lines through all looks: a box's jitter at the two ends of the way is most of a walker's speed.
    off = times - times.mean()
    across, head, feet = off @ places / (off @ off)
    speed = float(min(np.hypot(across, head), np.hypot(across, feet))) / float(np.median(tall))
    return speed - _DOUBTS * _JITTER / float(np.sqrt(off @ off))


def _on(places: NDArray[np.float32], ridden: FloatArray) -> NDArray[np.bool_]:
    """(N,): whose middle is above or within something that is ridden."""
    x, top, low = (places[:, k, None] for k in range(3))
    across = (x > ridden[:, 0]) & (x < ridden[:, 2])
    return np.asarray((across & (low > ridden[:, 1]) & (top < ridden[:, 3])).any(axis=1))
