"""The trial of a desired configuration: whether the device is as well with it as it was before.

A new document is kept when sense is back with it, every camera that gave pictures before (and still is configured)
gives them again, the microphone and the detector are no worse, and all that lasts for a moment. If that has not come
about within `fleet.trial_s`, or sense has begun anew again and again, what was before comes back. Behind a closed
privacy shutter nothing shows, so a trial lasts for as long as the device is paused.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable

from agent.contract import CameraState, Configure, DetectorState, MicrophoneState, Observation, ReplyCode, SenseState
from agent.relay.configuration import Configuration
from agent.settings import Settings

log = logging.getLogger(__name__)

#: For so long, or a quarter of the trial where that is shorter, the device must have done well, seconds.
SETTLED_S = 10.0
#: After so long a device that has said nothing of itself is tried all the same, seconds.
KNOWN_S = 60.0
#: Starts of sense in one trial from which on the configuration is what ends it.
STARTS = 4

_WELL = {CameraState.LIVE, CameraState.ENDED, CameraState.PAUSED}


def parts(health: Observation, settings: Settings) -> dict[str, bool | None]:
    """How each part of a device is: well or not, or None while nobody knows since it is being opened.

    Args:
        health: What sense says.
        settings: By which it runs.
    """
    found: dict[str, bool | None] = {
        f"camera {camera.name}": None if state is CameraState.CONNECTING else state in _WELL
        for camera, state in zip(settings.cameras, health.cameras, strict=False)
    }
    ear = health.microphone
    found["microphone"] = None if ear is MicrophoneState.CONNECTING else ear is not MicrophoneState.LOST
    found["detector"] = health.detector is DetectorState.MODEL
    return found


class Trial:
    """Takes documents, one at a time, and judges them."""

    def __init__(
        self,
        configuration: Configuration,
        ask_sense: Callable[[Configure], None],
        tell: Callable[[], None],
        now: Callable[[], float],
    ) -> None:
        """Set up; a trial that was interrupted goes on.

        Args:
            configuration: What is in force and on trial.
            ask_sense: Has sense run by a document.
            tell: Publishes what became of it.
            now: Monotonic seconds.
        """
        self._configuration = configuration
        self._ask_sense = ask_sense
        self._tell = tell
        self._now = now
        self._waiting: bytes | None = None
        self._starts = 0
        self._well_since: float | None = None
        self._until = 0.0
        self._now_as: dict[str, bool | None] = {}
        self._lately: dict[str, bool] = {}  # as it was when it was known last, so that a restart hides no fault
        self._known_by = now() + KNOWN_S
        self._begin()

    def _begin(self) -> None:
        self._until = self._now() + self._configuration.settings.fleet.trial_s
        self._well_since = None

    def order(self) -> Configure:
        """By which document sense is to run."""
        return Configure(document=self._configuration.document)

    def hear(self, health: Observation, settings: Settings) -> None:
        """Follow how the device is; the arguments are those of `parts`."""
        self._now_as = parts(health, settings)
        self._lately.update({part: well for part, well in self._now_as.items() if well is not None})

    def take(self, payload: bytes, wall: dt.datetime | None) -> None:
        """Try a document; one that comes while another is on trial, or nobody knows how the device is, waits.

        Args:
            payload: As it came.
            wall: Aware wall time; None while nobody knows it.
        """
        if self._configuration.on_trial or (not self._lately and self._now() < self._known_by):
            self._waiting = payload
            return
        self._waiting = None
        if not payload:  # somebody has cleared the topic: that says nothing of what is wanted
            return
        told = self._configuration.reported()
        try:
            faults = frozenset(part for part, well in self._lately.items() if not well)
            if self._configuration.take(payload, wall, faults):
                self._begin()
                self._starts = 0
                self._ask_sense(self.order())
        except OSError as error:
            log.error("event=configuration_not_kept reason=%r", str(error))  # noqa: TRY400 - the reason says it all
        if self._configuration.reported() != told:
            self._tell()

    def sense_starts(self) -> None:
        """Sense begins."""
        self._starts += 1

    def refused(self, reply: ReplyCode) -> None:
        """Sense does not take the document, and goes on by the one before."""
        log.warning("event=configuration_refused_by_sense reply=%s", reply.name.lower())
        if self._configuration.on_trial:
            self._configuration.reject()
        else:
            self._configuration.give_up()
        self._ask_sense(self.order())
        self._tell()

    def judge(self, health: Observation | None, wall: dt.datetime | None) -> None:
        """Keep a document with which the device has done well, and take back one with which it has not.

        Args:
            health: What sense has said last since it runs by the document; None before that, and while it is silent.
            wall: As for `take`.
        """
        configuration = self._configuration
        if not configuration.on_trial:
            if self._waiting is not None:
                self.take(self._waiting, wall)
            return
        if health is not None and health.sense is SenseState.PAUSED:
            self._begin()
            return
        here = health is not None and health.sense in {SenseState.READY, SenseState.DEGRADED}
        worse = {part for part, well in self._now_as.items() if not well} - configuration.before
        if not (configuration.confirmed and here) or worse:
            self._well_since = None
        elif self._well_since is None:
            self._well_since = self._now()
        settled = min(SETTLED_S, configuration.settings.fleet.trial_s / 4)
        if self._well_since is not None and self._now() - self._well_since >= settled:
            configuration.accept()
        elif (self._now() >= self._until and self._well_since is None) or self._starts >= STARTS:
            configuration.roll_back("worse" if here else "sense")
            self._ask_sense(self.order())
        else:
            return
        self._tell()
