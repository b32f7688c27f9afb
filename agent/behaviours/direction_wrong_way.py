"""`direction.wrong_way`: something moves through a zone against its direction.

Source: the rule of traffic video analytics (Monteiro et al., "Wrong-way drivers detection based on optical flow", ICIP
2007), on tracks in place of flow. For each track the point of furthest progress along the allowed direction is kept; it
is on the wrong way once it has fallen back from that point by more than its own length, the longer side of its box,
within 45° of the opposite direction: who stands steps back by less. Falling back, not speed, so that neither a box's
jitter nor the frame rate matters.
Vehicles that the detector does not know, as it hardly knows cars from straight above, are moving blobs.
Known failure: a tracker that jumps from one object to the next behind it sees a wrong way.
"""

from __future__ import annotations

import math

import numpy as np
from pydantic import Field, field_validator

from agent.behaviours.confidence import confidence_in
from agent.behaviours.episode import Episode, EpisodeChange
from agent.behaviours.parameters import ClassName, Parameters, class_table
from agent.behaviours.zone import Zone
from agent.contract import EventType
from agent.perception.scene import Scene

#: Along, against and across to either side share the directions alike: 45° to each side of the opposite one.
_AGAINST = math.cos(math.radians(45))


class DirectionWrongWayParameters(Parameters):
    """Parameters of `direction.wrong_way`."""

    allowed: tuple[float, float] = Field(description="Allowed direction in the picture: [x to the right, y down].")
    classes: tuple[ClassName, ...] = Field(("person", "vehicle"), min_length=1, description="What must keep to it.")
    travel: float = Field(
        1.0, ge=0.5, le=20, description="How far the wrong way it must go, in longer sides of its box."
    )
    release_s: float = Field(3.0, ge=0, le=3600, description="How long nothing must go wrong before it ends, seconds.")

    @field_validator("allowed")
    @classmethod
    def _has_length(cls, allowed: tuple[float, float]) -> tuple[float, float]:
        if not 0 < math.hypot(*allowed) < math.inf:
            raise ValueError("a direction has a length: [0, 1] is down, [-1, 0] to the left")
        return allowed


class DirectionWrongWay:
    """Movement against a zone's direction."""

    Parameters = DirectionWrongWayParameters

    def __init__(self, zone: Zone, parameters: DirectionWrongWayParameters) -> None:
        self._zone = zone
        self._classes = class_table(parameters.classes)
        self._travel = parameters.travel
        across, down = parameters.allowed
        length = math.hypot(across, down)
        self._allowed = across / length, down / length
        self._furthest: dict[int, tuple[float, float]] = {}
        self._episode = Episode(EventType.DIRECTION_WRONG_WAY, zone.name, release_s=parameters.release_s)

    def update(self, scene: Scene) -> list[EpisodeChange]:
        """What changes with this scene."""
        tracks = scene.tracks
        seen = self._zone.standing(scene) & (tracks.unseen == 0) & self._classes[tracks.classes]
        ids, boxes = tracks.ids.tolist(), tracks.boxes.tolist()
        self._furthest = {track: self._furthest[track] for track in ids if track in self._furthest}
        wrong = [row for row in np.flatnonzero(seen).tolist() if self._is_wrong(ids[row], boxes[row])]
        return self._episode.update(scene.time, bool(wrong), confidence=confidence_in(tracks.scores[wrong]))

    def _is_wrong(self, track: int, box: list[float]) -> bool:
        x0, y0, x1, y1 = box
        # The centre moves the right way even while the picture's edge cuts the box.
        x, y = centre = (x0 + x1) / 2, (y0 + y1) / 2
        furthest = self._furthest.setdefault(track, centre)
        across, down = x - furthest[0], y - furthest[1]
        progress = across * self._allowed[0] + down * self._allowed[1]
        if progress >= 0:
            self._furthest[track] = centre
            return False
        far = -progress > self._travel * max(x1 - x0, y1 - y0)
        return far and -progress > _AGAINST * math.hypot(across, down)

    def close(self, time: float) -> list[EpisodeChange]:
        """End what is open."""
        self._furthest.clear()
        return self._episode.close(time)
