"""A camera through videoSource of NVIDIA's jetson-utils (github.com/dusty-nv/jetson-utils), where it is installed.

It decodes in hardware whatever its URI names: `jetson:csi://0`, `jetson:v4l2:///dev/video0`, `jetson:rtsp://…`. It has
not run on a Jetson yet; the calls follow its Python bindings (PyVideo.cpp), and the tests a stand-in written from them.

A videoSource that cannot be created, since the camera is absent, stays in memory for good (jetson-utils issue 148). So
that is tried once in a process: while the camera stays away, a new process is asked for from time to time, at the cost
of a short gap for every other camera. `csi://` and `rtsp://` without `jetson:` need no such thing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from agent.capture.frame import Frame, RestartNeededError, SourceError
from agent.settings import mask_url

#: How long a process goes on without an absent camera before it asks for another one, seconds.
RESTART_AFTER_S = 60.0
_OPTIONS = {
    "latency": 50,  # of RTSP, milliseconds; 2000 by default
    "zeroCopy": True,  # otherwise only the GPU can read the frames
}
#: When each source could not be created, in monotonic seconds.
_absent_since: dict[str, float] = {}


class JetsonSource:
    """Frames of a videoSource as they arrive."""

    live = True
    frames_total = None

    def __init__(self, address: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Connect.

        Args:
            address: `jetson:` and a URI of videoSource; user and password never appear in a message.
            clock: Monotonic seconds.

        Raises:
            RestartNeededError: the camera was absent a while ago, and this process may not look for it again.
            SourceError: jetson-utils is not installed, or the camera is absent.
        """
        self._name = mask_url(address)
        self._clock = clock
        self._number = 0
        try:
            import jetson_utils
        except ImportError as error:
            raise SourceError(f"{self._name}: jetson-utils is not installed: {error}") from error
        self._cuda: Any = jetson_utils
        if address in _absent_since:
            self._refuse(clock() - _absent_since[address])
        jetson_utils.Log.SetLevel("silent")  # it would log the URI with its password
        try:
            self._source: Any = jetson_utils.videoSource(address.removeprefix("jetson:"), options=_OPTIONS)
        except Exception:  # noqa: BLE001 - the bindings raise nothing narrower
            _absent_since[address] = clock()
            self._refuse(0.0)

    def _refuse(self, absent_s: float) -> None:
        absent = f"{self._name}: cannot be opened: is the camera there?"
        if absent_s >= RESTART_AFTER_S:
            raise RestartNeededError(f"{absent} Each try leaks memory: only a new process may try again")
        raise SourceError(absent)

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame, or None when none came within the time.

        Raises:
            SourceError: the source has failed or ended.
        """
        try:
            captured = self._source.Capture(format="rgb8", timeout=round(1000 * timeout_s))
            if captured is None:
                return None
            self._cuda.cudaDeviceSynchronize()  # the GPU may still be at work on the shared memory
            # This also copies: the buffer is the source's own, and comes back with another frame.
            image = cv2.cvtColor(self._cuda.cudaToNumpy(captured), cv2.COLOR_RGB2BGR)
        except Exception as error:  # the bindings raise nothing narrower
            raise SourceError(f"{self._name}: {error}") from error
        frame = Frame(image.astype(np.uint8, copy=False), self._clock(), self._number)
        self._number += 1
        return frame

    def close(self) -> None:
        """Stop the stream and let go of its buffers; safe to call twice."""
        if self._source is not None:
            self._source.Close()
            self._source = None
