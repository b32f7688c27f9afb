"""A clip through the very code of the live path, offline, on the clip's own clock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from agent.behaviours.episode import EpisodeChange
from agent.behaviours.watch import Watch
from agent.capture.frame import FrameSource
from agent.perception.scene import Detector

#: A file answers at once; this is only so that a wait never lasts for good.
_READ_TIMEOUT_S = 1.0


@dataclass(frozen=True, slots=True)
class Tick:
    """What one analysed frame has brought.

    Attributes:
        frame: Number of the frame in the clip, from 0.
        time: Seconds of the clip.
        persons: Persons in the picture.
        changes: Episode changes.
    """

    frame: int
    time: float
    persons: int
    changes: list[EpisodeChange]


def replay(source: FrameSource, detector: Detector, watch: Watch) -> Iterator[Tick]:
    """Watch a clip from its first to its last frame; what is open at the end, ends with the last tick.

    Raises:
        SourceError: the clip cannot be read.
    """
    tick: Tick | None = None
    while True:
        try:
            frame = source.read(_READ_TIMEOUT_S)
        except EOFError:
            break
        if frame is None:
            continue
        if tick is not None:
            yield tick
        (detections,) = detector.detect([(0, frame)])
        changes = watch.update(frame, detections)
        tick = Tick(frame.index, frame.time, watch.persons, changes)
    if tick is not None:
        tick.changes.extend(watch.close(tick.time))
        yield tick
