"""Objects in pictures by detectNet of jetson-inference, in our words and without what overlaps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agent.capture.frame import Frame
from agent.inference.backend import InferenceError
from agent.inference.jetson import DetectNet
from agent.perception.detect import suppress
from agent.perception.scene import Detections, ObjectClass

#: What some of its networks call our classes; the others have our names, whatever the case of their letters.
_OTHER_NAMES = {"bike": "bicycle", "motorbike": "motorcycle"}
_NO_CLASS = 0xFF


class DetectNetDetector:
    """A detector whose network jetson-inference runs, one picture after the other."""

    def __init__(self, net: DetectNet) -> None:
        """Match its classes with ours; faces, bags and whatever else it knows are left out.

        Raises:
            InferenceError: it knows none of ours.
        """
        self._net = net
        known = {item.label: item for item in ObjectClass}
        names = [name.strip().lower() for name in net.classes]
        self._classes = np.array([known.get(_OTHER_NAMES.get(name, name), _NO_CLASS) for name in names], np.uint8)
        if (self._classes == _NO_CLASS).all():
            raise InferenceError(f"detectNet's classes are {', '.join(net.classes)}; ours are {', '.join(known)}")

    def detect(self, frames: Sequence[tuple[int, Frame]]) -> list[Detections]:
        """The objects of each frame, in the order of `frames`.

        Args:
            frames: Index of the camera, and its frame.

        Raises:
            InferenceError: detectNet failed.
        """
        found = []
        for _, frame in frames:
            boxes, scores, numbers = self._net.run(frame.image)
            classes = self._classes[numbers]
            known = np.flatnonzero(classes != _NO_CLASS)
            boxes, scores, classes = boxes[known], scores[known], classes[known]
            kept = suppress(boxes, scores, classes)
            found.append(Detections(boxes[kept], scores[kept], classes[kept]))
        return found
