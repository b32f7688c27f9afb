"""The life of an episode: `started`, `ongoing`, `ended`, with hysteresis in time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from agent.contract import NO_COUNT, Confidence, EventType, Level, Phase, Variant
from agent.perception.scene import Scene


@dataclass(frozen=True, slots=True)
class EpisodeChange:
    """One step in the life of an episode; at most one episode of a type is open in a zone.

    Attributes:
        type: What it is.
        zone: Name of the zone.
        phase: Life cycle.
        time: When, seconds on the source's clock.
        confidence: Four steps.
        level: Occupancy class (crowd types).
        count: Persons (crowd types), or `NO_COUNT`.
        variant: Sort of crowd movement.
    """

    type: EventType
    zone: str
    phase: Phase
    time: float
    confidence: Confidence = Confidence.MEDIUM
    level: Level = Level.NONE
    count: int = NO_COUNT
    variant: Variant = Variant.NONE


class Behaviour(Protocol):
    """One rule watching one zone."""

    def update(self, scene: Scene) -> Iterable[EpisodeChange]:
        """What changes with this scene; scenes come in the order of their time."""

    def close(self, time: float) -> Iterable[EpisodeChange]:
        """End what is open: the schedule is over, the camera is gone or paused, the clip has ended."""
