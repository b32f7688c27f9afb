"""`incident.…`: sound and sight that confirm each other within seconds.

A gunshot and people who run apart are more than either alone: two kinds of sensor seldom err together. What makes an
incident stands in one table, `JOINTS`. An incident is where it was seen; it is `confirmed`, one step less where one of
its parts was in doubt itself, and it names the evidence that agreed. It lasts as long as one of its parts does.

It rests on nothing that is not permitted by itself: each of its parts needs a rule, and a policy entry of its own.

Known failures: the microphone hears all around the device, not only what the camera sees, so that a siren test and a
bus that empties would agree if the table said so; whatever lies in it, pairs only what seldom happens by chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from agent.behaviours.episode import Episode, EpisodeChange
from agent.behaviours.watch import Schedule
from agent.contract import Confidence, EventType, Evidence, Phase, Variant

#: How long both parts must be over before the incident is, seconds.
RELEASE_S = 10.0


@dataclass(frozen=True, slots=True)
class Joint:
    """One way in which a sound and a sight make an incident.

    Attributes:
        incident: What they make.
        heard: Type of the sound.
        seen: Type of the sight.
        evidence: Name of this way.
        early_s: How long before the sound the sight may begin, seconds.
        late_s: How long after the sound it may begin, and how long before it may have ended, seconds.
        variant: Sort of crowd movement, where the sight is one.
    """

    incident: EventType
    heard: EventType
    seen: EventType
    evidence: Evidence
    early_s: float
    late_s: float
    variant: Variant = Variant.NONE


# A sound is told up to a window and a hop, 1.5 s, after it was heard; so what it caused may seem to come before it. A
# brawl may be seen for long before anybody screams. A surface is told to be damaged when it has stayed so for minutes.
_TELLING_S, _RUN_S, _FIGHT_S, _STAYS_S = 1.5, 10.0, 10.0, 300.0
_T, _E = EventType, Evidence
JOINTS = (
    Joint(
        _T.INCIDENT_PANIC, _T.SOUND_GUNSHOT, _T.CROWD_MOVEMENT, _E.GUNSHOT_DISPERSAL,
        _TELLING_S, _RUN_S, Variant.DISPERSAL,
    ),
    Joint(
        _T.INCIDENT_PANIC, _T.SOUND_EXPLOSION, _T.CROWD_MOVEMENT, _E.EXPLOSION_DISPERSAL,
        _TELLING_S, _RUN_S, Variant.DISPERSAL,
    ),
    Joint(_T.INCIDENT_BRAWL, _T.SOUND_SCREAM, _T.ALTERCATION, _E.SCREAM_ALTERCATION, math.inf, _FIGHT_S),
    Joint(_T.INCIDENT_BRAWL, _T.SOUND_CROWD_CLAMOUR, _T.ALTERCATION, _E.CLAMOUR_ALTERCATION, math.inf, _FIGHT_S),
    Joint(_T.INCIDENT_VANDALISM, _T.SOUND_GLASS_BREAK, _T.SURFACE_TAGGED, _E.GLASS_TAGGED, _TELLING_S, _STAYS_S),
    Joint(_T.INCIDENT_VANDALISM, _T.SOUND_GLASS_BREAK, _T.SURFACE_DAMAGED, _E.GLASS_DAMAGED, _TELLING_S, _STAYS_S),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Watched:
    """A joint where it is watched for.

    Attributes:
        joint: The way.
        camera: Index of the camera that sees its sight.
        zone: Zone in which it sees it; None for the camera as a whole.
        schedule: When.
    """

    joint: Joint
    camera: int
    zone: str | None
    schedule: Schedule


@dataclass(frozen=True, slots=True)
class _Part:
    """A sound or a sight as it was told last."""

    began: float
    last: float
    open: bool
    confidence: Confidence
    variant: Variant


class Fusion:
    """Watches what is told of sounds and sights for those that make an incident."""

    def __init__(self, watched: Sequence[Watched], wall: Callable[[], datetime] | None = None) -> None:
        """Nothing has been told.

        Args:
            watched: What to watch for.
            wall: Local time, for the schedules; None has all on.
        """
        self._wall = wall
        self._watched = watched
        self._heard: dict[EventType, _Part] = {}
        self._seen: dict[tuple[EventType, int, str | None], _Part] = {}
        self._incidents = {
            (w.joint.incident, w.camera, w.zone): Episode(w.joint.incident, w.zone, release_s=RELEASE_S)
            for w in watched
        }
        self._evidence: dict[tuple[EventType, int, str | None], Evidence] = {}

    def heard(self, change: EpisodeChange) -> None:
        """Learn of a sound."""
        self._heard[change.type] = _follow(self._heard.get(change.type), change)

    def seen(self, camera: int, change: EpisodeChange) -> None:
        """Learn of a sight."""
        key = (change.type, camera, change.zone)
        self._seen[key] = _follow(self._seen.get(key), change)

    def update(self, time: float) -> list[tuple[int, EpisodeChange]]:
        """What changes of the incidents, and at which camera."""
        changes: list[tuple[int, EpisodeChange]] = []
        agreed = {key: found for key, *found in self._agreed(time)}
        for key, episode in self._incidents.items():
            confidence = Confidence.CONFIRMED
            if key in agreed:
                confidence, evidence = agreed[key]
                if not episode.open:
                    self._evidence[key] = evidence
            changes += self._tell(key, episode.update(time, key in agreed, confidence=confidence))
        return changes

    def _agreed(self, time: float) -> Iterable[tuple[tuple[EventType, int, str | None], Confidence, Evidence]]:
        now = self._wall() if self._wall else None
        for w in self._watched:
            heard = self._heard.get(w.joint.heard)
            seen = self._seen.get((w.joint.seen, w.camera, w.zone))
            if heard is None or seen is None or (now is not None and not w.schedule.on(now)):
                continue
            if _agree(w.joint, heard, seen, time):
                doubt = min(heard.confidence, seen.confidence) is Confidence.LOW
                yield (
                    (w.joint.incident, w.camera, w.zone),
                    Confidence.HIGH if doubt else Confidence.CONFIRMED,
                    w.joint.evidence,
                )

    def close(self, time: float) -> list[tuple[int, EpisodeChange]]:
        """End every incident and forget what was told; safe to call again."""
        self._heard.clear()
        self._seen.clear()
        return [change for key, episode in self._incidents.items() for change in self._tell(key, episode.close(time))]

    def _tell(
        self, key: tuple[EventType, int, str | None], changes: list[EpisodeChange]
    ) -> list[tuple[int, EpisodeChange]]:
        return [(key[1], replace(change, evidence=self._evidence[key])) for change in changes]


def _follow(part: _Part | None, change: EpisodeChange) -> _Part:
    """A part after one more change: another sort of movement is another sight."""
    goes_on = part is not None and part.open and part.variant is change.variant
    began = part.began if part is not None and (goes_on or change.phase is Phase.ENDED) else change.time
    return _Part(began, change.time, change.phase is not Phase.ENDED, change.confidence, change.variant)


def _agree(joint: Joint, heard: _Part, seen: _Part, time: float) -> bool:
    heard_last, seen_last = (time if part.open else part.last for part in (heard, seen))
    return (
        (heard.open or seen.open)
        and seen.variant is joint.variant
        and heard.began - joint.early_s <= seen.began <= heard_last + joint.late_s
        and seen_last >= heard.began - joint.late_s
    )
