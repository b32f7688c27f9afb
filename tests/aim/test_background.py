"""The drawing of a place: what is there for long and at rest, and nobody."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from agent.aim.background import CELLS, LOOK_S, PLAIN, STROKE, UNKNOWN, Background, Presence, strokes
from agent.capture.frame import Frame
from agent.perception.scene import Detections, FloatArray

Image = NDArray[np.uint8]
NOISE = np.random.default_rng(2).normal(0, 2, (9, 216, 384, 3)).astype(np.float32)
NOBODY = np.empty((0, 4), np.float32)


def place(random: np.random.Generator, gain: float = 1.0) -> Image:
    """A wall, a door and a ground, 384 by 216, with a sensor's noise."""
    image = np.full((216, 384, 3), 90, np.uint8)
    cv2.rectangle(image, (0, 150), (384, 216), (140, 140, 140), cv2.FILLED)
    cv2.rectangle(image, (40, 60), (100, 150), (200, 200, 200), cv2.FILLED)
    noise = NOISE[random.integers(len(NOISE))]
    return np.asarray(cv2.add(cv2.convertScaleAbs(image, alpha=gain), noise, dtype=cv2.CV_8U), np.uint8)


class Bench:
    """A presence and a background that look at the same frames."""

    def __init__(self) -> None:
        self.random = np.random.default_rng(3)
        self.presence, self.background = Presence(), Background()
        self.time = 0.0

    def look(self, image: Image, boxes: FloatArray = NOBODY) -> None:
        look = self.presence.look(self.time, image, boxes)
        if self.presence.moved:
            self.background.forget()
        self.background.learn(look)
        self.time += LOOK_S

    def watch(self, seconds: float, figure: int | None = None, sway: int = 0, gain: float = 1.0) -> None:
        """Look at the place, with a dark figure at that column if there is one, which sways by so many pixels."""
        for number in range(int(seconds / LOOK_S)):
            image = place(self.random, gain)
            if figure is not None:
                x = figure + (sway if number % 8 < 4 else 0)
                cv2.rectangle(image, (x, 110), (x + 12, 160), (20, 20, 20), cv2.FILLED)
            self.look(image)

    def cells(self, x: int, y: int) -> int:
        """What is drawn at a pixel."""
        return int(self.background.drawing[y // 4, x // 4])


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_place_at_rest_is_drawn_after_a_while_and_not_before(bench: Bench) -> None:
    bench.watch(30)
    assert not bench.background.drawing.any()
    bench.watch(25)
    drawing = bench.background.drawing
    assert drawing.shape == (54, CELLS)
    assert (drawing == UNKNOWN).mean() < 0.05
    assert bench.cells(40, 100) == STROKE + 2  # an upright edge
    assert bench.cells(200, 150) == STROKE  # a level one
    assert bench.cells(300, 40) == PLAIN


def test_somebody_who_stands_and_hardly_sways_is_not_drawn(bench: Bench) -> None:
    bench.watch(60, figure=250, sway=1)
    assert {bench.cells(x, y) for x in range(240, 272, 4) for y in range(104, 168, 4)} == {UNKNOWN}
    assert bench.cells(40, 100) == STROKE + 2
    bench.watch(65)  # gone: now the place is seen
    assert bench.cells(256, 150) == STROKE


def test_whoever_a_detection_tells_of_is_not_drawn_though_like_a_stone(bench: Bench) -> None:
    for _ in range(110):
        image = place(bench.random)
        cv2.rectangle(image, (250, 110), (262, 160), (20, 20, 20), cv2.FILLED)
        bench.look(image, np.array([[250, 110, 262, 160]], np.float32))
    assert bench.cells(250, 130) == bench.cells(262, 160) == UNKNOWN
    assert bench.cells(40, 100) == STROKE + 2


def test_what_was_taken_for_the_place_goes_as_soon_as_it_moves_away(bench: Bench) -> None:
    bench.watch(80, figure=250)  # at rest for longer than anybody is
    assert bench.cells(250, 130) >= STROKE
    bench.watch(45)
    assert bench.cells(250, 130) == UNKNOWN
    bench.watch(40)
    assert bench.cells(250, 130) == PLAIN


def test_another_exposure_is_the_same_place(bench: Bench) -> None:
    bench.watch(60)
    before = bench.background.drawing.copy()
    bench.watch(12, gain=0.8)
    assert (bench.background.drawing == before).mean() > 0.99


def test_another_view_is_begun_anew(bench: Bench) -> None:
    bench.watch(60)
    assert bench.background.drawing.any()
    noise = bench.random.integers(0, 256, (216, 384, 3), dtype=np.uint8)
    bench.look(noise)
    assert not bench.background.drawing.any()


def test_another_size_of_the_picture_is_begun_anew(bench: Bench) -> None:
    bench.watch(60)
    bench.look(np.full((288, 384, 3), 90, np.uint8))
    assert bench.background.drawing.shape == (72, CELLS)
    assert not bench.background.drawing.any()


@pytest.mark.parametrize(("degrees", "code"), [(0, 0), (45, 1), (90, 2), (135, 3)])
def test_strokes_lie_along_the_edge(degrees: int, code: int) -> None:
    y, x = np.mgrid[:216, :384].astype(np.float32)
    angle = np.deg2rad(degrees)
    ahead = (y - 108) * np.cos(angle) - (x - 192) * np.sin(angle)
    grey = (100 + 60 * np.tanh(ahead)).astype(np.float32)
    assert strokes(grey)[27, 48] == STROKE + code


def test_a_frame_and_detections_are_what_a_view_is_given() -> None:
    # The types of the live path: what is drawn here is what `CameraView` gives the page.
    frame = Frame(place(np.random.default_rng(1)), 0.0, 0)
    assert Presence().look(frame.time, frame.image, Detections.empty().boxes).free.shape == (54, CELLS)
