"""What is shown does not depend on the pixels of people: replaced by noise, every byte of the page stays the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.aim.background import PLAIN, STROKE, Background, Look, Presence, small_grey
from agent.aim.process import GUESS, at_least
from agent.aim.view import CameraView, page_bytes
from agent.behaviours.watch import Watch
from agent.capture.file import FileSource
from agent.capture.frame import Frame
from agent.perception.detect import open_detector
from agent.settings import CameraSettings, InferenceSettings

CAMERA = CameraSettings.model_validate(
    {
        "name": "north",
        "source": "file:clip",
        "fps": 2,
        "zone": [{"name": "path", "polygon": [[0.2, 0.3], [1, 0.3], [1, 0.6], [0.2, 0.6]]}],
        "rule": [{"type": "crowd.density", "zone": "path"}],
    }
)


def true_boxes(data: Path) -> NDArray[np.float64]:
    """(N, 5): number of the frame from 0, x0, y0, x1, y1 of everybody in PETS2009 S2L1."""
    rows = np.loadtxt(data / "mot" / "PETS09-S2L1" / "gt.txt", delimiter=",")
    return np.column_stack([rows[:, 0] - 1, rows[:, 2:4], rows[:, 2:4] + rows[:, 4:6]])


def frames(data: Path) -> Iterator[Frame]:
    source = FileSource(data / "clips" / "pets2009_s2l1.mp4", fps=2, replay=True)
    try:
        while True:
            frame = source.read(1)
            assert frame is not None
            yield frame
    except EOFError:
        source.close()


def noised(frame: Frame, boxes: NDArray[np.float64], random: np.random.Generator) -> Frame:
    """The frame with other noise in every box."""
    image = frame.image.copy()
    for x0, y0, x1, y1 in np.maximum(boxes, 0).tolist():
        inside = image[int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))]
        inside[:] = random.integers(0, 256, inside.shape, dtype=np.uint8)
    return Frame(image, frame.time, frame.index)


def missed(truth: NDArray[np.float64], found: NDArray[np.float32]) -> int:
    """How many true boxes share less than a half with every found one."""
    if not len(found):
        return len(truth)
    low, high = np.maximum(truth[:, None, :2], found[:, :2]), np.minimum(truth[:, None, 2:], found[:, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    areas, sizes = ((boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (truth, found))
    return int((shared / (areas[:, None] + sizes - shared) < 0.5).all(axis=1).sum())


@pytest.mark.timeout(240)
def test_noise_inside_people_leaves_every_byte_of_the_page_as_it_is(data: Path) -> None:
    truth, random = true_boxes(data), np.random.default_rng(7)
    detector, *_ = open_detector(InferenceSettings(score=GUESS))
    watch, seen, other = Watch(CAMERA), CameraView(CAMERA), CameraView(CAMERA)
    people = unfound = marked = 0
    for frame in frames(data):
        boxes = truth[truth[:, 0] == frame.index, 1:]
        (guesses,) = detector.detect([(0, frame)])
        seen.lights.follow(watch.update(frame, at_least(guesses, 0.1)))
        other.lights.open = set(seen.lights.open)
        seen.see(frame, guesses, watch.tracks)
        # The other view sees noise where people are, the detector's misses as well; who is marked it is told.
        other.see(noised(frame, boxes, random), guesses, watch.tracks)
        assert page_bytes([seen.document("live")], None, []) == page_bytes([other.document("live")], None, [])
        people, unfound = people + len(boxes), unfound + missed(boxes, guesses.boxes)
        marked += len(seen.document("live")["markers"])
    drawing = np.array([int(code) for code in seen.document("live")["drawing"]])
    assert people > 800
    assert unfound > 20  # of people there are enough whom no guess of the detector tells of
    assert marked > 400
    assert (drawing >= PLAIN).mean() > 0.2
    assert (drawing >= STROKE).sum() > 80


@pytest.mark.timeout(240)
def test_no_pixel_of_anybody_is_in_the_drawing_when_the_detector_finds_nobody(data: Path) -> None:
    truth, random = true_boxes(data), np.random.default_rng(8)
    nobody = np.empty((0, 4), np.float32)
    presence, drawn, other = Presence(), Background(), Background()
    for frame in frames(data):
        look = presence.look(frame.time, frame.image, nobody)
        drawn.learn(look)
        noise = noised(frame, truth[truth[:, 0] == frame.index, 1:], random)
        other.learn(Look(look.time, small_grey(noise.image), look.free))
        assert (drawn.drawing == other.drawing).all()
    assert (drawn.drawing >= STROKE).sum() > 150
