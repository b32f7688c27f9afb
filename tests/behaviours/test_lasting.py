"""What is left, dumped, written and broken: the rules on things that somebody has found already."""

from __future__ import annotations

import dataclasses

import pytest

from agent.behaviours.episode import Behaviour
from agent.contract import Confidence, Phase
from agent.perception.scene import ObjectClass, StillThing
from tests.behaviours.conftest import HEIGHT, MakeBehaviour, MakeScene

WHOLE = ((0, 0), (1, 0), (1, 1), (0, 1))
#: People are 100 pixels tall, and stand with their feet at 250.
BAG = StillThing(1, (490, 220, 515, 250), since=10.0, area=1.0, quiet_since=12.0, stroke=0.6, fill=0.8)
TAG = StillThing(2, (450, 130, 520, 170), since=10.0, area=0.5, quiet_since=12.0, stroke=0.15, fill=0.8)
HOLE = dataclasses.replace(TAG, stroke=0.35, fill=0.75)


def play(
    scene: MakeScene,
    rule: Behaviour,
    thing: StillThing,
    *,
    seconds: float = 60,
    stays: tuple[float, float] = (8.0, 18.0),
    who: ObjectClass = ObjectClass.PERSON,
) -> list[tuple[float, Phase, Confidence]]:
    """Somebody stands beside the middle for a while, and walks away; the thing is there from second 14 on."""
    told = []
    for tick in range(round(seconds * 2)):
        time = tick / 2
        x = 0.53 if stays[0] <= time < stays[1] else 0.9
        seen = scene(time, [(1, x, 250 / HEIGHT)], object_class=who)
        shown = dataclasses.replace(seen, still=(thing,) if time >= 14 else ())
        told += [(c.time, c.phase, c.confidence) for c in rule.update(shown)]
    return told


@pytest.mark.parametrize(
    ("event_type", "thing"),
    [("object.abandoned", BAG), ("waste.dumped", BAG), ("surface.tagged", TAG), ("surface.damaged", HOLE)],
)
def test_it_is_told_once_they_are_gone_for_the_dwell(
    scene: MakeScene, behaviour: MakeBehaviour, event_type: str, thing: StillThing
) -> None:
    ((time, phase, confidence),) = play(scene, behaviour(event_type, WHOLE, dwell_s=20), thing)
    assert phase is Phase.STARTED
    assert 37 <= time <= 39
    assert confidence is Confidence.MEDIUM


@pytest.mark.parametrize(
    ("event_type", "thing"),
    [
        ("object.abandoned", TAG),  # nobody's feet were beside what is on a wall
        ("surface.tagged", BAG),  # it stands on the ground
        ("surface.damaged", BAG),
        ("surface.tagged", HOLE),
        ("surface.damaged", TAG),
        ("surface.tagged", dataclasses.replace(TAG, stroke=0.55, fill=0.98)),  # a poster
        ("surface.damaged", dataclasses.replace(HOLE, stroke=0.55, fill=0.98)),
        ("object.abandoned", dataclasses.replace(BAG, box=(440, 150, 515, 250))),  # a door
        ("object.abandoned", dataclasses.replace(BAG, quiet_since=50.0)),  # somebody who sits
        ("waste.dumped", dataclasses.replace(BAG, quiet_since=50.0)),
        ("waste.dumped", dataclasses.replace(BAG, box=(380, 150, 540, 250))),  # a vehicle
    ],
)
def test_what_is_none_is_not_told(
    scene: MakeScene, behaviour: MakeBehaviour, event_type: str, thing: StillThing
) -> None:
    assert play(scene, behaviour(event_type, WHOLE, dwell_s=20), thing) == []


@pytest.mark.parametrize("event_type", ["object.abandoned", "waste.dumped", "surface.tagged", "surface.damaged"])
def test_nothing_is_told_where_nobody_was(scene: MakeScene, behaviour: MakeBehaviour, event_type: str) -> None:
    for thing in (BAG, TAG, HOLE):
        assert play(scene, behaviour(event_type, WHOLE, dwell_s=20), thing, stays=(0, 0)) == []


