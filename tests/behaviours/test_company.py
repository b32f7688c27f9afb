from __future__ import annotations

import dataclasses

import numpy as np

from agent.behaviours.company import Company, Left
from agent.behaviours.parameters import class_table
from agent.perception.scene import StillThing
from tests.behaviours.conftest import HEIGHT, MakeScene, Standing

#: A thing on the ground in the middle, of 20 by 20 pixels; people are 100 pixels tall.
BAG = StillThing(1, (490, 230, 510, 250), since=10.0, area=1.0, quiet_since=12.0, stroke=0.35, fill=0.8)
BESIDE, NEAR, FAR = 0.53, 0.6, 0.9


class Play:
    """People and a thing at a tick a half second, and what the company says at the last."""

    def __init__(self, scene: MakeScene) -> None:
        self._scene = scene
        self._company = Company(class_table(["person"]), beside=0.6, near=1.5, lower=0.3, before_s=2)
        self.time = 0.0

    def until(
        self, time: float, *standing: Standing, thing: StillThing | None = None, speed: float = 0.0
    ) -> list[Left]:
        """Until a time; `speed` to the right is that of the tracks, pixels a second, not that of where they are put."""
        found: list[Left] = []
        while self.time < time:
            shown = dataclasses.replace(self._scene(self.time, standing), still=(thing,) if thing else ())
            velocities = np.tile(np.array([speed, 0], np.float32), (len(standing), 1))
            shown = dataclasses.replace(shown, tracks=dataclasses.replace(shown.tracks, velocities=velocities))
            found = self._company.update(shown)
            self.time += 0.5
        return found


def at(track: int, x: float) -> Standing:
    return (track, x, 250 / HEIGHT)


def test_who_was_beside_a_thing_when_it_came_owns_it_and_is_gone_once_far_away(scene: MakeScene) -> None:
    play = Play(scene)
    play.until(20, at(1, BESIDE))
    (left,) = play.until(25, at(1, NEAR), thing=BAG)
    assert left.gone_s == 0
    assert left.tall == 100
    assert left.stayed_s >= 8
    assert abs(left.above) < 0.01
    (left,) = play.until(45, at(1, FAR), thing=BAG)
    assert 19 <= left.gone_s <= 20


def test_nobody_beside_it_brought_nothing(scene: MakeScene) -> None:
    play = Play(scene)
    play.until(20, at(1, FAR))
    assert play.until(30, at(1, FAR), thing=BAG) == []


def test_who_walks_up_later_does_not_own_it(scene: MakeScene) -> None:
    play = Play(scene)
    play.until(20, at(1, BESIDE))
    play.until(24, at(1, FAR), thing=BAG)
    play.until(26, at(1, FAR), at(2, 0.8), thing=BAG)
    (left,) = play.until(45, at(1, FAR), at(2, BESIDE), thing=BAG)
    assert left.gone_s >= 24


def test_a_track_that_begins_beside_it_goes_on_with_the_one_that_was_lost_there(scene: MakeScene) -> None:
    play = Play(scene)
    play.until(20, at(1, BESIDE))
    play.until(22, at(1, BESIDE), thing=BAG)
    play.until(24, thing=BAG)
    (left,) = play.until(45, at(2, BESIDE), thing=BAG)
    assert left.gone_s == 0
    (left,) = play.until(55, at(2, FAR), thing=BAG)
    assert 9 <= left.gone_s <= 10


def test_who_is_lost_beside_it_is_gone_after_some_seconds(scene: MakeScene) -> None:
    play = Play(scene)
    play.until(20, at(1, BESIDE))
    play.until(22, at(1, BESIDE), thing=BAG)
    (left,) = play.until(26, thing=BAG)
    assert left.gone_s == 0
    (left,) = play.until(60, thing=BAG)
    assert 32 <= left.gone_s <= 34


def test_who_is_lost_while_walking_away_is_gone_when_far_enough_to_be(scene: MakeScene) -> None:
    play = Play(scene)
    play.until(20, at(1, BESIDE))
    play.until(22, at(1, NEAR), thing=BAG, speed=80)
    (left,) = play.until(30, thing=BAG)
    assert 6.5 <= left.gone_s <= 8


def test_a_track_that_begins_where_the_lost_one_must_have_walked_goes_on_with_it(scene: MakeScene) -> None:
    play = Play(scene)
    play.until(20, at(1, BESIDE))
    play.until(22, at(1, NEAR), thing=BAG, speed=80)
    play.until(24, thing=BAG)
    play.until(26, at(2, 0.78), thing=BAG)
    (left,) = play.until(45, at(2, NEAR), thing=BAG)
    assert left.gone_s == 0


def test_who_walks_out_of_the_picture_is_gone_at_once(scene: MakeScene) -> None:
    by_the_edge = dataclasses.replace(BAG, box=(950, 230, 970, 250))
    play = Play(scene)
    play.until(20, at(1, 0.95))
    play.until(22, at(1, 0.99), thing=by_the_edge)
    (left,) = play.until(30, thing=by_the_edge)
    assert left.gone_s >= 7


def test_what_lies_above_the_feet_is_told(scene: MakeScene) -> None:
    play = Play(scene)
    play.until(20, at(1, BESIDE))
    on_the_wall = dataclasses.replace(BAG, box=(490, 170, 510, 190))
    (left,) = play.until(25, at(1, BESIDE), thing=on_the_wall)
    assert abs(left.above - 0.6) < 0.01


def test_who_stood_there_counts_and_not_who_passed_for_longer(scene: MakeScene) -> None:
    play = Play(scene)
    play.until(4, (1, BESIDE, 0.9), speed=60)
    play.until(12, (1, 0.55, 0.55), speed=60)
    play.until(15, at(2, BESIDE))
    (left,) = play.until(16, at(2, BESIDE), thing=dataclasses.replace(BAG, since=14.0))
    assert abs(left.above) < 0.01


def test_everybody_is_forgotten_with_the_thing(scene: MakeScene) -> None:
    play = Play(scene)
    play.until(20, at(1, BESIDE))
    assert play.until(22, at(1, BESIDE), thing=BAG)
    play.until(300, at(1, FAR))
    assert play.until(310, at(1, FAR), thing=dataclasses.replace(BAG, number=2)) == []
