"""Moving blobs, for a device on which no model can be found: less than a detector, more than nothing.

A Gaussian mixture a pixel models the background (Zivkovic, ICPR 2004) on a small grey picture; what differs from it and
holds together is a blob. An upright blob is taken for a person, a wide one for a vehicle.
Known failure: whoever stands still becomes background; people who walk together are one blob; a dog is a person.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.capture.frame import Frame
from agent.perception.scene import Detections, ObjectClass

#: Width of the picture that is looked at, pixels: a person of a tenth of the frame's height still has some.
_WIDTH = 320
#: Frames in which a background is learned before anything is reported: two seconds at ten a second.
_WARM_UP = 20
#: History of the mixture, frames: half a minute at ten a second.
_HISTORY = 300
#: A change of more of the picture than this is the camera's exposure or a light, not an object.
_TOO_MUCH = 0.5
#: Smallest blob, as a share of the picture.
_LEAST_AREA = 0.0008
#: Score of every blob: motion alone is good evidence of something, and poor evidence of what.
_SCORE = 0.65


class MotionDetector:
    """Finds moving blobs in the frames of each camera."""

    def __init__(self) -> None:
        self._cameras: dict[int, _Background] = {}

    def detect(self, frames: Sequence[tuple[int, Frame]]) -> list[Detections]:
        """The blobs of each frame, in the order of `frames`."""
        return [self._cameras.setdefault(camera, _Background()).blobs(frame.image) for camera, frame in frames]


class _Background:
    """What one camera sees when nothing moves."""

    def __init__(self) -> None:
        self._shape: tuple[int, ...] = ()
        self._start()

    def _start(self) -> None:
        self._mixture = cv2.createBackgroundSubtractorMOG2(history=_HISTORY, varThreshold=25, detectShadows=True)
        self._frames = 0

    def blobs(self, image: NDArray[np.uint8]) -> Detections:
        """The moving blobs of the next frame; none while the background is being learned."""
        if image.shape != self._shape:
            self._shape = image.shape
            self._start()
        scale = min(1.0, _WIDTH / image.shape[1])
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        grey = cv2.GaussianBlur(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), (5, 5), 0)
        mask = self._mixture.apply(grey)
        self._frames += 1
        if self._frames <= _WARM_UP:
            return Detections.empty()
        moving = np.equal(mask, 255).astype(np.uint8)  # 127 is shadow
        if cv2.countNonZero(moving) > _TOO_MUCH * moving.size:
            self._start()
            return Detections.empty()
        clean = cv2.morphologyEx(moving, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        clean = cv2.morphologyEx(clean, cv2.MORPH_CLOSE, np.ones((9, 5), np.uint8))
        _, _, stats, _ = cv2.connectedComponentsWithStats(clean)
        stats = stats[1:]
        stats = stats[stats[:, cv2.CC_STAT_AREA] >= _LEAST_AREA * moving.size]
        corners = stats[:, :2].astype(np.float32)
        sizes = stats[:, 2:4].astype(np.float32)
        boxes = np.concatenate([corners, corners + sizes], axis=1) / np.float32(scale)
        upright = sizes[:, 1] >= sizes[:, 0]
        classes = np.where(upright, ObjectClass.PERSON, ObjectClass.VEHICLE).astype(np.uint8)
        return Detections(boxes, np.full(len(boxes), _SCORE, np.float32), classes)
