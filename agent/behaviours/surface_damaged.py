"""`surface.damaged`: a protected surface stays changed after somebody stood at it, and it is no writing.

The rule and its sources are those of `agent.behaviours.surface`. A hole, a break, soot, a blot: a change that is not
made of thin strokes, nor the straight, full rectangle of a poster.
Known failures: a pane that is missing as a whole is a rectangle; cracks and scratches are strokes, and so a tag; dents
that change no colour are not seen; what somebody leans against the surface within the zone is damage.
"""

from __future__ import annotations

from pydantic import Field

from agent.behaviours.episode import Episode, EpisodeChange
from agent.behaviours.parameters import Parameters
from agent.behaviours.surface import SurfaceWatch
from agent.behaviours.surface_tagged import is_writing
from agent.behaviours.zone import Zone
from agent.contract import Confidence, EventType
from agent.perception.scene import Scene


class SurfaceDamagedParameters(Parameters):
    """Parameters of `surface.damaged`."""

    stand_s: float = Field(3.0, ge=0.5, le=60, description="How long somebody must have stood there, seconds.")
    dwell_s: float = Field(30.0, ge=2, le=1800, description="How long it must have stayed without them, seconds.")
    release_s: float = Field(5.0, ge=0, le=3600, description="How long it must be gone before it ends, seconds.")


class SurfaceDamaged:
    """Damage to a surface."""

    Parameters = SurfaceDamagedParameters

    def __init__(self, zone: Zone, parameters: SurfaceDamagedParameters) -> None:
        self._surface = SurfaceWatch(zone, parameters.stand_s, parameters.dwell_s)
        self._episode = Episode(EventType.SURFACE_DAMAGED, zone.name, release_s=parameters.release_s)

    def update(self, scene: Scene) -> list[EpisodeChange]:
        """What changes with this scene."""
        damage = [thing for thing in self._surface.update(scene) if not is_writing(thing)]
        return self._episode.update(scene.time, bool(damage), confidence=Confidence.MEDIUM)

    def close(self, time: float) -> list[EpisodeChange]:
        """End what is open."""
        self._surface.clear()
        return self._episode.close(time)
