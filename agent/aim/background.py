"""What a camera looks at when nobody is there, as strokes on a coarse grid: the only thing of a picture that is shown.

Who is in the picture must not be in the drawing, also whom the detector misses. So a place counts as free only while

1. it is beside every detection, down to guesses that nothing else would believe, and every predicted track, and has
   been for `QUIET_S`;
2. nothing that no detection explains has changed near it for as long: against half a second, two and eight seconds ago,
   by little more than the sensor's noise, since people do not stand like stones;
3. it looks as it did when it was free before, so that what comes and stays is not taken for the place.

`Presence` says which places are free; `Background` takes pixels of free places alone, from looks that span `SPAN_S` and
agree, averages them, and draws one stroke a cell where the average has an edge. A drawn cell is never drawn anew; it is
only ever taken away, when what is there changes for good. So all that reaches the drawing of a person is that somebody
is there, which keeps a cell empty. When the whole view changes, as it does while somebody turns the camera, everything
is forgotten.

The medians and averages of many pictures have long been used to see a scene without those who pass (Lo and Velastin,
ISIMP 2001); strokes are from the structure tensor (Bigün and Granlund, ICCV 1987).

Known failure: somebody whom the detector misses at its lowest threshold, and of whom nothing moves by more than the
noise for all of `SPAN_S`, is drawn as the place is: as strokes, a hundred across the picture.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.perception.scene import FloatArray

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Bytes = NDArray[np.uint8]

#: Cells across the picture, and pixels across a cell of the small picture that is looked at.
CELLS, _PX = 96, 4
#: The picture is looked at so often, seconds.
LOOK_S = 0.5
#: A place is compared with how it was so many looks ago: what moves, what moves slowly, what hardly moves.
_AGO = (1, 4, 16)
#: For how long nothing may have changed near a place, seconds.
QUIET_S = 8.0
#: Over how much time a place must be seen free, and in how many looks, before it is drawn; seconds.
SPAN_S, _LOOKS = 30.0, 12
#: A pixel has changed when it differs by more than this, grey levels of the smoothed small picture, and by so many
#: times its usual difference: 4 is what compression leaves of a still scene, leaves and water differ by more.
_CHANGED, _TIMES_USUAL = 6.0, 4.0
#: How far around what has changed nothing is free, cells: a person small enough to be missed is no larger.
_AROUND = 6
#: How far around a box: a share of its longer side, and cells at least.
_BOX_SHARE, _BOX_CELLS = 0.3, 2
#: What has changed for good: free and otherwise than it was known for so long, seconds.
_FORGET_S = 20.0
#: More than this share changed at once is another view, or another light.
_OTHER_VIEW = 0.6
#: What differs by less, after all is brought to one brightness, looks alike; and how far apart dark and bright must be
#: for a line through both, grey levels.
_ALIKE, _CONTRAST = 25.0, 10.0
#: Every so manieth pixel of every so manieth row tells the brightness of all.
_EVERY = 3
#: Least strength of an edge, grey levels a pixel; and how much more one way than across.
_EDGE, _STRAIGHT = 7.0, 0.25
#: Directions of a stroke; cell values are 0 (not known), 1 (known, no edge), and 2 and above: an edge along
#: 0°, 45°, 90° and 135° from the right, downwards.
_DIRECTIONS = 4
UNKNOWN, PLAIN, STROKE = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a camera.

    Attributes:
        time: Seconds on the camera's clock.
        grey: (rows * 4, 384) float32: the small picture, smoothed.
        free: (rows, 96) bool: cells that have been free of everybody for long.
    """

    time: float
    grey: Floats
    free: Bools


def small_grey(image: Bytes) -> Floats:
    """The small picture of a frame: (H, W, 3) uint8 BGR to (rows * 4, 384) float32."""
    height, width = image.shape[:2]
    rows = max(1, round(CELLS * height / width))
    small = cv2.resize(image, (CELLS * _PX, rows * _PX), interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(grey, (0, 0), 1.0), np.float32)


def _cells(pixels: Bools) -> Bools:
    """(rows, 96): cells with any of these pixels."""
    rows = pixels.shape[0] // _PX
    return np.asarray(pixels.reshape(rows, _PX, CELLS, _PX).any(axis=(1, 3)))


def _grown(cells: Bools, by: int) -> Bools:
    size = 2 * by + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    return np.asarray(cv2.dilate(cells.astype(np.uint8), kernel) > 0)


