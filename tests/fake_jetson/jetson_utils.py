"""A stand-in for NVIDIA's jetson-utils, so far as Vigie calls it, with the traps of the real one.

Written from its documentation (aux-streaming.md, aux-image.md) and Python bindings (github.com/dusty-nv/jetson-utils).
What it has of the real one:
- what the GPU writes is in memory only once `cudaDeviceSynchronize` has been called: before, a reader finds what was
  there earlier, and nothing says so;
- `videoSource` gives its few buffers again and again, and takes them away when it is closed;
- `Capture` returns None on a time-out and raises a bare `Exception` on an error and at the end of a stream;
- a source that cannot be created leaks (`leaked` counts), and says its whole URI, password included, unless the log is
  silent.

Its limits: there is no GPU, no clock (a time-out comes at once) and no decoder; only `rgb8` images; a test gives in
`cameras` what each URI delivers. That real hardware behaves as documented, it cannot show.
"""

# ruff: noqa: N801, N802, N803 - the names are NVIDIA's

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]

#: For each URI that answers, what its captures give: a picture, (H, W, 3) uint8, RGB; or None for a time-out. After the
#: last one the stream has ended.
cameras: dict[str, list[Picture | None]] = {}
#: Sources that could not be created and are still in memory.
leaked: list[str] = []
#: `options` of each source that was created.
created: list[dict[str, Any]] = []
_queue: list[Callable[[], None]] = []


class Log:
    _level = "verbose"

    @classmethod
    def SetLevel(cls, level: str) -> None:
        cls._level = level

    @classmethod
    def GetLevel(cls) -> str:
        return cls._level


class cudaImage:
    """Memory of the GPU, which the processor may look into if it is `mapped`."""

    def __init__(self, width: int, height: int, format: str, *, mapped: bool = True) -> None:  # noqa: A002
        if format != "rgb8":
            raise ValueError(f"this stand-in has no images in {format}")
        self.width, self.height, self.format, self.mapped = width, height, format, mapped
        self.memory: Picture = np.zeros((height, width, 3), np.uint8)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.memory.shape


def later(work: Callable[[], None]) -> None:
    """Start work on the GPU: it is done when somebody waits for it."""
    _queue.append(work)


def cudaDeviceSynchronize() -> None:
    while _queue:
        _queue.pop(0)()


def cudaAllocMapped(*, width: int, height: int, format: str) -> cudaImage:  # noqa: A002
    return cudaImage(width, height, format)


def cudaToNumpy(array: cudaImage) -> Picture:
    if not array.mapped:
        raise Exception(  # noqa: TRY002 - as the bindings do
            "cudaToNumpy() needs to use CUDA mapped memory as input (allocate with mapped=1)"
        )
    return array.memory


class videoSource:
    def __init__(
        self,
        uri: str = "",
        argv: list[str] | None = None,
        positionArg: int = -1,
        options: dict[str, Any] | None = None,
    ) -> None:
        if argv or positionArg >= 0:
            raise ValueError("this stand-in takes its options as a dictionary")
        if Log.GetLevel() != "silent":
            sys.stdout.write(f"[gstreamer] gstDecoder -- creating decoder for {uri}\n")
        if uri not in cameras:
            leaked.append(uri)
            raise Exception("jetson.utils -- failed to create videoSource device")  # noqa: TRY002 - as the bindings do
        given = {"numBuffers": 4, "zeroCopy": True} | (options or {})
        created.append(given)
        self._mapped = bool(given["zeroCopy"])
        self._stream = iter(cameras[uri])
        self._ring: list[cudaImage] = []
        self._count = int(given["numBuffers"])
        self._captured = 0

    def Capture(self, format: str = "rgb8", timeout: int = 1000) -> cudaImage | None:  # noqa: A002
        if not isinstance(timeout, int):
            raise TypeError("an integer is required (milliseconds)")
        try:
            picture = next(self._stream)
        except StopIteration:
            raise Exception("jetson.utils -- videoSource failed to capture image") from None  # noqa: TRY002
        if picture is None:
            return None
        if not self._ring:
            height, width = picture.shape[:2]
            self._ring = [cudaImage(width, height, format, mapped=self._mapped) for _ in range(self._count)]
        image = self._ring[self._captured % self._count]
        self._captured += 1
        later(lambda: np.copyto(image.memory, picture))
        return image

    def IsStreaming(self) -> bool:
        return bool(self._ring)

    def Close(self) -> None:
        for image in self._ring:
            image.memory[:] = 0
        self._ring = []
