"""The reading of a network stream, on damaged recordings of one; on a real server it is tried in the rigs."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from agent.capture.frame import SourceError
from agent.capture.rtsp import RtspSource

FRAMES = 120


def recording(path: Path) -> tuple[Path, tuple[int, int]]:
    """Noise, so that every frame has bytes; and where the packet in the middle lies in the file."""
    rng = np.random.default_rng(1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.gop_size = 10
        for number in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(rng.integers(0, 255, (64, 96, 3), np.uint8), format="bgr24")
            frame.pts, frame.time_base = number, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(str(path)) as container:
        middle = list(container.demux(video=0))[FRAMES // 2]
        assert middle.pos is not None
        return path, (middle.pos, middle.size)


def test_a_broken_packet_costs_its_frame_and_not_the_stream(tmp_path: Path) -> None:
    path, (begin, size) = recording(tmp_path / "stream.mp4")
    content = bytearray(path.read_bytes())
    content[begin : begin + size] = b"\xff" * size
    path.write_bytes(content)
    source = RtspSource(str(path))
    reads: list[bool] = []

    def read_on() -> None:
        while True:
            reads.append(source.read(1) is not None)

    with pytest.raises(SourceError, match="the stream has ended"):
        read_on()
    source.close()
    assert reads.count(False) >= 1, "the packet was broken indeed"
    assert reads.count(True) > 0.75 * FRAMES
