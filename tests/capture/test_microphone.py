"""The microphone: files at their own pace, and a state for each way in which sound fails."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from agent.capture import microphone as module
from agent.capture import sensor
from agent.capture.frame import SourceError
from agent.capture.microphone import DeviceSound, Microphone, open_sound
from agent.capture.sound import RATE_HZ, Block, FileSound, Samples, take_channels
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
            blocks.append(block.samples)
    except EOFError:
        source.close()
    return np.concatenate(blocks, axis=1)


@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (44_100, 2), (48_000, 1), (8_000, 1)])
def test_a_file_becomes_mono_at_16_khz(tmp_path: Path, rate: int, channels: int) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(2 * rate) / rate)
    path = tmp_path / "tone.wav"
    soundfile.write(path, np.repeat(tone[:, None], channels, axis=1), rate)
    clock = Clock()
    heard = whole(FileSound(path, clock=clock, wait=clock.wait))
    assert heard.shape == (1, 2 * RATE_HZ)
    assert heard.dtype == np.float32
    crossings = np.count_nonzero(np.diff(np.signbit(heard[0])))
    assert crossings == pytest.approx(2 * 440 * 2, rel=0.02)
    assert np.sqrt(np.square(heard).mean()) == pytest.approx(0.5 / np.sqrt(2), rel=0.01)
    assert clock.now == pytest.approx(2.0), "it plays at its own pace"


def test_a_block_ends_when_its_last_sample_is_due(tmp_path: Path) -> None:
    path = tmp_path / "second.wav"
    soundfile.write(path, np.zeros(RATE_HZ), RATE_HZ)
    clock = Clock()
    clock.now = 5.0
    live = FileSound(path, clock=clock, wait=clock.wait)
    replayed = FileSound(path, replay=True, clock=clock, wait=clock.wait)
    assert [read(live).time for _ in range(3)] == pytest.approx([5.1, 5.2, 5.3])
    assert [read(replayed).time for _ in range(3)] == pytest.approx([0.1, 0.2, 0.3])
    assert replayed.blocks_total == 10
    live.close()
    replayed.close()


def read(source: FileSound | DeviceSound) -> Block:
    block = source.read()
    assert block is not None
    return block


def test_channels_are_mixed_or_kept_apart(tmp_path: Path) -> None:
    path = tmp_path / "both.wav"
    soundfile.write(path, np.tile([0.5, -0.25], (RATE_HZ, 1)), RATE_HZ)
    np.testing.assert_allclose(whole(FileSound(path, replay=True))[0, 100:], 0.125, atol=1e-3)
    apart = whole(FileSound(path, channels=2, replay=True))
    np.testing.assert_allclose(apart[:, 100], [0.5, -0.25], atol=1e-3)
    with pytest.raises(SourceError, match="has 2 channels, not 3"):
        FileSound(path, channels=3)
    np.testing.assert_array_equal(take_channels(np.array([[1, 1], [3, 5]], np.float32), 1), [[2, 3]])


def test_the_sound_track_of_a_clip_is_heard(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    write_clip(path, sound=True)
    assert whole(FileSound(path, replay=True)).shape[1] == pytest.approx(RATE_HZ, abs=2048)
    write_clip(path, sound=False)
    with pytest.raises(SourceError, match="no sound track"):
        FileSound(path)


def write_clip(path: Path, *, sound: bool) -> None:
    """A second of grey, with a second of silence if it shall have sound."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=5)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = container.add_stream("aac", rate=RATE_HZ, layout="mono") if sound else None
        for _ in range(5):
            container.mux(video.encode(av.VideoFrame(64, 48, "yuv420p")))
        container.mux(video.encode())
        if audio is not None:
            silence = av.AudioFrame.from_ndarray(np.zeros((1, RATE_HZ), np.float32), format="fltp", layout="mono")
            silence.sample_rate = RATE_HZ
            container.mux(audio.encode(silence))
            container.mux(audio.encode())


def test_a_file_loops_if_it_shall(tmp_path: Path) -> None:
    path = tmp_path / "short.wav"
    soundfile.write(path, np.zeros(1600), 16_000)
    clock = Clock()
    source = FileSound(path, loop=True, clock=clock, wait=clock.wait)
    assert all(source.read() is not None for _ in range(5))
    source.close()


