"""Incidents: sound and sight that agree within their window, and nothing else."""

from __future__ import annotations

import pytest

from agent.behaviours.episode import EpisodeChange
from agent.behaviours.fusion import JOINTS, RELEASE_S, Fusion, Joint, Watched
from agent.behaviours.watch import Schedule
from agent.contract import INCIDENTS, Confidence, EventType, Evidence, Phase, Variant

CAMERA, ZONE = 1, "quay"


def told(event_type: EventType, time: float, phase: Phase = Phase.STARTED, **more: object) -> EpisodeChange:
    zone = None if event_type.label.startswith("sound.") else ZONE
    return EpisodeChange(event_type, zone, phase, time, **more)  # type: ignore[arg-type]


def fusion(joints: tuple[Joint, ...] = JOINTS) -> Fusion:
    return Fusion([Watched(joint, CAMERA, ZONE, Schedule(())) for joint in joints])


def agrees(joint: Joint, heard_at: float, seen_at: float, *, ends_after: float = 1.0) -> list[EpisodeChange]:
    """What is told when each part begins at its time, and is over so much later."""
    fused = fusion()
    steps = [
        (heard_at, True, told(joint.heard, heard_at)),
        (heard_at + ends_after, True, told(joint.heard, heard_at + ends_after, Phase.ENDED)),
        (seen_at, False, told(joint.seen, seen_at, variant=joint.variant)),
        (seen_at + ends_after, False, told(joint.seen, seen_at + ends_after, Phase.ENDED, variant=joint.variant)),
    ]
    changes = []
    for time, is_sound, change in sorted(steps, key=lambda step: step[0]):
        if is_sound:
            fused.heard(change)
        else:
            fused.seen(CAMERA, change)
        found = fused.update(time)
        assert {camera for camera, _ in found} <= {CAMERA}
        changes += [c for _, c in found]
    last = max(heard_at, seen_at) + ends_after
    changes += [c for _, c in fused.update(last + RELEASE_S + 0.1)]
    return changes


@pytest.mark.parametrize("joint", JOINTS, ids=lambda joint: joint.evidence.name.lower())
def test_a_sound_and_then_its_sight_are_an_incident_that_ends(joint: Joint) -> None:
    began, ended = agrees(joint, 100.0, 105.0)
    assert (began.type, began.phase, began.zone, began.time) == (joint.incident, Phase.STARTED, ZONE, 105.0)
    assert (began.confidence, began.evidence) == (Confidence.CONFIRMED, joint.evidence)
    assert (ended.phase, ended.evidence) == (Phase.ENDED, joint.evidence)


@pytest.mark.parametrize("joint", JOINTS, ids=lambda joint: joint.evidence.name.lower())
def test_what_is_too_far_apart_is_none(joint: Joint) -> None:
    assert not agrees(joint, 100.0, 101.0 + joint.late_s + 0.1)
    assert not agrees(joint, 100.0 + joint.late_s + 10, 100.0)


def test_a_crowd_that_had_already_run_apart_did_not_run_from_the_shot() -> None:
    panic = JOINTS[0]
    assert not agrees(panic, 100.0, 95.0, ends_after=20.0)
    assert agrees(panic, 100.0, 99.0)


def test_somebody_screams_in_a_fight_that_has_gone_on_for_long() -> None:
    brawl = next(joint for joint in JOINTS if joint.evidence is Evidence.SCREAM_ALTERCATION)
    assert agrees(brawl, 400.0, 100.0, ends_after=310.0)


def test_only_a_dispersal_is_panic() -> None:
    fused = fusion()
    fused.heard(told(EventType.SOUND_GUNSHOT, 10.0))
    fused.seen(CAMERA, told(EventType.CROWD_MOVEMENT, 11.0, variant=Variant.SURGE))
    assert not fused.update(11.0)
    fused.seen(CAMERA, told(EventType.CROWD_MOVEMENT, 13.0, Phase.ONGOING, variant=Variant.DISPERSAL))
    assert [change.phase for _, change in fused.update(13.0)] == [Phase.STARTED]


def test_a_doubtful_part_makes_it_less_than_confirmed() -> None:
    fused = fusion()
    fused.heard(told(EventType.SOUND_SCREAM, 10.0, confidence=Confidence.LOW))
    fused.seen(CAMERA, told(EventType.ALTERCATION, 11.0))
    assert [change.confidence for _, change in fused.update(11.0)] == [Confidence.HIGH]


def test_what_another_camera_or_zone_sees_is_not_watched() -> None:
    fused = fusion()
    fused.heard(told(EventType.SOUND_SCREAM, 10.0))
    fused.seen(CAMERA + 1, told(EventType.ALTERCATION, 11.0))
    assert not fused.update(11.0)


def test_closing_ends_it_and_forgets() -> None:
    fused = fusion()
    fused.heard(told(EventType.SOUND_SCREAM, 10.0))
    fused.seen(CAMERA, told(EventType.ALTERCATION, 11.0))
    fused.update(11.0)
    assert [change.phase for _, change in fused.close(12.0)] == [Phase.ENDED]
    assert not fused.close(13.0)
    assert not fused.update(13.0)


def test_every_incident_of_the_contract_has_its_ways() -> None:
    ways = {event_type: {j.evidence for j in JOINTS if j.incident is event_type} for event_type in INCIDENTS}
    assert ways == INCIDENTS
