"""A device that comes back: one thread that opens its source, reads it, and opens it again when it fails.

The legal moves between its states stand in a table. After a failure the pause before the next try doubles, with
jitter. The privacy shutter closes the device itself. What cameras and microphones have in common is here.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Generic, Protocol, TypeVar

from agent.capture.frame import RestartNeededError, SourceError
from agent.contract import CameraState, MicrophoneState

log = logging.getLogger(__name__)

_BACKOFF_MIN_S, _BACKOFF_MAX_S = 0.5, 30.0


class Closable(Protocol):
    """An open source, which only the sensor's own thread touches."""

    def close(self) -> None:
        """Let go of the device; safe to call twice."""


_State = TypeVar("_State", CameraState, MicrophoneState)
_Source = TypeVar("_Source", bound=Closable)


class Sensor(ABC, Generic[_State, _Source]):
    """One camera or microphone. Its public methods never wait for the device, except `close`."""

    def __init__(
        self,
        name: str,
        opener: Callable[[], _Source],
        states: type[_State],
        moves: Mapping[_State, frozenset[_State]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is opened before `start`.

        Args:
            name: For logs.
            opener: Opens the source anew; raises SourceError.
            states: The enumeration of its states.
            moves: The legal moves between them.
            clock: Monotonic seconds.
        """
        self._name = name
        self._opener = opener
        self._states: type[_State] = states
        self._moves: Mapping[_State, frozenset[_State]] = moves
        self._clock = clock
        self._beat: float | None = None
        """When the thread was last seen to go on; None while it waits by itself."""
        self._was_live = False
        self._lost_for = ""
        self._shutter = threading.Event()
        self._stop = threading.Event()
        self._change = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.state: _State = states.CONNECTING
        self.reason = "not opened yet"
        """Why it is not live, in words."""
        self.reconnects = 0
        self.spent = False
        """Whether only a new process can open it again."""

    def start(self) -> None:
        """Open the source and begin to read."""
        self._thread.start()

    def pause(self) -> None:
        """The privacy shutter: close the device."""
        self._shutter.set()
        self._change.set()

    def resume(self) -> None:
        """Open it again."""
        self._shutter.clear()
        self._change.set()

    def close(self) -> None:
        """Stop reading and let go of the device."""
        self._stop.set()
        self._change.set()
        if self._thread.is_alive():
            self._thread.join(10)

    @property
    def name(self) -> str:
        """For logs."""
        return self._name

    @property
    def is_paused(self) -> bool:
        """Whether the device is closed behind the shutter; the numbers of the two enumerations do not compare."""
        return self.state is self._states.PAUSED

    @property
    def is_live(self) -> bool:
        """Whether the device gives what it should."""
        return self.state is self._states.LIVE

    @property
    def is_lost(self) -> bool:
        """Whether the device is gone."""
        return self.state is self._states.LOST

    @property
    def blocked_s(self) -> float:
        """For how long the thread has been in one call that may never return: of the device, or of whoever listens."""
        beat = self._beat
        return 0.0 if beat is None else self._clock() - beat

    def _goes_on(self) -> None:
        """Say that the thread is not blocked; for `_read`, before each call."""
        self._beat = self._clock()

    @property
    def _reading(self) -> bool:
        return not self._stop.is_set() and not self._shutter.is_set()

    @abstractmethod
    def _read(self, source: _Source) -> None:
        """Read while `_reading`; the end of a file is a move to `ENDED`.

        Raises:
            SourceError: the source has failed.
        """

    def _move(self, state: _State, reason: str = "") -> None:
        if state is self.state:
            return
        if state not in self._moves[self.state]:
            raise AssertionError(f"{self._name}: {self.state.name} may not become {state.name}")
        # A device that stays away is tried for days: said once for each reason, not with every try.
        lost = state is self._states.LOST
        again = state is self._states.CONNECTING or (lost and reason == self._lost_for)
        level = logging.DEBUG if again else logging.WARNING if lost else logging.INFO
        log.log(level, "sensor=%s event=%s reason=%r", self._name, state.name.lower(), reason)
        if lost:
            self._lost_for = reason
        elif state is self._states.LIVE:
            self._lost_for = ""
        self.state, self.reason = state, reason
        self._was_live = self._was_live or state is self._states.LIVE

    def _run(self) -> None:
        backoff_s = _BACKOFF_MIN_S / 2
        while not self._stop.is_set():
            self._was_live = False
            try:
                self._session()
            except Exception as error:  # noqa: BLE001 - logged there
                self._lose(error)
            backoff_s = _BACKOFF_MIN_S if self._was_live else min(2 * backoff_s, _BACKOFF_MAX_S)
            if self.state is self._states.LOST:
                self._wait(backoff_s * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
                self.reconnects += 1
        self._beat = None

    def _lose(self, error: Exception) -> None:
        if isinstance(error, SourceError):
            self.spent = isinstance(error, RestartNeededError)
            self._move(self._states.LOST, str(error))
            return
        # A fault of ours in this thread must show as a lost device, and must not be the end of it.
        log.error("sensor=%s event=fault", self._name, exc_info=error)
        self._move(self._states.LOST, f"internal fault: {type(error).__name__}")

    def _wait(self, seconds: float | None) -> None:
        self._beat = None
        self._change.wait(seconds)
        self._change.clear()
        self._goes_on()

    def _session(self) -> None:
        """From the opening of the source to its end, its loss, or the shutter; what ends it is over when it returns."""
        if self._shutter.is_set():
            self._stay_paused()
            return
        self._move(self._states.CONNECTING, self.reason)
        self._goes_on()
        source = self._opener()
        try:
            self._read(source)
        except Exception as error:  # noqa: BLE001 - logged there
            self._lose(error)  # before the device is closed: one that hangs takes its time for that
        finally:
            source.close()
        while self.state is self._states.ENDED and self._reading:
            self._wait(None)
        # What else ends the reading is the shutter, even one that is open again by now.
        if self.state is not self._states.LOST and not self._stop.is_set():
            self._stay_paused()

    def _stay_paused(self) -> None:
        self._move(self._states.PAUSED, "privacy shutter")
        while self._shutter.is_set() and not self._stop.is_set():
            self._wait(None)
