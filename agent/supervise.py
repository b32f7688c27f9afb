"""`vigie run`: start relay and sense as children in order, restart one that dies, stop them in reverse.

Both children inherit their end of one socketpair, and the supervisor keeps both ends open. So when a child is killed,
the pipe and the messages in it live on, and the next child takes up the same end.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import random
import resource
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import NoReturn

log = logging.getLogger(__name__)

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4
#: A child that leaves with one of these knows that another start would not help (see the table in agent.cli.app).
_HOPELESS = frozenset({2})
#: What a process says that is to begin anew by itself: `begin_anew`.
AGAIN = 75


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """When to try again, and when to give up.

    Attributes:
        max_restarts: Restarts of one child within the window that are one too many.
        window_s: Length of the window, seconds.
        backoff_min_s: Pause before the first restart, seconds; it doubles each time, with up to half of it as jitter.
        backoff_max_s: Longest pause, seconds.
        stop_s: Time a child has to stop by itself, seconds.
    """

    max_restarts: int = 5
    window_s: float = 120.0
    backoff_min_s: float = 0.5
    backoff_max_s: float = 15.0
    stop_s: float = 10.0


@dataclass(slots=True)
class Child:
    """One child process and its history.

    Attributes:
        name: For the log.
        command: What to run, without a shell.
        fds: File descriptors it inherits.
        leads: True when its orderly end (exit code 0) ends the whole run.
    """

    name: str
    command: Sequence[str]
    fds: tuple[int, ...] = ()
    leads: bool = False
    process: subprocess.Popen[bytes] | None = None
    pidfd: int = -1
    deaths: deque[float] = field(default_factory=deque)
    restart_at: float | None = None


class Supervisor:
    """Keeps a few children running until a signal, an orderly end, or more deaths than the policy allows."""

    def __init__(
        self,
        children: Sequence[Child],
        policy: RestartPolicy = RestartPolicy(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._children = list(children)
        self._policy = policy
        self._clock = clock
        self._selector = selectors.DefaultSelector()
        self._stop = False

    def run(self) -> int:
        """Run until the end; the exit code of `vigie run`. Call it in the main thread."""
        wake_read, wake_write = socket.socketpair()
        wake_write.setblocking(False)
        self._selector.register(wake_read, selectors.EVENT_READ, None)
        before = [(s, signal.signal(s, self._on_signal)) for s in (signal.SIGTERM, signal.SIGINT)]
        wakeup = signal.set_wakeup_fd(wake_write.fileno())
        try:
            for child in self._children:
                self._start(child)
            return self._watch()
        finally:
            for child in reversed(self._children):
                self._end(child)
            signal.set_wakeup_fd(wakeup)
            for number, handler in before:
                signal.signal(number, handler)
            self._selector.close()
            wake_read.close()
            wake_write.close()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._stop = True

    def _watch(self) -> int:
        while not self._stop:
            for key, _ in self._selector.select(self._timeout()):
                if key.data is None:
                    key.fileobj.recv(64)  # type: ignore[union-attr]  # the wake-up socket
                    continue
                code = self._on_exit(key.data)
                if code is not None:
                    return code
            for child in self._children:
                if child.restart_at is not None and child.restart_at <= self._clock():
                    self._start(child)
        return 0

    def _timeout(self) -> float | None:
        due = [child.restart_at for child in self._children if child.restart_at is not None]
        return max(0.0, min(due) - self._clock()) if due else None

    def _start(self, child: Child) -> None:
        child.restart_at = None
        # A session of its own: Ctrl-C must reach the supervisor alone, which then stops its children in order.
        child.process = subprocess.Popen(
            child.command, pass_fds=child.fds, stdin=subprocess.DEVNULL, start_new_session=True
        )
        child.pidfd = os.pidfd_open(child.process.pid)
        self._selector.register(child.pidfd, selectors.EVENT_READ, child)
        log.info("child=%s event=started pid=%d", child.name, child.process.pid)

    def _reap(self, child: Child) -> int:
        assert child.process is not None  # noqa: S101 - only started children have a pidfd
        self._selector.unregister(child.pidfd)
        os.close(child.pidfd)
        code = child.process.wait()
        child.process = None
        return code

    def _on_exit(self, child: Child) -> int | None:
        """What a child's end means: the exit code of the whole run, or None to go on."""
        code = self._reap(child)
        if code == 0 and child.leads:
            log.info("child=%s event=finished", child.name)
            return 0
        now = self._clock()
        child.deaths.append(now)
        while child.deaths and child.deaths[0] < now - self._policy.window_s:
            child.deaths.popleft()
        if code in _HOPELESS:
            log.error("child=%s event=refused code=%d hint=its_message_stands_above", child.name, code)
            return code
        if len(child.deaths) > self._policy.max_restarts:
            log.error("child=%s event=given_up code=%d deaths=%d", child.name, code, len(child.deaths))
            return 1
        pause = min(self._policy.backoff_max_s, self._policy.backoff_min_s * 2 ** (len(child.deaths) - 1))
        pause *= 1 + random.random() / 2  # noqa: S311 - jitter
        child.restart_at = now + pause
        log.warning("child=%s event=died code=%d restart_in_s=%.1f", child.name, code, pause)
        return None

    def _end(self, child: Child) -> None:
        child.restart_at = None
        if child.process is None:
            return
        child.process.terminate()
        try:
            child.process.wait(self._policy.stop_s)
        except subprocess.TimeoutExpired:
            log.warning("child=%s event=killed reason=still_running after_s=%.0f", child.name, self._policy.stop_s)
            child.process.kill()
        code = self._reap(child)
        log.info("child=%s event=stopped code=%d", child.name, code)


def agent_children(
    sense_end: socket.socket, relay_end: socket.socket, arguments: Sequence[str], python: str = sys.executable
) -> list[Child]:
    """Relay and sense, in the order in which they start.

    Args:
        sense_end: Sense's end of the pipe.
        relay_end: Relay's end of the pipe.
        arguments: Options that both get, such as `--config`.
        python: Interpreter to run them with.
    """

    def child(name: str, end: socket.socket, *, leads: bool) -> Child:
        fd = end.fileno()
        command = [python, "-m", "agent", name, "--pipe-fd", str(fd), *arguments]
        return Child(name, command, (fd,), leads)

    return [child("relay", relay_end, leads=False), child("sense", sense_end, leads=True)]


def die_with_parent() -> None:
    """Ask the kernel to end this process when its parent is gone, so that `kill -9` of `vigie run` leaves nothing."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def never_dump_core() -> None:
    """Ask the kernel for no core dump of this process, whatever handler there is: its memory holds pictures and keys.

    A limit of zero is not enough, since a handler behind a pipe gets the memory all the same (man 5 core).
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0)


def begin_anew(keep: int | None = None) -> NoReturn:
    """Run the same command anew in this process, so that nobody who watches it counts a death.

    Args:
        keep: A file descriptor that goes on; all others above the standard ones are closed.
    """
    for number in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
        with contextlib.suppress(OSError):  # the one that listed them is gone
            if number > 2 and number != keep:
                os.set_inheritable(number, False)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - our own command line
