"""What the doctor looks at, and what it says."""

from __future__ import annotations

import datetime as dt
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from agent.relay.local import LocalStatus
from agent.settings import Settings


class Level(IntEnum):
    """How bad it is; the worse the greater."""

    OK = 0
    WARN = 1
    FAIL = 2

    @property
    def label(self) -> str:
        """In the table and in JSON."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Check:
    """One finding.

    Attributes:
        subject: What was looked at, such as `camera`.
        line: Which part of it, such as the camera's name.
        level: How bad it is.
        what: What was found.
        fix: What to do; empty where nothing is to be done.
    """

    subject: str
    line: str
    level: Level
    what: str
    fix: str = ""


#: One subject's function gives these: line, level, what, fix.
Finding = tuple[str, Level, str, str]
Findings = Iterable[Finding]


def ok(line: str, what: str) -> Finding:
    """All is well."""
    return line, Level.OK, what, ""


def warn(line: str, what: str, fix: str) -> Finding:
    """It works, and somebody should look after it."""
    return line, Level.WARN, what, fix


def fail(line: str, what: str, fix: str) -> Finding:
    """It does not work."""
    return line, Level.FAIL, what, fix


def run(command: Sequence[str], timeout_s: float = 3.0) -> str | None:
    """What a program of the system says; None where it is not there, fails, or takes too long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout_s)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


@dataclass(frozen=True)
class Patient:
    """The device, as the doctor finds it.

    Attributes:
        settings: Its configuration.
        running: What the running agent says of itself; None where none answers.
        unasked: Why it was not answered.
        root: Of the file system, for facts that the kernel and the system tell in files.
        command: Runs a program of the system.
        wall: Aware wall time.
    """

    settings: Settings
    running: LocalStatus | None = None
    unasked: str = ""
    root: Path = Path("/")
    command: Callable[[Sequence[str]], str | None] = run
    wall: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.timezone.utc)

    @property
    def held(self) -> LocalStatus | None:
        """What the running agent says, where its sense holds the devices, or keeps them closed; else None."""
        found = self.running
        if found is None or "sense" in found.status.reasons or found.sense in {"unknown", "stopping"}:
            return None
        return found


def is_there(path: Path) -> bool:
    """Whether a file exists; also where this user may not look, since somebody then keeps something there."""
    try:
        return path.exists()
    except PermissionError:
        return True


def text(path: Path) -> str:
    """A file's content without white space at its ends; empty where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip(" \t\n\0")
    except OSError:
        return ""
