from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from agent.behaviours.episode import Behaviour, EpisodeChange
from agent.contract import Phase
from agent.perception.scene import Scene
from tests.behaviours.conftest import WIDTH

MakeScene = Callable[..., Scene]
MakeBehaviour = Callable[..., Behaviour]


def watch(
    rule: Behaviour, scene: MakeScene, begin: float, end: float, *standing: tuple[int, float, float]
) -> list[EpisodeChange]:
    ticks = [begin + k / 5 for k in range(round(5 * (end - begin)))]
    return [change for time in ticks for change in rule.update(scene(time, standing))]


def test_staying_too_long_is_loitering(scene: MakeScene, behaviour: MakeBehaviour) -> None:
    rule = behaviour("person.loitering", dwell_s=15)
    watch(rule, scene, -1, 0, (1, 0.7, 0.5))
    changes = watch(rule, scene, 0, 30, (1, 0.2, 0.5)) + watch(rule, scene, 30, 40)

    assert [c.phase for c in changes] == [Phase.STARTED, Phase.ENDED]
    assert changes[0].time == 15


def test_broken_tracks_in_one_place_are_one_stay(scene: MakeScene, behaviour: MakeBehaviour) -> None:
    rule = behaviour("person.loitering", dwell_s=15)
    changes = watch(rule, scene, -1, 0, (0, 0.7, 0.5))
    for track in range(5):
        changes += watch(rule, scene, 4 * track, 4 * track + 3, (track, 0.2 + 0.01 * track, 0.5))
        changes += watch(rule, scene, 4 * track + 3, 4 * track + 4)

    assert [c.phase for c in changes] == [Phase.STARTED]


def test_a_stream_of_passers_by_is_not_loitering(scene: MakeScene, behaviour: MakeBehaviour) -> None:
    rule = behaviour("person.loitering", dwell_s=15)
    changes: list[EpisodeChange] = []
    for walker in range(10):
        for k in range(20):
            places = [(walker, 0.025 * k, 0.5), (walker + 100, 0.025 * k, 0.8)]
            one = scene(4 * walker + k / 5, places)
            velocities = np.tile(np.array([0.125 * WIDTH, 0], np.float32), (2, 1))
            changes += rule.update(replace(one, tracks=replace(one.tracks, velocities=velocities)))

    assert changes == []


def test_one_stay_after_another_does_not_add_up(scene: MakeScene, behaviour: MakeBehaviour) -> None:
    rule = behaviour("person.loitering", dwell_s=15)
    watch(rule, scene, -1, 0, (1, 0.7, 0.5))
    first = watch(rule, scene, 0, 12, (1, 0.2, 0.5)) + watch(rule, scene, 12, 14)
    watch(rule, scene, 14, 15, (2, 0.7, 0.5))

    assert first + watch(rule, scene, 15, 28, (2, 0.2, 0.5)) == []


def test_two_who_linger_make_one_episode(scene: MakeScene, behaviour: MakeBehaviour) -> None:
    rule = behaviour("person.loitering", dwell_s=15)

    watch(rule, scene, -1, 0, (1, 0.7, 0.5), (2, 0.8, 0.5))
    assert [c.phase for c in watch(rule, scene, 0, 40, (1, 0.1, 0.5), (2, 0.4, 0.5))] == [Phase.STARTED]


def test_a_sign_that_the_detector_takes_for_a_person_does_not_linger(
    scene: MakeScene, behaviour: MakeBehaviour
) -> None:
    assert watch(behaviour("person.loitering", dwell_s=15), scene, 0, 60, (1, 0.2, 0.5)) == []


def test_whose_feet_are_seen_just_outside_now_and_then_has_not_left(scene: MakeScene, behaviour: MakeBehaviour) -> None:
    rule = behaviour("person.loitering", dwell_s=15)
    changes = watch(rule, scene, -1, 0, (1, 0.7, 0.5)) + watch(rule, scene, 0, 5, (1, 0.495, 0.5))
    changes += watch(rule, scene, 5, 12, (1, 0.51, 0.5)) + watch(rule, scene, 12, 20, (1, 0.495, 0.5))

    assert [c.phase for c in changes] == [Phase.STARTED]
