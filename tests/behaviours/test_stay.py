from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from agent.behaviours.stay import Stays
from agent.perception.scene import Scene

MakeScene = Callable[..., Scene]


def stayed(stays: Stays, scene: Scene) -> list[float]:
    return [round(float(s), 3) for s in stays.update(scene, np.ones(len(scene.tracks), np.bool_))]


def test_a_stay_grows_with_its_track(scene: MakeScene) -> None:
    stays = Stays(bridge_s=2)

    assert stayed(stays, scene(10, [(1, 0.2, 0.5)])) == [0]
    assert stayed(stays, scene(14, [(1, 0.2, 0.5)])) == [0], "unseen for longer than the bridge: a new stay"
    assert stayed(stays, scene(15.5, [(1, 0.4, 0.9)])) == [1.5]


def test_a_new_track_where_one_was_lost_continues_its_stay(scene: MakeScene) -> None:
    stays = Stays(bridge_s=2)
    for time in (10, 11, 12):
        stayed(stays, scene(time, [(1, 0.2, 0.5)]))

    assert stayed(stays, scene(13.5, [(2, 0.25, 0.5)])) == [3.5]


def test_a_new_track_elsewhere_or_later_does_not(scene: MakeScene) -> None:
    stays = Stays(bridge_s=2)
    stayed(stays, scene(10, [(1, 0.2, 0.5)]))
    assert stayed(stays, scene(11, [(2, 0.6, 0.5)])) == [0]

    later = Stays(bridge_s=2)
    stayed(later, scene(10, [(1, 0.2, 0.5)]))
    assert stayed(later, scene(12.1, [(2, 0.2, 0.5)])) == [0]


def test_nobody_inherits_from_a_person_who_is_still_in_sight(scene: MakeScene) -> None:
    stays = Stays(bridge_s=2)
    stayed(stays, scene(10, [(1, 0.2, 0.5)]))

    assert stayed(stays, scene(11, [(1, 0.2, 0.5), (2, 0.22, 0.5)])) == [1, 0]


def test_one_lost_stay_has_one_heir_the_nearest(scene: MakeScene) -> None:
    stays = Stays(bridge_s=2)
    stayed(stays, scene(9, [(1, 0.2, 0.5)]))
    stayed(stays, scene(10, [(1, 0.2, 0.5), (2, 0.27, 0.5)]))

    assert stayed(stays, scene(11, [(3, 0.26, 0.5), (4, 0.26, 0.5)])) == [1, 2]


def test_a_track_that_is_only_predicted_adds_nothing(scene: MakeScene) -> None:
    stays = Stays(bridge_s=2)
    stayed(stays, scene(10, [(1, 0.2, 0.5)]))

    assert stayed(stays, scene(11, [(1, 0.2, 0.5)], unseen=1.0)) == [0]
    assert stayed(stays, scene(11.5, [(1, 0.2, 0.5)])) == [1.5]


def test_stays_do_not_pile_up(scene: MakeScene) -> None:
    stays = Stays(bridge_s=2)
    for track in range(200):
        stays.update(scene(track, [(track, 0.2, (track % 2) * 0.9)]), np.ones(1, np.bool_))

    assert len(stays._stays) <= 3


def test_who_strides_out_of_sight_is_gone_though_the_box_stops_at_the_edge(scene: MakeScene) -> None:
    stays = Stays(bridge_s=5)
    for tenth in range(1, 31):
        seen = scene(tenth / 10, [(1, 0.2, 0.5)])
        pace = 100.0 if 25 <= tenth < 30 else 0.0
        stayed(stays, replace(seen, tracks=replace(seen.tracks, velocities=np.array([[pace, 0]], np.float32))))
    for tenth in range(31, 60):
        stayed(stays, scene(tenth / 10, []))

    assert stayed(stays, scene(6.0, [(2, 0.2, 0.5)])) == [0], "three seconds later it is somebody else"
