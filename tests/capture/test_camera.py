"""A camera that comes back: scripted sources, real threads, and waits for conditions instead of times."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from itertools import count, pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.capture import sensor
from agent.capture.camera import FROZEN_S, MOVES, Camera, Sight
from agent.capture.frame import Frame, SourceError
from agent.contract import CameraState

RNG = np.random.default_rng(1)
EMPTY = None
Step = Frame | Exception | None


def picture() -> Frame:
    return Frame(RNG.integers(60, 200, (36, 64, 3), np.uint8), time.monotonic(), 0)


class Scripted:
    """A source that does what its script says, and then gives nothing."""

    live = True
    frames_total = None

    def __init__(self, script: Iterator[Step]) -> None:
        self._script = script
        self.closed = threading.Event()

    def read(self, timeout_s: float) -> Frame | None:
        step = next(self._script, EMPTY)
        if step is EMPTY:
            self.closed.wait(0.005)
        if isinstance(step, Exception):
            raise step
        return step

    def close(self) -> None:
        self.closed.set()


def eventually(condition: Callable[[], object], what: str = "the condition") -> None:
    deadline = time.monotonic() + 10
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"{what} does not come about"
        pause.wait(0.002)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensor, "_BACKOFF_MIN_S", 0.001)
    monkeypatch.setattr(sensor, "_BACKOFF_MAX_S", 0.002)


@pytest.fixture
def watched() -> Iterator[Callable[[Callable[[], Scripted]], Camera]]:
    made = []

    def make(opener: Callable[[], Scripted]) -> Camera:
        camera = Camera("rig", opener, fps=1000, wake=threading.Event())
        made.append(camera)
        camera.start()
        return camera

    yield make
    for camera in made:
        camera.close()


Make = Callable[[Callable[[], Scripted]], Camera]


def test_the_newest_frame_wins_and_the_others_are_counted(watched: Make) -> None:
    shots = [picture() for _ in range(5)]
    spaced = [Frame(f.image, f.time + i, i) for i, f in enumerate(shots)]
    camera = watched(lambda: Scripted(iter(spaced)))
    eventually(lambda: camera.frames == 5)
    eventually(lambda: camera.drops == 4)
    taken = camera.take()
    assert taken is not None
    assert taken.index == 4
    assert camera.take() is None


def test_the_end_of_a_file_is_the_end(watched: Make) -> None:
    camera = watched(lambda: Scripted(iter([picture(), EOFError()])))
    eventually(lambda: camera.state is CameraState.ENDED)


def test_a_source_that_fails_is_closed_and_opened_anew(watched: Make) -> None:
    opened: list[Scripted] = []

    def opener() -> Scripted:
        script: list[Step] = [picture(), SourceError("cable")] if not opened else [picture()]
        opened.append(Scripted(iter(script)))
        return opened[-1]

    camera = watched(opener)
    eventually(lambda: len(opened) == 2 and camera.state is CameraState.LIVE)
    assert opened[0].closed.is_set()
    assert camera.reconnects == 1


def test_a_source_that_falls_silent_is_stalled_and_then_lost() -> None:
    now = [0.0]

    class Silent(Scripted):
        def read(self, timeout_s: float) -> Frame | None:
            now[0] += timeout_s
            return super().read(timeout_s)

    scripts: list[list[Step]] = [[picture(), *[EMPTY] * 5, picture()]]
    camera = Camera(
        "rig",
        lambda: Silent(iter(scripts.pop() if scripts else [picture(), EOFError()])),
        fps=10,
        wake=threading.Event(),
        clock=lambda: now[0],
    )
    original, moves = camera._move, [camera.state]

    def record(state: CameraState, reason: str = "") -> None:
        if state is not camera.state:
            moves.append(state)
        original(state, reason)

    camera._move = record  # type: ignore[method-assign]
    camera.start()
    eventually(lambda: camera.state is CameraState.ENDED)
    camera.close()
    assert [state.name for state in moves] == [
        *("CONNECTING", "LIVE", "STALLED", "LIVE", "STALLED", "LOST"),
        *("CONNECTING", "LIVE", "ENDED"),
    ]


def test_a_fault_of_ours_shows_as_a_lost_camera_and_not_as_a_dead_thread(watched: Make) -> None:
    opened: list[Scripted] = []

    def opener() -> Scripted:
        opened.append(Scripted(iter([ZeroDivisionError("ours")] if len(opened) < 3 else [picture()])))
        return opened[-1]

    camera = watched(opener)
    eventually(lambda: camera.state is CameraState.LIVE)
    assert len(opened) == 4


def test_a_source_that_cannot_be_opened_says_why(watched: Make) -> None:
    def opener() -> Scripted:
        raise SourceError("rtsp://gate: cannot connect")

    camera = watched(opener)
    eventually(lambda: "cannot connect" in camera.reason)


def test_the_privacy_shutter_closes_the_device_itself(watched: Make) -> None:
    opened: list[Scripted] = []

    def opener() -> Scripted:
        opened.append(Scripted(iter([picture()])))
        return opened[-1]

    camera = watched(opener)
    eventually(lambda: camera.state is CameraState.LIVE)
    camera.pause()
    eventually(lambda: camera.state is CameraState.PAUSED)
    assert opened[0].closed.is_set()
    assert camera.take() is None
    assert len(opened) == 1
    camera.resume()
    eventually(lambda: camera.state is CameraState.LIVE)
    assert len(opened) == 2


def test_a_shutter_that_opens_again_while_the_device_still_closes_is_no_fault(watched: Make) -> None:
    closing, closed = threading.Event(), threading.Event()
    opened: list[Scripted] = []

    class Slow(Scripted):
        def close(self) -> None:
            super().close()
            closing.set()
            closed.wait(10)

    def opener() -> Scripted:
        opened.append(Slow(iter([picture()])))
        return opened[-1]

    camera = watched(opener)
    eventually(lambda: camera.state is CameraState.LIVE)
    camera.pause()
    assert closing.wait(10)
    camera.resume()
    closed.set()
    eventually(lambda: len(opened) == 2 and camera.state is CameraState.LIVE)
    assert camera.reconnects == 0


def test_a_device_that_hangs_while_it_closes_is_already_lost(watched: Make) -> None:
    let_go = threading.Event()

    class Hanging(Scripted):
        def close(self) -> None:
            let_go.wait(60)

    camera = watched(lambda: Hanging(iter([picture(), SourceError("gone")])))
    try:
        eventually(lambda: camera.state is CameraState.LOST)
    finally:
        let_go.set()


def test_a_camera_that_answers_with_its_frozen_picture_is_not_live_again() -> None:
    now = [0.0]
    frozen, moves = picture().image, []

    class Frozen(Scripted):
        def read(self, timeout_s: float) -> Frame | None:
            now[0] += 0.5
            return Frame(frozen, now[0], 0)

    camera = Camera("rig", lambda: Frozen(iter([])), fps=2, wake=threading.Event(), clock=lambda: now[0])
    original = camera._move

    def record(state: CameraState, reason: str = "") -> None:
        if state is not camera.state:
            moves.append(state)
        original(state, reason)

    camera._move = record  # type: ignore[method-assign]
    camera.start()
    eventually(lambda: camera.reconnects > 5)
    camera.close()
    assert moves.count(CameraState.LIVE) == 1
    assert camera.reason == "the picture is frozen"


def test_a_camera_that_is_lost_can_be_paused_without_waiting_for_the_next_try(
    watched: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sensor, "_BACKOFF_MIN_S", 600.0)
    monkeypatch.setattr(sensor, "_BACKOFF_MAX_S", 600.0)
    opened: list[Scripted] = []

    def opener() -> Scripted:
        opened.append(Scripted(iter([picture()] if opened else [picture(), SourceError("gone")])))
        return opened[-1]

    camera = watched(opener)
    eventually(lambda: camera.state is CameraState.LOST)
    camera.pause()
    eventually(lambda: camera.state is CameraState.PAUSED)
    assert len(opened) == 1
    camera.resume()
    eventually(lambda: camera.state is CameraState.LIVE)


def test_a_file_that_has_ended_can_be_paused_and_begins_again(watched: Make) -> None:
    camera = watched(lambda: Scripted(iter([picture(), EOFError()])))
    eventually(lambda: camera.state is CameraState.ENDED)
    camera.pause()
    eventually(lambda: camera.state is CameraState.PAUSED)
    camera.resume()
    eventually(lambda: camera.state is CameraState.ENDED)


def test_a_fast_source_is_thinned_out_to_the_rate_that_is_wanted() -> None:
    shot = picture()
    shots = [Frame(shot.image, number / 30, number) for number in range(90)]
    camera = Camera("rig", lambda: Scripted(iter([*shots, EOFError()])), fps=10, wake=threading.Event(), look=False)
    camera.start()
    eventually(lambda: camera.state is CameraState.ENDED)
    camera.close()
    assert camera.drops == 29, "three seconds at 30 a second are 30 frames at 10, of which the last one is kept"


def test_a_frozen_picture_is_trouble_and_noise_is_not() -> None:
    still, noisy = Sight(), Sight()
    same = picture()
    for second in range(int(FROZEN_S) + 1):
        frozen = still.trouble(same, float(second))
        assert noisy.trouble(picture(), float(second)) is None
    assert frozen is not None
    assert "frozen" in frozen


def test_a_black_picture_is_trouble() -> None:
    trouble = Sight().trouble(Frame(np.zeros((36, 64, 3), np.uint8), 0.0, 0), 0.0)
    assert trouble is not None
    assert "black" in trouble


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    scripts=st.lists(st.lists(st.sampled_from(["frame", "none", "lost", "fault", "end"]), max_size=5), max_size=5),
    shutter=st.lists(st.booleans(), max_size=4),
)
def test_whatever_happens_only_legal_moves_are_made(scripts: list[list[str]], shutter: list[bool]) -> None:
    steps: dict[str, Callable[[], Step]] = {
        "frame": picture,
        "none": lambda: None,
        "lost": lambda: SourceError("gone"),
        "fault": lambda: KeyError("ours"),
        "end": EOFError,
    }
    waiting = [[steps[name]() for name in script] for script in scripts]
    ticks = count(0.0)
    camera = Camera(
        "rig",
        lambda: Scripted(iter(waiting.pop(0) if waiting else [picture(), EOFError()])),
        fps=1000,
        wake=threading.Event(),
        clock=lambda: next(ticks),
    )
    moves, reasons = [camera.state], []
    original = camera._move

    def record(state: CameraState, reason: str = "") -> None:
        original(state, reason)
        moves.append(camera.state)
        reasons.append(reason)

    camera._move = record  # type: ignore[method-assign]
    camera.start()
    for closed in shutter:
        (camera.pause if closed else camera.resume)()
    camera.resume()
    eventually(lambda: camera.state is CameraState.ENDED, "the end of the last source")
    camera.close()
    assert "internal fault: AssertionError" not in reasons, "an illegal move was tried"
    for before, after in pairwise(moves):
        assert before is after or after in MOVES[before]


def test_a_call_that_does_not_return_is_noticed_and_a_wait_is_none() -> None:
    now, released = [0.0], threading.Event()

    class Blocking(Scripted):
        def read(self, timeout_s: float) -> Frame | None:
            released.wait(20)
            return super().read(timeout_s)

    camera = Camera("rig", lambda: Blocking(iter([])), fps=10, wake=threading.Event(), look=False, clock=lambda: now[0])
    assert camera.blocked_s == 0.0, "a thread that has not begun is not blocked"
    camera.start()
    try:
        eventually(lambda: camera._beat is not None)
        now[0] += 30
        assert camera.blocked_s == 30.0
        released.set()
        eventually(lambda: camera.blocked_s == 0.0)
        camera.pause()
        eventually(lambda: camera.is_paused and camera._beat is None)
        now[0] += 3600
        assert camera.blocked_s == 0.0
    finally:
        released.set()
        camera.close()
