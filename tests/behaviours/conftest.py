"""Scenes made by hand: who stands where, without a camera, a detector or a tracker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from agent.behaviours.episode import Behaviour
from agent.behaviours.registry import build
from agent.capture.frame import Frame
from agent.perception.scale import PersonScale
from agent.perception.scene import Detections, ObjectClass, Scene, Tracks
from agent.settings import CameraSettings

WIDTH, HEIGHT = 1000, 500

#: Track number, and the place of its feet as fractions of width and height.
Standing = tuple[int, float, float]

MakeScene = Callable[..., Scene]
MakeBehaviour = Callable[..., Behaviour]


@pytest.fixture
def scene() -> MakeScene:
    """Make the scene at a time from (track, x, y) of the feet; boxes are 40 by 100 pixels."""

    scale = PersonScale()

    def make(
        time: float,
        standing: Sequence[Standing],
        object_class: ObjectClass = ObjectClass.PERSON,
        unseen: float = 0.0,
        score: float = 0.8,
    ) -> Scene:
        count = len(standing)
        places = np.array([(x * WIDTH, y * HEIGHT) for _, x, y in standing], np.float32).reshape(count, 2)
        boxes = np.tile(places, 2) + np.array([-20, -100, 20, 0], np.float32)
        tracks = Tracks(
            ids=np.array([track for track, _, _ in standing], np.int64),
            boxes=boxes,
            velocities=np.zeros((count, 2), np.float32),
            classes=np.full(count, object_class, np.uint8),
            scores=np.full(count, score, np.float32),
            ages=np.zeros(count, np.float32),
            unseen=np.full(count, unseen, np.float32),
        )
        found = Detections(tracks.boxes, tracks.scores, tracks.classes)
        scale.update(tracks, WIDTH, HEIGHT)
        return Scene(Frame(np.zeros((HEIGHT, WIDTH, 3), np.uint8), time, 0), tracks, found, scale)

    return make


@pytest.fixture
def behaviour() -> MakeBehaviour:
    """Make a behaviour from settings, watching the left half of the picture unless a polygon is given."""

    def make(
        event_type: str,
        polygon: Sequence[tuple[float, float]] = ((0, 0), (0.5, 0), (0.5, 1), (0, 1)),
        **parameters: Any,
    ) -> Behaviour:
        camera = CameraSettings.model_validate(
            {
                "name": "camera",
                "source": "file:none",
                "zone": [{"name": "half", "polygon": polygon}],
                "rule": [{"type": event_type, "zone": "half", **parameters}],
            }
        )
        return build(camera.rules[0], camera)

    return make
