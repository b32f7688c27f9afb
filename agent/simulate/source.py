"""A scenario as a camera: `sim:crowd?people=40&seed=7&seconds=120&fps=10&width=640&height=360&detections=1`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import TypeVar
from urllib.parse import parse_qsl

import numpy as np

from agent.capture.frame import Frame, SourceError
from agent.perception.scene import Detections, ObjectClass
from agent.simulate.render import Image, Painter
from agent.simulate.scenarios import Options, Scenario, scenario
from agent.simulate.world import View

_Number = TypeVar("_Number", int, float)
_DEFAULT = Options()

#: How a simulated detector errs: of the people it could see it misses some, its boxes jitter by a share of their
#: height, and now and then it sees somebody who is not there. Chosen, not measured.
MISSES, JITTER, FALSE_A_FRAME = 0.08, 0.03, 0.02
#: Whoever is hidden by more than this is not seen.
_HIDDEN = 0.7


class SimSource:
    """Frames of a scenario."""

    def __init__(
        self,
        played: Scenario,
        view: View,
        *,
        fps: float,
        painter: Painter | None,
        replay: bool,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        """Set up.

        Args:
            played: The scenario.
            view: The camera.
            fps: Frames a second.
            painter: Paints the frames; without one they are blank.
            replay: As fast as it is read, on the scenario's own clock.
            clock: Monotonic seconds.
            wait: Sleeps so many seconds.
        """
        self.live = not replay
        self.scenario = played
        self.view = view
        self.fps = fps
        self.frames_total = round(played.seconds * fps)
        self._painter = painter
        # Takes no memory: every pixel is the same byte.
        self._blank: Image = np.broadcast_to(np.zeros(1, np.uint8), (view.height, view.width, 3))
        self._clock = clock
        self._wait = wait
        self._begun: float | None = None
        self._index = 0

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame; at its own pace None when it is not due within the time.

        Raises:
            EOFError: the scenario is over.
        """
        if self._index >= self.frames_total:
            raise EOFError("sim: the scenario is over")
        moment = self._index / self.fps
        if self.live:
            if self._begun is None:
                self._begun = self._clock()
            early = self._begun + moment - self._clock()
            if early > 0:
                self._wait(min(early, timeout_s))
            if early > timeout_s:
                return None
        image = self._blank
        if self._painter is not None:
            image = self._painter.paint(self.scenario.world.truth(moment, self.view), moment)
        frame = Frame(image, moment + (self._begun or 0.0), self._index)
        self._index += 1
        return frame

    def close(self) -> None:
        """Nothing to let go of."""


class SimDetector:
    """Detections of a scenario without pictures: the truth, with the errors of a detector."""

    def __init__(self, source: SimSource, rng: np.random.Generator) -> None:
        self._source = source
        self._rng = rng

    def detect(self, frames: Sequence[tuple[int, Frame]]) -> list[Detections]:
        """The people of each frame, in the order of `frames`."""
        return [self._seen(frame.index / self._source.fps) for _, frame in frames]

    def _seen(self, moment: float) -> Detections:
        view, rng = self._source.view, self._rng
        truth = self._source.scenario.world.truth(moment, view)
        boxes = truth.boxes[(truth.visible > 1 - _HIDDEN) & (rng.random(len(truth.ids)) >= MISSES)]
        heights = boxes[:, 3:4] - boxes[:, 1:2]
        boxes = boxes + rng.normal(0, JITTER, boxes.shape) * heights
        false = rng.random((rng.poisson(FALSE_A_FRAME), 2)) * (view.width, view.height)
        size = np.array([0.05, 0.13]) * view.height
        boxes = np.concatenate([boxes, np.column_stack([false, false + size])])
        scores = np.clip(rng.normal(0.8, 0.08, len(boxes)), 0.1, 0.99).astype(np.float32)
        frame = (view.width, view.height, view.width, view.height)
        boxes = np.clip(boxes, 0, frame).astype(np.float32)
        return Detections(boxes, scores, np.full(len(boxes), ObjectClass.PERSON, np.uint8))


def open_sim(address: str, *, replay: bool) -> tuple[SimSource, SimDetector | None]:
    """Open a scenario; its detector when it has `detections=1`, and so no pictures.

    Args:
        address: `sim:NAME?key=value&…`.
        replay: As fast as it is read, on its own clock.

    Raises:
        SourceError: no such scenario, an unknown key, or a value that does not fit.
    """
    name, _, query = address.removeprefix("sim:").partition("?")
    known = {"fps", "width", "height", "detections", *(f.name for f in fields(Options))}
    given = dict(parse_qsl(query))
    for key in given:
        if key not in known:
            raise SourceError(f"{address}: unknown key {key!r}; there are: {', '.join(sorted(known))}")
    view = View(_number(given, "width", 640, 64, 3840), _number(given, "height", 360, 64, 2160))
    options = Options(
        people=_number(given, "people", _DEFAULT.people, 0, 1000),
        flow=_number(given, "flow", _DEFAULT.flow, 0, 1000),
        seconds=_number(given, "seconds", _DEFAULT.seconds, 1, 86400),
        seed=_number(given, "seed", _DEFAULT.seed, 0, 2**32 - 1),
    )
    fps = _number(given, "fps", 10.0, 0.5, 60)
    played = scenario(name, options, view)
    rng = np.random.default_rng([options.seed, 1])
    blank = bool(_number(given, "detections", 0, 0, 1))
    source = SimSource(played, view, fps=fps, painter=None if blank else Painter(view, rng), replay=replay)
    return source, SimDetector(source, rng) if blank else None


def _number(given: dict[str, str], key: str, default: _Number, least: float, most: float) -> _Number:
    text = given.get(key)
    if text is None:
        return default
    try:
        value = type(default)(text)
    except ValueError:
        value = type(default)(-1)
    if not least <= value <= most:
        raise SourceError(f"sim: {key}={text}: write a {type(default).__name__} from {least:g} to {most:g}")
    return value
