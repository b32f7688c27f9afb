"""`incident.…`: sound and sight that confirm each other within seconds.

A gunshot and people who run apart are more than either alone: two kinds of sensor seldom err together. What makes an
incident stands in one table, `JOINTS`. An incident is where it was seen; it is `confirmed`, one step less where one of
its parts was in doubt itself, and it names the evidence that agreed. It lasts as long as one of its parts does.

It rests on nothing that is not permitted by itself: each of its parts needs a rule, and a policy entry of its own.

Known failure: the microphone hears all around the device, not only what the camera sees. A firework behind the house
and a crowd that runs for its bus agree by chance; so the windows are short, and the table pairs only what is rare.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime

from agent.behaviours.episode import Episode, EpisodeChange
from agent.behaviours.watch import Schedule
from agent.contract import INCIDENTS, Confidence, EventType, Evidence, Phase, Variant
from agent.policy import Policy
from agent.settings import RuleSettings, Settings, SettingsError

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


#: Type, camera, zone.
_Key = tuple[EventType, int, str | None]


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


def watched_joints(
    settings: Settings, policy: Policy | None = None, today: date = date.min
) -> tuple[list[Watched], list[str]]:
    """What the `incident.…` rules of the microphone watch for, and in words why some do not.

    Args:
        settings: The rules of the microphone and of the cameras.
        policy: What may be detected; None asks for no permission.
        today: The date for which the policy is asked.

    Raises:
        SettingsError: an incident's rule has a parameter; it takes none.
    """
    watched: list[Watched] = []
    refused: list[str] = []
    for rule in settings.microphone.rules:
        if rule.event_type not in INCIDENTS:
            continue
        if rule.parameters:
            raise SettingsError(
                [f"microphone: rule {rule.type}: {key}: it takes no parameters" for key in rule.parameters]
            )
        ways = [joint for joint in JOINTS if joint.incident is rule.event_type]
        found = [way for joint in ways for way in _ways(joint, rule, settings)]
        reasons = [_why_not(way, policy, today) for way in found] if policy else [None] * len(found)
        watched += [way for way, reason in zip(found, reasons, strict=True) if reason is None]
        refused += sorted({reason for reason in reasons if reason is not None})
        if not found:
            heard = " or ".join(sorted({joint.heard.label for joint in ways}))
            seen = " or ".join(sorted({joint.seen.label for joint in ways}))
            refused.append(f"{rule.type}: needs a rule {heard} of the microphone and a rule {seen} of a camera")
    return watched, refused


def _ways(joint: Joint, rule: RuleSettings, settings: Settings) -> list[Watched]:
    """Where the rules there are make a joint possible."""
    if joint.heard not in {other.event_type for other in settings.microphone.rules}:
        return []
    return [
        Watched(joint, index, sight.zone, Schedule(rule.schedule))
        for index, camera in enumerate(settings.cameras)
        for sight in camera.rules
        if sight.event_type is joint.seen
    ]


def _why_not(way: Watched, policy: Policy, today: date) -> str | None:
    """Why the policy does not allow a joint, in words; None where it does."""
    joint = way.joint
    whole = policy.entry(joint.incident, way.zone, today)
    if isinstance(whole, str):
        return whole
    for part, zone in ((joint.heard, None), (joint.seen, way.zone)):
        entry = policy.entry(part, zone, today)
        if isinstance(entry, str):
            return f"{joint.incident.label}: may not rest on what is not permitted: {entry}"
        if entry.mode == "shadow" and whole.mode == "on":
            return f"{joint.incident.label}: would tell of {part.label}, which the policy has in shadow mode"
    return None


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
        self._seen: dict[_Key, _Part] = {}
        self._incidents = {
            (w.joint.incident, w.camera, w.zone): Episode(w.joint.incident, w.zone, release_s=RELEASE_S)
            for w in watched
        }
        self._evidence: dict[_Key, Evidence] = {}

    def heard(self, change: EpisodeChange) -> None:
        """Learn of a sound."""
        self._heard[change.type] = _follow(self._heard.get(change.type), change)

    def seen(self, camera: int, change: EpisodeChange) -> None:
        """Learn of a sight."""
        key = (change.type, camera, change.zone)
        self._seen[key] = _follow(self._seen.get(key), change)

    def update(self, time: float) -> list[tuple[int, EpisodeChange]]:
        """What changes of the incidents, and at which camera."""
        agreed = self._agreed(time)
        changes: list[tuple[int, EpisodeChange]] = []
        for key, episode in self._incidents.items():
            evidence, confidence = agreed.get(key, (Evidence.NONE, Confidence.CONFIRMED))
            if key in agreed and not episode.open:
                self._evidence[key] = evidence
            changes += self._tell(key, episode.update(time, key in agreed, confidence=confidence))
        return changes

    def _agreed(self, time: float) -> dict[_Key, tuple[Evidence, Confidence]]:
        """Which incidents there are now, by what evidence, and how sure."""
        now = self._wall() if self._wall else None
        agreed: dict[_Key, tuple[Evidence, Confidence]] = {}
        for watched in self._watched:
            joint = watched.joint
            heard = self._heard.get(joint.heard)
            seen = self._seen.get((joint.seen, watched.camera, watched.zone))
            on = now is None or watched.schedule.on(now)
            if on and heard and seen and _agree(joint, heard, seen, time):
                doubt = Confidence.LOW in {heard.confidence, seen.confidence}
                sure = Confidence.HIGH if doubt else Confidence.CONFIRMED
                agreed.setdefault((joint.incident, watched.camera, watched.zone), (joint.evidence, sure))
        return agreed

    def close(self, time: float) -> list[tuple[int, EpisodeChange]]:
        """End every incident and forget what was told; safe to call again."""
        self._heard.clear()
        self._seen.clear()
        return [change for key, episode in self._incidents.items() for change in self._tell(key, episode.close(time))]

    def _tell(self, key: _Key, changes: list[EpisodeChange]) -> list[tuple[int, EpisodeChange]]:
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
