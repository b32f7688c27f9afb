"""`altercation`: people close to each other move violently and irregularly.

Source: the violent flows of Hassner et al. ("Violent flows: real-time detection of violent crowd behavior", CVPR
Workshops 2012), whose signal is how much flow changes from one frame to the next. Here the change is an acceleration
along the movement, in body heights: walking, running and riding are smooth but for the feet, while blows, shoves, falls
and thrown things come near to free fall. The condition is met when, averaged over three seconds, so much more of a
neighbourhood of two persons accelerates so than usually does as one person covers, and two were seen close to each
other there. No posture, face or emotion is looked at.
Known failures: embraces with leaps, children at play, dancing and sport look the same; a fight in which little moves,
as in holding somebody down, is missed; people of fewer than some thirty pixels are too small, and a camera that shakes
sees nothing. Sound confirms it, where there is a microphone (`incident.brawl`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from agent.behaviours.cells import Cells, cells
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
_MEMORY_S = 3.0
#: What is as agitated as ever is no fight: leaves, water, flags, the noise of a picture in the dark. So long is taken
#: for ever, seconds; a fight is over before it is usual. Before the first look it is taken to have been calm a while.
_USUAL_S, _CALM_S = 120.0, 10.0
#: Width and height of the neighbourhood of two persons who could touch each other, body heights.
_REACH = (1.5, 1.2)
#: How long somebody counts as present who is not seen: detectors lose people who wrestle, seconds.
_PRESENT_S = 5.0
#: Fewer persons than this cannot fight.
_LEAST = 2


class AltercationParameters(Parameters):
    """Parameters of `altercation`."""

    area: float = Field(
        0.3,
        ge=0.1,
        le=10,
        description="What must accelerate violently beyond what usually does, squares of a body height; a person "
        "covers 0.3.",
    )
    hold_s: float = Field(1.0, ge=0, le=60, description="How long it must go on beyond the three seconds, seconds.")
    release_s: float = Field(10.0, ge=0, le=3600, description="How long it must be calm before it ends, seconds.")


@dataclass(slots=True)
class _Past:
    """What was seen of each cell of the flow; maps are (rows, columns).

    Attributes:
        begun: Since when, seconds; it counts as calm before the first look.
        time: Of the last look, seconds.
        mean: Agitated area, averaged over a moment, squares of a body height.
        usual: The same over a long time.
        together: When people were last close to each other there, seconds.
    """

    begun: float
    time: float
    mean: FloatArray
    usual: FloatArray
    together: NDArray[np.float64]


class Altercation:
    """Violent motion of people close to each other in a zone."""

    Parameters = AltercationParameters

    def __init__(self, zone: Zone, parameters: AltercationParameters) -> None:
        self._zone = zone
        self._area = parameters.area
        self._past: _Past | None = None
        self._met = False
        self._episode = Episode(
            EventType.ALTERCATION, zone.name, hold_s=parameters.hold_s, release_s=parameters.release_s
        )

    def update(self, scene: Scene) -> list[EpisodeChange]:
        """What changes with this scene."""
        if scene.flow is not None:
            self._met = self._agitated(scene, scene.flow) >= self._area
        return self._episode.update(scene.time, self._met, confidence=Confidence.MEDIUM)

    def _agitated(self, scene: Scene, flow: Flow) -> float:
        """The largest agitated area of a neighbourhood in the zone where people are, squares of a body height."""
        place, shape = cells(scene, flow), flow.moving.shape
        past = self._past
        if past is None or past.mean.shape != shape:
            calm = np.zeros(shape, np.float32)
            past = self._past = _Past(scene.time - _CALM_S, scene.time, calm, calm.copy(), np.full(shape, -math.inf))
        elapsed, past.time = scene.time - past.time, scene.time
        past.together[_near(scene.tracks.boxes[scene.persons], place) >= _LEAST] = scene.time
        violent = flow.acceleration > np.maximum(_VIOLENT * place.tall, _NOISE * flow.cell)
        violent &= place.within(self._zone, scene) & (flow.moving > _LEAST_MOVING)
        now = (violent * (flow.cell / place.tall) ** 2).astype(np.float32)
        past.mean += np.float32(1 - math.exp(-elapsed / _MEMORY_S)) * (now - past.mean)
        past.usual += np.float32(elapsed / min(scene.time - past.begun, _USUAL_S)) * (now - past.usual)
        unusual = np.where(scene.time - past.together <= _PRESENT_S, past.mean - past.usual, 0)
        return _largest(np.maximum(unusual, 0), place.tall[:, 0] / np.float32(flow.cell))

    def close(self, time: float) -> list[EpisodeChange]:
        """End what is open."""
        self._past = None
        self._met = False
        return self._episode.close(time)


def _near(boxes: FloatArray, place: Cells) -> NDArray[np.int64]:
    """(rows, columns): how many of (N, 4) boxes lie in the middle of the neighbourhood around each cell."""
    x, y = (boxes[:, :2] + boxes[:, 2:]).T / 2
    across = np.abs(place.centres[0, :, :1] - x) <= _REACH[0] / 2 * place.tall[:, None]
    along = np.abs(place.centres[:, 0, 1:] - y) <= _REACH[1] / 2 * place.tall
    return np.asarray(np.count_nonzero(across & along[:, None], axis=-1))


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
