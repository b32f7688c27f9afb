"""A camera on the network, over RTSP (RFC 7826) on TCP, decoded by FFmpeg through PyAV."""

from __future__ import annotations

import time
from collections.abc import Iterator

import av
import numpy as np

from agent.capture.frame import Frame, SourceError
from agent.settings import mask_url

#: To connect, and without anything from a server until it is taken for frozen; seconds.
_CONNECT_S, _FROZEN_S = 5.0, 3.0
#: FFmpeg answers the first time-out with the frame that its parser still held, and only the second with an error.
_TIMEOUTS_S = (_CONNECT_S, _FROZEN_S / 2)
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
        begun = time.monotonic()
        try:
            self._container = av.open(url, options=_OPTIONS, timeout=_TIMEOUTS_S)
        except (av.error.FFmpegError, OSError) as error:
            late = time.monotonic() - begun >= _CONNECT_S
            what = f"no answer within {_CONNECT_S:.0f} s" if late else error.strerror or type(error).__name__
            raise SourceError(f"{self._name}: cannot connect: {what}") from None
        if not self._container.streams.video:
            self._container.close()
            raise SourceError(f"{self._name}: has no video in it")
        self._container.streams.video[0].codec_context.thread_count = 1
        self._packets = self._container.demux(video=0)
        self._decoded: Iterator[av.VideoFrame] = iter(())

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame, or None for a packet that has none; waits for the connection's own time-out, not `timeout_s`.

        Raises:
            SourceError: the stream has ended or failed.
        """
        del timeout_s
        picture = next(self._decoded, None)
        if picture is None:
            packet = self._packet()
            try:
                self._decoded = iter(packet.decode())
            except av.error.FFmpegError:
                return None  # one broken packet is not the end of the stream
            picture = next(self._decoded, None)
            if picture is None:
                return None
        image = picture.to_ndarray(format="bgr24").astype(np.uint8, copy=False)
        frame = Frame(image, time.monotonic(), self._number)
        self._number += 1
        return frame

    def _packet(self) -> av.Packet[av.VideoStream]:
        try:
            packet = next(self._packets)
        except StopIteration:
            packet = None
        except av.error.ExitError:
            raise SourceError(f"{self._name}: nothing has come for {_FROZEN_S:.0f} s") from None
        except (av.error.FFmpegError, OSError) as error:
            raise SourceError(f"{self._name}: {error.strerror or type(error).__name__}") from None
        if packet is None or packet.size == 0:
            # FFmpeg ends the stream without an error when the server dies; its last packet is empty.
            raise SourceError(f"{self._name}: the stream has ended")
        return packet

    def close(self) -> None:
        """Hang up; safe to call twice."""
        self._container.close()
