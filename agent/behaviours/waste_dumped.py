"""`waste.dumped`: a heap or bag that was not there stays in a watched area after those who stopped there have gone.

Source: dumping as the parting of a person and what was held (Yun et al., "Vision-based garbage dumping action detection
for real-world surveillance platform", ETRI Journal 41(4), 2019), found not by pose but by what stays, on the model of
lasting change (`agent.perception.change`). Where the patch checker is present it has a say: what is surely no heap is
none.
Known failures: a vehicle that the detector does not know and that stays is a heap as far as anybody knows; what is
thrown from a moving vehicle comes without a stop; what is set down for a while, such as a delivery, is waste until
it is taken away; the checker was trained on bags.
"""

from __future__ import annotations

from pydantic import Field

from agent.behaviours.company import Company, Left, lies_in
from agent.behaviours.episode import Episode, EpisodeChange
from agent.behaviours.object_abandoned import BENCH
from agent.behaviours.parameters import Parameters, class_table
from agent.behaviours.zone import Zone
from agent.contract import Confidence, EventType
from agent.perception.scene import Scene

#: How far who brings it stands from it, and who is nearer is still there, heights of the person or vehicle.
_BESIDE, _NEAR = 0.6, 1.5
#: A heap is at most so large, beside the height of who brought it, squared: a parked car is twice that.
_LARGEST = 1.2
#: Likelihood of a heap, beside which the confidence is high (model card: passed by 2 % of all that is none).
_SURELY = 0.76


class WasteDumpedParameters(Parameters):
    """Parameters of `waste.dumped`."""

    dwell_s: float = Field(30.0, ge=2, le=1800, description="How long it must lie there without them, seconds.")
    stop_s: float = Field(
        2.0, ge=0.5, le=60, description="How long a person or vehicle must have been beside it when it came, seconds."
    )
    heap_score: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Least likelihood that it is a heap, where the patch checker is installed; 0: whatever stays.",
    )
    release_s: float = Field(5.0, ge=0, le=3600, description="How long nothing must lie there before it ends, seconds.")


class WasteDumped:
    """Something that was dumped in a zone."""

    Parameters = WasteDumpedParameters

    def __init__(self, zone: Zone, parameters: WasteDumpedParameters) -> None:
        self._zone = zone
        self._parameters = parameters
        self._company = Company(class_table(["person", "vehicle"]), beside=_BESIDE, near=_NEAR, lower=0.5, before_s=5)
        self._episode = Episode(EventType.WASTE_DUMPED, zone.name, release_s=parameters.release_s)

    def update(self, scene: Scene) -> list[EpisodeChange]:
        """What changes with this scene."""
        dumped = [left for left in self._company.update(scene) if self._dumped(left, scene)]
        sure = any(left.thing.likely is not None and left.thing.likely[0] >= _SURELY for left in dumped)
        return self._episode.update(scene.time, bool(dumped), confidence=Confidence.HIGH if sure else Confidence.MEDIUM)

    def _dumped(self, left: Left, scene: Scene) -> bool:
        likely, p = left.thing.likely, self._parameters
        x0, y0, x1, y1 = left.thing.box
        return (
            left.gone_s >= p.dwell_s
            and scene.time - left.thing.quiet_since >= p.dwell_s
            and left.stayed_s >= p.stop_s
            and left.above <= BENCH
            and (x1 - x0) * (y1 - y0) <= _LARGEST * left.tall**2
            and (likely is None or likely[0] >= p.heap_score)
            and lies_in(self._zone, scene, left.thing)
        )

    def close(self, time: float) -> list[EpisodeChange]:
        """End what is open."""
        self._company.clear()
        return self._episode.close(time)
