"""Scenarios as cameras: addresses, pace, pictures and detections."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.capture.frame import Frame, SourceError
from agent.simulate.scenarios import Options, scenario
from agent.simulate.source import SimSource, open_sim
from agent.simulate.world import View


@pytest.mark.parametrize(
    ("address", "hint"),
    [
        ("sim:crwd", "did you mean 'crowd'"),
        ("sim:nothing-like-it", "there are: empty"),
        ("sim:crowd?poeple=3", "unknown key 'poeple'"),
        ("sim:crowd?people=many", "write a int from 0 to 1000"),
        ("sim:crowd?fps=0", "write a float from 0.5 to 60"),
        ("sim:crowd?seed=-1", "from 0"),
    ],
)
def test_an_address_that_is_wrong_is_refused_in_words(address: str, hint: str) -> None:
    with pytest.raises(SourceError, match=hint.replace("?", r"\?")):
        open_sim(address, replay=True)


@given(st.text(max_size=30))
def test_whatever_stands_behind_the_name_is_a_scenario_or_an_error_in_words(query: str) -> None:
    try:
        source, _ = open_sim(f"sim:empty?{query}", replay=True)
    except SourceError:
        return
    source.close()


def test_a_scenario_without_pictures_has_frames_of_the_right_size_that_take_no_memory() -> None:
    source, detector = open_sim("sim:crowd?width=1280&height=720&detections=1", replay=True)
    frame = source.read(1)
    assert frame is not None
    assert frame.image.shape == (720, 1280, 3)
    assert frame.image.strides == (0, 0, 0)
    assert detector is not None


def test_the_same_seed_gives_the_same_detections_and_another_one_others() -> None:
    def boxes(seed: int) -> list[bytes]:
        source, detector = open_sim(f"sim:crowd?seed={seed}&detections=1", replay=True)
        assert detector is not None
        frames: list[Frame] = [frame for _ in range(20) if (frame := source.read(1)) is not None]
        return [detector.detect([(0, frame)])[0].boxes.tobytes() for frame in frames]

    assert boxes(1) == boxes(1) != boxes(2)


def test_pictures_have_a_sensors_noise() -> None:
    source, _ = open_sim("sim:empty", replay=True)
    first, second = source.read(1), source.read(1)
    assert first is not None
    assert second is not None
    difference = np.abs(first.image.astype(np.int16) - second.image).mean()
    assert 1 < difference < 10


def test_at_its_own_pace_no_frame_comes_before_its_time_and_the_end_comes() -> None:
    now = 50.0

    def wait(seconds: float) -> None:
        nonlocal now
        now += seconds

    view = View()
    played = scenario("empty", Options(seconds=2), view)
    source = SimSource(played, view, fps=10, painter=None, replay=False, clock=lambda: now, wait=wait)
    for number in range(20):
        frame = source.read(1)
        assert frame is not None
        assert frame.time == pytest.approx(50 + number / 10)
        assert now >= frame.time - 1e-9
    with pytest.raises(EOFError):
        source.read(1)


def test_frames_that_nobody_fetched_in_time_are_gone() -> None:
    now = 50.0
    played = scenario("empty", Options(seconds=2), View())
    source = SimSource(played, View(), fps=10, painter=None, replay=False, clock=lambda: now)
    seen = []
    for moment in (50.0, 50.1, 50.75, 50.8):
        now = moment + 1e-6
        frame = source.read(1)
        assert frame is not None
        seen.append(frame.index)
    assert seen == [0, 1, 7, 8]


def test_a_frame_has_the_same_detections_whichever_came_before_it() -> None:
    source, detector = open_sim("sim:crowd?detections=1", replay=True)
    assert detector is not None
    frames = [(0, frame) for _ in range(10) if (frame := source.read(1)) is not None]
    forward = [found.boxes.tobytes() for found in detector.detect(frames)]
    backward = [found.boxes.tobytes() for found in detector.detect(frames[::-1])]
    assert forward == backward[::-1]


def test_a_detector_without_errors_finds_the_truth() -> None:
    source, detector = open_sim("sim:crowd?detections=1&misses=0&jitter=0&false=0", replay=True)
    frame = source.read(1)
    assert detector is not None
    assert frame is not None
    truth = source.scenario.world.truth(0.0, source.view)
    found = detector.detect([(0, frame)])[0]
    assert np.array_equal(found.boxes, truth.boxes[truth.visible >= 0.4])
