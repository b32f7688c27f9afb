"""`altercation`: people close to each other move violently and irregularly.

Source: the violent flows of Hassner et al. ("Violent flows: real-time detection of violent crowd behavior", CVPR
Workshops 2012), whose signal is how much flow changes from one frame to the next. Here the change is an acceleration
along the movement, in body heights: walking, running and riding are smooth but for the feet, while blows, shoves, falls
and thrown things come near to free fall. The condition is met when, averaged over two seconds, a
neighbourhood of two persons accelerates so over an area as large as theirs, and at least two persons were seen there.
No posture, face or emotion is looked at.
Known failures: embraces with leaps, children at play, dancing and sport look the same; a fight in which little moves,
as in holding somebody down, is missed; people of fewer than some thirty pixels are too small, and a camera that shakes
sees nothing. Sound confirms it, where there is a microphone (`incident.brawl`).
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from pydantic import Field

from agent.behaviours.cells import cells
from agent.behaviours.episode import Episode, EpisodeChange
from agent.behaviours.parameters import Parameters
from agent.behaviours.zone import Zone
from agent.contract import Confidence, EventType
from agent.perception.scene import FloatArray, Flow, Scene

#: What is violent, heights of a person of 1.7 m per second squared: six tenths of free fall, since it is the mean of a
#: cell, and not all of a cell hits.
_VIOLENT = 0.6 * 9.81 / 1.7
#: What flow is not good for, cells per second squared: a pixel of the small picture from one look to the next.
_NOISE = 15.0
#: Least share of a cell that moves.
_LEAST_MOVING = 0.2
#: Time over which movement is averaged, seconds: longer than a stumble, shorter than a scuffle.
_MEMORY_S = 2.0
#: Width and height of the neighbourhood of two persons who could touch each other, body heights.
_REACH = (1.5, 1.2)
#: How long somebody counts as present who is not seen: detectors lose people who wrestle, seconds.
_PRESENT_S = 5.0
#: Fewer persons than this cannot fight.
_LEAST = 2


class AltercationParameters(Parameters):
    """Parameters of `altercation`."""

    area: float = Field(
        0.5,
        ge=0.1,
        le=10,
        description="What must accelerate violently, squares of a body height; a person covers 0.3.",
    )
    hold_s: float = Field(1.0, ge=0, le=60, description="How long it must go on beyond the two seconds, seconds.")
    release_s: float = Field(10.0, ge=0, le=3600, description="How long it must be calm before it ends, seconds.")


class Altercation:
    """Violent motion of people close to each other in a zone."""

    Parameters = AltercationParameters

    def __init__(self, zone: Zone, parameters: AltercationParameters) -> None:
        self._zone = zone
        self._area = parameters.area
        self._seen: deque[tuple[float, int]] = deque()
        self._mean: FloatArray | None = None
        self._time = 0.0
        self._met = False
        self._episode = Episode(
            EventType.ALTERCATION, zone.name, hold_s=parameters.hold_s, release_s=parameters.release_s
        )

    def update(self, scene: Scene) -> list[EpisodeChange]:
        """What changes with this scene."""
        here = scene.persons & self._zone.standing(scene)
        self._seen.append((scene.time, int(here.sum())))
        while scene.time - self._seen[0][0] > _PRESENT_S:
            self._seen.popleft()
        if scene.flow is not None:
            agitated = self._agitated(scene, scene.flow)
            self._met = agitated >= self._area and max(count for _, count in self._seen) >= _LEAST
        return self._episode.update(scene.time, self._met, confidence=Confidence.MEDIUM)

    def _agitated(self, scene: Scene, flow: Flow) -> float:
        """The largest agitated area of a neighbourhood in the zone, squares of a body height."""
        place = cells(scene, flow)
        violent = flow.acceleration > np.maximum(_VIOLENT * place.tall, _NOISE * flow.cell)
        agitated = place.within(self._zone) & violent & (flow.moving > _LEAST_MOVING)
        now = agitated * (flow.cell / place.tall) ** 2
        if self._mean is None or self._mean.shape != now.shape:
            self._mean, self._time = np.zeros(now.shape, np.float32), scene.time
        elapsed, self._time = scene.time - self._time, scene.time
        self._mean += (1 - math.exp(-elapsed / _MEMORY_S)) * (now - self._mean).astype(np.float32)
        return _largest(self._mean, place.tall[:, 0] / np.float32(flow.cell))

    def close(self, time: float) -> list[EpisodeChange]:
        """End what is open."""
        self._seen.clear()
        self._mean = None
        self._met = False
        return self._episode.close(time)


def _largest(area: FloatArray, tall: FloatArray) -> float:
    """The largest sum of an area over the neighbourhoods around its cells, where people are so many cells tall.

    Args:
        area: (rows, columns), not below 0.
        tall: (rows,).
    """
    rows, columns = area.shape
    wide, high = (np.maximum(1, np.rint(side * tall).astype(np.intp)) for side in _REACH)
    total = np.zeros((rows + 1, columns + 1))
    np.cumsum(np.cumsum(area, axis=0, dtype=np.float64), axis=1, out=total[1:, 1:])
    row = np.arange(rows)
    band = total[np.minimum(row + (high + 1) // 2, rows)] - total[np.maximum(row - high // 2, 0)]
    ends = np.minimum(np.arange(columns + 1) + wide[:, None], columns)  # what the edge cuts is no larger than all of it
    return float((np.take_along_axis(band, ends, axis=1) - band).max())
