"""The simulated world: projection, ground truth, and that a seed tells everything."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.simulate.scenarios import SCENARIOS, Options, scenario
from agent.simulate.world import View, World

VIEW = View()


def test_what_lies_on_the_optical_axis_is_seen_in_the_middle() -> None:
    pitch = np.radians(VIEW.pitch_deg)
    ahead = np.array([[0.0, 10 * np.cos(pitch), VIEW.above_m - 10 * np.sin(pitch)]])
    pixels, depth = VIEW.project(ahead)
    assert pixels[0] == pytest.approx((VIEW.width / 2, VIEW.height / 2))
    assert depth[0] == pytest.approx(10)


def test_who_is_farther_is_smaller_and_higher_in_the_picture() -> None:
    paths = [np.array([[0.0, 0.0, y], [1.0, 0.0, y]]) for y in (9.0, 18.0)]
    truth = World(paths, np.random.default_rng(1)).truth(0.5, VIEW)
    far, near = truth.boxes[truth.ids == 1][0], truth.boxes[truth.ids == 0][0]
    assert far[3] - far[1] < near[3] - near[1]
    assert far[3] < near[3]


def test_who_stands_behind_somebody_is_hidden() -> None:
    paths = [np.array([[0.0, 0.0, y], [1.0, 0.0, y]]) for y in (10.0, 10.6)]
    truth = World(paths, np.random.default_rng(1)).truth(0.5, VIEW)
    assert truth.ids.tolist() == [1, 0], "the farthest first"
    assert truth.visible[0] < 0.4
    assert truth.visible[1] == 1.0


def test_nobody_is_there_before_the_beginning_and_after_the_end_of_a_path() -> None:
    world = World([np.array([[5.0, 0.0, 10.0], [9.0, 1.0, 10.0]])], np.random.default_rng(1))
    assert [len(world.people(t)[0]) for t in (4.9, 5.0, 9.0, 9.1)] == [0, 1, 1, 0]


@given(name=st.sampled_from(sorted(SCENARIOS)), seed=st.integers(0, 99), time=st.floats(0, 60))
def test_boxes_are_inside_the_frame_and_the_same_for_the_same_seed(name: str, seed: int, time: float) -> None:
    first = scenario(name, Options(seed=seed), VIEW).world.truth(time, VIEW)
    again = scenario(name, Options(seed=seed), VIEW).world.truth(time, VIEW)
    assert np.array_equal(first.boxes, again.boxes)
    assert np.isfinite(first.boxes).all()
    assert (first.boxes >= 0).all()
    assert (first.boxes <= [VIEW.width, VIEW.height, VIEW.width, VIEW.height]).all()
    assert ((first.visible >= 0) & (first.visible <= 1)).all()


def test_a_piece_of_ground_becomes_a_zone_that_holds_the_feet_of_those_on_it() -> None:
    polygon = np.array(VIEW.polygon([(-2, 9), (2, 9), (2, 14), (-2, 14)]))
    feet, _ = VIEW.project(np.array([[0.0, 11.0, 0.0]]))
    x, y = feet[0] / (VIEW.width, VIEW.height)
    assert polygon[:, 0].min() < x < polygon[:, 0].max()
    assert polygon[:, 1].min() < y < polygon[:, 1].max()


def test_who_meets_somebody_makes_some_room_and_still_arrives_in_time() -> None:
    there = np.array([[0.0, -10.0, 10.0], [15.0, 10.0, 10.0]])
    back = np.array([[0.0, 10.0, 10.1], [15.0, -10.0, 10.1]])
    world = World([there, back], np.random.default_rng(1))
    apart = [np.hypot(*np.diff(world.people(k / 10)[1], axis=0)[0]) for k in range(150)]
    assert min(apart) > 0.15, "their paths come as near as 0.1 m"
    assert np.abs(world.people(15.0)[1] - [[10.0, 10.0], [-10.0, 10.1]]).max() < 0.3


def test_a_moment_is_the_same_however_it_is_reached() -> None:
    def crowd() -> World:
        return scenario("crowd", Options(people=30, seconds=200), VIEW).world

    straight, wandering = crowd(), crowd()
    for time in (3.0, 0.0, 90.0, 1.0):
        wandering.people(time)
    assert np.array_equal(straight.people(70.05)[1], wandering.people(70.05)[1])


def test_two_cameras_on_opposite_sides_see_the_same_people_mirrored() -> None:
    world = World([np.array([[0.0, 2.0, 15.0], [1.0, 2.0, 15.0]])], np.random.default_rng(1))
    here, there = world.truth(0.5, VIEW), world.truth(0.5, View(y_m=30.0, heading_deg=180.0))
    assert here.ids.tolist() == there.ids.tolist() == [0]
    assert VIEW.width - there.boxes[0, [2, 0]] == pytest.approx(here.boxes[0, [0, 2]], abs=0.01)


def test_who_is_half_in_the_frame_is_half_visible() -> None:
    world = World([np.array([[0.0, 0.0, 12.0], [1.0, 0.0, 12.0]])], np.random.default_rng(1))
    middle, depth = VIEW.project(np.array([[0.0, 12.0, 0.0]]))
    aside = View(x_m=float(depth[0] / VIEW.focal * middle[0, 0]))
    truth = world.truth(0.5, aside)
    assert truth.visible[0] == pytest.approx(0.5, abs=0.01)
    assert truth.boxes[0, 0] == 0 > truth.whole[0, 0]


def test_ground_behind_the_camera_is_no_zone() -> None:
    with pytest.raises(ValueError, match="lies behind it"):
        VIEW.polygon([(-1, 5), (1, 5), (0, -5)])
