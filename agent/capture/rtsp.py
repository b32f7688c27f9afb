"""A camera on the network, over RTSP (RFC 7826) on TCP, decoded by FFmpeg through PyAV."""

from __future__ import annotations

import time
from collections.abc import Iterator

import av
import numpy as np

from agent.capture.frame import Frame, SourceError
from agent.settings import mask_url

#: To connect, and to wait for the next bytes; a frozen server is noticed by the second.
_TIMEOUTS_S = (5.0, 3.0)
_OPTIONS = {"rtsp_transport": "tcp", "fflags": "nobuffer", "flags": "low_delay"}


class RtspSource:
    """Frames of an RTSP stream as they arrive."""

    live = True
    frames_total = None

    def __init__(self, url: str) -> None:
        """Connect.

        Args:
            url: `rtsp://user:password@host:port/path`; user and password never appear in a message.

        Raises:
            SourceError: nobody answers, or there is no video.
        """
        self._name = mask_url(url)
        self._number = 0
        try:
            self._container = av.open(url, options=_OPTIONS, timeout=_TIMEOUTS_S)
        except (av.error.FFmpegError, OSError) as error:
            raise SourceError(f"{self._name}: cannot connect: {error.strerror or type(error).__name__}") from None
        if not self._container.streams.video:
            self._container.close()
            raise SourceError(f"{self._name}: has no video in it")
        self._container.streams.video[0].codec_context.thread_count = 1
        self._frames: Iterator[av.VideoFrame] = self._container.decode(video=0)

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame; waits as long as the connection's own time-out, whatever `timeout_s` says.

        Raises:
            SourceError: the stream has ended or failed.
        """
        del timeout_s
        try:
            picture = next(self._frames)
        except StopIteration:
            # FFmpeg ends the stream without an error when the server dies.
            raise SourceError(f"{self._name}: the stream has ended") from None
        except av.error.InvalidDataError:
            return None
        except (av.error.FFmpegError, OSError) as error:
            raise SourceError(f"{self._name}: {error.strerror or type(error).__name__}") from None
        image = picture.to_ndarray(format="bgr24").astype(np.uint8, copy=False)
        frame = Frame(image, time.monotonic(), self._number)
        self._number += 1
        return frame

    def close(self) -> None:
        """Hang up; safe to call twice."""
        self._container.close()
