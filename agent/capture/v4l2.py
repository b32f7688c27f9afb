"""A USB camera through Video4Linux and OpenCV."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np

from agent.capture.frame import Frame, SourceError


class V4l2Source:
    """Frames of a Video4Linux device as they arrive."""

    live = True
    frames_total = None

    def __init__(self, device: Path) -> None:
        """Open the device.

        Args:
            device: Its node, such as `/dev/video0`.

        Raises:
            SourceError: it is absent, busy or gives no picture.
        """
        self._name = f"v4l2:{device}"
        self._number = 0
        if not device.exists():
            there = ", ".join(str(path) for path in sorted(Path("/dev").glob("video*"))) or "none"
            raise SourceError(f"{self._name}: no such device; there are: {there}")
        self._capture = cv2.VideoCapture(str(device), cv2.CAP_V4L2)
        if not self._capture.isOpened():
            raise SourceError(f"{self._name}: cannot be opened: another program may use it, or it is no camera")
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame; the driver's own time-out applies.

        Raises:
            SourceError: the device gives no frame any more.
        """
        del timeout_s
        there, image = self._capture.read()
        if not there or image is None:
            raise SourceError(f"{self._name}: gives no frame; it may have been unplugged")
        frame = Frame(image.astype(np.uint8, copy=False), time.monotonic(), self._number)
        self._number += 1
        return frame

    def close(self) -> None:
        """Let go of the device; safe to call twice."""
        self._capture.release()
