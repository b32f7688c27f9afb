from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from agent.capture.frame import Frame
from agent.perception.flow import FlowModel
from agent.perception.scene import Flow

WIDTH, HEIGHT = 600, 300
RANDOM = np.random.default_rng(1)
GROUND = np.asarray(
    cv2.GaussianBlur(RANDOM.integers(60, 200, (HEIGHT, WIDTH, 3)).astype(np.uint8), (0, 0), 4), np.uint8
)
CLOTH = cv2.GaussianBlur(RANDOM.integers(0, 256, (120, 90, 3)).astype(np.uint8), (0, 0), 3)


def picture(x: float, gain: float = 1.0) -> NDArray[np.uint8]:
    """A patterned thing in front of a patterned ground."""
    image = GROUND.copy()
    image[100:220, round(x) : round(x) + 90] = CLOTH
    lit: NDArray[np.uint8] = np.clip(image * gain, 0, 255).astype(np.uint8)
    return lit


def flow_of(*pictures: NDArray[np.uint8]) -> Flow | None:
    """The flow of three pictures, a tenth of a second apart."""
    model, found = FlowModel(), None
    for tick, image in enumerate(pictures):
        found = model.update(Frame(image, tick / 10, 0))
    return found


@pytest.mark.parametrize("speed", [-100.0, 60.0, 120.0])
def test_what_moves_has_its_velocity(speed: float) -> None:
    flow = flow_of(*(picture(250 + speed * tick / 10) for tick in range(3)))
    assert flow is not None
    x, y = (flow.centres() / (WIDTH, HEIGHT)).reshape(-1, 2).T
    middle = (250 + 0.15 * speed + 45) / WIDTH
    on = ((np.abs(x - middle) < 0.04) & (np.abs(y - 160 / HEIGHT) < 0.15)).reshape(flow.moving.shape)
    assert flow.moving[on].mean() > 0.7
    np.testing.assert_allclose(np.median(flow.velocities[on], axis=0), [speed, 0], atol=15)
    off = (x < 0.2).reshape(flow.moving.shape)
    assert flow.moving[off].mean() < 0.05


def test_steady_movement_does_not_accelerate_and_a_jerk_does() -> None:
    steady, jerk = (flow_of(*map(picture, places)) for places in ([200, 209, 218], [200, 209, 188]))
    assert steady is not None
    assert jerk is not None
    assert jerk.acceleration.max() > 1500
    assert steady.acceleration.max() < 0.5 * jerk.acceleration.max()


def test_a_change_of_light_moves_nothing() -> None:
    flow = flow_of(picture(200), picture(200), picture(200, gain=1.15))
    assert flow is None or flow.moving.mean() < 0.05


def told(times: list[float], images: list[NDArray[np.uint8]] | None = None) -> list[float]:
    """When flow is told."""
    model = FlowModel()
    shown = images or [picture(200)] * len(times)
    return [t for t, image in zip(times, shown, strict=True) if model.update(Frame(image, t, 0)) is not None]


def test_three_looks_in_a_row_tell_and_then_it_rests() -> None:
    assert told([tick / 10 for tick in range(11)]) == [0.2, 0.6, 1.0]
    assert told([tick / 25 for tick in range(26)]) == [0.16, 0.56, 0.96]


def test_rare_pictures_are_all_looked_at() -> None:
    assert told([tick / 5 for tick in range(6)]) == [0.4, 0.6, 0.8, 1.0]


def test_there_is_nothing_to_compare_with_too_early_after_a_pause_or_at_another_size() -> None:
    assert told([0.0, 0.1, 0.12]) == []
    assert told([0.0, 0.1, 5.0, 5.1]) == []
    assert told([0.0, 0.1, 0.2], [picture(200), picture(205), np.ascontiguousarray(picture(210)[::2, ::2])]) == []


def test_a_camera_that_shakes_sees_nothing_move() -> None:
    flow = flow_of(GROUND, GROUND, np.roll(GROUND, 9, axis=1))
    assert flow is not None
    assert flow.moving[:, 2:-2].mean() < 0.02


def test_who_walks_is_seen_by_a_camera_that_shakes() -> None:
    flow = flow_of(picture(238), picture(250), np.roll(picture(262), 9, axis=1))
    assert flow is not None
    x, y = (flow.centres() / (WIDTH, HEIGHT)).reshape(-1, 2).T
    on = ((np.abs(x - 295 / WIDTH) < 0.04) & (np.abs(y - 160 / HEIGHT) < 0.15)).reshape(flow.moving.shape)
    np.testing.assert_allclose(np.median(flow.velocities[on], axis=0), [120, 0], atol=25)


def test_a_crowd_that_fills_the_picture_is_no_camera_that_moves() -> None:
    """On bare ground the search carries the movement of people everywhere, each their own way."""
    ground = np.full_like(GROUND, 120)
    crowd = [(20 + 80 * n % 560, 30 + 37 * n % 180, (-1) ** n) for n in range(14)]
    images = []
    for tick in range(3):
        image = ground.copy()
        for x, y, way in crowd:
            image[y : y + 90, (at := x + 9 * way * tick + 20) : at + 30] = CLOTH[:90, :30]
        images.append(image)
    flow = flow_of(*images)
    assert flow is not None
    assert flow.moving.mean() > 0.1
