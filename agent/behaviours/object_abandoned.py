"""`object.abandoned`: somebody has left a thing, and is gone from it.

Source: left luggage as PETS 2006 has it (Thirde, Li and Ferryman, "Overview of the PETS2006 challenge", 2006): the
owner is farther away than some 3 m, and has been for so long (there 30 s; 60 s in the i-LIDS scenario, AVSS 2007). What
came is found by a model of lasting change (`agent.perception.change`), and must have the size of what one carries.
Known failures: what is put down where the camera does not see it come; what is handed over to somebody else is
abandoned; furniture that somebody moves farther than twice its size is an object that was left; a bag that the detector
takes for a person is missed.
"""

from __future__ import annotations

from pydantic import Field

from agent.behaviours.company import Company, Left, lies_in
from agent.behaviours.episode import Episode, EpisodeChange
from agent.behaviours.parameters import Parameters, class_table
from agent.behaviours.zone import Zone
from agent.contract import Confidence, EventType
from agent.perception.scene import Scene

#: How far somebody stands from what he puts down, body heights.
_BESIDE = 0.6
#: What one carries is at most so high and so wide, body heights: doors and parked vehicles are larger.
_HIGH, _WIDE = 0.7, 1.0
#: It stands at most so far above their feet, body heights: on a bench or a table.
BENCH = 0.5


class ObjectAbandonedParameters(Parameters):
    """Parameters of `object.abandoned`."""

    dwell_s: float = Field(
        60.0, ge=2, le=1800, description="How long a thing must be without those who brought it, seconds."
    )
    reach: float = Field(
        1.75, ge=0.5, le=10, description="Who is nearer to a thing is still with it, heights of the person (1.75: 3 m)."
    )
    release_s: float = Field(5.0, ge=0, le=3600, description="How long no thing must be left before it ends, seconds.")


class ObjectAbandoned:
    """A thing without its owner in a zone."""

    Parameters = ObjectAbandonedParameters

    def __init__(self, zone: Zone, parameters: ObjectAbandonedParameters) -> None:
        self._zone = zone
        self._dwell_s = parameters.dwell_s
        self._company = Company(class_table(["person"]), beside=_BESIDE, near=parameters.reach, lower=0.3, before_s=5)
        self._episode = Episode(EventType.OBJECT_ABANDONED, zone.name, release_s=parameters.release_s)

    def update(self, scene: Scene) -> list[EpisodeChange]:
        """What changes with this scene."""
        left = [left for left in self._company.update(scene) if self._abandoned(left, scene)]
        return self._episode.update(scene.time, bool(left), confidence=Confidence.MEDIUM)

    def _abandoned(self, left: Left, scene: Scene) -> bool:
        x0, y0, x1, y1 = left.thing.box
        return (
            left.gone_s >= self._dwell_s
            and scene.time - left.thing.quiet_since >= self._dwell_s
            and y1 - y0 <= _HIGH * left.tall
            and x1 - x0 <= _WIDE * left.tall
            and left.above <= BENCH
            and lies_in(self._zone, scene, left.thing)
        )

    def close(self, time: float) -> list[EpisodeChange]:
        """End what is open."""
        self._company.clear()
        return self._episode.close(time)
