"""All subjects at once, each in a thread of its own that has only so much time."""

from __future__ import annotations

import importlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from agent.device.doctor.check import Check, Level, Patient
from agent.device.doctor.config import unreadable
from agent.relay.local import LocalError, LocalStatus, ask
from agent.settings import Settings, SettingsError, load

log = logging.getLogger(__name__)

#: In the order of the screen: from the power supply to what the broker got.
SUBJECTS = {
    "config": "config",
    "agent": "running",
    "units": "units",
    "hardware": "hardware",
    "disk": "disk",
    "clock": "clock",
    "camera": "camera",
    "microphone": "microphone",
    "models": "models",
    "policy": "policy",
    "certificate": "certificate",
    "broker": "broker",
    "outbox": "outbox",
    "audit": "audit",
    "updates": "updates",
}
#: Short names that are understood too.
ALIASES = {"mic": "microphone", "model": "models", "cameras": "camera", "cert": "certificate"}
#: When all must be over, seconds.
LIMIT_S = 9.0
"""Each subject bounds itself below this; what hangs in a driver all the same is left behind."""


def load_settings(config: Path | None) -> Settings | list[Check]:
    """The settings, or what is wrong with them."""
    try:
        return load(config)
    except SettingsError as error:
        return [Check("config", *finding) for finding in unreadable(error)]


def patient(settings: Settings, root: Path = Path("/")) -> Patient:
    """The device, and its agent if it runs."""
    running: LocalStatus | None = None
    unasked = ""
    try:
        running = ask(settings.pipe.status_socket)
    except LocalError as error:
        unasked = str(error.strerror).partition(";")[0]
        if isinstance(error.__cause__, PermissionError):
            unasked = f"{settings.pipe.status_socket}: this user may not ask it: sudo vigie doctor"
    return Patient(settings, running, unasked, root)


def examine(case: Patient, subjects: Iterable[str] = SUBJECTS, limit_s: float = LIMIT_S) -> list[Check]:
    """What was found, in the order of the subjects.

    Args:
        case: The device.
        subjects: Which ones.
        limit_s: When all must be over; what is not by then is told as a failure.
    """
    jobs = [_Job(subject, case) for subject in SUBJECTS if subject in set(subjects)]
    end = time.monotonic() + limit_s
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(max(0.0, end - time.monotonic()))
    return [check for job in jobs for check in job.found(limit_s)]


class _Job(threading.Thread):
    """One subject, looked at."""

    def __init__(self, subject: str, case: Patient) -> None:
        super().__init__(name=f"doctor:{subject}", daemon=True)
        self._subject = subject
        self._case = case
        self._found: list[Check] | None = None

    def run(self) -> None:
        found: list[Check] = []
        try:
            module = importlib.import_module(f"agent.device.doctor.{SUBJECTS[self._subject]}")
            look: Callable[[Patient], Iterable[Sequence[object]]] = module.examine
            found.extend(Check(self._subject, *finding) for finding in look(self._case))  # type: ignore[arg-type]
        except Exception as error:
            # One subject that breaks must not hide the others.
            log.debug("event=fault subject=%s", self._subject, exc_info=error)
            what = f"this check broke: {type(error).__name__}: {error}"
            found.append(Check(self._subject, "", Level.FAIL, what, "send the maker the file of: vigie logs bundle"))
        self._found = found

    def found(self, limit_s: float) -> list[Check]:
        """What was found; that it hangs, where it is not over."""
        if self._found is None:
            what = f"gave no answer within {limit_s:.0f} s: a driver or a server hangs"
            fix = f"ask it alone: vigie doctor --only {self._subject}; then restart the device"
            return [Check(self._subject, "", Level.FAIL, what, fix)]
        return self._found


def worst(checks: Iterable[Check]) -> Level:
    """The worst of them; of none, that all is well."""
    return max((check.level for check in checks), default=Level.OK)
