"""A clip as a camera: at its own pace like a live one, or in replay as fast as it is read, on its own clock."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from numpy.typing import NDArray

from agent.capture.frame import Frame, SourceError


class FileSource:
    """Frames of a video file, sampled to a rate before they are converted, since the conversion is what costs.

    Attributes:
        live: True at its own pace, False in replay.
        frames_total: Frames that it will give, as far as the file says; None with `loop` or without a duration.
        broken: Packets that could not be decoded and were skipped.
    """

    def __init__(
        self,
        path: Path,
        *,
        fps: float,
        loop: bool = False,
        replay: bool = False,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        """Open the file.

        Args:
            path: The clip.
            fps: Frames given for each second of the clip, at most as many as it has.
            loop: Begin again at the end.
            replay: As fast as it is read, `Frame.time` in seconds of the clip; else in real time on `clock`.
            clock: Monotonic seconds.
            wait: Sleeps so many seconds.

        Raises:
            SourceError: no such file, no video in it, or it cannot be read.
        """
        self.live = not replay
        self.broken = 0
        self._path = path
        self._fps = fps
        self._loop = loop
        self._clock = clock
        self._wait = wait
        self._begun: float | None = None
        self._pending: Frame | None = None
        self._container: InputContainer | None = self._open()
        stream = self._container.streams.video[0]
        self._interval = 1 / float(stream.average_rate or 25)
        duration = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
        if not duration and self._container.duration:
            duration = self._container.duration / av.time_base
        frames = math.floor(duration * min(fps, 1 / self._interval) + 0.5)
        self.frames_total: int | None = frames if frames and not loop else None
        self._frames = self._play()

    def _open(self) -> InputContainer:
        try:
            container = av.open(str(self._path))
        except (av.error.FFmpegError, OSError) as error:
            raise SourceError(f"file:{self._path}: cannot be read: {error.strerror or error}") from error
        if not container.streams.video or container.format.name == "tty":  # FFmpeg shows text as a picture
            container.close()
            raise SourceError(f"file:{self._path}: has no video in it")
        return container

    def _decoded(self) -> Iterator[tuple[float, av.VideoFrame]]:
        """Every frame of one pass with its time since the clip's beginning; broken packets are counted and left out."""
        assert self._container is not None  # noqa: S101 - read() looks
        stream = self._container.streams.video[0]
        stream.codec_context.thread_count = 1
        packets = self._container.demux(stream)
        place = 0.0
        begin = float((stream.start_time or 0) * (stream.time_base or 0))  # a recording may begin at any time
        while True:
            try:
                frames = next(packets).decode()
            except StopIteration:
                return
            except av.error.EOFError:
                return
            except av.error.FFmpegError:
                self.broken += 1
                continue
            for frame in frames:
                place = frame.time - begin if frame.time is not None else place + self._interval
                yield place, frame

    def _play(self) -> Iterator[tuple[float, int, NDArray[np.uint8]]]:
        offset, number = 0.0, 0
        while True:
            due, last, given = 0.0, 0.0, False
            for place, frame in self._decoded():
                last = place
                if place + self._interval / 2 >= due:
                    due = max(due + 1 / self._fps, place)
                    given = True
                    image: NDArray[np.uint8] = frame.to_ndarray(format="bgr24").astype(np.uint8, copy=False)
                    yield offset + place, number, image
                number += 1
            if not given:
                raise SourceError(f"file:{self._path}: no frame in it could be decoded")
            if not self._loop:
                return
            offset += last + self._interval
            self.close()
            self._container = self._open()

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame; at its own pace None when it is not due within the time.

        Raises:
            EOFError: the clip has come to its end.
            SourceError: nothing in it can be decoded, or it is closed.
        """
        if self._container is None:
            raise SourceError(f"file:{self._path}: is closed")
        if self._pending is None:
            try:
                place, number, image = next(self._frames)
            except StopIteration:
                raise EOFError(f"file:{self._path}: has come to its end") from None
            if self.live:
                if self._begun is None:
                    self._begun = self._clock() - place
                place += self._begun
            self._pending = Frame(image, place, number)
        if self.live:
            early = self._pending.time - self._clock()
            if early > timeout_s:
                self._wait(timeout_s)
                return None
            if early > 0:
                self._wait(early)
        frame, self._pending = self._pending, None
        return frame

    def close(self) -> None:
        """Close the file; safe to call twice."""
        if self._container is not None:
            self._container.close()
            self._container = None