def _as_bright(now: Floats, before: Floats, where: Bools) -> Floats:
    """A small picture as bright as one before, though the camera has changed its exposure.

    A straight line through the medians of the darker and of the brighter half of what looks alike in both, twice: what
    is far from the line of all belongs to something that moves.

    Args:
        now: (H, W).
        before: (H, W).
        where: (H, W) bool: what may be looked at.
    """
    some = (slice(None, None, _EVERY), slice(None, None, _EVERY))
    x, y = now[some][where[some]], before[some][where[some]]
    if not len(x):
        return now
    gain, offset = 1.0, _in_steps(float(np.median(y - x)), 2)
    for _ in range(2):
        alike = np.abs(gain * x + offset - y) < _ALIKE
        if not alike.any():
            break
        a, b = x[alike], y[alike]
        bright = a > np.median(a)
        if not bright.any():
            break
        x0, x1 = float(np.median(a[~bright])), float(np.median(a[bright]))
        y0, y1 = float(np.median(b[~bright])), float(np.median(b[bright]))
        if x1 - x0 < _CONTRAST:
            break
        gain = _in_steps(float(np.clip((y1 - y0) / (x1 - x0), 0.5, 2.0)), 100)
        offset = _in_steps((y0 + y1 - gain * (x0 + x1)) / 2, 2)
    return np.asarray(gain * now + offset, np.float32)


def _in_steps(value: float, steps: int) -> float:
    """Rounded, so that what is a little otherwise elsewhere makes no difference here."""
    return round(value * steps) / steps


