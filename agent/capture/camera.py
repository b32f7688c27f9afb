"""A camera: its thread keeps the newest frame and nothing else. A picture that is frozen or black is lost sight."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.capture.frame import Frame, FrameSource, SourceError
from agent.capture.sensor import Sensor
from agent.contract import CameraState

#: The legal moves; `PAUSED` is the privacy shutter, `ENDED` a file that has come to its end.
MOVES: dict[CameraState, frozenset[CameraState]] = {
    CameraState.CONNECTING: frozenset({CameraState.LIVE, CameraState.LOST, CameraState.PAUSED, CameraState.ENDED}),
    CameraState.LIVE: frozenset({CameraState.STALLED, CameraState.LOST, CameraState.PAUSED, CameraState.ENDED}),
    CameraState.STALLED: frozenset({CameraState.LIVE, CameraState.LOST, CameraState.PAUSED, CameraState.ENDED}),
    CameraState.LOST: frozenset({CameraState.CONNECTING, CameraState.PAUSED}),
    CameraState.PAUSED: frozenset({CameraState.CONNECTING}),
    CameraState.ENDED: frozenset({CameraState.PAUSED}),
}
#: Without a usable frame for so long the camera is stalled, and then lost and opened again; seconds.
STALLED_S = 2.0
LOST_S = 10.0
#: How often the picture is looked at for being frozen or black, seconds.
_LOOK_EVERY_S = 1.0
#: Mean absolute difference of two small grey pictures, of 255. A sensor's noise, averaged over the small picture's
#: pixels, and the grain of a codec stay above it even in a still scene; a repeated picture is exactly 0. A picture
#: frozen before an encoder that refines it anew with every key frame is not told from a still scene.
FROZEN_BELOW = 0.01
#: A picture that stays exactly the same for so long is frozen, seconds: longer than a codec skips a still scene.
FROZEN_S = 20.0
#: A picture with no pixel brighter than this, of 255, is black: a covered lens still leaks some light, and noise.
BLACK_BELOW = 6
_READ_TIMEOUT_S = 0.5


class Sight:
    """Says whether a picture is one to work with: not black, and not the same for a long time."""

    def __init__(self) -> None:
        self._last: NDArray[np.uint8] | None = None
        self._changed_at = 0.0
        self._looked_at = -math.inf
        self._trouble: str | None = None

    def trouble(self, frame: Frame, now: float) -> str | None:
        """What is wrong with the picture, in words; None when nothing is.

        Args:
            frame: The newest frame; one a second is looked at.
            now: Monotonic seconds.
        """
        if now - self._looked_at < _LOOK_EVERY_S:
            return self._trouble
        self._looked_at = now
        small = cv2.resize(frame.image[..., 1], (64, 36), interpolation=cv2.INTER_AREA)
        if self._last is None or cv2.norm(small, self._last, cv2.NORM_L1) / small.size >= FROZEN_BELOW:
            self._changed_at = now
        self._last = np.asarray(small, np.uint8)
        if int(small.max()) < BLACK_BELOW:
            self._trouble = "the picture is black: is the lens covered?"
        elif now - self._changed_at >= FROZEN_S:
            self._trouble = "the picture is frozen"
        else:
            self._trouble = None
        return self._trouble


class Camera(Sensor[CameraState, FrameSource]):
    """One camera: keeps the newest frame, for one thread to take."""

    def __init__(
        self,
        name: str,
        opener: Callable[[], FrameSource],
        *,
        fps: float,
        wake: threading.Event,
        look: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is opened before `start`.

        Args:
            name: For logs.
            opener: Opens the source anew; raises SourceError.
            fps: Frames wanted each second; a live source that is faster is thinned out.
            wake: Set when there is a new frame or state.
            look: Whether a frozen or black picture is trouble; a scenario without pictures has nothing to look at.
            clock: Monotonic seconds.
        """
        super().__init__(f"camera:{name}", opener, CameraState, MOVES, clock)
        self._interval = 1 / fps
        self._wake = wake
        self._sight = Sight() if look else None  # outlives the connection: a frozen camera answers as if it were well
        self._mailbox: Frame | None = None
        self._lock = threading.Lock()
        self.frames = 0
        self.drops = 0
        """Frames that nobody took before the next one came."""

    def take(self) -> Frame | None:
        """The newest frame that was not taken yet."""
        with self._lock:
            frame, self._mailbox = self._mailbox, None
        return frame

    def _move(self, state: CameraState, reason: str = "") -> None:
        if state in {CameraState.LOST, CameraState.PAUSED}:
            self.take()  # what it saw before is not what there is
        super()._move(state, reason)
        self._wake.set()

    def _read(self, source: FrameSource) -> None:
        good_at = self._clock()
        due = -math.inf
        while self._reading:
            self._goes_on()
            try:
                frame = source.read(_READ_TIMEOUT_S)
            except EOFError:
                self._move(CameraState.ENDED, "the file has come to its end")
                return
            now = self._clock()
            trouble: str | None = "no frame comes"
            if frame is not None:
                self.frames += 1
                trouble = self._sight.trouble(frame, now) if self._sight else None
            if trouble is None:
                good_at = now
                self._move(CameraState.LIVE)
                assert frame is not None  # noqa: S101 - no trouble without a frame
                # A grid with a tolerance, so that 30 jittering frames a second thin out to 10 and not to 7.5.
                if frame.time >= due - 0.1 * self._interval:
                    behind = frame.time - due > self._interval
                    due = (frame.time if behind else due) + self._interval
                    self._put(frame)
            elif now - good_at >= LOST_S:
                raise SourceError(trouble)
            elif now - good_at >= STALLED_S and self.state is CameraState.LIVE:
                self._move(CameraState.STALLED, trouble)

    def _put(self, frame: Frame) -> None:
        with self._lock:
            if self._mailbox is not None:
                self.drops += 1
            self._mailbox = frame
        self._wake.set()
