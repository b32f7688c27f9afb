from __future__ import annotations

import numpy as np
import pytest

from agent.capture.frame import Frame
from agent.perception.scene import Detections, ObjectClass
from agent.perception.unknown import UnknownVehicles

WIDTH, HEIGHT = 480, 270
RANDOM = np.random.default_rng(4)
ROAD = np.clip(np.linspace(60, 160, WIDTH)[None, :, None] + RANDOM.normal(0, 8, (HEIGHT, WIDTH, 3)), 0, 255)


def frame(index: int, *, exposure: float = 1.0, wide: int = 90) -> Frame:
    """A car that drives to the right after four seconds; three levels of noise."""
    picture = ROAD.copy()
    if index >= 40:
        x = 20 + 10 * (index - 40)
        picture[120:170, x : x + wide] = (30, 200, 60)
    picture = picture * exposure + 12 * (1 - exposure) + RANDOM.normal(0, 2, picture.shape)
    return Frame(np.clip(picture, 0, 255).astype(np.uint8), index / 10, index)


def found(*boxes: tuple[float, float, float, float, float]) -> Detections:
    rows = np.array(boxes, np.float32).reshape(-1, 5)
    return Detections(rows[:, :4], rows[:, 4], np.full(len(rows), ObjectClass.PERSON, np.uint8))


def test_what_moves_and_has_no_name_is_a_vehicle() -> None:
    unknown = UnknownVehicles()
    for index in range(55):
        added = unknown.add(frame(index), found())
    assert added.classes.tolist() == [ObjectClass.VEHICLE]
    np.testing.assert_allclose(added.boxes[0], [20 + 10 * 14, 120, 110 + 10 * 14, 170], atol=12)


@pytest.mark.parametrize(("score", "vehicles"), [(0.9, 0), (0.1, 1)])
def test_what_the_detector_has_found_is_not_added_unless_it_only_guessed(score: float, vehicles: int) -> None:
    unknown = UnknownVehicles()
    for index in range(55):
        x = 20 + 10 * (index - 40)
        known = found((x, 110, x + 100, 175, score))
        added = unknown.add(frame(index), known)
    assert len(added) == 1 + vehicles
    assert added.boxes[0].tolist() == known.boxes[0].tolist()


def test_small_things_are_no_vehicles() -> None:
    unknown = UnknownVehicles()
    assert not any(len(unknown.add(frame(index, wide=20), found())) for index in range(60))


@pytest.mark.parametrize("exposure", [0.6, 0.85, 0.95, 1.2, 1.5])
def test_a_camera_that_changes_its_exposure_sees_no_vehicles(exposure: float) -> None:
    unknown = UnknownVehicles()
    for index in range(39):
        jump = 1 + (exposure - 1) * np.clip((index - 25) / 8, 0, 1)
        assert not len(unknown.add(frame(index, exposure=jump), found()))


def test_through_a_change_of_exposure_the_vehicle_stays_one() -> None:
    unknown = UnknownVehicles()
    darker = [1 - 0.4 * np.clip((index - 45) / 10, 0, 1) for index in range(75)]
    seen = [unknown.add(frame(index, exposure=jump), found()).boxes for index, jump in enumerate(darker)]
    for boxes in seen[50:]:
        assert len(boxes) == 1
        assert boxes[0, 2] - boxes[0, 0] < 140
