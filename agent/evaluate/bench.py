"""How fast frames go through: the agent, and beside it the bare model loop that it cannot beat.

Both loops decode the same clip and run the same network in this process, on one core, turn by turn; so what else the
machine does hits both, and the ratio of neighbouring turns holds where a bare time would not.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from agent import pipe
from agent.behaviours.watch import Watch
from agent.capture.open import open_source
from agent.demo.configuration import write_configuration
from agent.inference.backend import Array, Backend
from agent.perception.detect import Letterbox, ModelDetector, open_detector
from agent.replay import Tick, replay
from agent.sense import Outlet
from agent.settings import InferenceSettings, load

_T = TypeVar("_T")

#: Frames of one loop before it is the other's turn.
TURN = 20
_EVERY_FRAME_FPS = 60


class BenchError(RuntimeError):
    """There is nothing to measure; the text says why."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one frame, milliseconds, median over turns: processor time of this process, and time on the wall clock."""

    cpu_ms: float
    wall_ms: float


@dataclass(frozen=True, slots=True)
class PipelineBench:
    """What a frame costs.

    Attributes:
        model: Name of the network.
        width: Of the frames, pixels.
        height: Of the frames, pixels.
        frames: Frames measured in each loop.
        persons: Mean persons in the picture.
        bare: The bare model loop: decode, scale to the network's input, run.
        agent: The agent: decode, detect, track, watch five behaviours, send observations over the pipe.
        inference: The part of the agent's loop inside the network's runtime.
        rest: The other part of it.
        ratio: Frame rate of the agent as a share of the bare loop's, by processor time; median over pairs of turns.
        wall_ratio: The same by the wall clock.
    """

    model: str
    width: int
    height: int
    frames: int
    persons: float
    bare: Cost
    agent: Cost
    inference: Cost
    rest: Cost
    ratio: float
    wall_ratio: float


@contextmanager
def _one_core() -> Iterator[None]:
    """Keep this thread, the threads that it starts, and OpenCV on one of the cores they may use."""
    cores, threads = os.sched_getaffinity(0), cv2.getNumThreads()
    os.sched_setaffinity(0, {max(cores)})
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)
        os.sched_setaffinity(0, cores)


@_one_core()
def measure(
    clip: Path, inference: InferenceSettings, frames: int, advance: Callable[[int], None] = lambda _: None
) -> PipelineBench:
    """Run both loops over a clip, turn by turn.

    Args:
        clip: Video file.
        inference: Model, backend and threads, the same for both loops.
        frames: Frames to measure in each loop, rounded up to whole turns; fewer where the clip ends before.
        advance: Told after each turn, for a progress bar, how many frames it had.

    Raises:
        BenchError: no model serves, or the clip is too short.
        SourceError: the clip cannot be read.
    """
    detector, _, reasons = open_detector(inference)
    if not isinstance(detector, ModelDetector):
        raise BenchError("no model serves, so there is no model loop to compare with: " + "; ".join(reasons))
    detector.backend = network = _Timed(detector.backend)
    costs, ticks = [], []
    with closing(_agent_loop(clip, detector)) as agent, closing(_bare_loop(clip, detector)) as bare:
        _turn(agent)  # the first turn of each warms up
        _turn(bare)
        for _ in range(-(-frames // TURN)):
            network.spent[:] = 0
            agent_cost, seen = _turn(agent)
            inside = network.spent / TURN
            bare_cost, sizes = _turn(bare)
            if min(len(seen), len(sizes)) < TURN:
                break
            costs.append((bare_cost, agent_cost, inside, agent_cost - inside))
            ticks += seen
            advance(TURN)
    if not costs:
        raise BenchError(f"{clip} is too short: it takes {2 * TURN} frames at least")
    by_turn = np.array(costs)
    ratio, wall_ratio = np.median(by_turn[:, 0] / by_turn[:, 1], axis=0).tolist()
    medians = [Cost(*cost) for cost in np.median(by_turn, axis=0).tolist()]
    height, width = sizes[0]
    return PipelineBench(
        model=detector.model.name,
        width=width,
        height=height,
        frames=len(ticks),
        persons=sum(tick.persons for tick in ticks) / len(ticks),
        bare=medians[0],
        agent=medians[1],
        inference=medians[2],
        rest=medians[3],
        ratio=ratio,
        wall_ratio=wall_ratio,
    )


def _clocks() -> NDArray[np.float64]:
    """Processor time of this process and time on the wall, milliseconds."""
    return np.array([time.process_time(), time.perf_counter()]) * 1000


def _turn(loop: Iterator[_T]) -> tuple[NDArray[np.float64], list[_T]]:
    """What a frame of this turn cost, and what came of the frames."""
    before = _clocks()
    done = list(islice(loop, TURN))
    return (_clocks() - before) / TURN, done


class _Timed:
    """A backend that adds up the time spent in it."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.inputs, self.outputs, self.close = backend.inputs, backend.outputs, backend.close
        self.spent = np.zeros(2)

    def run(self, batch: Array) -> list[Array]:
        before = _clocks()
        outputs = self._backend.run(batch)
        self.spent += _clocks() - before
        return outputs


def _bare_loop(clip: Path, detector: ModelDetector) -> Generator[tuple[int, int], None, None]:
    """Decode, scale, run, and nothing else; the size of each frame."""
    letterbox = Letterbox(detector.model.input)
    try:
        with av.open(str(clip)) as container:
            container.streams.video[0].codec_context.thread_count = 1
            for picture in container.decode(video=0):
                detector.backend.run(letterbox.fill([picture.to_ndarray(format="bgr24")]))
                yield picture.height, picture.width
    except av.error.FFmpegError as error:
        raise BenchError(f"{clip}: cannot be decoded: {error.strerror}") from error


def _agent_loop(clip: Path, detector: ModelDetector) -> Generator[Tick, None, None]:
    """The path of the live agent, from the file to the far end of the pipe."""
    with tempfile.TemporaryDirectory() as folder:
        settings = load(write_configuration(Path(folder), f"file:{clip}", None, {}))
    (camera,) = settings.cameras
    near, far = pipe.pair()
    outlet = Outlet(lambda: near, near, settings.zone_names, time.monotonic)
    with near, far, closing(open_source(camera.source, fps=_EVERY_FRAME_FPS, loop=False, replay=True)) as source:
        for tick in replay(source, detector, Watch(camera)):
            for change in tick.changes:
                outlet.episode(0, change)
            outlet.flush()
            while pipe.receive(far):
                pass
            yield tick
