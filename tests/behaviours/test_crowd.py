from __future__ import annotations

from collections.abc import Callable

import pytest

from agent.behaviours.episode import Behaviour, EpisodeChange
from agent.behaviours.registry import build
from agent.contract import Confidence, Level, Phase
from agent.perception.scene import ObjectClass, Scene
from agent.settings import CameraSettings

MakeScene = Callable[..., Scene]
MakeBehaviour = Callable[..., Behaviour]


@pytest.fixture
def crowd(scene: MakeScene) -> Callable[..., list[EpisodeChange]]:
    """Let a rule watch so many people on the left, then so many, two ticks a second."""

    def run(rule: Behaviour, *spans: tuple[float, int]) -> list[EpisodeChange]:
        changes: list[EpisodeChange] = []
        tick = 0
        for seconds, people in spans:
            for _ in range(round(2 * seconds)):
                changes += rule.update(scene(tick / 2, [(k, 0.1, 0.5) for k in range(people)]))
                tick += 1
        return changes

    return run


def test_a_gathering_is_enough_people_for_long_enough(
    behaviour: MakeBehaviour, crowd: Callable[..., list[EpisodeChange]]
) -> None:
    rule = behaviour("crowd.gathering", min_persons=10, hold_s=5, release_s=5)
    changes = crowd(rule, (20, 9), (20, 12), (20, 3))

    assert [(c.phase, c.count) for c in changes] == [(Phase.STARTED, 12), (Phase.ENDED, 12)]
    assert 25 <= changes[0].time <= 27
    assert changes[0].confidence is Confidence.HIGH


def test_a_count_that_wavers_at_the_limit_is_one_gathering(
    behaviour: MakeBehaviour, crowd: Callable[..., list[EpisodeChange]]
) -> None:
    rule = behaviour("crowd.gathering", min_persons=10, hold_s=5, release_s=5)

    assert [c.phase for c in crowd(rule, (20, 10), *[(8, 9), (8, 10)] * 2)] == [Phase.STARTED]


def test_people_beside_the_zone_or_long_out_of_sight_do_not_gather(scene: MakeScene, behaviour: MakeBehaviour) -> None:
    rule = behaviour("crowd.gathering", min_persons=2, hold_s=0)

    assert rule.update(scene(0, [(1, 0.8, 0.5), (2, 0.8, 0.5)])) == []
    assert rule.update(scene(1, [(1, 0.2, 0.5), (2, 0.2, 0.5)], unseen=1.5)) == []
    assert rule.update(scene(2, [(1, 0.2, 0.5), (2, 0.2, 0.5)], object_class=ObjectClass.CAR)) == []


def test_density_tells_each_change_of_class(
    behaviour: MakeBehaviour, crowd: Callable[..., list[EpisodeChange]]
) -> None:
    rule = behaviour("crowd.density", hold_s=2, release_s=4)
    changes = crowd(rule, (10, 2), (10, 7), (10, 20), (10, 40), (10, 7), (20, 0))

    assert [(c.phase, c.level) for c in changes] == [
        (Phase.STARTED, Level.MEDIUM),
        (Phase.ONGOING, Level.HIGH),
        (Phase.ONGOING, Level.CRITICAL),
        (Phase.ONGOING, Level.MEDIUM),
        (Phase.ENDED, Level.MEDIUM),
    ]


def test_one_person_at_the_limit_does_not_make_the_class_flicker(
    behaviour: MakeBehaviour, crowd: Callable[..., list[EpisodeChange]]
) -> None:
    rule = behaviour("crowd.density", hold_s=2)

    assert [c.level for c in crowd(rule, (10, 15), *[(8, 14), (8, 15)] * 3)] == [Level.HIGH]


def test_closing_ends_what_is_open_and_forgets_the_level(
    behaviour: MakeBehaviour, crowd: Callable[..., list[EpisodeChange]]
) -> None:
    rule = behaviour("crowd.density", hold_s=0)
    crowd(rule, (5, 15))

    assert [c.phase for c in rule.close(6)] == [Phase.ENDED]
    assert [c.level for c in crowd(rule, (5, 14))] == [Level.MEDIUM]


def test_in_a_calibrated_zone_density_is_people_per_square_metre(scene: MakeScene) -> None:
    corners = [(0, 0), (1, 0), (1, 1), (0, 1)]
    zone = {
        "name": "square",
        "polygon": corners,
        "calibration": {"picture": corners, "ground_m": [(0, 0), (5, 0), (5, 2), (0, 2)]},
    }
    rule = {"type": "crowd.density", "zone": "square", "report_from": "low", "hold_s": 0}
    camera = CameraSettings.model_validate({"name": "c", "source": "file:x", "zone": [zone], "rule": [rule]})
    levels = []
    for count in (2, 3, 7, 11, 22):  # on ten square metres
        density = build(camera.rules[0], camera)
        changes = density.update(scene(0.0, [(number, 0.02 + 0.04 * number, 0.5) for number in range(count)]))
        levels += [change.level for change in changes] or [Level.FREE]
    assert levels == [Level.FREE, Level.LOW, Level.MEDIUM, Level.HIGH, Level.CRITICAL]
