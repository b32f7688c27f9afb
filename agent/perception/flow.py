"""How the picture moves: dense optical flow of small pictures, by cells.

Dense inverse search (Kroeger et al., "Fast optical flow using dense inverse search", ECCV 2016) as in OpenCV, with
patches whose mean brightness is taken off, so that a light that goes on does not move anything.

A camera that shakes or turns moves the whole picture alike: that is taken off, and the rest is found again.

Three pictures in a row tell how fast all moves and how that changes; then it rests for as long as pays.

Known failures: a camera that rolls or zooms sees no flow meanwhile; what is darker than the sensor's noise does not
move at all; a cell in which two people pass each other moves with the larger one, or not at all.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.capture.frame import Frame, Image
from agent.perception.scene import Flow, grid

#: Pictures are shrunk to at most this width, pixels, and by half again: somebody who fills a fifth of the height is a
#: dozen pixels tall. At half of that, which is usual, arms and legs are lost.
_WIDTH = 200
#: Side of a cell in the small picture, pixels: half of a patch of the search, which lie so far apart.
_CELL = 4
#: Least time from one look to the next, seconds: blows are over in two tenths. Two such steps tell what speeds up; the
#: next two begin so long after these have begun, for what is told of a crowd or a fight is a mean over seconds.
_LEAST_S, _EVERY_S = 0.075, 0.38
#: After a longer pause there is nothing to compare with.
_MOST_S = 0.6
#: What moves by less between two looks, pixels of the small picture, is noise.
_NOISE_PX = 0.15
#: The search carries movement on into ground without a pattern; what moves also changes, by so many grey levels on
#: average over so many pixels.
_CHANGED, _AROUND = 2, 3
#: When more than this share of the picture moves, it may be the camera: it is when half of what has a pattern and moves
#: is this close to one velocity, as a share of it; people differ more, and carry the search on into bare ground. A
#: pattern changes by so many grey levels a pixel; where less than this share of the picture has one, all of it counts.
_TOO_MUCH, _ALIKE, _PATTERN, _BARE = 0.7, 0.15, 6.0, 0.1
#: When more than this share of the pattern changes and moves, whichever way, it is no crowd: there is ground between
#: people, which stays.
_ALL = 0.85
#: The picture is fetched from where it has moved to.
_BACK = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP


class FlowModel:
    """The flow of one camera."""

    def __init__(self) -> None:
        self._search: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._search.setFinestScale(0)
        self._before: Image | None = None
        self._velocity: NDArray[np.float32] | None = None
        self._time = self._next = -math.inf

    def update(self, frame: Frame) -> Flow | None:
        """How the picture has moved since the last look; None when it rests, or there is too little to compare.

        Args:
            frame: The next one; time never goes back.
        """
        elapsed = frame.time - self._time
        if elapsed < _LEAST_S or (self._before is None and frame.time < self._next):
            return None
        small = _halved(np.asarray(cv2.cvtColor(frame.shrunk(_WIDTH), cv2.COLOR_BGR2GRAY), np.uint8))
        before, self._before, self._time = self._before, small, frame.time
        velocity, self._velocity = self._velocity, None
        if before is None or before.shape != small.shape or elapsed > _MOST_S:
            self._next = frame.time + _EVERY_S
            return None
        pixels, fast = self._search_for(before, small)
        after, most = small, np.count_nonzero(fast) > _TOO_MUCH * fast.size
        patterned = _patterned(before) if most else None
        if patterned is not None and (common := _common(pixels, fast, patterned)) is not None:
            height, width = small.shape
            back = np.array([[1, 0, common[0]], [0, 1, common[1]]], np.float32)
            moved = cv2.warpAffine(small, back, (width, height), flags=_BACK, borderMode=cv2.BORDER_REPLICATE)
            after = np.asarray(moved, np.uint8)
            pixels, fast = self._search_for(before, after)
            most = np.count_nonzero(fast) > _TOO_MUCH * fast.size
        changed = np.asarray(cv2.blur(cv2.absdiff(before, after), (_AROUND, _AROUND)), np.uint8) > _CHANGED
        moving = (fast & changed).astype(np.float32)
        if most and patterned is not None and patterned.mean() > _BARE and moving[patterned].mean() > _ALL:
            return None
        scale = frame.image.shape[1] / small.shape[1]
        self._velocity = pixels * np.float32(scale / elapsed)
        if velocity is None:
            return None
        rows, columns = small.shape[0] // _CELL, small.shape[1] // _CELL
        share = _by_cell(moving, rows, columns)
        means = _by_cell(pixels * moving[..., None], rows, columns) / np.maximum(share, 1e-6)[..., None]
        # Where each place of this flow was at the last look, and how fast it went then.
        x, y = cv2.split(grid(*small.shape) - pixels)
        then = cv2.remap(velocity, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        change = _length(self._velocity - np.asarray(then, np.float32))
        turned = _by_cell(change, rows, columns) / np.float32(elapsed)
        if frame.time + elapsed < self._next:
            self._before = self._velocity = None
        else:  # pictures are so rare that the next one is due
            self._next = frame.time + _EVERY_S
        return Flow(_CELL * scale, (means * (scale / elapsed)).astype(np.float32), share, turned)

    def _search_for(self, before: Image, after: Image) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """How far each place has moved, (H, W, 2) pixels, and where that is more than noise."""
        pixels = self._search.calc(before, after, None)
        return pixels, _length(pixels) > _NOISE_PX


def _halved(grey: Image) -> Image:
    size = (max(1, grey.shape[1] // 2), max(1, grey.shape[0] // 2))
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)


def _length(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """(H, W) of (H, W, 2)."""
    return np.asarray(cv2.magnitude(*cv2.split(vectors)), np.float32)


def _patterned(grey: Image) -> NDArray[np.bool_]:
    """Where the picture has a pattern whose movement can be told."""
    smooth = cv2.GaussianBlur(grey, (3, 3), 0)
    across, down = cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    return np.asarray(cv2.magnitude(across, down) > 4 * _PATTERN)


def _common(
    pixels: NDArray[np.float32], fast: NDArray[np.bool_], patterned: NDArray[np.bool_]
) -> NDArray[np.float32] | None:
    """What the whole picture moves by, (2,) pixels; None where it does not move as one."""
    moved = pixels[fast & patterned] if patterned.mean() > _BARE else pixels[fast]
    if not len(moved):
        return None
    common = np.median(moved, axis=0)
    off = np.hypot(*(moved - common).T)
    return common if np.median(off) < _ALIKE * np.hypot(*common) else None


def _by_cell(values: NDArray[np.float32], rows: int, columns: int) -> NDArray[np.float32]:
    """Means over cells of (H, W, ...): (rows, columns, ...); what is left over at the right and below is left out."""
    cut = values[: rows * _CELL, : columns * _CELL]
    return np.asarray(cv2.resize(cut, (columns, rows), interpolation=cv2.INTER_AREA), np.float32)
