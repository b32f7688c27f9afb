"""`crowd.density`: how full a zone is, in five classes: free, low, medium, high, critical.

The classes are counts of people in the zone; classes by people per square metre (Fruin, Pedestrian Planning and
Design, 1971) need a calibrated zone. A class is left upwards at its limit and downwards only well below it, so that
one person at the limit does not make it flicker.
Known failure: people behind one another are one box, so the fullest zones are counted low.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from agent.behaviours.episode import Episode, EpisodeChange
from agent.behaviours.occupancy import Occupancy
from agent.behaviours.parameters import Parameters
from agent.behaviours.zone import Zone
from agent.contract import MAX_COUNT, EventType, Level
from agent.perception.scene import Scene

#: Share of a class's limit below which the zone has left the class.
_STAYS_AT = 0.8


class CrowdDensityParameters(Parameters):
    """Parameters of `crowd.density`."""

    low: int = Field(1, ge=1, le=MAX_COUNT, description="Fewest people in the zone for `low`.")
    medium: int = Field(5, ge=1, le=MAX_COUNT, description="Fewest people in the zone for `medium`.")
    high: int = Field(15, ge=1, le=MAX_COUNT, description="Fewest people in the zone for `high`.")
    critical: int = Field(30, ge=1, le=MAX_COUNT, description="Fewest people in the zone for `critical`.")
    report_from: Literal["low", "medium", "high", "critical"] = Field(
        "medium", description="Lowest class that makes an episode."
    )
    hold_s: float = Field(5.0, ge=0, le=3600, description="How long the class must be reached, seconds.")
    release_s: float = Field(10.0, ge=0, le=3600, description="How long it must be missed before it ends, seconds.")

    @model_validator(mode="after")
    def _limits_grow(self) -> CrowdDensityParameters:
        if not self.low < self.medium < self.high < self.critical:
            raise ValueError("the limits must grow: low < medium < high < critical")
        return self


class CrowdDensity:
    """Occupancy of a zone."""

    Parameters = CrowdDensityParameters

    def __init__(self, zone: Zone, parameters: CrowdDensityParameters) -> None:
        self._limits = {
            Level.CRITICAL: parameters.critical,
            Level.HIGH: parameters.high,
            Level.MEDIUM: parameters.medium,
            Level.LOW: parameters.low,
        }
        self._report_from = Level[parameters.report_from.upper()]
        self._level = Level.FREE
        self._occupancy = Occupancy(zone)
        self._episode = Episode(
            EventType.CROWD_DENSITY, zone.name, hold_s=parameters.hold_s, release_s=parameters.release_s
        )

    def update(self, scene: Scene) -> list[EpisodeChange]:
        """What changes with this scene."""
        count, confidence = self._occupancy.update(scene)
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
        self._occupancy.clear()
        return self._episode.close(time)
