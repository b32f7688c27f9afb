from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.behaviours.direction_wrong_way import DirectionWrongWay, DirectionWrongWayParameters
from agent.behaviours.episode import Behaviour, EpisodeChange
from agent.behaviours.zone import Zone
from agent.contract import Phase
from agent.perception.scene import ObjectClass, Scene
from agent.settings import SettingsError

MakeScene = Callable[..., Scene]
MakeBehaviour = Callable[..., Behaviour]
WHOLE = ((0, 0), (1, 0), (1, 1), (0, 1))


def drive(
    rule: Behaviour, scene: MakeScene, path: list[tuple[float, float]], **what: ObjectClass
) -> list[EpisodeChange]:
    return [c for k, (x, y) in enumerate(path) for c in rule.update(scene(k / 10, [(1, x, y)], **what))]


def line(x0: float, y0: float, x1: float, y1: float, steps: int = 40) -> list[tuple[float, float]]:
    return [(x0 + (x1 - x0) * k / steps, y0 + (y1 - y0) * k / steps) for k in range(steps + 1)]


def test_up_a_road_that_leads_down_is_wrong(scene: MakeScene, behaviour: MakeBehaviour) -> None:
    rule = behaviour("direction.wrong_way", WHOLE, allowed=[0, 1])

    assert [c.phase for c in drive(rule, scene, line(0.5, 0.9, 0.5, 0.3))] == [Phase.STARTED]


def test_down_and_across_is_right(scene: MakeScene, behaviour: MakeBehaviour) -> None:
    for path in (line(0.5, 0.3, 0.5, 0.9), line(0.1, 0.5, 0.9, 0.5), line(0.1, 0.6, 0.9, 0.4)):
        assert drive(behaviour("direction.wrong_way", WHOLE, allowed=[0, 1]), scene, path) == []


def test_a_step_back_is_no_wrong_way_but_turning_round_is(scene: MakeScene, behaviour: MakeBehaviour) -> None:
    rule = behaviour("direction.wrong_way", WHOLE, allowed=[0, 1])
    rocking = [(0.5, 0.5 + 0.05 * math.sin(k)) for k in range(100)]

    assert drive(rule, scene, rocking) == []
    turned = behaviour("direction.wrong_way", WHOLE, allowed=[0, 1])
    assert [c.phase for c in drive(turned, scene, line(0.5, 0.3, 0.5, 0.9) + line(0.5, 0.9, 0.5, 0.4))] == [
        Phase.STARTED
    ]


def test_a_bicycle_may_where_only_vehicles_are_named(scene: MakeScene, behaviour: MakeBehaviour) -> None:
    rule = behaviour("direction.wrong_way", WHOLE, allowed=[0, 1], classes=["vehicle"])

    assert drive(rule, scene, line(0.5, 0.9, 0.5, 0.3), object_class=ObjectClass.BICYCLE) == []


@given(st.floats(0, 2 * math.pi), st.floats(-math.pi, math.pi))
def test_wrong_is_within_45_degrees_of_the_opposite(way: float, off: float) -> None:
    zone = Zone("zone", WHOLE)
    allowed = (math.cos(way), math.sin(way))
    rule = DirectionWrongWay(zone, DirectionWrongWayParameters(allowed=allowed))
    from_opposite = abs((off + math.pi) % (2 * math.pi) - math.pi)
    heading = way + math.pi + off
    wrong = False
    for k in range(60):
        x, y = 500 + 5 * k * math.cos(heading), 250 + 5 * k * math.sin(heading)
        wrong |= rule._is_wrong(1, [x - 20, y - 50, x + 20, y + 50])

    if from_opposite < math.radians(43):
        assert wrong
    if from_opposite > math.radians(47):
        assert not wrong


def test_a_direction_without_length_is_refused(behaviour: MakeBehaviour) -> None:
    with pytest.raises(SettingsError, match="a direction has a length"):
        behaviour("direction.wrong_way", allowed=[0, 0])
