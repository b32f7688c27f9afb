from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.behaviours.zone import Calibration, Zone

WHOLE = Zone("whole", [(0, 0), (1, 0), (1, 1), (0, 1)])
fraction = st.floats(0, 1, width=32)
anywhere = st.floats(-3, 3, width=32)


def contains(zone: Zone, *points: tuple[float, float]) -> list[bool]:
    return [bool(inside) for inside in zone.contains(np.array(points, np.float32).reshape(len(points), 2))]


@given(anywhere, anywhere)
def test_the_whole_picture_contains_everybody_even_whose_feet_it_cuts_off(x: float, y: float) -> None:
    assert contains(WHOLE, (x, y)) == [True]


@given(fraction, fraction, fraction)
def test_two_halves_share_nobody_and_miss_nobody(x: float, y: float, cut: float) -> None:
    cut = min(max(cut, 0.01), 0.99)
    left = Zone("left", [(0, 0), (cut, 0), (cut, 1), (0, 1)])
    right = Zone("right", [(cut, 0), (1, 0), (1, 1), (cut, 1)])

    assert contains(left, (x, y)) != contains(right, (x, y))


@given(st.tuples(fraction, fraction), st.integers(3, 12), st.floats(0.05, 0.4), st.floats(0, 6), st.integers(0, 11))
def test_a_regular_polygon_is_its_circle_but_for_the_rim(
    point: tuple[float, float], corners: int, radius: float, turn: float, first: int
) -> None:
    angles = [turn + 2 * math.pi * k / corners for k in range(corners)]
    polygon = [(0.5 + radius * math.cos(a), 0.5 + radius * math.sin(a)) for a in angles]
    zone = Zone("disc", polygon[first % corners :] + polygon[: first % corners])
    distance = math.dist(point, (0.5, 0.5))

    if distance > radius * 1.001:
        assert contains(zone, point) == [False]
    if distance < radius * math.cos(math.pi / corners) * 0.999:
        assert contains(zone, point) == [True]


def test_a_bay_in_the_polygon_is_outside() -> None:
    u_shape = Zone(
        "u", [(0.1, 0.1), (0.3, 0.1), (0.3, 0.7), (0.7, 0.7), (0.7, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9)]
    )

    assert contains(u_shape, (0.2, 0.2), (0.5, 0.3), (0.8, 0.2), (0.5, 0.8)) == [True, False, True, True]


def test_an_empty_scene_has_nobody_inside() -> None:
    assert contains(WHOLE) == []


#: A floor of 6 m by 4 m, seen in perspective.
FLOOR = Calibration([(0.4, 0.4), (0.6, 0.4), (0.9, 0.9), (0.1, 0.9)], [(0, 0), (6, 0), (6, 4), (0, 4)])


def test_a_calibrated_zone_knows_its_area() -> None:
    assert Zone("floor", [(0.4, 0.4), (0.6, 0.4), (0.9, 0.9), (0.1, 0.9)], FLOOR).area_m2 == pytest.approx(24)
    assert Zone("floor", [(0.4, 0.4), (0.6, 0.4), (0.9, 0.9)], FLOOR).area_m2 == pytest.approx(12)
    assert Zone("floor", [(0.3, 0.4), (0.7, 0.4), (0.9, 0.9)]).area_m2 is None


def test_what_reaches_to_the_horizon_has_no_area() -> None:
    with pytest.raises(ValueError, match="horizon"):
        Zone("sky", [(0.1, 0.01), (0.9, 0.01), (0.5, 0.9)], FLOOR)


@given(st.floats(-0.3, 0.3), st.floats(0.2, 0.6), st.floats(1, 50), st.floats(1, 50))
def test_calibration_maps_its_own_points(shift: float, depth: float, wide: float, long: float) -> None:
    picture = [(0.4 + shift / 4, 0.3), (0.6 + shift / 4, 0.3), (0.9, 0.3 + depth), (0.1, 0.3 + depth)]
    ground = [(0.0, 0.0), (wide, 0.0), (wide, long), (0.0, long)]
    np.testing.assert_allclose(
        Calibration(picture, ground).ground(np.array(picture)), ground, atol=1e-3 * max(wide, long)
    )


def test_points_in_another_order_are_refused() -> None:
    with pytest.raises(ValueError, match="same order"):
        Calibration([(0.3, 0.4), (0.7, 0.4), (0.1, 0.9), (0.9, 0.9)], [(0, 0), (6, 0), (6, 4), (0, 4)])
