"""A block of sound, what every source of sound can do, and files as a source: recordings, and the sound of clips."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import av
import numpy as np
from av.container import InputContainer
from numpy.typing import NDArray

from agent.capture.frame import SourceError

RATE_HZ = 16_000
BLOCK_S = 0.1

Samples = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Block:
    """A tenth of a second of sound, or what there was of it.

    Attributes:
        samples: (C, N) float32 in -1 to 1 at 16 kHz, a row a channel; it lives until the next block is read.
        time: When its last sample was taken, seconds on the source's own clock: monotonic time as far as the device
            tells it for a live source, never too early; seconds of the file in replay.
        gap: Whether sound is missing before it.
    """

    samples: Samples
    time: float
    gap: bool = False


class SoundSource(Protocol):
    """Where sound comes from. One thread opens, reads and closes it."""

    def read(self) -> Block | None:
        """The next block, or None when none came in time.

        Raises:
            EOFError: a file has come to its end.
            SourceError: the source has failed; close it and open a new one.
        """

    def close(self) -> None:
        """Let go of the device; safe to call twice."""


class Resampler:
    """Sound of any rate to 16 kHz, by libswresample, each channel by itself."""

    def __init__(self, rate_hz: int, channels: int) -> None:
        self._rate_hz = rate_hz
        self._channels = [av.AudioResampler(format="fltp", layout="mono", rate=RATE_HZ) for _ in range(channels)]

    def __call__(self, samples: Samples) -> Samples:
        """(C, N) float32 at the rate it was made for; (C, M) float32 at 16 kHz, a little late."""
        if self._rate_hz == RATE_HZ:
            return samples
        return np.stack([self._one(row, to_rate) for row, to_rate in zip(samples, self._channels, strict=True)])

    def _one(self, row: Samples, to_rate: av.AudioResampler) -> Samples:
        sound = av.AudioFrame.from_ndarray(np.ascontiguousarray(row[None, :]), format="fltp", layout="mono")
        sound.sample_rate = self._rate_hz
        planes = [frame.to_ndarray()[0].astype(np.float32) for frame in to_rate.resample(sound)]
        return np.concatenate(planes) if planes else np.empty(0, np.float32)


def _planes(sound: av.AudioFrame) -> Samples:
    return np.asarray(sound.to_ndarray(), np.float32)


def take_channels(samples: Samples, wanted: int) -> Samples:
    """(C, N) to (`wanted`, N): the mean of all channels where one is wanted, else the first ones."""
    return samples.mean(axis=0, keepdims=True, dtype=np.float32) if wanted == 1 else samples[:wanted]


def tracks(path: Path) -> tuple[bool, bool]:
    """Whether a file has pictures, and whether it has sound.

    Raises:
        SourceError: it cannot be read.
    """
    try:
        with av.open(str(path)) as container:
            # FFmpeg shows text as a picture, and so the cover of a record.
            covers = av.stream.Disposition.attached_pic
            pictures = [s for s in container.streams.video if not s.disposition & covers]
            return bool(pictures) and container.format.name != "tty", bool(container.streams.audio)
    except (av.error.FFmpegError, OSError) as error:
        raise SourceError(f"file:{path}: cannot be read: {error.strerror or error}") from error


class FileSound:
    """The sound of a recording or a clip: at its own pace like a microphone, or in replay as fast as it is read.

    Attributes:
        blocks_total: Blocks that it will give, as far as the file says; None with `loop` or without a duration.
    """

    def __init__(
        self,
        path: Path,
        *,
        channels: int = 1,
        loop: bool = False,
        replay: bool = False,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        """Open the file.

        Args:
            path: A recording, or a clip with a sound track.
            channels: How many of its channels are taken; 1 mixes all.
            loop: Begin again at the end.
            replay: As fast as it is read, `Block.time` in seconds of the file; else in real time on `clock`.
            clock: Monotonic seconds.
            wait: Sleeps so many seconds.

        Raises:
            SourceError: it cannot be read, there is no sound in it, or it has too few channels.
        """
        self._path = path
        self._loop = loop
        self._replay = replay
        self._channels = channels
        self._clock = clock
        self._wait = wait
        self._begun: float | None = None
        self._container: InputContainer | None = self._open()
        stream = self._container.streams.audio[0]
        if stream.channels < channels:
            self.close()
            raise SourceError(f"file:{path}: has {stream.channels} channels, not {channels}: set microphone.channels")
        duration = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
        self.blocks_total: int | None = round(duration / BLOCK_S) if duration and not loop else None
        self._blocks = self._play()
        try:
            self._first: tuple[float, Samples] | None = next(self._blocks)
        except (StopIteration, SourceError):
            self.close()
            raise SourceError(f"file:{path}: has no sound in it") from None

    def _open(self) -> InputContainer:
        try:
            container = av.open(str(self._path))
        except (av.error.FFmpegError, OSError) as error:
            raise SourceError(f"file:{self._path}: cannot be read as sound: {error.strerror or error}") from error
        if not container.streams.audio:
            container.close()
            raise SourceError(f"file:{self._path}: cannot be read as sound: there is no sound track in it")
        return container

    def _play(self) -> Iterator[tuple[float, Samples]]:
        """Each block with the second of the file at which it ends."""
        offset = 0.0
        while True:
            place, given = offset, False
            for planes in self._decoded():
                place += planes.shape[1] / RATE_HZ
                given = True
                yield place, take_channels(planes, self._channels)
            if not given:
                raise SourceError(f"file:{self._path}: no sound in it could be decoded")
            if not self._loop:
                return
            offset = place
            self.close()
            self._container = self._open()

    def _decoded(self) -> Iterator[Samples]:
        """One pass, (C, N) float32 at 16 kHz each; broken packets are left out."""
        assert self._container is not None  # noqa: S101 - read() looks
        stream = self._container.streams.audio[0]
        size = round(RATE_HZ * BLOCK_S)
        to_rate = av.AudioResampler(format="fltp", layout=stream.layout, rate=RATE_HZ, frame_size=size)
        packets = self._container.demux(stream)
        while True:
            try:
                frames = next(packets).decode()
            except (StopIteration, av.error.EOFError):
                break
            except av.error.FFmpegError:
                continue
            for frame in frames:
                yield from (_planes(sound) for sound in to_rate.resample(frame))
        yield from (_planes(sound) for sound in to_rate.resample(None))

    def read(self) -> Block | None:
        """The next block; at its own pace, when its last sample is due.

        Raises:
            EOFError: the file has come to its end.
            SourceError: nothing in it can be decoded, or it is closed.
        """
        if self._container is None:
            raise SourceError(f"file:{self._path}: is closed")
        try:
            place, samples = self._first or next(self._blocks)
        except StopIteration:
            raise EOFError(f"file:{self._path}: has come to its end") from None
        self._first = None
        if self._replay:
            return Block(samples, place)
        if self._begun is None:
            self._begun = self._clock()
        due = self._begun + place
        early = due - self._clock()
        if early > 0:
            self._wait(early)
        return Block(samples, due)

    def close(self) -> None:
        """Close the file; safe to call twice."""
        if self._container is not None:
            self._container.close()
            self._container = None
