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
#: Starts of sense in one trial from which on the configuration is what ends it.
STARTS = 4

_WELL = {CameraState.LIVE, CameraState.ENDED, CameraState.PAUSED}


def faults(health: Observation | None, settings: Settings) -> frozenset[str]:
    """What is wrong with a device, in words of its own.

    Args:
        health: What sense said last; None while it says nothing.
        settings: By which it runs.
    """
    if health is None:
        return frozenset({"sense"})
    found = {
        f"camera {camera.name}"
        for camera, state in zip(settings.cameras, health.cameras, strict=False)
        if state not in _WELL
    }
    if health.microphone in {MicrophoneState.LOST, MicrophoneState.CONNECTING}:
        found.add("microphone")
    if health.detector is not DetectorState.MODEL:
        found.add(f"detector {health.detector.name.lower()}")
    return frozenset(found)


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
        self._begin()

    def _begin(self) -> None:
        self._until = self._now() + self._configuration.settings.fleet.trial_s
        self._well_since = None

    def order(self) -> Configure:
        """By which document sense is to run."""
        return Configure(document=self._configuration.document)

    def take(self, payload: bytes, wall: dt.datetime | None, wrong: frozenset[str]) -> None:
        """Try a document; one that comes while another is on trial waits for its end.

        Args:
            payload: As it came.
            wall: Aware wall time; None while nobody knows it.
            wrong: What is wrong with the device at present.
        """
        if self._configuration.on_trial:
            self._waiting = payload
            return
        self._waiting = None
        if not payload:  # somebody has cleared the topic: that says nothing of what is wanted
            return
        told = self._configuration.reported()
        try:
            if self._configuration.take(payload, wall, wrong):
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

    def judge(self, health: Observation | None, wrong: frozenset[str], wall: dt.datetime | None) -> None:
        """Keep a document with which the device has done well, and take back one with which it has not.

        Args:
            health: What sense has said last since it runs by the document; None before that.
            wrong: What is wrong with the device at present.
            wall: As for `take`.
        """
        configuration = self._configuration
        if not configuration.on_trial:
            if self._waiting is not None:
                self.take(self._waiting, wall, wrong)
            return
        if health is not None and health.sense is SenseState.PAUSED:
            self._begin()
            return
        here = health is not None and health.sense in {SenseState.READY, SenseState.DEGRADED}
        if not (configuration.confirmed and here and wrong <= configuration.before):
            self._well_since = None
        elif self._well_since is None:
            self._well_since = self._now()
        settled = min(SETTLED_S, configuration.settings.fleet.trial_s / 4)
        if self._well_since is not None and self._now() - self._well_since >= settled:
            configuration.accept()
        elif self._now() >= self._until or self._starts >= STARTS:
            configuration.roll_back("worse" if here else "sense")
            self._ask_sense(self.order())
        else:
            return
        self._tell()
