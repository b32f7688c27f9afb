from __future__ import annotations

from collections.abc import Callable

from agent.behaviours.episode import Behaviour
from agent.contract import Phase
from agent.perception.scene import ObjectClass, Scene

MakeScene = Callable[..., Scene]
MakeBehaviour = Callable[..., Behaviour]


def test_somebody_inside_for_a_moment_intrudes_until_the_zone_is_clear(
    scene: MakeScene, behaviour: MakeBehaviour
) -> None:
    rule = behaviour("zone.intrusion", classes=["person"], hold_s=0.5, release_s=3)
    rule.update(scene(-0.1, [(1, 0.7, 0.5)]))
    inside = [c for k in range(20) for c in rule.update(scene(k / 10, [(1, 0.2, 0.5)]))]
    outside = [c for k in range(60) for c in rule.update(scene(2 + k / 10, [(1, 0.7, 0.5)]))]

    assert [(c.phase, c.time) for c in inside] == [(Phase.STARTED, 0.5)]
    assert [c.phase for c in outside] == [Phase.ENDED]


def test_somebody_whose_feet_only_swing_across_the_line_does_not(scene: MakeScene, behaviour: MakeBehaviour) -> None:
    rule = behaviour("zone.intrusion")

    for k in range(100):
        x = 0.49 if k % 20 < 3 else 0.52
        assert rule.update(scene(k / 10, [(1, x, 0.5)])) == [] or x > 0.5


def test_only_the_named_classes_intrude(scene: MakeScene, behaviour: MakeBehaviour) -> None:
    cars = behaviour("zone.intrusion", classes=["car"], hold_s=0)
    vehicles = behaviour("zone.intrusion", classes=["vehicle"], hold_s=0)
    for rule in (cars, vehicles):
        rule.update(scene(-0.1, [(1, 0.7, 0.5)], object_class=ObjectClass.TRUCK))
    van = scene(0, [(1, 0.2, 0.5)], object_class=ObjectClass.TRUCK)

    assert cars.update(van) == []
    assert [c.phase for c in vehicles.update(van)] == [Phase.STARTED]


def test_time_inside_counts_before_the_class_is_certain(scene: MakeScene, behaviour: MakeBehaviour) -> None:
    rule = behaviour("zone.intrusion", classes=["car"], hold_s=2)
    rule.update(scene(-0.1, [(1, 0.7, 0.5)], object_class=ObjectClass.TRUCK))
    changes = [
        change
        for k in range(30)
        for change in rule.update(
            scene(k / 10, [(1, 0.2, 0.5)], object_class=ObjectClass.TRUCK if k < 25 else ObjectClass.CAR)
        )
    ]

    assert [c.time for c in changes] == [2.5]


def test_what_has_never_moved_is_a_thing_that_the_detector_takes_for_somebody(
    scene: MakeScene, behaviour: MakeBehaviour
) -> None:
    rule = behaviour("zone.intrusion")

    assert [c for k in range(100) for c in rule.update(scene(k / 10, [(1, 0.2 + 0.002 * (k % 3), 0.5)]))] == []


def test_whoever_walked_is_known_when_the_track_breaks(scene: MakeScene, behaviour: MakeBehaviour) -> None:
    rule = behaviour("zone.intrusion", hold_s=0.5)
    rule.update(scene(-0.1, [(1, 0.7, 0.5)]))
    rule.update(scene(0, [(1, 0.2, 0.5)]))
    rule.update(scene(0.5, []))

    assert [c.phase for k in range(10) for c in rule.update(scene(1 + k / 10, [(2, 0.2, 0.5)]))] == [Phase.STARTED]
