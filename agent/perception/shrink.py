"""Small pictures of frames: what changes and moves is seen in them as well, for a fraction of the time."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]


def shrink(image: Image, widest: int) -> Image:
    """A picture shrunk by a whole number, which is several times cheaper than by a fraction.

    Args:
        image: (H, W, 3) uint8.
        widest: Its new width at most, pixels.
    """
    height, width = image.shape[:2]
    factor = -(-width // widest)
    if factor == 1:
        return image
    size = (max(1, width // factor), max(1, height // factor))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
