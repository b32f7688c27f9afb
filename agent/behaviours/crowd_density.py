"""`crowd.density`: how full a zone is, in five classes: free, low, medium, high, critical.

In a calibrated zone the classes are people per square metre: with more than 0.3 on walkways people slow down for each
other, with more than 0.7 nobody overtakes, with more than 1.1 everybody is held up, and with more than 2.2 flow breaks
down (levels of service A, C, D and E of Fruin, Pedestrian Planning and Design, 1971, walkways, rounded). In any other
zone they are counts of people. A class is left upwards at its limit and downwards only well below it, so that
one person at the limit does not make it flicker.
Known failure: people behind one another are one box, so the fullest zones are counted low.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from agent.behaviours.episode import Episode, EpisodeChange
from agent.behaviours.headcount import LATE_S, Headcount
from agent.behaviours.parameters import Parameters
from agent.behaviours.zone import Zone
from agent.contract import MAX_COUNT, EventType, Level
from agent.perception.scene import Scene

_FULLEST_FIRST = (Level.CRITICAL, Level.HIGH, Level.MEDIUM, Level.LOW)
#: Share of a class's limit below which the zone has left the class.
_STAYS_AT = 0.8


class CrowdDensityParameters(Parameters):
    """Parameters of `crowd.density`."""

    low: int = Field(1, ge=1, le=MAX_COUNT, description="Fewest people in the zone for `low`.")
    medium: int = Field(5, ge=1, le=MAX_COUNT, description="Fewest people in the zone for `medium`.")
    high: int = Field(15, ge=1, le=MAX_COUNT, description="Fewest people in the zone for `high`.")
    critical: int = Field(30, ge=1, le=MAX_COUNT, description="Fewest people in the zone for `critical`.")
    per_m2: tuple[float, float, float, float] = Field(
        (0.3, 0.7, 1.1, 2.2),
        description="Fewest people per square metre for `low`, `medium`, `high` and `critical`; they hold in place of "
        "the counts where the zone is calibrated.",
    )
    report_from: Literal["low", "medium", "high", "critical"] = Field(
        "medium", description="Lowest class that makes an episode."
    )
    hold_s: float = Field(5.0, ge=0, le=3600, description="How long the class must be reached, seconds.")
    release_s: float = Field(10.0, ge=0, le=3600, description="How long it must be missed before it ends, seconds.")

    @model_validator(mode="after")
    def _limits_grow(self) -> CrowdDensityParameters:
        if not self.low < self.medium < self.high < self.critical:
            raise ValueError("the limits must grow: low < medium < high < critical")
        if not 0 < self.per_m2[0] < self.per_m2[1] < self.per_m2[2] < self.per_m2[3]:
            raise ValueError("per_m2: the limits must grow")
        return self


class CrowdDensity:
    """Occupancy of a zone."""

    Parameters = CrowdDensityParameters

    def __init__(self, zone: Zone, parameters: CrowdDensityParameters) -> None:
        limits: tuple[float, ...] = (parameters.low, parameters.medium, parameters.high, parameters.critical)
        if zone.area_m2 is not None:
            limits = tuple(limit * zone.area_m2 for limit in parameters.per_m2)
        self._limits = dict(zip(_FULLEST_FIRST, reversed(limits), strict=True))
        self._report_from = Level[parameters.report_from.upper()]
        self._level = Level.FREE
        self._headcount = Headcount(zone)
        self._episode = Episode(
            EventType.CROWD_DENSITY,
            zone.name,
            hold_s=max(0.0, parameters.hold_s - LATE_S),
            release_s=parameters.release_s,
        )

    def update(self, scene: Scene) -> list[EpisodeChange]:
        """What changes with this scene."""
        count, confidence = self._headcount.update(scene)
        self._level = self._level_of(count)
        return self._episode.update(
            scene.time, self._level >= self._report_from, confidence=confidence, level=self._level, count=count
        )

    def _level_of(self, count: int) -> Level:
        for level, limit in self._limits.items():
            if count >= limit * (_STAYS_AT if level <= self._level else 1.0):
                return level
        return Level.FREE

    def close(self, time: float) -> list[EpisodeChange]:
        """End what is open."""
        self._level = Level.FREE
        self._headcount.clear()
        return self._episode.close(time)