@pytest.mark.parametrize("event_type", ["object.abandoned", "waste.dumped", "surface.tagged", "surface.damaged"])
def test_nothing_is_told_while_somebody_stays(scene: MakeScene, behaviour: MakeBehaviour, event_type: str) -> None:
    for thing in (BAG, TAG, HOLE):
        assert play(scene, behaviour(event_type, WHOLE, dwell_s=20), thing, stays=(8, 100)) == []


@pytest.mark.parametrize("event_type", ["object.abandoned", "waste.dumped", "surface.tagged", "surface.damaged"])
def test_nothing_is_told_outside_the_zone(scene: MakeScene, behaviour: MakeBehaviour, event_type: str) -> None:
    for thing in (BAG, TAG, HOLE):
        zone = ((0, 0), (0.3, 0), (0.3, 1), (0, 1))
        assert play(scene, behaviour(event_type, zone, dwell_s=20), thing) == []


def test_a_change_that_reaches_beyond_the_surface_is_not_on_it(scene: MakeScene, behaviour: MakeBehaviour) -> None:
    zone = ((0, 0), (1, 0), (1, 0.3), (0, 0.3))
    assert play(scene, behaviour("surface.tagged", zone, dwell_s=20), TAG) == []


def test_a_vehicle_may_dump_and_owns_no_bag(scene: MakeScene, behaviour: MakeBehaviour) -> None:
    assert play(scene, behaviour("waste.dumped", WHOLE, dwell_s=20), BAG, who=ObjectClass.TRUCK)
    assert play(scene, behaviour("object.abandoned", WHOLE, dwell_s=20), BAG, who=ObjectClass.TRUCK) == []


def test_who_only_passes_has_dumped_nothing(scene: MakeScene, behaviour: MakeBehaviour) -> None:
    assert play(scene, behaviour("waste.dumped", WHOLE, dwell_s=20), BAG, stays=(10, 11)) == []
    assert play(scene, behaviour("surface.damaged", WHOLE, dwell_s=20), HOLE, stays=(10, 11)) == []


def test_the_patch_checker_makes_sure_and_may_be_required(scene: MakeScene, behaviour: MakeBehaviour) -> None:
    heap, other = (dataclasses.replace(BAG, likely=likely) for likely in ((0.9, 0.05, 0.05), (0.1, 0.0, 0.9)))
    ((_, _, confidence),) = play(scene, behaviour("waste.dumped", WHOLE, dwell_s=20), heap)
    assert confidence is Confidence.HIGH
    ((_, _, confidence),) = play(scene, behaviour("waste.dumped", WHOLE, dwell_s=20), other)
    assert confidence is Confidence.MEDIUM
    assert play(scene, behaviour("waste.dumped", WHOLE, dwell_s=20, heap_score=0.5), other) == []


def test_the_patch_checker_tells_thick_writing_from_damage(scene: MakeScene, behaviour: MakeBehaviour) -> None:
    thick = dataclasses.replace(TAG, stroke=0.29)
    for writing, event_type in ((0.4, "surface.tagged"), (0.01, "surface.damaged")):
        told = dataclasses.replace(thick, likely=(0.0, writing, 1 - writing))
        for other in ("surface.tagged", "surface.damaged"):
            assert bool(play(scene, behaviour(other, WHOLE, dwell_s=20), told)) is (other == event_type)


def test_it_ends_when_the_thing_is_gone(scene: MakeScene, behaviour: MakeBehaviour) -> None:
    rule = behaviour("object.abandoned", WHOLE, dwell_s=20)
    assert play(scene, rule, BAG)
    told = [change for tick in range(20) for change in rule.update(scene(60 + tick / 2, []))]
    assert [change.phase for change in told] == [Phase.ENDED]
    assert list(rule.close(70)) == []
