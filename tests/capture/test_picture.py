"""What is said of pictures: light, focus, whether they move."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from agent.capture.picture import Look, blur

CLIPS = ("busy_hall.mp4", "pets2009_s2l1.mp4", "stall_fight.mp4", "yard_intrusion.mp4", "left_bag.avi")
#: As the doctor has it.
BLURRED = 0.0085


def first_picture(path: Path) -> NDArray[np.uint8]:
    with av.open(str(path)) as container:
        return np.asarray(next(container.decode(video=0)).to_ndarray(format="bgr24"), np.uint8)


@pytest.mark.parametrize("name", CLIPS)
def test_a_real_picture_is_sharp_and_out_of_focus_it_is_not(data: Path, name: str) -> None:
    image = first_picture(data / "clips" / name)
    noise = np.random.default_rng(1)
    sharp = blur(image)
    assert sharp is not None
    assert sharp < BLURRED
    for share in (0.012, 0.02):  # of the width, the scale of the blur
        soft = cv2.GaussianBlur(image, (0, 0), share * image.shape[1]) + noise.normal(0, 2.5, image.shape)
        found = blur(np.asarray(soft.clip(0, 255), np.uint8))
        assert found is not None
        assert found > BLURRED


def test_the_width_of_a_step_that_is_blurred_is_found() -> None:
    step = np.zeros((270, 480, 3), np.uint8)
    step[:, np.arange(480) % 80 < 40] = 200
    for pixels in (2.0, 4.0, 8.0):
        found = blur(np.asarray(cv2.GaussianBlur(step, (0, 0), pixels), np.uint8))
        assert found is not None
        assert found * 480 == pytest.approx(pixels, rel=0.15)


def test_a_wall_says_nothing_of_focus() -> None:
    assert blur(np.full((270, 480, 3), 120, np.uint8)) is None


def test_light_and_rate_are_told() -> None:
    look = Look()
    assert look.picture() is None
    rng = np.random.default_rng(2)
    for number in range(11):
        look.add(rng.integers(100, 140, (90, 160, 3), np.uint8), number / 10)
    seen = look.picture()
    assert seen is not None
    assert (seen.frames, seen.width, seen.height, seen.black, seen.still) == (11, 160, 90, False, False)
    assert seen.rate == pytest.approx(10)
    assert seen.brightness == pytest.approx(120, abs=2)


@pytest.mark.parametrize(("value", "black", "white"), [(3, True, 0.0), (255, False, 1.0)])
def test_a_covered_and_a_blinded_lens_are_told_apart(value: int, black: bool, white: float) -> None:
    look = Look()
    for number in range(3):
        look.add(np.full((90, 160, 3), value, np.uint8), float(number))
    seen = look.picture()
    assert seen is not None
    assert (seen.black, seen.white, seen.still) == (black, white, True)
