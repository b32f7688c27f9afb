"""Moving blobs, for a device on which no model can be found: less than a detector, more than nothing.

A mixture of Gaussians a pixel models the background (Zivkovic, ICPR 2004) of a small picture, in colour because what
tells a shadow is that it darkens and keeps the hue. What differs from the background and holds together is a blob. An
upright blob is taken for a person, a wide one for a vehicle.

Known failures: whoever stands still becomes background within half a minute; people who walk together are one blob; a
dog is a vehicle and a car seen end-on a person; a thing that fills half of the picture is taken for a change of light.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.capture.frame import Frame, Image
from agent.perception.scene import Detections, ObjectClass

#: Frames are shrunk to at most this width, pixels.
_WIDTH = 400
#: A background is learned for so long, and from so many frames, before anything is reported.
_WARM_UP_S = 2.0
_WARM_UP_FRAMES = 10
#: How long the background remembers: a thing that came and stays belongs to it after about this.
_MEMORY_S = 30.0
#: Squared distance from a Gaussian, in variances, beyond which a pixel is not of it: four standard deviations.
_FAR = 16.0
#: When more than this share of the pixels change, it is the camera's exposure or a light, not an object.
_TOO_MUCH = 0.5
#: Smallest blob, as a share of the picture: somebody of a twelfth of its height.
_LEAST_AREA = 0.0008
#: Differs so little from the usual grey level that it is background; and how far apart dark and bright must be for a
#: line through both, grey levels.
_LIKE_BACKGROUND, _LEAST_CONTRAST = 25, 10
#: Lone pixels are noise; gaps are closed upwards, as between head, body and legs, rather than to the neighbour.
_OPEN, _CLOSE = np.ones((3, 3), np.uint8), np.ones((7, 3), np.uint8)
#: Score of every blob: motion alone is good evidence of something, and poor evidence of what.
_SCORE = 0.65
# What the mixture says of a pixel: 0 background, 127 shadow, 255 neither.
_MOVING = 255


def _middle(values: NDArray[np.float32]) -> float:
    """The median, or the upper of the two values in the middle: numpy's own takes ten times as long for so few."""
    return float(np.partition(values, len(values) // 2)[len(values) // 2])


class MotionDetector:
    """Finds moving blobs in the frames of each camera."""

    def __init__(self, widest: int = _WIDTH) -> None:
        """Set up.

        Args:
            widest: Frames are shrunk to at most this width, pixels.
        """
        self._widest = widest
        self._cameras: dict[int, _Background] = {}

    def detect(self, frames: Sequence[tuple[int, Frame]]) -> list[Detections]:
        """The blobs of each frame, in the order of `frames`; none while a camera's background is being learned."""
        return [self._cameras.setdefault(camera, _Background(self._widest)).blobs(frame) for camera, frame in frames]


class _Background:
    """What one camera sees when nothing moves."""

    def __init__(self, widest: int) -> None:
        self._widest = widest
        self._shape: tuple[int, ...] = ()
        self._index = -1
        self._time = 0.0
        self._learn_anew(0.0)

    def _learn_anew(self, time: float) -> None:
        self._mixture = cv2.createBackgroundSubtractorMOG2(varThreshold=_FAR, detectShadows=True)
        self._since = time
        self._frames = 0
        self._usual: NDArray[np.float32] | None = None
        self._gain, self._offset = 1.0, 0.0

    def _steadied(self, small: Image, elapsed: float) -> Image:
        """The picture as bright as the ones before, though the camera has changed its exposure.

        A straight line from its grey levels to the usual ones is drawn through the medians of the darker and of the
        brighter half of what looks like background.
        """
        grey = np.asarray(cv2.cvtColor(small[::4, ::4], cv2.COLOR_BGR2GRAY), np.float32)
        if self._usual is None:
            self._usual = grey
        told = np.abs(self._gain * grey + self._offset - self._usual) < _LIKE_BACKGROUND
        if np.count_nonzero(told) > (1 - _TOO_MUCH) * told.size:
            now, usual = grey[told], self._usual[told]
            brighter = now > _middle(now)
            if brighter.any():
                x0, x1, y0, y1 = (_middle(part[half]) for part in (now, usual) for half in (~brighter, brighter))
                if x1 - x0 > _LEAST_CONTRAST:
                    self._gain = (y1 - y0) / (x1 - x0)
                    self._offset = y0 - self._gain * x0
        steady = cv2.LUT(small, np.clip(self._gain * np.arange(256) + self._offset, 0, 255).astype(np.uint8))
        seen = self._gain * grey + self._offset
        self._usual = self._usual + np.float32(1 - math.exp(-elapsed / _MEMORY_S)) * (seen - self._usual)
        return np.asarray(steady, np.uint8)

    def blobs(self, frame: Frame) -> Detections:
        """The moving blobs of the next frame; none while the background is being learned."""
        if frame.index <= self._index or frame.image.shape != self._shape:
            self._learn_anew(frame.time)  # another source, or the same one opened again after who knows how long
        elapsed = frame.time - self._time
        self._shape, self._index, self._time = frame.image.shape, frame.index, frame.time
        self._frames += 1
        height, width = self._shape[:2]
        small = self._steadied(frame.shrunk(self._widest), elapsed)
        rate = 1.0 if self._frames == 1 else min(1.0, max(elapsed / _MEMORY_S, 0.5 / self._frames))
        mask = self._mixture.apply(small, learningRate=rate)
        if self._frames <= _WARM_UP_FRAMES or frame.time - self._since < _WARM_UP_S:
            return Detections.empty()
        if cv2.countNonZero(mask) > _TOO_MUCH * mask.size:
            self._learn_anew(frame.time)
            return Detections.empty()

        moving = np.equal(mask, _MOVING).astype(np.uint8)
        clean = cv2.morphologyEx(cv2.morphologyEx(moving, cv2.MORPH_OPEN, _OPEN), cv2.MORPH_CLOSE, _CLOSE)
        _, _, stats, _ = cv2.connectedComponentsWithStats(clean, ltype=cv2.CV_16U)  # a third of the usual time
        stats = stats[1:]  # the first is all the rest of the picture
        stats = stats[stats[:, cv2.CC_STAT_AREA] >= _LEAST_AREA * mask.size]
        corners, sizes = stats[:, :2], stats[:, 2:4]
        scale = np.array([width / small.shape[1], height / small.shape[0]] * 2, np.float32)
        boxes = np.concatenate([corners, corners + sizes], axis=1).astype(np.float32) * scale
        upright = sizes[:, 1] >= sizes[:, 0]
        classes = np.where(upright, ObjectClass.PERSON, ObjectClass.VEHICLE).astype(np.uint8)
        return Detections(boxes, np.full(len(boxes), _SCORE, np.float32), classes)
