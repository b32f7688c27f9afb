"""How many persons stand in a zone, and how sure a detection is: what several behaviours ask of a scene."""

from __future__ import annotations

from collections import deque
from statistics import median_low

import numpy as np
from numpy.typing import NDArray

from agent.behaviours.zone import Zone
from agent.contract import MAX_COUNT, Confidence
from agent.perception.scene import FloatArray, ObjectClass, Scene, Tracks

#: A walker is half a second behind another; who is out of sight for longer may as well have left.
COAST_S = 0.5
#: Who stands is still there after longer, since misses come in bursts, if known for longer than a false box lasts,
#: seconds. Slower is standing, body heights per second.
_STANDS_S, _KNOWN_S, _STANDING = 2.0, 3.0, 0.3
#: People neither come nor go in crowds within two seconds; counts that do are a detector's.
WINDOW_S = 2.0


def persons(tracks: Tracks) -> NDArray[np.bool_]:
    """Which tracks are persons who are there now: (N,) bool."""
    return np.asarray((tracks.classes == ObjectClass.PERSON) & (tracks.unseen <= COAST_S))


def confidence_in(scores: FloatArray) -> Confidence:
    """The confidence of what rests on these detections: their mean score in steps.

    `CONFIRMED` is for what a second kind of sensor has confirmed; a detector alone never reaches it.
    """
    mean = float(scores.mean()) if len(scores) else 0.0
    if mean >= 0.7:
        return Confidence.HIGH
    return Confidence.MEDIUM if mean >= 0.4 else Confidence.LOW


def _present(tracks: Tracks) -> NDArray[np.bool_]:
    """Which tracks are persons who are there now, those included who stood where they were lost: (N,) bool."""
    speeds = np.hypot(*tracks.velocities.T) / np.maximum(tracks.boxes[:, 3] - tracks.boxes[:, 1], 1.0)
    stood = (speeds < _STANDING) & (tracks.unseen <= _STANDS_S) & (tracks.ages >= _KNOWN_S)
    stood &= tracks.classes == ObjectClass.PERSON
    return np.asarray(persons(tracks) | stood)


class Occupancy:
    """Counts the persons in a zone: the median over the last two seconds."""

    def __init__(self, zone: Zone) -> None:
        self._zone = zone
        self._counts: deque[tuple[float, int]] = deque()

    def update(self, scene: Scene) -> tuple[int, Confidence]:
        """Persons in the zone, at most `MAX_COUNT`, and how sure their detections are."""
        here = _present(scene.tracks) & self._zone.contains(scene.feet())
        self._counts.append((scene.time, int(here.sum())))
        while scene.time - self._counts[0][0] > WINDOW_S:
            self._counts.popleft()
        count = median_low(count for _, count in self._counts)
        return min(count, MAX_COUNT), confidence_in(scene.tracks.scores[here])

    def clear(self) -> None:
        """Forget what was counted."""
        self._counts.clear()
