"""Whether a camera's picture is one to work with: light, focus, and whether it moves at all. For a technician.

Focus: a blurred step is about as wide as the blur, so that its slope hardly grows when the picture is smoothed less.
The ratio of the slopes at two scales on the strongest edges gives the width of the blur (Elder and Zucker, "Local scale
control for edge detection and blur estimation", 1998). Known failure: a picture without edges, such as fog or a blank
wall, says nothing, and says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.capture.camera import BLACK_BELOW, FROZEN_BELOW

#: Focus is looked at in a picture so wide, pixels, at two scales of smoothing, pixels.
_WIDTH = 480
_FINE, _COARSE = 1.0, 3.0
#: The strongest edges: this share of all pixels; and a picture whose edges are fainter, grey levels a pixel, has none.
_EDGES, _FAINT = 0.05, 1.5
#: From here on white is nothing but white, of 255.
_WHITE = 250


@dataclass(frozen=True, slots=True)
class Picture:
    """What pictures of a few seconds are like; nothing in it can be turned back into a picture.

    Attributes:
        frames: How many there were.
        seconds: From the first to the last.
        width: Pixels.
        height: Pixels.
        brightness: Mean, of 255.
        white: Share of pixels that are white.
        black: Whether no pixel is brighter than a covered lens leaves it.
        blur: Width of the blur as a share of the picture's width; None: too few edges to tell.
        still: Whether all of them are the same to the bit.
    """

    frames: int
    seconds: float
    width: int
    height: int
    brightness: float
    white: float
    black: bool
    blur: float | None
    still: bool

    @property
    def rate(self) -> float:
        """Frames a second."""
        return (self.frames - 1) / self.seconds if self.seconds > 0 else 0.0


class Look:
    """Looks at pictures one by one and keeps numbers alone."""

    def __init__(self) -> None:
        self._frames = 0
        self._begin = self._end = 0.0
        self._size = (0, 0)
        self._light: list[tuple[float, float, int]] = []
        self._blurs: list[float] = []
        self._small: NDArray[np.uint8] | None = None
        self._moved = False

    def add(self, image: NDArray[np.uint8], time: float) -> None:
        """Look at the next picture.

        Args:
            image: (H, W, 3) uint8, BGR.
            time: When it came, seconds.
        """
        if not self._frames:
            self._begin = time
        self._frames += 1
        self._end = time
        self._size = (image.shape[1], image.shape[0])
        small = np.asarray(cv2.resize(image[..., 1], (64, 36), interpolation=cv2.INTER_AREA), np.uint8)
        if self._small is not None and cv2.norm(small, self._small, cv2.NORM_L1) / small.size >= FROZEN_BELOW:
            self._moved = True
        self._small = small
        self._light.append((float(small.mean()), float((small >= _WHITE).mean()), int(small.max())))
        if self._frames % 5 == 1:  # focus costs most, and does not change by itself
            found = blur(image)
            if found is not None:
                self._blurs.append(found)

    def picture(self) -> Picture | None:
        """What they were like; None where there was none."""
        if not self._frames:
            return None
        brightness, white, brightest = np.median(np.array(self._light), axis=0).tolist()
        return Picture(
            self._frames,
            self._end - self._begin,
            *self._size,
            brightness=brightness,
            white=white,
            black=brightest < BLACK_BELOW,
            blur=float(np.median(self._blurs)) if self._blurs else None,
            still=self._frames > 1 and not self._moved,
        )


def blur(image: NDArray[np.uint8]) -> float | None:
    """How wide a picture's edges are blurred, as a share of its width; None where there are too few edges.

    Args:
        image: (H, W, 3) uint8, BGR.
    """
    height, width = image.shape[:2]
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    size = (_WIDTH, max(8, round(height * _WIDTH / width)))
    small = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.float32)
    fine, coarse = (_slope(small, scale) for scale in (_FINE, _COARSE))
    least = float(np.quantile(coarse, 1 - _EDGES))
    if least < _FAINT:
        return None
    edges = coarse >= least
    ratio = float(fine[edges].sum() / coarse[edges].sum())
    if ratio >= _COARSE / _FINE:
        return 0.0
    # Of a step that is blurred by b and smoothed by s the steepest slope is as 1 / sqrt(b² + s²).
    return math.sqrt((_COARSE**2 - (ratio * _FINE) ** 2) / max(ratio**2 - 1, 1e-3)) / _WIDTH


def _slope(grey: NDArray[np.float32], scale: float) -> NDArray[np.float32]:
    smooth = cv2.GaussianBlur(grey, (0, 0), scale)
    across, down = cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    return np.asarray(cv2.magnitude(across, down) / 8, np.float32)
