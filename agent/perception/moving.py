"""What moves, beside what a detector has found: it backs a guess, and it is a vehicle where nothing else was found.

A detector that is not sure of a person is right more often where something of that shape moves. Detectors have learned
cars from the side; from straight above, or as a forklift or a cart, they are moving blobs (`agent.perception.motion`),
and a rule about vehicles must not miss them.

Known failures: people whom the detector misses, and who walk in a row, are a vehicle; so is a wave of leaves or light.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agent.capture.frame import Frame
from agent.perception.motion import MotionDetector
from agent.perception.overlap import overlaps, shared_areas
from agent.perception.scene import Detections, FloatArray, ObjectClass

#: What is looked for is large enough for a smaller picture than the stand-in for a detector needs, pixels.
_WIDTH = 200
#: Intersection over union from which a box and a blob are about the same thing.
_SAME = 0.3
#: How much likelier a blob is where there is a person than where a detector errs, as a factor of the odds. On PETS2009
#: it was 4 for guesses of 0.1 to 0.2, 2 at 0.5 (vigie-detector 0.1.0).
_BACKING = 2.5
#: Share of a blob that known objects may cover: their shadows and their luggage move with them.
_KNOWN = 0.2
#: Least score of a known object: what a detector only guesses makes no track, and must not hide what moves.
_SURE = 0.3
#: Score of an unknown vehicle: motion alone is good evidence of something, and poor evidence of what.
_SCORE = 0.65
#: A vehicle fills at least this share of the picture; smaller blobs are people, animals and birds.
_LEAST_AREA = 0.01


class Moving:
    """The moving blobs of one camera."""

    def __init__(self) -> None:
        self._motion = MotionDetector(_WIDTH)

    def update(self, frame: Frame) -> FloatArray:
        """What differs from the background in the next frame: (N, 4) float32, x0 y0 x1 y1, pixels."""
        return self._motion.detect([(0, frame)])[0].boxes


def backed(found: Detections, moving: FloatArray) -> Detections:
    """The detections, those of persons likelier where something of their shape moves (Bayes' rule on the odds).

    Args:
        found: Of one frame.
        moving: (N, 4): what moves in it.
    """
    backing = moves(found.boxes, moving) & (found.classes == ObjectClass.PERSON)
    odds = found.scores / np.maximum(1 - found.scores, 1e-6) * np.where(backing, np.float32(_BACKING), np.float32(1))
    return Detections(found.boxes, (odds / (1 + odds)).astype(np.float32), found.classes)


def moves(boxes: FloatArray, moving: FloatArray) -> NDArray[np.bool_]:
    """In which of (M, 4) boxes something of their shape moves, (M,) bool.

    Args:
        boxes: x0 y0 x1 y1, pixels.
        moving: (N, 4): what moves.
    """
    return np.asarray((overlaps(boxes, moving) >= _SAME).any(axis=1))


def with_unknown_vehicles(found: Detections, moving: FloatArray, width: int, height: int) -> Detections:
    """The detections, and as `VEHICLE` the blobs that are none of them.

    Args:
        found: Of one frame.
        moving: (N, 4): what moves in it.
        width: Of the frame, pixels.
        height: Of the frame, pixels.
    """
    shared, _, sizes = shared_areas(found.boxes[found.scores >= _SURE], moving)
    new = (shared.sum(axis=0) <= _KNOWN * sizes) & (sizes >= _LEAST_AREA * width * height)
    if not new.any():
        return found
    return Detections(
        np.concatenate([found.boxes, moving[new]]),
        np.concatenate([found.scores, np.full(int(new.sum()), _SCORE, np.float32)]),
        np.concatenate([found.classes, np.full(int(new.sum()), ObjectClass.VEHICLE, np.uint8)]),
    )
