"""`crowd.movement`: many people move as one: `surge`, `dispersal`, `convergence`, `counterflow`.

Source: the global behaviours of Solmaz et al. ("Identifying behaviors in crowd scenes using stability analysis for
dynamical systems", IEEE TPAMI 34(10), 2012), lanes, fountainheads and bottlenecks, told by statistics of velocities
instead of a stability analysis. Whoever is tracked moves as their track does; where nobody can be told apart, cells of
optical flow stand for as many persons as they would cover. All speeds are in body heights per second, never feelings.

- `surge`: half of the people are running, and in one direction.
- `dispersal`: they run away from where they were together.
- `convergence`: they come together from all sides, not from two alone.
- `counterflow`: most walk along one line, there and back, and many have somebody in their way, close enough to touch.

Known failures: distances in the picture stand for those on the ground, as if the camera looked down at 30°; a train
that empties is a convergence upon its stairs; a street race is a surge.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from agent.behaviours.cells import cells
from agent.behaviours.episode import Episode, EpisodeChange
from agent.behaviours.parameters import Parameters
from agent.behaviours.zone import Zone
from agent.contract import MAX_COUNT, Confidence, EventType, Variant
from agent.perception.scene import Flow, Scene

Floats = NDArray[np.float64]

#: What a person covers, squares of a body height.
_BODY = 0.3
#: Depth on the ground is seen shortened: sine of the angle at which the camera looks down.
_TILT = 0.5
#: Slower is standing, body heights per second.
_STANDING = 0.3
#: Share of the people who must take part, and how much of their speed must go the one way, 0 to 1.
_MOST, _TOGETHER, _RADIAL = 0.5, 0.7, 0.5
#: Who comes towards somebody: within a body height, at more than 120° to their way.
_CLOSE, _AGAINST = 1.0, -0.5
#: Share of those who walk who must have somebody in their way, though some of either are missed.
_IN_THE_WAY = 0.4
#: Time over which the statistics are averaged, seconds; what begins at once is half of the mean so much later, and what
#: must be held has been held since.
_MEMORY_S = 1.0
_LATE_S = math.log(2) * _MEMORY_S


@dataclass(frozen=True, slots=True)
class _Movement:
    """What moves in a zone; a row each.

    Attributes:
        places: (N, 2), body heights on the ground from the picture's corner.
        velocities: (N, 2), body heights per second on the ground.
        weights: (N,), persons that it stands for.
    """

    places: Floats
    velocities: Floats
    weights: Floats


class CrowdMovementParameters(Parameters):
    """Parameters of `crowd.movement`."""

    min_persons: int = Field(10, ge=3, le=MAX_COUNT, description="Fewest people in the zone that are a crowd.")
    speed: float = Field(1.4, ge=0.5, le=10, description="Running, body heights per second; people walk at 0.8.")
    hold_s: float = Field(1.5, ge=0, le=60, description="How long they must move so, seconds.")
    release_s: float = Field(10.0, ge=0, le=3600, description="How long they must not before it ends, seconds.")


class CrowdMovement:
    """Movement of a crowd in a zone."""

    Parameters = CrowdMovementParameters

    def __init__(self, zone: Zone, parameters: CrowdMovementParameters) -> None:
        self._zone = zone
        self._parameters = parameters
        self._means: Floats | None = None
        self._time = 0.0
        self._variant = Variant.NONE
        self._episode = Episode(
            EventType.CROWD_MOVEMENT,
            zone.name,
            hold_s=max(0.0, parameters.hold_s - _LATE_S),
            release_s=parameters.release_s,
        )

    def update(self, scene: Scene) -> list[EpisodeChange]:
        """What changes with this scene."""
        if scene.flow is not None:
            now = self._statistics(self._movement(scene, scene.flow))
            if self._means is None:
                self._means, self._time = np.zeros_like(now), scene.time
            elapsed, self._time = scene.time - self._time, scene.time
            self._means += (1 - math.exp(-elapsed / _MEMORY_S)) * (now - self._means)
            self._variant = self._tell(self._means)
        met = self._variant is not Variant.NONE
        return self._episode.update(scene.time, met, confidence=Confidence.MEDIUM, variant=self._variant)

    def _movement(self, scene: Scene, flow: Flow) -> _Movement:
        """Everybody in the zone: tracks, and the flow that no track explains."""
        tracks = scene.tracks
        size = np.array([scene.width, scene.height])
        rows = scene.persons & self._zone.standing(scene)
        feet = scene.feet[rows] * size
        tall = scene.scale.at(scene.feet[rows, 1]) * scene.height

        place = cells(scene, flow)
        free = (flow.moving > 0) & place.within(self._zone, scene)
        free[free] = ~_within(place.centres[free], tracks.boxes, flow.cell / 2)
        height = np.broadcast_to(place.tall, free.shape)[free]
        weights = flow.moving[free] * (flow.cell / height) ** 2 / _BODY

        heights = np.concatenate([tall, height]).astype(np.float64)[:, None]
        shortened = np.array([1.0, _TILT])
        return _Movement(
            np.concatenate([feet, place.feet[free] * size]) / shortened / heights,
            np.concatenate([tracks.velocities[rows], flow.velocities[free]]) / shortened / heights,
            np.concatenate([np.ones(len(feet)), weights]),
        )

    def _statistics(self, movement: _Movement) -> Floats:
        """What adds up, and is averaged.

        Returns:
            Persons; of these, who run, who go, and who have somebody against them; and their effort, persons times
            speed: all of it, one way along x and y, there and back along two axes, and outwards.
        """
        weights, speeds = movement.weights, np.hypot(*movement.velocities.T)
        going = speeds > _STANDING
        if not going.any():
            return np.array([weights.sum(), *[0.0] * 9])
        away = movement.places - weights @ movement.places / weights.sum()
        away /= np.maximum(np.hypot(*away.T), 1e-6)[:, None]
        efforts, ways = (weights * speeds)[going], movement.velocities[going] / speeds[going, None]
        # Twice the angle is the same there and back.
        axes = np.stack([ways[:, 0] ** 2 - ways[:, 1] ** 2, 2 * ways[:, 0] * ways[:, 1]], axis=1)
        return np.array(
            [
                weights.sum(),
                weights[speeds > self._parameters.speed].sum(),
                weights[going].sum(),
                _opposed(movement.places[going], ways, weights[going]),
                efforts.sum(),
                *efforts @ ways,
                *efforts @ axes,
                efforts @ (ways * away[going]).sum(axis=1),
            ]
        )

    def _tell(self, means: Floats) -> Variant:
        count, running, walking, opposed, effort, x, y, axis_x, axis_y, outwards = means.tolist()
        if count < self._parameters.min_persons or not effort:
            return Variant.NONE
        if running >= _MOST * count and math.hypot(x, y) >= _TOGETHER * effort:
            return Variant.SURGE
        if running >= _MOST * count and outwards >= _RADIAL * effort:
            return Variant.DISPERSAL
        along = math.hypot(axis_x, axis_y) / effort
        if walking < _MOST * count:
            return Variant.NONE
        if along < _TOGETHER:
            return Variant.CONVERGENCE if outwards <= -_RADIAL * effort else Variant.NONE
        return Variant.COUNTERFLOW if opposed >= _IN_THE_WAY * walking else Variant.NONE

    def close(self, time: float) -> list[EpisodeChange]:
        """End what is open."""
        self._means = None
        self._variant = Variant.NONE
        return self._episode.close(time)


def _within(points: NDArray[np.float32], boxes: NDArray[np.float32], margin: float) -> NDArray[np.bool_]:
    """(N,): which points lie in some box, (M, 4), or so close to it."""
    x, y = points[:, :1], points[:, 1:]
    across = (x > boxes[:, 0] - margin) & (x < boxes[:, 2] + margin)
    return np.asarray((across & (y > boxes[:, 1] - margin) & (y < boxes[:, 3] + margin)).any(axis=1))


def _opposed(places: Floats, ways: Floats, weights: Floats) -> float:
    """How many of those who go, (N, 2) places and directions, have somebody close who comes towards them."""
    apart = places - places[:, None]
    close = np.hypot(apart[..., 0], apart[..., 1]) < _CLOSE
    against = close & (ways @ ways.T < _AGAINST)
    return float(weights[against.any(axis=1)].sum())
