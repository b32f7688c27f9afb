from __future__ import annotations

import numpy as np
import pytest

from agent.capture.frame import Frame
from agent.perception.moving import Moving, backed, with_unknown_vehicles
from agent.perception.scene import Detections, ObjectClass

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


class Unknown:
    """Adds the unknown vehicles of one camera, frame by frame."""

    def __init__(self) -> None:
        self._moving = Moving()

    def add(self, seen: Frame, known: Detections) -> Detections:
        return with_unknown_vehicles(known, self._moving.update(seen), WIDTH, HEIGHT)


def test_what_moves_and_has_no_name_is_a_vehicle() -> None:
    unknown = Unknown()
    for index in range(55):
        added = unknown.add(frame(index), found())
    assert added.classes.tolist() == [ObjectClass.VEHICLE]
    np.testing.assert_allclose(added.boxes[0], [20 + 10 * 14, 120, 110 + 10 * 14, 170], atol=12)


@pytest.mark.parametrize(("score", "vehicles"), [(0.9, 0), (0.1, 1)])
def test_what_the_detector_has_found_is_not_added_unless_it_only_guessed(score: float, vehicles: int) -> None:
    unknown = Unknown()
    for index in range(55):
        x = 20 + 10 * (index - 40)
        known = found((x, 110, x + 100, 175, score))
        added = unknown.add(frame(index), known)
    assert len(added) == 1 + vehicles
    assert added.boxes[0].tolist() == known.boxes[0].tolist()


def test_small_things_are_no_vehicles() -> None:
    unknown = Unknown()
    assert not any(len(unknown.add(frame(index, wide=20), found())) for index in range(60))


@pytest.mark.parametrize("exposure", [0.6, 0.85, 0.95, 1.2, 1.5])
def test_a_camera_that_changes_its_exposure_sees_no_vehicles(exposure: float) -> None:
    unknown = Unknown()
    for index in range(39):
        jump = 1 + (exposure - 1) * np.clip((index - 25) / 8, 0, 1)
        assert not len(unknown.add(frame(index, exposure=jump), found()))


def test_through_a_change_of_exposure_the_vehicle_stays_one() -> None:
    unknown = Unknown()
    darker = [1 - 0.4 * np.clip((index - 45) / 10, 0, 1) for index in range(75)]
    seen = [unknown.add(frame(index, exposure=jump), found()).boxes for index, jump in enumerate(darker)]
    for boxes in seen[50:]:
        assert len(boxes) == 1
        assert boxes[0, 2] - boxes[0, 0] < 140


@pytest.mark.parametrize(("blob", "likelier"), [((102, 52, 140, 148), True), ((60, 40, 300, 260), False)])
def test_a_guess_is_believed_more_where_something_of_its_shape_moves(
    blob: tuple[float, float, float, float], likelier: bool
) -> None:
    guess = found((100, 50, 140, 150, 0.4))
    score = backed(guess, np.array([blob], np.float32)).scores[0]
    assert score == pytest.approx(0.4 / (0.4 + 0.6 / 2.5) if likelier else 0.4)


def test_motion_backs_persons_alone_and_needs_some() -> None:
    car = Detections(np.array([[100, 50, 140, 150]], np.float32), np.array([0.4], np.float32), np.full(1, 3, np.uint8))
    assert backed(car, car.boxes).scores.tolist() == pytest.approx([0.4])
    assert backed(found((0, 0, 10, 10, 0.5)), np.empty((0, 4), np.float32)).scores.tolist() == pytest.approx([0.5])
    assert not len(backed(found(), car.boxes))
    certain = backed(found((100, 50, 140, 150, 1.0)), car.boxes)
    assert certain.scores[0] == pytest.approx(1.0)
