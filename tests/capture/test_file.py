"""Clips as cameras, made on the spot by a real encoder, and broken in the ways that files break."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from agent.capture.file import FileSource
from agent.capture.frame import Frame, SourceError


def clip(path: Path, seconds: float = 2.0, fps: int = 30, begin: float = 0.0) -> Path:
    """A moving grey ramp, whose first time stamp is `begin`."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=fps)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.gop_size = 10
        for number in range(round(seconds * fps)):
            picture = np.full((64, 96, 3), 40 + number % 150, np.uint8)
            picture[:, number % 96] = 255
            frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
            frame.pts, frame.time_base = number + round(begin * fps), Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


class Clock:
    """Time that passes only by waiting."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


def frames(source: FileSource) -> list[Frame]:
    found = []
    try:
        while True:
            frame = source.read(0.5)
            if frame is not None:
                found.append(frame)
    except EOFError:
        source.close()
        return found


@pytest.mark.parametrize("name", ["clip.mp4", "clip.avi", "clip.mkv"])
def test_a_clip_is_thinned_out_to_the_rate_that_is_wanted(tmp_path: Path, name: str) -> None:
    source = FileSource(clip(tmp_path / name), fps=10, replay=True)
    total = source.frames_total
    found = frames(source)
    assert len(found) == 20
    assert total is not None
    assert abs(total - len(found)) <= 1
    assert [round(f.time, 2) for f in found[:3]] == [0.0, 0.1, 0.2]
    assert [f.index for f in found[:3]] == [0, 3, 6]
    assert found[0].image.shape == (64, 96, 3)
    assert found[0].image.dtype == np.uint8


def test_a_clip_slower_than_the_rate_gives_every_frame(tmp_path: Path) -> None:
    assert len(frames(FileSource(clip(tmp_path / "slow.mp4", fps=5), fps=10, replay=True))) == 10


def test_at_its_own_pace_no_frame_comes_before_its_time(tmp_path: Path) -> None:
    clock = Clock()
    source = FileSource(clip(tmp_path / "c.mp4"), fps=10, clock=clock, wait=clock.wait)
    assert source.live
    begun = clock.now
    for number in range(20):
        frame = source.read(1.0)
        assert frame is not None
        assert clock.now >= frame.time
        assert frame.time == pytest.approx(begun + number / 10, abs=1e-6)


def test_at_its_own_pace_a_wait_is_no_longer_than_asked(tmp_path: Path) -> None:
    clock = Clock()
    source = FileSource(clip(tmp_path / "c.mp4"), fps=1, clock=clock, wait=clock.wait)
    assert source.read(0.1) is not None
    assert source.read(0.1) is None
    assert clock.now == pytest.approx(1000.1)


def test_a_loop_begins_again_and_its_time_goes_on(tmp_path: Path) -> None:
    source = FileSource(clip(tmp_path / "c.mp4", seconds=1), fps=10, loop=True, replay=True)
    assert source.frames_total is None
    times = [frame.time for _ in range(35) if (frame := source.read(1)) is not None]
    assert len(times) == 35
    assert all(later > earlier for earlier, later in pairwise(times))
    assert times[-1] == pytest.approx(3.4, abs=0.1)
    source.close()


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts"])
def test_a_recording_that_begins_at_any_time_is_told_from_its_beginning(tmp_path: Path, name: str) -> None:
    path = clip(tmp_path / name, seconds=1, begin=10)
    found = frames(FileSource(path, fps=10, replay=True))
    assert [round(f.time, 2) for f in found[:3]] == [0.0, 0.1, 0.2]
    assert [f.index for f in found[:3]] == [0, 3, 6]
    source = FileSource(path, fps=10, loop=True, replay=True)
    times = [frame.time for _ in range(30) if (frame := source.read(1)) is not None]
    assert max(later - earlier for earlier, later in pairwise(times)) < 0.2, "no gap where the loop begins again"
    source.close()


@pytest.mark.parametrize("content", [b"", b"no clip at all", bytes(4096)])
def test_what_is_no_clip_is_refused_in_words(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.mp4"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"broken\.mp4: cannot be read"):
        FileSource(path, fps=10, replay=True)


def test_a_text_is_no_clip(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("no clip at all\n" * 50)
    with pytest.raises(SourceError, match="has no video in it"):
        FileSource(path, fps=10)


def test_a_clip_that_is_not_there_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="No such file"):
        FileSource(tmp_path / "absent.mp4", fps=10)


def test_a_sound_file_is_no_clip(tmp_path: Path) -> None:
    path = tmp_path / "tone.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.int16), format="s16", layout="mono")
        sound.sample_rate = 16000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    with pytest.raises(SourceError, match="has no video in it"):
        FileSource(path, fps=10)


def test_damage_in_the_middle_costs_the_frames_there_and_no_others(tmp_path: Path) -> None:
    path = clip(tmp_path / "c.avi", seconds=4)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = np.random.default_rng(1).bytes(3000)
    path.write_bytes(content)
    found = frames(FileSource(path, fps=30, replay=True))
    assert 60 <= len(found) <= 120


def test_packets_that_cannot_be_decoded_are_counted(tmp_path: Path) -> None:
    path = clip(tmp_path / "c.mp4", seconds=4)
    content = bytearray(path.read_bytes())
    begin, end = content.index(b"mdat"), content.index(b"moov")  # how large the packets are hangs on the processor
    third = (end - begin) // 3
    content[begin + third : begin + 2 * third] = bytes(third)
    path.write_bytes(content)
    source = FileSource(path, fps=30, replay=True)
    found = frames(source)
    assert source.broken > 0
    assert len(found) + source.broken == 120


def test_a_truncated_clip_plays_to_where_it_was_cut(tmp_path: Path) -> None:
    path = clip(tmp_path / "c.mkv", seconds=4)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert 20 <= len(frames(FileSource(path, fps=30, replay=True))) < 110


def test_a_closed_source_says_so(tmp_path: Path) -> None:
    source = FileSource(clip(tmp_path / "c.mp4"), fps=10)
    source.close()
    source.close()
    with pytest.raises(SourceError, match="closed"):
        source.read(0.1)