class Presence:
    """Where somebody or something may be, on one camera: it rather takes a free place for taken than the other way."""

    def __init__(self) -> None:
        self._before: deque[tuple[Floats, Bools]] = deque(maxlen=max(_AGO))
        self._quiet_since = np.zeros((0, CELLS), np.float32)
        self._usual = np.zeros((0, CELLS * _PX), np.float32)
        self.moved = False
        """Whether the last look was at another view."""

    def look(self, time: float, image: Bytes, boxes: FloatArray) -> Look:
        """Look at the next frame.

        Args:
            time: Seconds on the camera's clock.
            image: (H, W, 3) uint8, BGR.
            boxes: (N, 4) float32, x0 y0 x1 y1, pixels: everything that may be somebody.
        """
        grey = small_grey(image)
        if self._usual.shape != grey.shape:
            self._before.clear()
            self._quiet_since = np.full((grey.shape[0] // _PX, CELLS), time, np.float32)
            self._usual = np.zeros_like(grey)
        known = np.zeros(self._quiet_since.shape, np.bool_)
        for x0, y0, x1, y1 in self._places(boxes, image.shape[1]):
            known[y0:y1, x0:x1] = True
        changed, share = self._changed(grey, known)
        self.moved = share > _OTHER_VIEW
        if self.moved:
            self._before.clear()
            changed[:] = True
        self._quiet_since[_grown(changed, _AROUND) | known] = time
        self._before.append((grey, known))
        full = len(self._before) == self._before.maxlen
        return Look(time, grey, (time - self._quiet_since >= QUIET_S) & full)

    def _changed(self, grey: Floats, known: Bools) -> tuple[Bools, float]:
        """(rows, 96): what differs from before and no box tells of, and the share of the picture that differs.

        Around a box nothing is free in any case; only what moves beyond it may be somebody whom no box tells of.
        """
        changed = np.zeros(known.shape, np.bool_)
        share = 0.0
        for number, ago in enumerate(_AGO):
            if len(self._before) < ago:
                break
            before, known_then = self._before[-ago]
            told = known | known_then
            beside = np.asarray(~_pixels(told))
            off = np.abs(_as_bright(grey, before, beside) - before)
            differs = off > np.maximum(_CHANGED, _TIMES_USUAL * self._usual)
            changed |= _cells(differs) & ~told
            share = max(share, float(differs.mean()))
            if not number:
                still = np.minimum(off, _CHANGED)  # what somebody does to a pixel must not become usual there
                self._usual += np.where(beside, (still - self._usual) * 0.02, 0)
        return changed, share

    @staticmethod
    def _places(boxes: FloatArray, width: int) -> Iterator[tuple[int, int, int, int]]:
        """Cells of boxes with what is around them: x0, y0, x1, y1."""
        cell = width / CELLS
        for x0, y0, x1, y1 in boxes.tolist():
            more = max(_BOX_CELLS * cell, _BOX_SHARE * max(x1 - x0, y1 - y0))
            yield (
                max(0, int((x0 - more) // cell)),
                max(0, int((y0 - more) // cell)),
                max(0, int(-(-(x1 + more) // cell))),
                max(0, int(-(-(y1 + more) // cell))),
            )


class Background:
    """What one camera looks at when nobody is there.

    Attributes:
        drawing: (rows, 96) uint8: 0 not known, 1 no edge, 2 to 5 a stroke.
    """

    def __init__(self) -> None:
        self.drawing: Bytes = np.zeros((0, CELLS), np.uint8)
        self._begin((0, CELLS * _PX))

    def _begin(self, shape: tuple[int, ...]) -> None:
        rows = shape[0] // _PX
        self.drawing = np.zeros((rows, CELLS), np.uint8)
        self._sum = np.zeros(shape, np.float32)
        self._looks = np.zeros((rows, CELLS), np.int32)
        self._since = np.zeros((rows, CELLS), np.float32)
        self._known = np.zeros((rows, CELLS), np.bool_)
        self._other_since = np.full((rows, CELLS), np.inf, np.float32)

    def forget(self) -> None:
        """Another view: nothing of before is true any more."""
        self._begin(self._sum.shape)

    def learn(self, look: Look) -> None:
        """Learn from the free places of a look."""
        if look.grey.shape != self._sum.shape:
            self._begin(look.grey.shape)
        mean = self._mean()
        seen = self._looks > 0
        grey = _as_bright(look.grey, mean, _pixels(look.free & seen))
        off = np.abs(grey - mean) > _CHANGED
        other = look.free & seen & _cells(off)
        same = look.free & ~other
        self._since = np.where(same & ~seen, look.time, self._since).astype(np.float32)
        fresh = same & ~self._known
        self._sum += grey * _pixels(fresh)
        self._looks += fresh
        self._other_since[same] = np.inf
        self._other_since[other] = np.minimum(self._other_since[other], look.time)
        self._drop(other & (look.time - self._other_since >= _FORGET_S))
        self._known |= fresh & (self._looks >= _LOOKS) & (look.time - self._since >= SPAN_S)
        self._draw()

    def _drop(self, cells: Bools) -> None:
        if not cells.any():
            return
        self._sum[_pixels(cells)] = 0
        self._looks[cells] = 0
        self._known[cells] = False
        self._other_since[cells] = np.inf
        self.drawing[_grown(cells, 1)] = UNKNOWN

    def _mean(self) -> Floats:
        return np.asarray(self._sum / np.maximum(_pixels(self._looks), 1), np.float32)

    def _draw(self) -> None:
        """Draw the cells that can be drawn now: they and all cells around them are known for good."""
        ready = self._known & (cv2.erode(self._known.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=1) > 0)
        new = ready & (self.drawing == UNKNOWN)
        if new.any():
            self.drawing[new] = strokes(self._mean())[new]


_Scalar = TypeVar("_Scalar", bound=np.generic)


def _pixels(cells: NDArray[_Scalar]) -> NDArray[_Scalar]:
    """The same for each pixel of the cells."""
    return cells.repeat(_PX, axis=0).repeat(_PX, axis=1)


def strokes(grey: Floats) -> Bytes:
    """(rows, 96) uint8: `PLAIN`, or `STROKE` and a direction, of a small picture.

    An edge has a gradient that agrees over the cell: the structure tensor's larger eigenvalue is its strength, the two
    beside each other say how straight it is.
    """
    gx, gy = cv2.Scharr(grey, cv2.CV_32F, 1, 0, scale=1 / 32), cv2.Scharr(grey, cv2.CV_32F, 0, 1, scale=1 / 32)
    rows = grey.shape[0] // _PX
    xx, yy, xy = (
        np.asarray(cv2.resize(product, (CELLS, rows), interpolation=cv2.INTER_AREA), np.float32)
        for product in (gx * gx, gy * gy, gx * gy)
    )
    spread = np.sqrt((xx - yy) ** 2 / 4 + xy**2)
    strong, weak = (xx + yy) / 2 + spread, (xx + yy) / 2 - spread
    along = np.arctan2(2 * xy, xx - yy) / 2 + np.pi / 2  # across the gradient
    number = np.rint(along / (np.pi / _DIRECTIONS)).astype(np.int32) % _DIRECTIONS
    edge = (np.sqrt(strong) >= _EDGE) & (weak < (1 - _STRAIGHT) * strong)
    return np.where(edge, STROKE + number, PLAIN).astype(np.uint8)
