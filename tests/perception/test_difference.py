from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from agent.perception.difference import Cause, compare, explained

Image = NDArray[np.uint8]
SIDE = 80
EVERYWHERE = np.ones((SIDE, SIDE), np.uint8)


def ground(seed: int = 1, low: int = 60, high: int = 200) -> Image:
    grain = np.random.default_rng(seed).integers(low, high, (SIDE, SIDE, 3)).astype(np.uint8)
    return np.asarray(cv2.GaussianBlur(grain, (0, 0), 2), np.uint8)


BLANK = np.full((SIDE, SIDE, 3), 150, np.uint8)


def disc(image: Image, colour: tuple[int, int, int] = (20, 25, 60), radius: int = 18) -> Image:
    drawn: Image = image.copy()
    cv2.circle(drawn, (40, 40), radius, colour, cv2.FILLED)
    return drawn


def shaded(image: Image, gain: float) -> Image:
    full = disc(np.full_like(image, 255), (0, 0, 0)) / 255
    return np.asarray(image * (full * (1 - gain) + gain), np.uint8)


def test_the_same_is_no_difference() -> None:
    assert compare(ground(), ground(), EVERYWHERE).cause is Cause.NONE


@pytest.mark.parametrize("place", [ground(), BLANK])
def test_a_thing_is_new_and_once_it_is_taken_away_gone(place: Image) -> None:
    assert compare(place, disc(place), EVERYWHERE).cause is Cause.NEW
    assert compare(disc(place), place, EVERYWHERE).cause is Cause.GONE


@pytest.mark.parametrize("place", [ground(), BLANK])
@pytest.mark.parametrize("gain", [0.5, 0.8])
def test_a_shadow_that_comes_or_goes_is_light(place: Image, gain: float) -> None:
    assert compare(place, shaded(place, gain), EVERYWHERE).cause is Cause.LIGHT
    assert compare(shaded(place, gain), place, EVERYWHERE).cause is Cause.LIGHT


def test_what_turns_red_in_the_dark_is_no_shadow() -> None:
    assert compare(BLANK, disc(BLANK, (80, 80, 120)), EVERYWHERE).cause is Cause.NEW


def test_only_the_place_itself_counts() -> None:
    where = np.zeros((SIDE, SIDE), np.uint8)
    where[:10, :10] = 1
    assert compare(ground(), disc(ground()), where).cause is Cause.NONE


def test_writing_is_thinner_than_a_disc_and_a_poster_fills_its_rectangle() -> None:
    writing = BLANK.copy()
    for x in (15, 25, 35, 45, 55):
        cv2.line(writing, (x, 30), (x + 12, 50), (30, 20, 20), 3)
    poster = BLANK.copy()
    poster[25:60, 25:50] = ground(4, 0, 255)[25:60, 25:50]
    strokes, blot, sheet = (compare(BLANK, image, EVERYWHERE) for image in (writing, disc(BLANK), poster))
    assert strokes.stroke < 0.2
    assert min(blot.stroke, sheet.stroke) > 0.5
    assert blot.fill < 0.85
    assert sheet.fill > 0.95


def chair(x: int, place: Image) -> Image:
    drawn: Image = place.copy()
    drawn[40:56, x : x + 12] = cv2.resize(ground(7, 0, 90)[:16, :12], (12, 16))
    return drawn


@pytest.mark.parametrize("place", [ground(), BLANK])
@pytest.mark.parametrize("shift", [-16, 8, 20])
def test_a_shift_explains_what_was_moved_and_not_what_is_new(place: Image, shift: int) -> None:
    moved = (40 + shift, 40, 52 + shift, 56)
    assert explained(chair(40, place), chair(40 + shift, place), moved) > 0.7
    assert explained(place, chair(40 + shift, place), moved) < 0.3


def test_what_looks_the_same_and_is_still_there_was_not_moved() -> None:
    assert explained(chair(40, BLANK), chair(60, chair(40, BLANK)), (60, 40, 72, 56)) < 0.3
