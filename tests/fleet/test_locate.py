"""Where a shot was: exact hearing, echoes, lying clocks, and places that nobody can tell."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.evaluate.locating import Street, evaluate
from agent.fleet.locate import Arrival, Place, locate, speed_of_sound

SQUARE = [(0.0, 0.0), (200.0, 10.0), (190.0, 200.0), (5.0, 180.0), (100.0, 90.0), (60.0, 210.0)]
SHOT = (120.0, 60.0)


def heard(
    sites: list[tuple[float, float]], shot: tuple[float, float] = SHOT, late: dict[int, float] | None = None
) -> list[Arrival]:
    """What devices hear of a shot at second 100; some of them late, seconds."""
    speed = speed_of_sound(15.0)
    return [
        Arrival(x, y, 100.0 + math.hypot(x - shot[0], y - shot[1], 3.0) / speed + (late or {}).get(i, 0.0), 0.005)
        for i, (x, y) in enumerate(sites)
    ]


def located(arrivals: list[Arrival]) -> Place:
    place = locate(arrivals, 15.0)
    assert isinstance(place, Place), place
    return place


def off(place: Place) -> float:
    return math.hypot(place.x - SHOT[0], place.y - SHOT[1])


def test_the_speed_of_sound_is_that_of_the_tables() -> None:
    assert speed_of_sound(0) == pytest.approx(331.3)
    assert speed_of_sound(20) == pytest.approx(343.2, abs=0.1)


def test_six_devices_that_hear_exactly_find_the_place_and_the_moment() -> None:
    place = located(heard(SQUARE))
    assert off(place) < 3
    assert place.time == pytest.approx(100.0, abs=0.02)
    assert place.direct == (True,) * 6
    assert place.semi_major_m < 15
    assert place.holds(*SHOT)


def test_one_echo_is_told_from_the_direct_sound() -> None:
    place = located(heard(SQUARE, late={0: 0.15}))
    assert place.direct == (False, True, True, True, True, True)
    assert off(place) < 5
    assert place.holds(*SHOT)


def test_a_clock_that_lies_is_left_out() -> None:
    place = located(heard(SQUARE, late={3: -0.4}))
    assert not place.direct[3]
    assert off(place) < 8
    assert place.holds(*SHOT)


def test_fewer_than_three_devices_are_refused() -> None:
    assert locate(heard(SQUARE[:2]), 15.0) == "few-devices"
    assert locate([], 15.0) == "few-devices"


def test_devices_in_a_line_cannot_tell_which_side_and_are_refused() -> None:
    line = [(0.0, 0.0), (100.0, 0.0), (200.0, 0.0), (300.0, 0.0)]
    assert locate(heard(line, (120.0, 150.0)), 15.0, most_m=100.0) == "geometry"


def test_devices_of_which_nobody_knows_a_distance_are_refused() -> None:
    corner = [(0.0, 0.0), (20.0, 0.0), (0.0, 20.0)]
    assert locate(heard(corner, (900.0, 700.0)), 15.0) == "geometry"


def test_arrivals_further_apart_than_sound_can_be_are_no_sound() -> None:
    arrivals = heard(SQUARE[:3], late={0: 3.0, 1: -3.0})
    assert locate(arrivals, 15.0) in {"no-fit", "geometry"}


def test_three_devices_give_a_large_ellipse_since_nobody_contradicts_an_echo() -> None:
    three = locate(heard(SQUARE[:3]), 15.0, most_m=1000.0)
    assert isinstance(three, Place)
    assert three.holds(*SHOT)
    assert three.semi_major_m > 3 * located(heard(SQUARE)).semi_major_m


def test_the_ellipse_points_along_what_is_not_known() -> None:
    # East of all of them: the direction is known better than the distance.
    group = [(0.0, 0.0), (0.0, 100.0), (60.0, 0.0), (60.0, 100.0), (30.0, 50.0), (60.0, 50.0)]
    place = located(heard(group, (150.0, 50.0)))
    assert place.azimuth_deg == pytest.approx(90, abs=20)
    assert place.semi_major_m > 2 * place.semi_minor_m
    assert place.holds(150.0, 50.0)


def test_the_same_arrivals_give_the_same_place() -> None:
    assert locate(heard(SQUARE), 15.0) == locate(heard(SQUARE), 15.0)


def test_more_devices_than_are_looked_at_do_no_harm() -> None:
    ring = [(100 + 90 * math.cos(angle), 100 + 90 * math.sin(angle)) for angle in np.linspace(0, 6, 14)]
    place = located(heard(ring))
    assert off(place) < 3
    assert len(place.direct) == 14


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4), st.floats(-10, 10), st.floats(1e-4, 0.1)),
        min_size=3,
        max_size=5,
    )
)
def test_whatever_is_told_gives_a_place_or_a_reason(told: list[tuple[float, float, float, float]]) -> None:
    place = locate([Arrival(*one) for one in told], 15.0)
    if isinstance(place, Place):
        assert math.isfinite(place.x + place.y + place.time + place.semi_major_m + place.azimuth_deg)
        assert 0 < place.semi_minor_m <= place.semi_major_m <= 200


def test_on_simulated_streets_the_ellipse_is_honest() -> None:
    # `vigie eval locate` measures more of them.
    result = evaluate(Street(devices=6, echo=0.15), 20, 3)
    assert result.median_error_m is not None
    assert result.coverage is not None
    assert result.median_error_m <= 15
    assert result.coverage >= 0.9
    assert result.located >= 15
