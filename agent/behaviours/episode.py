"""The life of an episode: `started`, `ongoing`, `ended`, with hysteresis in time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol

from agent.contract import NO_COUNT, Confidence, EventType, Evidence, Level, Phase, Variant
from agent.perception.scene import Scene

#: An open episode says that it goes on, so that a restarted relay can pick it up.
HEARTBEAT_S = 60.0
#: A condition that fails for less than this while it is being held has not failed: detectors and trackers blink.
BLINK_S = 1.0


@dataclass(frozen=True, slots=True)
class EpisodeChange:
    """One step in the life of an episode; at most one episode of a type is open in a zone.

    Attributes:
        type: What it is.
        zone: Name of the zone; None where it is about the camera itself.
        phase: Life cycle.
        time: When, seconds on the source's clock.
        confidence: Four steps.
        level: Occupancy class (crowd types).
        count: Persons (crowd types), or `NO_COUNT`.
        variant: Sort of crowd movement.
        evidence: What agreed (incidents).
        onset: When the sound began, seconds on the source's clock (gunshot, explosion); None where it is not known.
        onset_error_s: How far off that may be, seconds.
    """

    type: EventType
    zone: str | None
    phase: Phase
    time: float
    confidence: Confidence = Confidence.MEDIUM
    level: Level = Level.NONE
    count: int = NO_COUNT
    variant: Variant = Variant.NONE
    evidence: Evidence = Evidence.NONE
    onset: float | None = None
    onset_error_s: float = 0.0


class Behaviour(Protocol):
    """One rule watching one zone."""

    def update(self, scene: Scene) -> Iterable[EpisodeChange]:
        """What changes with this scene; scenes come in the order of their time."""

    def close(self, time: float) -> Iterable[EpisodeChange]:
        """End what is open and forget what was seen: the schedule is over, the camera gone or paused, the clip over."""


class Episode:
    """The life cycle of one rule in one zone, driven by a condition that is true or false at each tick.

    It starts when the condition has held for `hold_s` (blinks apart) and ends when it has not been met for
    `release_s`. In between a change of level or variant is told at once, and every minute that it goes on.
    """

    def __init__(self, event_type: EventType, zone: str | None, *, hold_s: float = 0.0, release_s: float) -> None:
        self._change = EpisodeChange(event_type, zone, Phase.NONE, 0.0)
        self._hold_s = hold_s
        self._release_s = release_s
        self._met_since: float | None = None
        self._met_at = 0.0

    @property
    def open(self) -> bool:
        """Whether it has started and not ended."""
        return self._change.phase in {Phase.STARTED, Phase.ONGOING}

    def update(
        self,
        time: float,
        met: bool,
        *,
        confidence: Confidence = Confidence.MEDIUM,
        level: Level = Level.NONE,
        count: int = NO_COUNT,
        variant: Variant = Variant.NONE,
    ) -> list[EpisodeChange]:
        """What changes now.

        Args:
            time: Seconds on the source's clock, never going back.
            met: Whether the condition is met.
            confidence: How sure, while the condition is met.
            level: Occupancy class, while the condition is met.
            count: Persons, while the condition is met.
            variant: Sort of crowd movement, while the condition is met.
        """
        if met:
            self._met_at = time
            if self._met_since is None:
                self._met_since = time
        elif not self.open and time - self._met_at >= BLINK_S:
            self._met_since = None

        now = {"confidence": confidence, "level": level, "count": count, "variant": variant} if met else {}
        if not self.open:
            if met and self._met_since is not None and time - self._met_since >= self._hold_s:
                return self._tell(Phase.STARTED, time, **now)
        elif not met and time - self._met_at >= self._release_s:
            return self.close(time)
        elif time - self._change.time >= HEARTBEAT_S or (
            met and (level, variant) != (self._change.level, self._change.variant)
        ):
            return self._tell(Phase.ONGOING, time, **now)
        return []

    def close(self, time: float) -> list[EpisodeChange]:
        """End the episode if it is open, and forget what was being held."""
        self._met_since = None
        return self._tell(Phase.ENDED, time) if self.open else []

    def _tell(self, phase: Phase, time: float, **now: object) -> list[EpisodeChange]:
        self._change = replace(self._change, phase=phase, time=time, **now)  # type: ignore[arg-type]
        return [self._change]
