"""videoSource of jetson-utils, against a stand-in that has the traps of the real one (tests/fake_jetson)."""

from __future__ import annotations

import importlib
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent import pipe
from agent.capture import jetson
from agent.capture.frame import RestartNeededError, SourceError
from agent.capture.jetson import RESTART_AFTER_S, JetsonSource
from agent.capture.open import open_source
from agent.policy import Policy
from agent.sense import Outlet, Sense
from agent.settings import Settings

FAKES = Path(__file__).parents[1] / "fake_jetson"
SECRET = "rtsp://admin:hunter2@camera/stream"


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def utils(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(FAKES))
    monkeypatch.setattr(jetson, "_absent_since", {})
    yield importlib.import_module("jetson_utils")
    del sys.modules["jetson_utils"]


def shots(count: int) -> list[Any]:
    """Pictures, RGB, each of one shade: red rises, blue falls."""
    return [np.full((6, 8, 3), (10 * n, 0, 255 - 10 * n), np.uint8) for n in range(count)]


def test_frames_come_in_bgr_with_their_time_and_number(utils: Any) -> None:
    utils.cameras["csi://0"] = shots(2)
    clock = Clock()
    source = open_source("jetson:csi://0", fps=10, loop=False, replay=False)
    assert isinstance(source, JetsonSource)
    source._clock = clock
    first, second = source.read(0.5), source.read(0.5)
    assert first is not None
    assert second is not None
    assert first.image[0, 0].tolist() == [255, 0, 0]
    assert second.image[0, 0].tolist() == [245, 0, 10]
    assert (first.image.shape, first.image.dtype.name, first.time) == ((6, 8, 3), "uint8", 100.0)
    assert (first.index, second.index) == (0, 1)
    assert (source.live, source.frames_total) == (True, None)


def test_a_frame_stays_when_its_buffer_is_used_again_and_when_the_source_is_closed(utils: Any) -> None:
    utils.cameras["csi://0"] = shots(10)
    source = JetsonSource("jetson:csi://0")
    frames = [source.read(0.5) for _ in range(10)]
    source.close()
    source.close()
    assert [frame.image[0, 0, 2] for frame in frames if frame] == [10 * n for n in range(10)]


def test_a_time_out_is_no_frame_and_an_error_or_the_end_is_a_failure(utils: Any) -> None:
    utils.cameras["csi://0"] = [None, *shots(1)]
    source = JetsonSource("jetson:csi://0")
    assert source.read(0.5) is None
    assert source.read(0.5) is not None
    with pytest.raises(SourceError, match=r"jetson:csi://0: .*failed to capture"):
        source.read(0.5)


def test_a_source_that_was_closed_fails(utils: Any) -> None:
    utils.cameras["csi://0"] = shots(1)
    source = JetsonSource("jetson:csi://0")
    source.close()
    with pytest.raises(SourceError):
        source.read(0.5)


def test_memory_is_asked_for_that_the_processor_can_read_and_a_short_latency(utils: Any) -> None:
    utils.cameras["csi://0"] = []
    JetsonSource("jetson:csi://0")
    assert utils.created == [{"numBuffers": 4, "zeroCopy": True, "latency": 50}]


def test_an_absent_camera_leaks_once_and_then_a_new_process_is_asked_for(utils: Any) -> None:
    clock = Clock()
    for _ in range(20):
        with pytest.raises(SourceError, match="is the camera there") as caught:
            JetsonSource(f"jetson:{SECRET}", clock)
        assert not isinstance(caught.value, RestartNeededError)
    clock.now += RESTART_AFTER_S
    with pytest.raises(RestartNeededError, match="only a new process may try again"):
        JetsonSource(f"jetson:{SECRET}", clock)
    assert utils.leaked == [SECRET]


def test_sense_ends_when_only_a_new_process_can_look_for_the_camera(
    utils: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jetson, "RESTART_AFTER_S", 0.0)
    before = [(number, signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGINT)]
    camera = {"name": "gate", "source": f"jetson:{SECRET}"}
    settings = Settings.model_validate({"camera": [camera], "inference": {"detector": "motion"}})
    near, far = pipe.pair()
    with far:
        try:
            code = Sense(settings, Policy(), Outlet(lambda: near, near, (), time.monotonic)).run()
        finally:
            for number, handler in before:
                signal.signal(number, handler)
    assert code == 3
    assert utils.leaked == [SECRET]


def test_a_camera_that_was_lost_may_be_opened_again_as_long_as_it_is_there(utils: Any) -> None:
    for _ in range(3):
        utils.cameras["csi://0"] = shots(1)
        source = JetsonSource("jetson:csi://0")
        assert source.read(0.5) is not None
        source.close()
    assert utils.leaked == []


def test_the_password_is_neither_logged_nor_said(utils: Any, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SourceError) as caught:
        JetsonSource(f"jetson:{SECRET}")
    output = capfd.readouterr()
    assert "hunter2" not in str(caught.value) + output.out + output.err


def test_where_it_is_not_installed_that_is_said() -> None:
    with pytest.raises(SourceError, match="jetson:csi://0: jetson-utils is not installed"):
        JetsonSource("jetson:csi://0")
