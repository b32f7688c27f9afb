"""`zone.intrusion`: a person or vehicle is inside a forbidden zone.

Source: the sterile zone scenario of i-LIDS (UK Home Office, AVSS 2007): an object of the named classes has its feet
inside the polygon for a moment. The moment is a step's time: the lower edge of the box of
somebody who walks along a fence swings across it with each step. What has never been seen to move, inside or before,
is a thing that the detector takes for somebody.
Known failures: who is first seen inside, and stands still there, is told once they move; a vehicle's class wavers (a
van is a car, a truck, a bus), so name `vehicle` where any of them is forbidden. Feet hidden
behind a wall are seen too high in the picture, and so too far away.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from agent.behaviours.confidence import confidence_in
from agent.behaviours.episode import Episode, EpisodeChange
from agent.behaviours.parameters import ClassName, Parameters, class_table
from agent.behaviours.stay import Stays
from agent.behaviours.zone import Zone
from agent.contract import EventType
from agent.perception.scene import Scene

#: A track that breaks within the moment of entering is continued; more would add up passers-by.
_BRIDGE_S = 1.0
#: Who has walked and is lost from sight for so long, and is seen again there, is still somebody, seconds.
_REMEMBERED_S = 3.0


class ZoneIntrusionParameters(Parameters):
    """Parameters of `zone.intrusion`."""

    classes: tuple[ClassName, ...] = Field(("person", "vehicle"), min_length=1, description="What is forbidden.")
    hold_s: float = Field(0.5, ge=0, le=3600, description="How long it must be inside, seconds.")
    release_s: float = Field(5.0, ge=0, le=3600, description="How long the zone must be clear before it ends, seconds.")


class ZoneIntrusion:
    """Something forbidden inside a zone."""

    Parameters = ZoneIntrusionParameters

    def __init__(self, zone: Zone, parameters: ZoneIntrusionParameters) -> None:
        self._zone = zone
        self._classes = class_table(parameters.classes)
        self._hold_s = parameters.hold_s
        self._stays = Stays(_BRIDGE_S)
        self._ways = Stays(_REMEMBERED_S)
        self._episode = Episode(EventType.ZONE_INTRUSION, zone.name, release_s=parameters.release_s)

    def update(self, scene: Scene) -> list[EpisodeChange]:
        """What changes with this scene."""
        inside = self._zone.standing(scene)
        stayed = self._stays.update(scene, inside)
        # The time inside counts whatever the class was meanwhile: it takes a tracker some frames to be sure of it.
        self._ways.update(scene, np.ones(len(scene.tracks), np.bool_))
        intruders = inside & self._ways.walked(scene) & (stayed >= self._hold_s) & self._classes[scene.tracks.classes]
        return self._episode.update(
            scene.time, bool(intruders.any()), confidence=confidence_in(scene.tracks.scores[intruders])
        )

    def close(self, time: float) -> list[EpisodeChange]:
        """End what is open."""
        self._stays.clear()
        self._ways.clear()
        return self._episode.close(time)
