"""How a simulated detector errs: misses, jitter and false boxes, as a real one's detections did.

Each object has a hidden mood that wanders, as a sum of steps that do not last, some that last for moments and some
that last for long: it is missed while its mood is below what its size and what hides it allow. So misses come in
bursts, as they do, and the frame rate makes no difference. Boxes wander around the truth in the same way. Boxes where
nobody is come and go at a few places of a camera, most often at the first of them; and beside persons for moments.

The figures are fitted by `vigie eval errors --mot DATA/mot` on the public detections of five MOT15 sequences, which
show upright people alone. What else there is about detectors, how they see those who lie, is for a scene to choose.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.perception.scene import Detections, ObjectClass
from agent.simulate.world import Truth

Floats = NDArray[np.float64]

#: Size of a box where there is nobody: height as a share of the frame's, from and to; and width by height.
_FALSE_TALL, _FALSE_WIDE = (0.1, 0.35), (0.3, 0.5)


@dataclass(frozen=True, slots=True)
class Wandering:
    """How long a thing stays as it is: a share that is new at each look, and others that last for so long.

    Attributes:
        share: Of the variance: that lasts for moments, and that lasts for long; the rest is new at each look.
        lasts_s: Time in which each falls to 1/e, seconds.
    """

    share: tuple[float, float]
    lasts_s: tuple[float, float]


@dataclass(frozen=True, slots=True)
class DetectorErrors:
    """The errors of a detector.

    Attributes:
        miss: Probit of a miss: of a whole person of a fifth of the picture's height; more with each halving of the
            height; more for all of the person that is hidden.
        mood: How misses last.
        jitter: Standard deviation of a box's centre x and y, width and height, box heights.
        sway: How that lasts.
        false_per_s: Boxes that come where nobody is, a second.
        false_s: How long one stays, seconds on average.
        false_seen: Share of the looks at which it is there meanwhile.
        places: Where they come.
        ghosts_per_s: Boxes that come beside each person or on part of them, a second.
        ghost_s: How long one stays, seconds on average.
        score: Beta distribution of the scores above one half, shares of what is above: of those who are there.
        false_score: The same, of those who are not.
    """

    miss: tuple[float, float, float]
    mood: Wandering
    jitter: tuple[float, float, float, float]
    sway: Wandering
    false_per_s: float
    false_s: float
    false_seen: float
    places: int
    ghosts_per_s: float
    ghost_s: float
    score: tuple[float, float]
    false_score: tuple[float, float]


#: Fitted: `vigie eval errors --mot DATA/mot`.
MOT15 = DetectorErrors(
    miss=(-0.92, 0.52, 2.35),
    mood=Wandering((0.79, 0.0), (0.8, 16.0)),
    jitter=(0.044, 0.051, 0.094, 0.112),
    sway=Wandering((0.37, 0.30), (0.2, 16.0)),
    false_per_s=0.20,
    false_s=0.86,
    false_seen=0.73,
    places=12,
    ghosts_per_s=0.041,
    ghost_s=0.24,
    score=(2.1, 0.19),
    false_score=(1.79, 0.56),
)


class _Moods:
    """Wandering numbers of standard deviation 1, some for each object."""

    def __init__(self, wandering: Wandering, shape: tuple[int, ...], rng: np.random.Generator) -> None:
        self._rng = rng
        self._lasts = wandering.lasts_s
        self._weights = [math.sqrt(share) for share in (*wandering.share, 1 - sum(wandering.share))]
        self._lasting = [rng.standard_normal(shape) for _ in wandering.lasts_s]

    def after(self, elapsed: float) -> Floats:
        for number, lasts in enumerate(self._lasts):
            keep = math.exp(-elapsed / lasts)
            new = self._rng.standard_normal(self._lasting[number].shape)
            self._lasting[number] = keep * self._lasting[number] + math.sqrt(1 - keep**2) * new
        every = [*self._lasting, self._rng.standard_normal(self._lasting[0].shape)]
        return np.asarray(sum(weight * values for weight, values in zip(self._weights, every, strict=True)))


@dataclass(slots=True)
class _Ghost:
    until: float
    score: float
    centre: tuple[float, float]
    size: tuple[float, float]
    number: int = -1  # of the person it is beside; -1: of nobody


class ErringDetector:
    """Finds the objects of a world as a real detector would. One for each camera; looks come in order of time."""

    def __init__(self, count: int, size: tuple[int, int], rng: np.random.Generator, errors: DetectorErrors) -> None:
        """Set up.

        Args:
            count: Objects there are in the world.
            size: Width and height of the picture, pixels.
            rng: Chance.
            errors: How it errs.
        """
        self._size, self._rng, self._errors = size, rng, errors
        self._moods = _Moods(errors.mood, (count,), rng)
        self._sway = _Moods(errors.sway, (count, 4), rng)
        self._time = 0.0
        self._ghosts: list[_Ghost] = []
        tall = rng.uniform(*_FALSE_TALL, errors.places) * size[1]
        sizes = np.stack([tall * rng.uniform(*_FALSE_WIDE, errors.places), tall], axis=1)
        self._places = list(zip(rng.uniform(0.02, 0.98, (errors.places, 2)) * size, sizes, strict=True))
        weights = 1 / np.arange(1, errors.places + 1)  # Zipf's law: a few places fool it again and again
        self._shares = weights / weights.sum()

    def detect(
        self, time: float, truth: Truth, classes: NDArray[np.uint8], harder: Floats, faint: NDArray[np.bool_]
    ) -> Detections:
        """What it finds at a moment.

        Args:
            time: Seconds, never going back.
            truth: What is there.
            classes: (N,) uint8, `ObjectClass` of each object of the world, by its number.
            harder: (M,) for each that is seen, what is added to the probit of a miss: 0 for upright people.
            faint: (M,) bool, whose scores are low as well.
        """
        errors, rng = self._errors, self._rng
        elapsed, self._time = time - self._time, time
        moods, sway = self._moods.after(elapsed), self._sway.after(elapsed)
        whole = truth.boxes.astype(np.float64)
        tall = np.maximum((whole[:, 2:] - whole[:, :2]).max(axis=1), 1.0)  # who lies is no smaller
        hidden = 1 - truth.visible.astype(np.float64)
        at, smaller, hiding = errors.miss
        limit = at + smaller * np.log2(0.2 * self._size[1] / tall) + hiding * hidden + harder
        found = moods[truth.ids] > limit

        boxes, tall, ids = whole[found], tall[found, None], truth.ids[found]
        centre, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
        moved = sway[ids] * errors.jitter * tall
        centre, sides = centre + moved[:, :2], np.maximum(sides + moved[:, 2:], 0.2 * sides)
        boxes = np.concatenate([centre - sides / 2, centre + sides / 2], axis=1)
        scores = 0.5 + 0.5 * rng.beta(*errors.score, len(boxes))
        scores[faint[found]] -= rng.uniform(0.1, 0.5, int(faint[found].sum()))
        named = classes[ids]

        ghosts, ghost_scores = self._haunted(time, elapsed, truth)
        boxes = np.clip(np.concatenate([boxes, ghosts]), 0, self._size * 2)
        scores = np.clip(np.concatenate([scores, ghost_scores]), 0.05, 0.99)
        named = np.concatenate([named, np.full(len(ghosts), ObjectClass.PERSON, np.uint8)])
        real = (boxes[:, 2:] - boxes[:, :2] > 1).all(axis=1)
        return Detections(boxes[real].astype(np.float32), scores[real].astype(np.float32), named[real])

    def _haunted(self, time: float, elapsed: float, truth: Truth) -> tuple[Floats, Floats]:
        """Boxes where nobody is, and their scores."""
        errors, rng = self._errors, self._rng
        self._ghosts = [ghost for ghost in self._ghosts if ghost.until > time]
        taken = {ghost.centre for ghost in self._ghosts}
        for _ in range(rng.poisson(errors.false_per_s * elapsed) if errors.places else 0):
            (x, y), (wide, high) = self._places[int(rng.choice(len(self._places), p=self._shares))]
            if (x, y) not in taken:
                self._ghosts.append(self._ghost(time, errors.false_s, (x, y), (wide, high)))
        for number in truth.ids[rng.random(len(truth.ids)) < errors.ghosts_per_s * elapsed].tolist():
            beside = (float(rng.normal(0, 0.4)), float(rng.normal(0, 0.15)))
            self._ghosts.append(self._ghost(time, errors.ghost_s, beside, (0.35, rng.uniform(0.4, 1.0)), number))
        boxes, scores = [], []
        whole = dict(zip(truth.ids.tolist(), truth.boxes.tolist(), strict=True))
        for ghost in self._ghosts:
            if ghost.number < 0 and rng.random() > errors.false_seen:
                continue
            scale, (x, y) = 1.0, (0.0, 0.0)
            if ghost.number >= 0:
                if ghost.number not in whole:
                    continue
                x0, y0, x1, y1 = whole[ghost.number]
                scale, (x, y) = y1 - y0, ((x0 + x1) / 2, (y0 + y1) / 2)
            shaken = rng.normal(0, 0.02, 4) * ghost.size[1]
            centre = np.array([x + scale * ghost.centre[0], y + scale * ghost.centre[1]])
            sides = scale * np.array(ghost.size)
            boxes.append(np.concatenate([centre - sides / 2, centre + sides / 2]) + scale * shaken)
            scores.append(ghost.score)
        return np.array(boxes).reshape(-1, 4), np.array(scores)

    def _ghost(
        self, time: float, lasts_s: float, centre: tuple[float, float], size: tuple[float, float], number: int = -1
    ) -> _Ghost:
        until = time + self._rng.exponential(lasts_s)
        score = 0.5 + 0.5 * self._rng.beta(*self._errors.false_score)
        return _Ghost(until, float(score), (float(centre[0]), float(centre[1])), size, number)
