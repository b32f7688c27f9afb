"""How the picture moves: dense optical flow of small pictures, by cells.

Dense inverse search (Kroeger et al., "Fast optical flow using dense inverse search", ECCV 2016) as in OpenCV, with
patches whose mean brightness is taken off, so that a light that goes on does not move anything.

Known failures: a whole picture that shakes moves everywhere; what is darker than the sensor's noise does not move at
all; a cell in which two people pass each other moves with the larger one, or not at all.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.perception.scene import Flow
from agent.perception.shrink import shrink

#: Pictures are shrunk to at most this width, pixels: a person who fills a tenth of the height is a dozen pixels tall.
_WIDTH = 200
#: Side of a cell in the small picture, pixels: flow is found for patches of 8 anyway.
_CELL = 8
#: Least time from one look to the next, seconds: a walker moves by a pixel or two.
_LEAST_S = 0.15
#: After a longer pause there is nothing to compare with.
_MOST_S = 1.0
#: What moves by less between two looks, pixels of the small picture, is noise.
_NOISE_PX = 0.5


class FlowModel:
    """The flow of one camera."""

    def __init__(self) -> None:
        self._search: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._before: NDArray[np.uint8] | None = None
        self._time = 0.0

    def update(self, time: float, image: NDArray[np.uint8]) -> Flow | None:
        """How the picture has moved since the last look; None when it is too early to look again, or to compare.

        Args:
            time: Seconds on the source's clock, never going back.
            image: (H, W, 3) uint8.
        """
        elapsed = time - self._time
        if self._before is not None and elapsed < _LEAST_S:
            return None
        small = np.asarray(cv2.cvtColor(shrink(image, _WIDTH), cv2.COLOR_BGR2GRAY), np.uint8)
        before, self._before, self._time = self._before, small, time
        if before is None or before.shape != small.shape or elapsed > _MOST_S:
            return None
        pixels = self._search.calc(before, small, None)
        moving = np.hypot(pixels[..., 0], pixels[..., 1]) > _NOISE_PX
        rows, columns = small.shape[0] // _CELL, small.shape[1] // _CELL
        share = _by_cell(moving.astype(np.float32), rows, columns)
        sums = _by_cell(pixels * moving[..., None], rows, columns)
        scale = image.shape[1] / small.shape[1]
        means = sums / np.maximum(share, 1e-6)[..., None]
        return Flow(_CELL * scale, (means * (scale / elapsed)).astype(np.float32), share)


def _by_cell(values: NDArray[np.float32], rows: int, columns: int) -> NDArray[np.float32]:
    """Means over cells of (H, W, ...): (rows, columns, ...); what is left over at the right and below is left out."""
    cut = values[: rows * _CELL, : columns * _CELL]
    cells = cut.reshape(rows, _CELL, columns, _CELL, *values.shape[2:])
    return np.asarray(cells.mean(axis=(1, 3)), np.float32)
