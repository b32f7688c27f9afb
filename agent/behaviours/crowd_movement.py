"""`crowd.movement`: many people move as one: `surge`, `dispersal`, `convergence`, `counterflow`.

Source: the global behaviours of Solmaz et al. ("Identifying behaviors in crowd scenes using stability analysis for
dynamical systems", IEEE TPAMI 34(10), 2012), lanes, fountainheads and bottlenecks, told by statistics of velocities
instead of a stability analysis. Whoever is tracked moves as their track does; where nobody can be told apart, cells of
optical flow stand for as many persons as they would cover. All speeds are in body heights per second, never feelings.

- `surge`: half of the people are running, and in one direction.
- `dispersal`: they run away from where they were together.
- `convergence`: they come together from several sides.
- `counterflow`: most walk with somebody in their way, close enough to touch, who comes towards them.

Known failures: distances in the picture stand for those on the ground, as if the camera looked down at 30°; a train
that empties is a convergence upon its stairs; a street race is a surge.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from agent.behaviours.episode import Episode, EpisodeChange
from agent.behaviours.occupancy import persons
from agent.behaviours.parameters import Parameters
from agent.behaviours.scale import PersonScale
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
#: Time over which the statistics are averaged, seconds.
_MEMORY_S = 1.0


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
        self._scale = PersonScale()
        self._means: Floats | None = None
        self._time = 0.0
        self._variant = Variant.NONE
        self._episode = Episode(
            EventType.CROWD_MOVEMENT, zone.name, hold_s=parameters.hold_s, release_s=parameters.release_s
        )

    def update(self, scene: Scene) -> list[EpisodeChange]:
        """What changes with this scene."""
        self._scale.update(scene)
        if scene.flow is not None:
            now = self._statistics(self._movement(scene, scene.flow))
            if self._means is None:
                self._means, self._time = np.zeros_like(now), scene.time
            elapsed, self._time = scene.time - self._time, scene.time
            self._means += (1 - math.exp(-elapsed / _MEMORY_S)) * (now - self._means)
            self._variant = self._tell(*self._means.tolist())
        met = self._variant is not Variant.NONE
        return self._episode.update(scene.time, met, confidence=Confidence.MEDIUM, variant=self._variant)

    def _movement(self, scene: Scene, flow: Flow) -> _Movement:
        """Everybody in the zone: tracks, and the flow that no track explains."""
        tracks = scene.tracks
        size = np.array([scene.width, scene.height])
        rows = persons(tracks) & self._zone.contains(scene.feet())
        feet = scene.feet()[rows] * size
        tall = self._scale.at(scene.feet()[rows, 1]) * scene.height

        centres = flow.centres().reshape(-1, 2)
        level = np.asarray(centres[:, 1] / scene.height, np.float32)
        below = np.asarray(level + self._scale.at(level) / 2, np.float32)
        ground = np.stack([centres[:, 0] / scene.width, below], axis=1).astype(np.float32)
        explained = _within(centres, tracks.boxes, flow.cell / 2)
        free = (flow.moving.reshape(-1) > 0) & self._zone.contains(ground) & ~explained
        height = self._scale.at(below[free]) * scene.height
        weights = flow.moving.reshape(-1)[free] * (flow.cell / height) ** 2 / _BODY

        heights = np.concatenate([tall, height]).astype(np.float64)[:, None]
        shortened = np.array([1.0, _TILT])
        return _Movement(
            np.concatenate([feet, ground[free] * size]) / shortened / heights,
            np.concatenate([tracks.velocities[rows], flow.velocities.reshape(-1, 2)[free]]) / shortened / heights,
            np.concatenate([np.ones(len(feet)), weights]),
        )

    def _statistics(self, movement: _Movement) -> Floats:
        """Persons, and the shares that run, go one way, go outwards, go inwards, and have somebody against them."""
        weights, speeds = movement.weights, np.hypot(*movement.velocities.T)
        count = float(weights.sum())
        going = speeds > _STANDING
        effort = float((weights * speeds)[going].sum())
        if not count or not effort:
            return np.array([count, 0, 0, 0, 0, 0])
        running = float(weights[speeds > self._parameters.speed].sum()) / count
        walking = float(weights[going].sum()) / count
        one_way = float(np.hypot(*(weights[going, None] * movement.velocities[going]).sum(axis=0))) / effort
        away = movement.places - np.average(movement.places, axis=0, weights=weights)
        away /= np.maximum(np.hypot(*away.T), 1e-6)[:, None]
        outwards = float((weights * (movement.velocities * away).sum(axis=1))[going].sum()) / effort
        return np.array([count, running, one_way, outwards, walking, _opposed(movement, going)])

    def _tell(
        self, count: float, running: float, one_way: float, outwards: float, walking: float, opposed: float
    ) -> Variant:
        if count < self._parameters.min_persons:
            return Variant.NONE
        if running >= _MOST and one_way >= _TOGETHER:
            return Variant.SURGE
        if running >= _MOST and outwards >= _RADIAL:
            return Variant.DISPERSAL
        if walking >= _MOST and outwards <= -_RADIAL:
            return Variant.CONVERGENCE
        return Variant.COUNTERFLOW if opposed >= _MOST else Variant.NONE

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


def _opposed(movement: _Movement, going: NDArray[np.bool_]) -> float:
    """Share of those who go who have somebody close who comes towards them."""
    places, velocities, weights = movement.places[going], movement.velocities[going], movement.weights[going]
    apart = places - places[:, None]
    close = np.hypot(apart[..., 0], apart[..., 1]) < _CLOSE
    directions = velocities / np.hypot(*velocities.T)[:, None]
    against = close & (directions @ directions.T < _AGAINST)
    return float(weights[against.any(axis=1)].sum() / weights.sum())
