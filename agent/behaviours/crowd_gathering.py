"""`crowd.gathering`: at least N people are in a zone for T seconds.

Source: ours; a number and a time, so that whoever orders it can say in a sentence what it reports.
Known failure: people behind one another are one box, so a dense crowd is counted low; and a queue is a gathering too.
"""

from __future__ import annotations

from pydantic import Field

from agent.behaviours.episode import Episode, EpisodeChange
from agent.behaviours.headcount import LATE_S, Headcount
from agent.behaviours.parameters import Parameters
from agent.behaviours.zone import Zone
from agent.contract import MAX_COUNT, EventType
from agent.perception.scene import Scene

#: Share of `min_persons` below which a gathering is over: two in ten may come and go, or hide behind the others.
_STAYS_AT = 0.8


class CrowdGatheringParameters(Parameters):
    """Parameters of `crowd.gathering`."""

    min_persons: int = Field(10, ge=2, le=MAX_COUNT, description="People that make a gathering.")
    hold_s: float = Field(30.0, ge=0, le=3600, description="How long they must be together, seconds.")
    release_s: float = Field(10.0, ge=0, le=3600, description="How long they must be fewer before it ends, seconds.")


class CrowdGathering:
    """People together in a zone."""

    Parameters = CrowdGatheringParameters

    def __init__(self, zone: Zone, parameters: CrowdGatheringParameters) -> None:
        self._min_persons = parameters.min_persons
        self._headcount = Headcount(zone)
        self._together = False
        self._episode = Episode(
            EventType.CROWD_GATHERING,
            zone.name,
            hold_s=max(0.0, parameters.hold_s - LATE_S),
            release_s=parameters.release_s,
        )

    def update(self, scene: Scene) -> list[EpisodeChange]:
        """What changes with this scene."""
        count, confidence = self._headcount.update(scene)
        self._together = count >= self._min_persons * (_STAYS_AT if self._together else 1.0)
        return self._episode.update(scene.time, self._together, confidence=confidence, count=count)

    def close(self, time: float) -> list[EpisodeChange]:
        """End what is open."""
        self._headcount.clear()
        self._together = False
        return self._episode.close(time)