def test_a_file_without_a_sample_is_refused_even_in_a_loop(tmp_path: Path) -> None:
    path = tmp_path / "empty.wav"
    soundfile.write(path, np.zeros(0), RATE_HZ)
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

    def read(self) -> Block | None:
        step = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        self.closed.wait(0.002)
        if isinstance(step, Exception):
            raise step
        return None if step is None else Block(step[None], time.monotonic())

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


def test_clipping_now_and_then_is_said_once(listening: Listen, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "agent.capture.sensor")
    over, fine = np.ones(1600, np.float32), noise(0.1)
    script: list[Samples | Exception | None] = [*([over, *[fine] * 5] * 40), fine]
    microphone = listening(lambda: Scripted(script))
    eventually(lambda: len(script) == 1)
    eventually(lambda: microphone.state is MicrophoneState.LIVE)
    assert [r.getMessage().count("event=clipping") for r in caplog.records].count(1) == 1


def test_one_bang_is_no_clipping(listening: Listen, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "agent.capture.sensor")
    script: list[Samples | Exception | None] = [noise(0.1), *[np.ones(1600, np.float32)] * 3, noise(0.1)]
    microphone = listening(lambda: Scripted(script))
    eventually(lambda: len(script) == 1 and microphone.state is MicrophoneState.LIVE)
    assert not any("clipping" in record.getMessage() for record in caplog.records)


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


SPEAKS = """
import json, struct, sys, time
out = sys.stdout.buffer
out.write(json.dumps({"rate": 16000, "channels": 2}).encode() + b"\\n")
for number in range(3):
    out.write(struct.pack("<dII", 10 + number, 1600, number == 1) + struct.pack("<2f", 0.5, 0.25) * 1600)
out.flush()
"""


GREETS = 'import sys; sys.stdout.buffer.write(b\'{"rate":16000,"channels":1}\\n\''


def device(code: str, channels: int = 1) -> DeviceSound:
    """A microphone whose process runs this code instead."""
    return DeviceSound("test", channels, (sys.executable, "-S", "-c", code))


def test_a_device_gives_what_its_process_reads() -> None:
    source = device(SPEAKS)
    blocks = [read(source) for _ in range(3)]
    with pytest.raises(SourceError, match="its process has ended; was it unplugged"):
        source.read()
    source.close()
    source.close()
    assert [block.time for block in blocks] == [10, 11, 12]
    assert [block.gap for block in blocks] == [False, True, False]
    np.testing.assert_allclose(blocks[0].samples, np.full((1, 1600), 0.375))


def test_channels_of_a_device_are_kept_apart() -> None:
    source = device(SPEAKS, channels=2)
    np.testing.assert_allclose(read(source).samples[:, 7], [0.5, 0.25])
    source.close()


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ('print(\'{"error": "no such device"}\')', "no such device"),
        (f"{GREETS} + bytes(12) + b'\\x04\\0\\0\\0gone')", "gone; was it unplugged"),
        (f"{GREETS} + b'x' * 20)", "another language"),
    ],
)
def test_what_a_device_says_of_its_failure_is_passed_on(code: str, reason: str) -> None:
    source = device(code)
    with pytest.raises(SourceError, match=reason):
        source.read()
    source.close()


def test_a_device_that_hangs_is_told_by_time_and_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOST_S", 0.05)
    source = device(f"{SPEAKS}\ntime.sleep(1000)")
    for _ in range(3):
        read(source)
    assert source.read() is None
    source.close()
    monkeypatch.setattr(module, "START_S", 0.05)
    source = device("import time; time.sleep(1000)")
    assert source.read() is None
    source.close()


def test_what_listens_gets_the_sound_and_forgets_it_when_the_source_is_gone() -> None:
    heard: list[float | str] = []

    class Ears:
        def begin(self) -> None:
            heard.append("begin")

        def hear(self, block: Block) -> None:
            heard.append(float(block.samples[0, 0]))

    ones = np.ones(10, np.float32)
    scripts: list[list[Samples | Exception | None]] = [
        [ones * 0.5, ones * 0.25, SourceError("gone")],
        [ones * 0.125, EOFError()],
    ]
    microphone = Microphone(lambda: Scripted(scripts.pop(0)), Ears())
    microphone.start()
    eventually(lambda: microphone.state is MicrophoneState.ENDED)
    microphone.close()
    assert heard == [0.5, 0.25, "begin", 0.125, "begin"]
