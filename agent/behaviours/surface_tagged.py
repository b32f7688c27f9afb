"""`surface.tagged`: writing or paint that was not there stays on a protected surface after somebody stood at it.

The rule and its sources are those of `agent.behaviours.surface`. Writing is told from other changes by its thin strokes
and, where the patch checker is present, by what that says of it.
Known failures: a filled surface of one colour is damage and no tag; writing of less than about a fiftieth of the
picture's width is not seen; paint of the wall's own brightness and colour neither; a torn poster may look like writing.
"""

from __future__ import annotations

from pydantic import Field

from agent.behaviours.episode import Episode, EpisodeChange
from agent.behaviours.parameters import Parameters
from agent.behaviours.surface import SurfaceWatch
from agent.behaviours.zone import Zone
from agent.contract import Confidence, EventType
from agent.perception.scene import Scene, StillThing

#: Width of the thickest stroke over the diagonal of all, up to which it is writing: at least; where the patch checker
#: does not rule writing out; and where there is none. Of drawn and photographed tags 90 % are thinner than the last but
#: one, of drawn holes 95 % are thicker than the first.
_THIN, _THICK, _UNCHECKED = 0.2, 0.32, 0.26
#: Likelihood of writing that the checker gives to 90 % of tags and to 10 % of holes.
_PERHAPS = 0.06
#: Likelihood of writing, beside which the confidence is high (model card: passed by 2 % of all that is none).
_SURELY = 0.82


def is_writing(thing: StillThing) -> bool:
    """Whether what has changed looks like strokes of a pen or a can."""
    if thing.likely is None:
        return thing.stroke <= _UNCHECKED
    return thing.stroke <= (_THICK if thing.likely[1] >= _PERHAPS else _THIN)


class SurfaceTaggedParameters(Parameters):
    """Parameters of `surface.tagged`."""

    stand_s: float = Field(3.0, ge=0.5, le=60, description="How long somebody must have stood there, seconds.")
    dwell_s: float = Field(30.0, ge=2, le=1800, description="How long it must have stayed without them, seconds.")
    writing_score: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Least likelihood that it is writing, where the patch checker is installed; 0: strokes are enough.",
    )
    release_s: float = Field(5.0, ge=0, le=3600, description="How long it must be gone before it ends, seconds.")


class SurfaceTagged:
    """Writing on a surface."""

    Parameters = SurfaceTaggedParameters

    def __init__(self, zone: Zone, parameters: SurfaceTaggedParameters) -> None:
        self._score = parameters.writing_score
        self._surface = SurfaceWatch(zone, parameters.stand_s, parameters.dwell_s)
        self._episode = Episode(EventType.SURFACE_TAGGED, zone.name, release_s=parameters.release_s)

    def update(self, scene: Scene) -> list[EpisodeChange]:
        """What changes with this scene."""
        tags = [thing for thing in self._surface.update(scene) if self._tag(thing)]
        sure = any(thing.likely is not None and thing.likely[1] >= _SURELY for thing in tags)
        return self._episode.update(scene.time, bool(tags), confidence=Confidence.HIGH if sure else Confidence.MEDIUM)

    def _tag(self, thing: StillThing) -> bool:
        return is_writing(thing) and (thing.likely is None or thing.likely[1] >= self._score)

    def close(self, time: float) -> list[EpisodeChange]:
        """End what is open."""
        self._surface.clear()
        return self._episode.close(time)
