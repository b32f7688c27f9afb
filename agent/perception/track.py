"""Who was where a moment ago: a multi-object tracker that knows boxes and time, and nothing of appearance.

Each track is a Kalman filter with constant velocity. Its noise is given in box heights, so that one set of parameters
holds for a person near the camera and far from it, and in seconds, so that frames may come at any rate and with gaps.
The four coordinates of a box share one covariance, because they share the noise.

Association follows ByteTrack (Zhang et al., 2022): strong detections first, then the weak ones, which may only continue
a track that was there a moment ago, as somebody half hidden does. Pairs are taken greedily by falling overlap,
confirmed tracks first; an optimal assignment was no better on public detections.

Known failure: two people who meet, turn and part on the sides they came from may swap their ids. Appearance would tell
them apart; this tracker is not allowed to look.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.perception.scene import Detections, ObjectClass, Tracks

Floats = NDArray[np.float64]

# All tracks are one matrix, a column each, so that a track comes and goes as a whole. Its rows:
_BOX, _SIZE = slice(0, 4), slice(2, 4)  # x y w h with x y the centre, pixels
_VELOCITY, _SIZE_VELOCITY = slice(4, 8), slice(6, 8)  # of the same, pixels per second
_COVARIANCE = slice(8, 11)  # of a coordinate p and its velocity v: pp, pv, vv; box heights and seconds
_ONE = 11  # always 1, what constant noise is multiplied with
_MOVING = slice(0, 12)
_EVIDENCE = 12  # sum of the scores of all detections
_VOTES = slice(13, 13 + len(ObjectClass))  # the same for each class
_PERSON = _VOTES.start + int(ObjectClass.PERSON)
_SCORE, _SEEN, _BEGUN, _ID = range(_VOTES.stop, _VOTES.stop + 4)  # times in seconds
_ROWS = _ID + 1

_TO_CENTRED = np.array([[0.5, 0, 0.5, 0], [0, 0.5, 0, 0.5], [-1, 0, 1, 0], [0, -1, 0, 1]])
_TO_CORNERS = np.array([[1, 0, -0.5, 0], [0, 1, 0, -0.5], [1, 0, 0.5, 0], [0, 1, 0, 0.5]])


@dataclass(frozen=True, slots=True)
class TrackerParameters:
    """One set for every camera; each has a reason that does not come from a single scene.

    Attributes:
        strong: Score, 0 to 1. A detection of at least this score may start a track, and bring back a lost one.
        evidence: Sum of scores. A track is confirmed once its detections, without a gap, add up to this: three
            looks at something clear, more at something doubtful.
        overlap: Intersection over union. Boxes that share less are not the same thing.
        keep_s: Seconds a confirmed track lives on unseen: the time to walk behind a parked van.
        jitter: Box heights. Standard deviation of a detector's box around the truth.
        sway: Box heights per square root of a second. Movement that says nothing about where somebody goes: gait,
            bending, a camera in the wind.
        speed: Box heights per second. Standard deviation of the velocity of something new: people walk at 0.8 and
            run at 3.
        acceleration: Box heights per second, per square root of a second. How much a velocity changes in a second.
    """

    strong: float = 0.6
    evidence: float = 2.5
    overlap: float = 0.2
    keep_s: float = 2.0
    jitter: float = 0.05
    sway: float = 0.1
    speed: float = 2.0
    acceleration: float = 0.25


class Tracker:
    """Gives the boxes of successive frames their tracks. One for each camera; not thread-safe."""

    def __init__(self, parameters: TrackerParameters = TrackerParameters()) -> None:
        self._parameters = parameters
        self._motion = _motion(parameters)
        self._blank = np.zeros((_ROWS, 1))
        self._blank[_COVARIANCE, 0] = parameters.jitter**2, 0, parameters.speed**2
        self._blank[_ONE] = 1
        self._time = -math.inf
        self._last_id = 0
        self._tracks = np.empty((_ROWS, 0))

    def update(self, time: float, detections: Detections) -> Tracks:
        """Take in one frame.

        Args:
            time: Seconds on the source's clock; steps may be irregular.
            detections: What was found in the frame.

        Returns:
            The confirmed tracks, in no particular order: those matched in this frame (`unseen` 0), and those unseen
            for at most `keep_s`, at their predicted place.

        Raises:
            ValueError: the time is not finite or lies before that of the last frame.
        """
        if not self._time <= time < math.inf:
            raise ValueError(f"tracker: a frame at {time} s after one at {self._time} s; frames must come in order")
        last, self._time = self._time, time
        if not len(detections) and not self._tracks.size:
            return Tracks.empty()
        tracks, found = self._tracks, self._candidates(detections)
        # After keep_s no track is left to be moved, and the step of the first frame is infinite.
        self._predict(tracks, min(time - last, self._parameters.keep_s))
        pairs, missed, new = self._associate(tracks, found, last)
        tracks = tracks[:, [i for i, _ in pairs] + missed]
        _correct(tracks[:, : len(pairs)], found[:, [j for _, j in pairs]], self._parameters.jitter)
        tracks[_SIZE_VELOCITY, len(pairs) :] = 0
        if new:
            started = found[:, new]
            started[_ID] = range(self._last_id + 1, self._last_id + 1 + len(new))
            self._last_id += len(new)
            tracks = np.concatenate([tracks, started], axis=1)
        self._tracks = tracks
        return _as_tracks(tracks[:, tracks[_EVIDENCE] >= self._parameters.evidence], time)

    def _candidates(self, detections: Detections) -> Floats:
        """(_ROWS, M): the track that each detection would start."""
        found = self._blank.repeat(len(detections), axis=1)
        found[_BOX] = _TO_CENTRED @ detections.boxes.T
        found[_EVIDENCE] = found[_SCORE] = detections.scores
        found[_VOTES][detections.classes, np.arange(len(detections))] = detections.scores
        found[_SEEN : _BEGUN + 1] = self._time
        return found

    def _predict(self, tracks: Floats, step: float) -> None:
        """Move all tracks on by `step` seconds."""
        transition = np.array([1, step, step**2, step**3]) @ self._motion
        tracks[_MOVING] = transition.reshape(12, 12) @ tracks[_MOVING]
        np.maximum(tracks[_SIZE], 0, out=tracks[_SIZE])

    def _associate(
        self, tracks: Floats, found: Floats, last: float
    ) -> tuple[list[tuple[int, int]], list[int], list[int]]:
        """Columns of the tracks and detections that belong together, of missed tracks that live on, of new ones."""
        p = self._parameters
        oldest = self._time - p.keep_s
        newest = max(last, oldest)
        overlap = _overlap(tracks[_BOX], found[_BOX])
        i_near, j_near = (overlap >= p.overlap).nonzero()
        evidence, seen, is_person = tracks[_EVIDENCE].tolist(), tracks[_SEEN].tolist(), tracks[_PERSON].tolist()
        scores, found_person = found[_SCORE].tolist(), found[_PERSON].tolist()
        candidates = [
            (scores[j] >= p.strong, evidence[i] >= p.evidence, shared, i, j)
            for shared, i, j in zip(overlap[i_near, j_near].tolist(), i_near.tolist(), j_near.tolist(), strict=True)
            if seen[i] >= (oldest if scores[j] >= p.strong else newest) and (is_person[i] > 0) == (found_person[j] > 0)
        ]
        pairs = []
        i_free, j_free = dict.fromkeys(range(len(seen))), dict.fromkeys(range(len(scores)))
        for _, _, _, i, j in sorted(candidates, reverse=True):
            if i in i_free and j in j_free:
                pairs.append((i, j))
                del i_free[i], j_free[j]
        missed = [i for i in i_free if evidence[i] >= p.evidence and seen[i] >= oldest]
        return pairs, missed, [j for j in j_free if scores[j] >= p.strong]


def _motion(p: TrackerParameters) -> Floats:
    """(4, 144): factors of 1, t, t² and t³ in the transition matrix exp(A t) of a track's moving rows.

    The box moves with its velocity; the covariance obeys dP/dt = F P + P F' + Q, written out for pp, pv and vv.
    A⁴ is zero, so the series ends there and the matrix is exact for any step.
    """
    a = np.zeros((12, 12))
    a[_BOX, _VELOCITY] = np.eye(4)
    pp, pv, vv = range(8, 11)
    a[pp, pv], a[pv, vv] = 2, 1
    a[pp, _ONE], a[vv, _ONE] = p.sway**2, p.acceleration**2
    return np.stack([np.eye(12), a, a @ a / 2, a @ a @ a / 6]).reshape(4, 144)


def _correct(tracks: Floats, found: Floats, jitter: float) -> None:
    """Kalman update of tracks with their detections, column by column."""
    covariance = tracks[_COVARIANCE]
    gain = covariance[:2] / (covariance[0] + jitter**2)
    innovation = found[_BOX] - tracks[_BOX]
    tracks[_BOX] += gain[0] * innovation
    tracks[_VELOCITY] += gain[1] * innovation
    covariance[2] -= gain[1] * covariance[1]
    covariance[:2] *= 1 - gain[0]
    tracks[_EVIDENCE:_SCORE] += found[_EVIDENCE:_SCORE]
    tracks[_SCORE : _SEEN + 1] = found[_SCORE : _SEEN + 1]


def _overlap(tracks: Floats, found: Floats) -> Floats:
    """(N, M): intersection over union of centred boxes, (4, N) and (4, M)."""
    a, b = (_TO_CORNERS @ tracks)[:, :, None], (_TO_CORNERS @ found)[:, None]
    sides = np.minimum(a[2:], b[2:])
    sides -= np.maximum(a[:2], b[:2])
    np.maximum(sides, 0, out=sides)
    shared = sides[0] * sides[1]
    overlap: Floats = shared / ((tracks[2] * tracks[3])[:, None] + (found[2] * found[3] + 1e-9) - shared)
    return overlap


def _as_tracks(tracks: Floats, time: float) -> Tracks:
    """The columns of `tracks` as behaviours see them."""
    unseen, ages = (time - tracks[_SEEN : _BEGUN + 1]).astype(np.float32)
    return Tracks(
        ids=tracks[_ID].astype(np.int64),
        boxes=(_TO_CORNERS @ tracks[_BOX]).T.astype(np.float32),
        velocities=tracks[_VELOCITY][:2].T.astype(np.float32),
        classes=tracks[_VOTES].argmax(axis=0).astype(np.uint8),
        scores=tracks[_SCORE].astype(np.float32),
        ages=ages,
        unseen=unseen,
    )
