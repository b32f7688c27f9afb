"""What a lasting difference between two pictures of one place is: other light, something gone, or something new.

Light and shadow change brightness and leave the pattern of what they fall on, so a place whose pattern is still there
has changed its light (texture under illumination: Rosin and Ellis, "Image difference threshold strategies and shadow
detection", BMVC 1995); where there is no pattern, a shadow darkens smoothly and keeps the colour. Where something was
taken away, the outline is an edge in the picture before and none in the one after, and the other way round where
something came (Tian et al., "Robust detection of abandoned and removed objects in complex surveillance videos", IEEE
T-SMC C 41(5), 2011). And where the picture after is the one before shifted, between two places that have both changed,
something that was there already was moved, such as a chair.

Known failures: a thing of the ground's own colour and without any pattern is told as its shadow; on a blank ground in
blank light a poster's shadow is a poster.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]
Mask = NDArray[np.uint8]
Box = tuple[int, int, int, int]

#: Differs by so many grey levels in some colour: more than noise that has been averaged, less than worn paint.
_DIFFERS = 12
#: Pixels that differ at least.
_LEAST = 6
#: Strength of a pattern below which it is the sensor's noise, grey levels (standard deviation of what is fine).
_BLANK = 2.5
#: Correlation of what is fine before and after, -1 to 1, above which it is the same pattern.
_SAME_PATTERN = 0.5
#: How much a shadow darkens, or its end brightens (ratio of brightness); what it leaves of red beside what it leaves of
#: blue, since the sky still lights it; and how unlike the ratio may be from place to place (deviation over mean).
_DARKENS, _RED_BY_BLUE, _SPREAD = (0.35, 0.93), (0.7, 1.03), 0.08
#: An outline that is weaker after than before by this factor is that of something gone.
_FADED = 0.7
#: A shift explains a pixel when it leaves less than this share of what differs there.
_LEAVES = 0.5
#: Shifts are looked for in a picture in which the longer side of what differs has so many pixels at most, as far as so
#: many times that side, pixel by pixel, with about so many of its pixels.
_SIDE, _AS_FAR, _SAMPLES = 12, 2.0, 64
#: What is fine: smaller than about this, pixels.
_FINE_PX = 2.0


class Cause(enum.Enum):
    """Why a place looks different."""

    NONE = enum.auto()
    LIGHT = enum.auto()
    GONE = enum.auto()
    NEW = enum.auto()


@dataclass(frozen=True, slots=True)
class Difference:
    """What is different at a place.

    Attributes:
        cause: Why.
        box: x0 y0 x1 y1 of what differs, pixels of the two pictures.
        area: Pixels that differ.
        stroke: Width of its thickest part over the diagonal of its extent: 0.1 to 0.3 for writing, 0.7 for a square.
        fill: Share of the smallest rectangle, turned as may be, that its convex outline fills: 1 for a poster.
    """

    cause: Cause
    box: Box
    area: int
    stroke: float
    fill: float


_NOTHING = Difference(Cause.NONE, (0, 0, 0, 0), 0, 0.0, 0.0)


def compare(before: Image, after: Image, where: Mask) -> Difference:
    """What the difference between two pictures of one place is.

    Args:
        before: (H, W, 3) uint8, BGR: what was there for long, with some of the surroundings.
        after: The same place now, lit alike on the whole.
        where: (H, W) uint8, not 0 where it differs in some part; what belongs to that is found around it.
    """
    differs = _differs(before, after)
    _, labels = cv2.connectedComponents(cv2.dilate(differs, np.ones((5, 5), np.uint8)))
    meant = np.unique(labels[(where > 0) & (differs > 0)])
    inside = np.asarray(np.isin(labels, meant) & (differs > 0), np.uint8)
    area = cv2.countNonZero(inside)
    if area < _LEAST:
        return _NOTHING
    x, y, wide, high = cv2.boundingRect(inside)
    return Difference(_cause(before, after, inside), (x, y, x + wide, y + high), area, *_shape(inside))


def reach(box: Box) -> int:
    """How far around a thing it is looked for when it may have been moved, pixels."""
    x0, y0, x1, y1 = box
    return math.ceil(_AS_FAR * max(x1 - x0, y1 - y0))


def explained(before: Image, after: Image, box: Box) -> float:
    """Share of what differs in a box that one shift explains, as what has come from there or what has gone there.

    Of a thing that was moved it is most, of a new thing little: the shift must lead to a place that differs too.

    Args:
        before: (H, W, 3) uint8, BGR: what was there for long, for as much around the box as `reach` tells.
        after: The same place now, lit alike on the whole.
        box: x0 y0 x1 y1, pixels.
    """
    scale = min(1.0, _SIDE / max(box[2] - box[0], box[3] - box[1]))
    size = (max(1, round(before.shape[1] * scale)), max(1, round(before.shape[0] * scale)))
    far = math.ceil(_AS_FAR * _SIDE)
    # What lies beyond the picture has not changed.
    old, new = (
        np.pad(cv2.resize(p, size, interpolation=cv2.INTER_AREA).astype(np.int16), ((far, far), (far, far), (0, 0)))
        for p in (before, after)
    )
    off = np.abs(new - old).max(axis=2)
    x0, y0, x1, y1 = (round(value * scale) + far for value in box)
    places = np.argwhere(off[y0:y1, x0:x1] > _DIFFERS) + np.array([y0, x0])
    if len(places) < _LEAST:
        return 0.0
    y, x = places[:: 1 + len(places) // _SAMPLES].T
    limit = _LEAVES * off[y, x]
    shifts = np.arange(-far, far + 1)
    best = 0.0
    for along in shifts.tolist():
        # By less than half its size, whatever has a pattern resembles itself.
        across = shifts[(2 * np.abs(shifts) >= x1 - x0) | (2 * abs(along) >= y1 - y0)][:, None]
        if not across.size:
            continue
        there, thither = (y - along, x - across), (y + along, x + across)
        came = (np.abs(new[y, x] - old[there]).max(axis=2) < limit) & (off[there] > _DIFFERS)
        went = (np.abs(old[y, x] - new[thither]).max(axis=2) < limit) & (off[thither] > _DIFFERS)
        best = max(best, float((came | went).mean(axis=1).max()))
    return best


def _differs(before: Image, after: Image) -> Mask:
    """(H, W): 1 where the one picture has what the other has nowhere within a pixel, for a camera that trembles."""
    kernel = np.ones((3, 3), np.uint8)
    above, below = cv2.subtract(after, cv2.dilate(before, kernel)), cv2.subtract(cv2.erode(before, kernel), after)
    differs = np.asarray(cv2.max(above, below).max(axis=2) > _DIFFERS, np.uint8)
    return np.asarray(cv2.morphologyEx(differs, cv2.MORPH_CLOSE, kernel), np.uint8)


def _cause(before: Image, after: Image, inside: Mask) -> Cause:
    old, new = (np.asarray(cv2.cvtColor(p, cv2.COLOR_BGR2GRAY), np.float32) for p in (before, after))
    on = inside > 0
    core = cv2.erode(inside, np.ones((3, 3), np.uint8)) > 0
    core = core if core.sum() >= 12 else on
    if _light(before, after, old, new, core):
        return Cause.LIGHT
    # The outline of the whole, gaps filled: what is within it may have edges of its own.
    whole = cv2.morphologyEx(inside, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    outline = cv2.morphologyEx(whole, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    if not outline.any():  # it fills all of what is looked at
        return Cause.NEW
    edge_before, edge_after = (float(_edges(p)[outline].mean()) for p in (old, new))
    return Cause.GONE if edge_after < _FADED * edge_before else Cause.NEW


def _light(before: Image, after: Image, old: Floats, new: Floats, core: NDArray[np.bool_]) -> bool:
    fine_old, fine_new = _fine(old, core), _fine(new, core)
    strong_old, strong_new = float(fine_old.std()), float(fine_new.std())
    if strong_old > _BLANK:
        together = float(((fine_old - fine_old.mean()) * (fine_new - fine_new.mean())).mean())
        return together > _SAME_PATTERN * strong_old * max(strong_new, 1e-3)
    if strong_new > 1.5 * _BLANK:
        return False
    ratio = (after[core].astype(np.float32) + 4) / (before[core].astype(np.float32) + 4)
    blue, _, red = ratio.mean(axis=0).tolist()
    grey = ratio.mean(axis=1)
    darkens, left = float(grey.mean()), red / blue
    if darkens > 1:  # a shadow has ended
        darkens, left = 1 / darkens, 1 / left
    shadow = _DARKENS[0] < darkens < _DARKENS[1] and _RED_BY_BLUE[0] < left < _RED_BY_BLUE[1]
    return shadow and float(grey.std()) < _SPREAD * float(grey.mean())


def _fine(grey: Floats, core: NDArray[np.bool_]) -> Floats:
    """(N,): what is fine in the picture there; what lies beside the place has no part in it."""
    on = core.astype(np.float32)
    share = cv2.GaussianBlur(on, (0, 0), _FINE_PX)[core]
    return np.asarray(grey[core] - cv2.GaussianBlur(grey * on, (0, 0), _FINE_PX)[core] / share, np.float32)


def _edges(grey: Floats) -> Floats:
    return np.asarray(cv2.magnitude(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)), np.float32)


def _shape(inside: Mask) -> tuple[float, float]:
    points = np.argwhere(inside)[:, ::-1].astype(np.float32)
    _, (wide, high), _ = cv2.minAreaRect(points)
    # A pixel reaches half a pixel beyond its middle on every side.
    stroke = 2 * float(cv2.distanceTransform(cv2.copyMakeBorder(inside, 1, 1, 1, 1, 0), cv2.DIST_L2, 3).max()) - 1
    fill = cv2.contourArea(cv2.convexHull(points)) / max(wide * high, 1.0)
    return stroke / math.hypot(wide + 1, high + 1), min(1.0, fill)
