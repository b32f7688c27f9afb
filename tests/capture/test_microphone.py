"""The microphone: files at their own pace, and a state for each way in which sound fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from agent.capture import microphone as module
from agent.capture import sensor
from agent.capture.frame import SourceError
from agent.capture.microphone import RATE_HZ, FileSound, Microphone, Samples, open_sound
from agent.contract import MicrophoneState


class Clock:
    """Time that passes only by waiting."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


def whole(source: FileSound) -> Samples:
    blocks = []
    try:
        while True:
            block = source.read()
            assert block is not None
            blocks.append(block)
    except EOFError:
        source.close()
    return np.concatenate(blocks)


@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (44_100, 2), (48_000, 1), (8_000, 1)])
def test_a_file_becomes_mono_at_16_khz(tmp_path: Path, rate: int, channels: int) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(2 * rate) / rate)
    path = tmp_path / "tone.wav"
    soundfile.write(path, np.repeat(tone[:, None], channels, axis=1), rate)
    clock = Clock()
    heard = whole(FileSound(path, clock=clock, wait=clock.wait))
    assert len(heard) == pytest.approx(2 * RATE_HZ, rel=0.02)
    assert heard.dtype == np.float32
    crossings = np.count_nonzero(np.diff(np.signbit(heard)))
    assert crossings == pytest.approx(2 * 440 * len(heard) / RATE_HZ, rel=0.02)
    assert clock.now == pytest.approx(1.9, abs=0.11), "it plays at its own pace"


def test_a_file_loops_if_it_shall(tmp_path: Path) -> None:
    path = tmp_path / "short.wav"
    soundfile.write(path, np.zeros(1600), 16_000)
    clock = Clock()
    source = FileSound(path, loop=True, clock=clock, wait=clock.wait)
    assert all(source.read() is not None for _ in range(5))
    source.close()


def test_a_file_without_a_sample_is_refused_even_in_a_loop(tmp_path: Path) -> None:
    path = tmp_path / "empty.wav"
    soundfile.write(path, np.zeros(0), 16_000)
    with pytest.raises(SourceError, match="has no sound in it"):
        open_sound(f"file:{path}", loop=True)


@pytest.mark.parametrize("source", ["file:/nowhere.wav", "file:/etc/hostname", "usb:1", ""])
def test_what_cannot_be_heard_is_refused_in_words(source: str) -> None:
    with pytest.raises(SourceError, match=r"cannot be read|write it as device:NAME"):
        open_sound(source)


class Scripted:
    """A source of sound that does what its script says, and then repeats its last step."""

    def __init__(self, script: list[Samples | Exception | None]) -> None:
        self._script = script
        self.closed = threading.Event()

    def read(self) -> Samples | None:
        step = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        self.closed.wait(0.002)
        if isinstance(step, Exception):
            raise step
        return step

    def close(self) -> None:
        self.closed.set()


def noise(level: float) -> Samples:
    return np.random.default_rng(1).normal(0, level, 1600).astype(np.float32)


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline
        pause.wait(0.002)


@pytest.fixture
def listening(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[], Scripted]], Microphone]]:
    monkeypatch.setattr(sensor, "_BACKOFF_MIN_S", 0.001)
    monkeypatch.setattr(module, "SILENT_S", 0.05)
    made = []

    def make(opener: Callable[[], Scripted]) -> Microphone:
        microphone = Microphone(opener)
        made.append(microphone)
        microphone.start()
        return microphone

    yield make
    for microphone in made:
        microphone.close()


Listen = Callable[[Callable[[], Scripted]], Microphone]


def test_a_sound_is_live_and_has_a_level(listening: Listen) -> None:
    microphone = listening(lambda: Scripted([noise(0.1)]))
    eventually(lambda: microphone.state is MicrophoneState.LIVE)
    eventually(lambda: -21 < microphone.level_dbfs < -19)


def test_digital_silence_for_long_is_silent_and_a_sound_ends_it(listening: Listen) -> None:
    script: list[Samples | Exception | None] = [np.zeros(1600, np.float32)]
    microphone = listening(lambda: Scripted(script))
    eventually(lambda: microphone.state is MicrophoneState.SILENT)
    script[0] = noise(0.1)
    eventually(lambda: microphone.state is MicrophoneState.LIVE)


def test_a_gain_that_is_too_high_is_clipping(listening: Listen) -> None:
    microphone = listening(lambda: Scripted([np.ones(1600, np.float32)]))
    eventually(lambda: microphone.state is MicrophoneState.CLIPPING)


def test_an_unplugged_microphone_is_lost_and_found_again(listening: Listen) -> None:
    opened: list[Scripted] = []

    def opener() -> Scripted:
        opened.append(Scripted([noise(0.1), None] if not opened else [noise(0.1)]))
        return opened[-1]

    microphone = listening(opener)
    eventually(lambda: len(opened) == 2 and microphone.state is MicrophoneState.LIVE)
    assert opened[0].closed.is_set()


def test_the_end_of_a_file_is_the_end(listening: Listen) -> None:
    microphone = listening(lambda: Scripted([noise(0.1), EOFError()]))
    eventually(lambda: microphone.state is MicrophoneState.ENDED)


def test_the_privacy_shutter_closes_the_device_itself(listening: Listen) -> None:
    opened: list[Scripted] = []

    def opener() -> Scripted:
        opened.append(Scripted([noise(0.1)]))
        return opened[-1]

    microphone = listening(opener)
    eventually(lambda: microphone.state is MicrophoneState.LIVE)
    microphone.pause()
    eventually(lambda: microphone.state is MicrophoneState.PAUSED)
    assert opened[0].closed.is_set()
    microphone.resume()
    eventually(lambda: microphone.state is MicrophoneState.LIVE)
    assert len(opened) == 2
