"""`person.loitering`: somebody stays in a zone for longer than T seconds.

Source: dwell time per tracked person (Bird et al., "Detection of loitering individuals in public transportation
areas", IEEE T-ITS 6(2), 2005), but without the appearance matching used there: a broken track is continued by place
(`agent.behaviours.stay`), never by recognising anybody.
Who has never been seen to walk is a thing that the detector takes for a person, such as a sign or a poster.
Known failures: two people who swap places within `bridge_s` count as one who stayed; who
stood there when the camera came up, and never moves, is not told.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from agent.behaviours.confidence import confidence_in
from agent.behaviours.episode import Episode, EpisodeChange
from agent.behaviours.parameters import Parameters
from agent.behaviours.stay import Stays
from agent.behaviours.zone import Zone
from agent.contract import EventType
from agent.perception.scene import Scene

#: Who stays has not left while so close to the zone, body heights: as much as the lower edge of a box is off.
_EDGE = 0.15


class PersonLoiteringParameters(Parameters):
    """Parameters of `person.loitering`."""

    dwell_s: float = Field(60.0, ge=1, le=86400, description="Stay that is too long, seconds.")
    bridge_s: float = Field(
        5.0, ge=0, le=30, description="Longest loss of sight that a stay outlives, seconds; more swaps neighbours."
    )
    release_s: float = Field(5.0, ge=0, le=3600, description="How long nobody must linger before it ends, seconds.")


class PersonLoitering:
    """Somebody who stays in a zone."""

    Parameters = PersonLoiteringParameters

    def __init__(self, zone: Zone, parameters: PersonLoiteringParameters) -> None:
        self._zone = zone
        self._dwell_s = parameters.dwell_s
        self._stays = Stays(parameters.bridge_s)
        self._ways = Stays(parameters.bridge_s)
        self._episode = Episode(EventType.PERSON_LOITERING, zone.name, release_s=parameters.release_s)

    def update(self, scene: Scene) -> list[EpisodeChange]:
        """What changes with this scene."""
        tall = (scene.tracks.boxes[:, 3] - scene.tracks.boxes[:, 1])[:, None]
        edge = (_EDGE * tall / (scene.width, scene.height)).astype(np.float32)
        stays = self._stays.known(scene) & self._zone.touches(scene.feet, edge)
        here = scene.persons & (stays | self._zone.standing(scene))
        self._ways.update(scene, scene.persons)
        lingering = (self._stays.update(scene, here) >= self._dwell_s) & self._ways.walked(scene)
        return self._episode.update(
            scene.time, bool(lingering.any()), confidence=confidence_in(scene.tracks.scores[lingering])
        )

    def close(self, time: float) -> list[EpisodeChange]:
        """End what is open."""
        self._stays.clear()
        self._ways.clear()
        return self._episode.close(time)
