"""A scenario as a camera: `sim:crowd?people=40&seed=7&seconds=120&fps=10&width=640&height=360&detections=1`.

With `detections=1` nothing is painted: frames are blank and of the full size, and what a detector would have found in
them comes straight from the world, with the errors of `misses`, `jitter` and `false`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TypeVar
from urllib.parse import parse_qsl

import numpy as np

from agent.capture.frame import Frame, SourceError
from agent.perception.scene import Detections, ObjectClass
from agent.settings import did_you_mean
from agent.simulate.render import Image, Painter
from agent.simulate.scenarios import Options, Scenario, scenario
from agent.simulate.world import View

_Number = TypeVar("_Number", int, float)

#: Of whom less than this is to be seen is not found.
_LEAST_VISIBLE = 0.4
#: Size of a box where there is nobody: width and height as shares of the frame's height.
_GHOST = (0.05, 0.13)


@dataclass(frozen=True, slots=True)
class Errors:
    """How a simulated detector errs. The defaults are chosen, not measured.

    Attributes:
        misses: Share of the people that it does not find, in each frame anew.
        jitter: Standard deviation of each edge of a box, as a share of its height.
        false: Boxes a frame where there is nobody, on average.
    """

    misses: float = 0.08
    jitter: float = 0.03
    false: float = 0.02


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
        """Set up; the scenario begins with the first `read`.

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

    def moment(self, index: int) -> float:
        """When in the scenario a frame is taken, seconds."""
        return index / self.fps

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame. At its own pace: None when it is not due within the time, and frames missed are gone.

        Raises:
            EOFError: the scenario is over.
        """
        if self.live:
            now = self._clock()
            if self._begun is None:
                self._begun = now
            early = self._begun + self.moment(self._index) - now
            if early > 0:
                self._wait(min(early, timeout_s))
                if early > timeout_s:
                    return None
            else:
                self._index += int(-early * self.fps)
        if self._index >= self.frames_total:
            raise EOFError("sim: the scenario is over")
        moment = self.moment(self._index)
        image = self._blank
        if self._painter is not None:
            image = self._painter.paint(self.scenario.world.truth(moment, self.view), moment)
        frame = Frame(image, moment + (self._begun or 0.0), self._index)
        self._index += 1
        return frame

    def close(self) -> None:
        """Nothing to let go of."""


class SimDetector:
    """What a detector would find in the frames of a scenario: the truth, with errors."""

    def __init__(self, source: SimSource, errors: Errors) -> None:
        self._source = source
        self._errors = errors

    def detect(self, frames: Sequence[tuple[int, Frame]]) -> list[Detections]:
        """The people of each frame, in the order of `frames`; the same frame gives the same whenever it is asked."""
        return [self._found(frame.index) for _, frame in frames]

    def _found(self, index: int) -> Detections:
        source, errors = self._source, self._errors
        rng = np.random.default_rng([source.scenario.seed, index])
        truth = source.scenario.world.truth(source.moment(index), source.view)
        found = (truth.visible >= _LEAST_VISIBLE) & (rng.random(len(truth.ids)) >= errors.misses)
        boxes = truth.boxes[found]
        boxes = boxes + rng.normal(0, errors.jitter, boxes.shape) * (boxes[:, 3:] - boxes[:, 1:2])
        frame = (source.view.width, source.view.height)
        ghosts = rng.random((rng.poisson(errors.false), 2)) * frame
        ghosts = np.concatenate([ghosts, ghosts + np.multiply(_GHOST, source.view.height)], axis=1)
        boxes = np.clip(np.concatenate([boxes, ghosts]), 0, frame * 2)
        boxes = boxes[(boxes[:, 2:] > boxes[:, :2]).all(axis=1)]  # jitter can turn a sliver at the edge around
        scores = np.clip(rng.normal(0.8, 0.08, len(boxes)), 0.1, 0.99)
        classes = np.full(len(boxes), ObjectClass.PERSON, np.uint8)
        return Detections(boxes.astype(np.float32), scores.astype(np.float32), classes)


def open_sim(address: str, *, replay: bool) -> tuple[SimSource, SimDetector | None]:
    """Open a scenario; its detector when it has `detections=1`, and so no pictures.

    Args:
        address: `sim:NAME?key=value&…`; keys are those of `Options` and `Errors`, fps, width, height, detections.
        replay: As fast as it is read, on its own clock.

    Raises:
        SourceError: no such scenario, an unknown key, or a value that does not fit.
    """
    name, _, query = address.removeprefix("sim:").partition("?")
    given = dict(parse_qsl(query, keep_blank_values=True))
    known = [field.name for field in (*fields(Options), *fields(Errors))]
    known += ["fps", "width", "height", "detections"]
    for key in given:
        if key not in known:
            hint = did_you_mean(key, known) or f"; there are: {', '.join(known)}"
            raise SourceError(f"sim:{name}: unknown key {key!r}{hint}")
    view = View(_number(given, "width", 640, 64, 3840), _number(given, "height", 360, 64, 2160))
    usual, errors = Options(), Errors()
    options = Options(
        people=_number(given, "people", usual.people, 0, 1000),
        flow=_number(given, "flow", usual.flow, 0, 1000),
        seconds=_number(given, "seconds", usual.seconds, 1, 86400),
        seed=_number(given, "seed", usual.seed, 0, 2**32 - 1),
    )
    errors = Errors(
        misses=_number(given, "misses", errors.misses, 0, 1),
        jitter=_number(given, "jitter", errors.jitter, 0, 1),
        false=_number(given, "false", errors.false, 0, 100),
    )
    fps = _number(given, "fps", 10.0, 0.5, 60)
    blank = bool(_number(given, "detections", 0, 0, 1))
    played = scenario(name, options, view)
    painter = None if blank else Painter(view, options.seed)
    source = SimSource(played, view, fps=fps, painter=painter, replay=replay)
    return source, SimDetector(source, errors) if blank else None


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
