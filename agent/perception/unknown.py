"""Vehicles that a detector does not know: what moves and is nothing that it has found.

Detectors have learned cars from the side. From straight above, or as a forklift or a cart, they are moving blobs
(`agent.perception.motion`), and a rule about vehicles must not miss them.

Known failures: people whom the detector misses, and who walk in a row, are a vehicle; so is a wave of leaves or light.
"""

from __future__ import annotations

import numpy as np

from agent.capture.frame import Frame
from agent.perception.motion import MotionDetector
from agent.perception.scene import Detections, ObjectClass

#: Vehicles are large enough for a smaller picture than people need, pixels.
_WIDTH = 200
#: Share of a blob that known objects may cover: their shadows and their luggage move with them.
_KNOWN = 0.2
#: Least score of a known object: what a detector only guesses makes no track, and must not hide what moves.
_SURE = 0.3
#: A vehicle fills at least this share of the picture; smaller blobs are people, animals and birds.
_LEAST_AREA = 0.01


class UnknownVehicles:
    """Adds moving things that a detector has not found to what it has. One for each camera."""

    def __init__(self) -> None:
        self._motion = MotionDetector(_WIDTH)

    def add(self, frame: Frame, found: Detections) -> Detections:
        """The detections, and the blobs that are none of them, as `VEHICLE`."""
        (blobs,) = self._motion.detect([(0, frame)])
        height, width = frame.image.shape[:2]
        sides = blobs.boxes[:, 2:] - blobs.boxes[:, :2]
        known = found.boxes[found.scores >= _SURE]
        low = np.maximum(blobs.boxes[:, None, :2], known[:, :2])
        high = np.minimum(blobs.boxes[:, None, 2:], known[:, 2:])
        covered = np.clip(high - low, 0, None).prod(axis=2).sum(axis=1)
        area = sides.prod(axis=1)
        new = (covered <= _KNOWN * area) & (area >= _LEAST_AREA * width * height)
        return Detections(
            np.concatenate([found.boxes, blobs.boxes[new]]),
            np.concatenate([found.scores, blobs.scores[new]]),
            np.concatenate([found.classes, np.full(int(new.sum()), ObjectClass.VEHICLE, np.uint8)]),
        )
