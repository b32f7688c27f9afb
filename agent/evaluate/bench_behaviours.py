"""What all behaviours together cost a frame, beside plain background subtraction of the same frames.

A simulated square with so many people who mill about is painted beforehand; detections come from its ground truth.
Both loops see the same frames in this process, turn by turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median

import cv2

from agent.behaviours.registry import BEHAVIOURS, OF_CAMERA
from agent.behaviours.watch import Watch
from agent.capture.frame import Frame
from agent.contract import EventType
from agent.perception.scene import Detections
from agent.settings import CameraSettings
from agent.simulate.source import open_sim

#: Frames of one loop before it is the other's turn, and frames a second: what is seldom done has its share in a turn.
_TURN, _RATE = 20, 10
#: Frames that are painted; then they come again, which makes no difference to what they cost.
_PAINTED = 100
_WHOLE = [(0, 0), (1, 0), (1, 1), (0, 1)]
#: What some rules must be told.
_TOLD: dict[EventType, dict[str, object]] = {EventType.DIRECTION_WRONG_WAY: {"allowed": (1, 0)}}


@dataclass(frozen=True, slots=True)
class BehavioursBench:
    """What a frame costs, milliseconds of processor time, medians over turns.

    Attributes:
        types: Event types that were watched for, all at once.
        people: In the picture.
        width: Pixels.
        height: Pixels.
        behaviours_ms: Tracking, flow, change and all behaviours.
        reference_ms: OpenCV's mixture of Gaussians (Zivkovic, 2004) on the full frame.
        ratio: Of the two, median over turns.
    """

    types: tuple[str, ...]
    people: int
    width: int
    height: int
    behaviours_ms: float
    reference_ms: float
    ratio: float


def measure(frames: int, people: int, width: int, height: int, advance: Callable[[int], None]) -> BehavioursBench:
    """Measure.

    Args:
        frames: How many each loop gets.
        people: In the picture.
        width: Of the frames, pixels.
        height: Of the frames, pixels.
        advance: Told of frames that are done.
    """
    cv2.setNumThreads(1)
    painted = list(_paint(people, width, height))
    watch = Watch(_camera())
    reference = cv2.createBackgroundSubtractorMOG2()
    ours, theirs = list[float](), list[float]()
    for turn in range(frames // _TURN):
        numbers = range(turn * _TURN, (turn + 1) * _TURN)
        begin = time.process_time()
        for number in numbers:
            frame, detections = painted[number % len(painted)]
            watch.update(Frame(frame.image, number / _RATE, number), detections)
        middle = time.process_time()
        for number in numbers:
            reference.apply(painted[number % len(painted)][0].image)
        ours.append((middle - begin) * 1e3 / _TURN)
        theirs.append((time.process_time() - middle) * 1e3 / _TURN)
        advance(_TURN)
    return BehavioursBench(
        types=tuple(event_type.label for event_type in BEHAVIOURS),
        people=people,
        width=width,
        height=height,
        behaviours_ms=median(ours),
        reference_ms=median(theirs),
        ratio=median(a / b for a, b in zip(ours, theirs, strict=True)),
    )


def _paint(people: int, width: int, height: int) -> Iterator[tuple[Frame, Detections]]:
    size = f"people={people}&width={width}&height={height}&fps={_RATE}&seconds={_PAINTED / _RATE}"
    source, _ = open_sim(f"sim:crowd?{size}", replay=True)
    _, detector = open_sim(f"sim:crowd?{size}&detections=1", replay=True)
    assert detector is not None  # noqa: S101 - it is asked for
    for _ in range(_PAINTED):
        frame = source.read(1.0)
        assert frame is not None  # noqa: S101 - a scenario that is replayed does not wait
        yield frame, detector.detect([(0, frame)])[0]


def _camera() -> CameraSettings:
    rules = [
        {
            "type": event_type.label,
            **({} if event_type in OF_CAMERA else {"zone": "square"}),
            **_TOLD.get(event_type, {}),
        }
        for event_type in BEHAVIOURS
    ]
    return CameraSettings.model_validate(
        {"name": "square", "source": "sim:crowd", "zone": [{"name": "square", "polygon": _WHOLE}], "rule": rules}
    )
