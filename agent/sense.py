"""The sensing process: cameras, microphone and models in; 32-byte observations out. No network, no disk.

One loop: wait for any camera's newest frame or the microphone's next half second, detect over all cameras at once, let
the behaviours look and listen, join what they tell, send what changed. Every few seconds it says how it is. What relay
may ask of it is the closed `Control` set.
"""

from __future__ import annotations

import datetime as dt
import logging
import os
import random
import select
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from types import FrameType

from agent import pipe
from agent.behaviours.episode import EpisodeChange
from agent.behaviours.fusion import Fusion, watched_joints
from agent.behaviours.listen import Listening
from agent.behaviours.registry import needs
from agent.behaviours.watch import Watch
from agent.capture.camera import Camera
from agent.capture.frame import Frame, FrameSource
from agent.capture.microphone import Microphone, open_sound
from agent.capture.open import open_source
from agent.command import Refused
from agent.contract import (
    MAX_AGE_MS,
    MAX_ONSET_AGE,
    MAX_SLOTS,
    NO_CAMERA,
    NO_ZONE,
    AnyControl,
    CameraState,
    Configure,
    ContractError,
    ControlCode,
    Detectors,
    DetectorState,
    Kind,
    LogLevel,
    MicrophoneState,
    Observation,
    OnsetError,
    Pause,
    Phase,
    RateClass,
    ReplyCode,
    Restart,
    Resume,
    Selftest,
    SenseState,
    parse_control,
)
from agent.desired import with_wanted
from agent.inference.backend import InferenceError
from agent.inference.registry import SoundModel
from agent.notify import allow, notify, trip
from agent.perception.detect import open_detector, selftest
from agent.perception.hearing import Ears, Hearing, Room
from agent.perception.patch import PatchChecker, open_checker
from agent.perception.scene import Detections, Detector, Need
from agent.perception.tag import open_tagger
from agent.policy import Policy, local_day
from agent.settings import CameraSettings, MicrophoneSettings, RuleSettings, Settings, SettingsError, mask_url
from agent.supervise import AGAIN
from agent.trust import TrustFile, check_desired

log = logging.getLogger(__name__)

HEALTH_INTERVAL_S = 5.0
#: Observations kept while relay does not read; the oldest goes first.
BACKLOG = 256
#: Hearings that wait for the loop; the oldest goes first.
_HEARINGS = 8
#: Longest wait for a frame, so that control messages and health never wait longer.
TICK_S = 0.25
#: Time to load a model on a cold device, seconds.
LOAD_S = 120.0
#: Time for a device to close behind the privacy shutter, seconds; a process that ends closes it for certain.
SHUTTER_S = 8.0
#: A call of a camera or microphone that takes so long never returns: longer than V4L2 (10 s) or RTSP wait for a
#: picture, and short enough for the watchdog to end the process within its time; seconds.
STUCK_S = 20.0
#: Exit code of a process that must be replaced, since it cannot open or close a device any more.
_SPENT = 3


class SenseError(RuntimeError):
    """Sense cannot or must not run here; the text says why and what to do."""


def reaches_outside() -> bool:
    """Whether this process has a route out of the machine.

    A datagram socket that is connected sends nothing, but the kernel refuses it where there is no route. The
    addresses are for documentation only (RFC 5737, RFC 3849).
    """
    for family, address in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((address, 9))
        except OSError:
            continue
        return True
    return False


class Outlet:
    """Sense's end of the pipe: turns episode changes into observations and keeps a short backlog."""

    def __init__(
        self,
        connect: Callable[[], socket.socket],
        connection: socket.socket | None,
        zones: Sequence[str],
        clock: Callable[[], float],
    ) -> None:
        self._connect = connect
        self._connection = connection
        self._zones = {name: index for index, name in enumerate(zones)}
        self._clock = clock
        self._backlog: deque[tuple[Observation, float, float | None]] = deque(maxlen=BACKLOG)
        self._slots: dict[tuple[int, int, str | None], int] = {}
        self._retry_at = 0.0
        self._backoff_s = 0.5
        self.dropped = 0

    def episode(self, camera: int, change: EpisodeChange) -> None:
        """Queue one step of an episode; its slot is free again once it has ended.

        Args:
            camera: Index of the camera, `NO_CAMERA` for the microphone.
            change: The step.
        """
        key = (camera, change.type, change.zone)
        slot = self._slots.get(key)
        if slot is None:
            if change.phase is Phase.ENDED:
                return
            slot = next((s for s in range(MAX_SLOTS) if s not in self._slots.values()), None)
            if slot is None:
                self.dropped += 1
                return
            self._slots[key] = slot
        if change.phase is Phase.ENDED:
            del self._slots[key]
        observation = Observation(
            Kind.EPISODE,
            type=change.type,
            phase=change.phase,
            zone=NO_ZONE if change.zone is None else self._zones[change.zone],
            camera=camera,
            slot=slot,
            level=change.level,
            variant=change.variant,
            confidence=change.confidence,
            count=change.count,
            evidence=change.evidence,
            onset_error=_onset_error(change),
        )
        self._queue(observation, change.time, change.onset if observation.onset_error else None)

    def tell(self, observation: Observation) -> None:
        """Queue a health observation or a reply."""
        self._queue(observation, self._clock(), None)

    def _queue(self, observation: Observation, moment: float, onset: float | None) -> None:
        if len(self._backlog) == BACKLOG:
            self.dropped += 1
        self._backlog.append((observation, moment, onset))

    def flush(self) -> None:
        """Send as much of the backlog as relay takes now, oldest first; connect again when it is due."""
        if self._connection is None and not self._reconnect():
            return
        assert self._connection is not None  # noqa: S101 - _reconnect has just made it
        while self._backlog:
            observation, moment, onset = self._backlog[0]
            if observation.kind is Kind.EPISODE:
                age_ms = round(1000 * max(0.0, self._clock() - moment))
                observation = replace(observation, age_ms=min(age_ms, MAX_AGE_MS))
            if onset is not None:
                onset_age = round(10_000 * max(0.0, self._clock() - onset))
                observation = replace(observation, onset_age=min(onset_age, MAX_ONSET_AGE))
            try:
                if not pipe.send(self._connection, observation):
                    return
            except OSError:
                self._lose()
                return
            self._backlog.popleft()

    def name_zones(self, zones: Sequence[str]) -> None:
        """What a zone is called from now on; no episode is open."""
        self._zones = {name: index for index, name in enumerate(zones)}

    def wait(self, seconds: float) -> None:
        """Until relay says something, or so long."""
        if self._connection is None:
            time.sleep(seconds)
        else:
            select.select([self._connection], [], [], seconds)

    def control(self) -> bytes | None:
        """The next raw control message, if there is one."""
        if self._connection is None:
            return None
        message = pipe.receive_control(self._connection)
        if message == b"":
            self._lose()
            return None
        return message

    def _reconnect(self) -> bool:
        if self._clock() < self._retry_at:
            return False
        try:
            self._connection = self._connect()
        except OSError as error:
            self._retry_at = self._clock() + self._backoff_s * (1 + random.random() / 2)  # noqa: S311 - jitter
            self._backoff_s = min(2 * self._backoff_s, 15.0)
            log.warning("event=relay_unreachable reason=%r", str(error))
            return False
        self._backoff_s = 0.5
        return True

    def _lose(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
            log.warning("event=relay_gone backlog=%d", len(self._backlog))

    def close(self) -> None:
        """Close the pipe."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _onset_error(change: EpisodeChange) -> OnsetError:
    """The bound of an onset that is known well enough to be told, else `NONE`."""
    if change.onset is None:
        return OnsetError.NONE
    return next((e for e in OnsetError if e and change.onset_error_s <= e / 1000), OnsetError.NONE)


class Sense:
    """The sensing loop over one to four cameras and a microphone."""

    def __init__(
        self,
        settings: Settings,
        policy: Policy,
        outlet: Outlet,
        *,
        orders: Orders | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], dt.datetime] = lambda: dt.datetime.now().astimezone(),
    ) -> None:
        """Open the detector; the sources open when it runs.

        Args:
            settings: The configuration, with that of a manager if there is one.
            policy: What may be detected.
            outlet: The pipe.
            orders: What relay has said before; None: nothing, and nobody may change the configuration.
            clock: Monotonic seconds.
            wall: Aware wall time.

        Raises:
            SenseError: nothing is configured to watch.
        """
        if not settings.cameras and settings.microphone.source is None:
            raise SenseError("no [[camera]] and no microphone is configured: vigie config init writes an example")
        self._settings = settings
        self._policy = policy
        self._outlet = outlet
        self._clock = clock
        self._wall = wall
        self._wake = threading.Event()
        self._stop = False
        self._again = False
        self._orders = orders or Orders()
        self._paused = self._orders.paused
        self._off = frozenset(self._orders.off)
        self._closing_until: float | None = None
        """Until when the devices must be closed; None while no pause waits for that."""
        self._stuck = self._tripped = False
        self._started = clock()
        self._analysed = 0
        self._analysed_then = 0
        self._health_at = clock()
        self._told_there: list[tuple[bool, bool]] = []
        self._rated_at = clock()
        self._last_rate = RateClass.STOPPED
        self._day = dt.date.min
        self._plan: object = None
        self._watches: list[Watch] = []
        self._sound_rules: list[RuleSettings] = []
        self._listening: Listening | None = None
        self._fusion = Fusion([])
        self._hearings: deque[Hearing] = deque(maxlen=_HEARINGS)

        simulated: dict[int, Detector] = {}
        self.cameras = [self._camera(i, c, simulated) for i, c in enumerate(settings.cameras)]
        detector, self.detector_state, reasons = open_detector(settings.inference)
        for reason in reasons:
            log.warning("event=detector reason=%r", reason)
        self._checker: PatchChecker | None = None
        if Need.CHANGE in needs(rule for camera in settings.cameras for rule in camera.rules):
            self._checker, reasons = open_checker(settings.inference)
            for reason in reasons:
                log.warning("event=patch_checker reason=%r", reason)
        self._detector: Detector = _Routed(detector, simulated)
        self.microphone = self._open_microphone(settings.microphone)

    def _open_microphone(self, settings: MicrophoneSettings) -> Microphone | None:
        """The microphone with whoever listens to it; None where nothing could be done with what it hears."""
        self._sound_model: SoundModel | None = None
        if settings.source is None:
            return None
        if not settings.rules:
            log.warning("event=microphone_unused reason='no [[microphone.rule]]: it stays closed'")
            return None
        try:
            tagger, self._sound_model, reasons = open_tagger(self._settings.inference)
        except InferenceError as error:
            log.error("event=microphone_unused reason=%r", f"no network names sounds: {error}")  # noqa: TRY400
            return None
        for reason in reasons:
            log.warning("event=tagger reason=%r", reason)
        source, channels, loop = settings.source, settings.channels, settings.loop
        ears = Ears(tagger, channels, Room(settings.gain_db, settings.floor_dbfs), self._on_hearing)
        return Microphone(lambda: open_sound(source, channels=channels, loop=loop), ears)

    def _on_hearing(self, hearing: Hearing) -> None:
        """In the microphone's thread."""
        self._hearings.append(hearing)
        self._wake.set()

    def _camera(self, index: int, camera: CameraSettings, simulated: dict[int, Detector]) -> Camera:
        def opener() -> FrameSource:
            if camera.source.startswith("sim:"):
                from agent.simulate.source import open_sim

                source, detector = open_sim(camera.source, replay=False)
                if detector is not None:
                    simulated[index] = detector
                return source
            return open_source(camera.source, fps=camera.fps, loop=camera.loop, replay=False)

        blank = camera.source.startswith("sim:")  # some scenarios have no pictures, and none has a lens
        return Camera(camera.name, opener, fps=camera.fps, wake=self._wake, look=not blank)

    def run(self) -> int:
        """Sense until a signal or the end of all sources; the exit code of the process."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        self._tell_health(SenseState.STARTING)
        self._renew_watches()  # before the devices open: what nothing may watch or hear stays closed
        for source in self._sources():
            if self._paused:
                source.pause()
            source.start()
        notify("READY=1")
        allow(None)
        log.info("event=ready detector=%s cameras=%d", self.detector_state.name.lower(), len(self.cameras))
        try:
            while not self._stop and not self._all_ended() and not self._spent():
                self.step()
        finally:
            self._close_episodes()
            for source in self._sources():
                source.close()
            self._tell_health(SenseState.STOPPING)
            self._outlet.close()
            self._log_summary()
        if self._again:
            return AGAIN
        return _SPENT if self._spent() else 0

    def _sources(self) -> list[Camera | Microphone]:
        return [*self.cameras, *([self.microphone] if self.microphone else [])]

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._stop = True
        self._wake.set()

    def _spent(self) -> bool:
        return self._stuck or any(source.spent for source in self._sources())

    def _all_ended(self) -> bool:
        if not self.cameras:
            return self.microphone is None or self.microphone.state is MicrophoneState.ENDED
        return all(camera.state is CameraState.ENDED for camera in self.cameras)

    def step(self) -> None:
        """One turn of the loop: frames if there are any, control messages, health when it is due."""
        self._wake.wait(TICK_S)
        self._wake.clear()
        self._renew_watches()
        frames = [(i, frame) for i, camera in enumerate(self.cameras) if (frame := camera.take()) is not None]
        if frames and not self._paused:
            self._look(frames)
        for index, camera in enumerate(self.cameras):
            if camera.state in {CameraState.LOST, CameraState.ENDED}:
                self._report(index, self._watches[index].close(self._clock()))
        self._listen()
        for index, change in self._fusion.update(self._clock()):
            self._outlet.episode(index, change)
        while (message := self._outlet.control()) is not None:
            self.obey(message)
        self._see_closed()
        self._see_stuck()
        if self._clock() >= self._health_at or self._there() != self._told_there:
            self._tell_health(self._state())
            if not self._tripped:
                notify("WATCHDOG=1")
        self._outlet.flush()

    def _look(self, frames: list[tuple[int, Frame]]) -> None:
        detections = self._detector.detect(frames)
        for (index, frame), found in zip(frames, detections, strict=True):
            self._report(index, self._watches[index].update(frame, found))
        self._analysed += len(frames)

    def _listen(self) -> None:
        if self.microphone is None or self._listening is None:
            self._hearings.clear()
            return
        while self._hearings:
            hearing = self._hearings.popleft()
            if not self._paused:
                self._report(NO_CAMERA, self._listening.update(hearing))
        if self.microphone.state in {MicrophoneState.LOST, MicrophoneState.ENDED}:
            self._report(NO_CAMERA, self._listening.close(self._clock()))

    def _report(self, camera: int, changes: Sequence[EpisodeChange]) -> None:
        for change in changes:
            self._outlet.episode(camera, self._as_permitted(change))
            if camera == NO_CAMERA:
                self._fusion.heard(change)
            else:
                self._fusion.seen(camera, change)

    def _as_permitted(self, change: EpisodeChange) -> EpisodeChange:
        """Without its onset, unless the policy wants that."""
        if change.onset is None:
            return change
        entry = self._policy.entry(change.type, change.zone, self._day)
        return replace(change, onset=None) if isinstance(entry, str) or not entry.onset else change

    def _renew_watches(self) -> None:
        """Ask the policy again on every new day, since a permission has a last day."""
        today = local_day(self._wall())
        if today == self._day:
            return
        self._day = today
        rules = []
        for camera in self._settings.cameras:
            allowed, refused = self._policy.permitted(camera, today)
            for reason in refused:
                log.warning("event=detector_refused camera=%s reason=%r", camera.name, reason)
            rules.append([rule for rule in allowed if self._is_on(rule.type, rule.zone)])
        sound_rules, refused = self._policy.permitted(self._settings.microphone, today)
        sound_rules = [rule for rule in sound_rules if self._is_on(rule.type, None)]
        watched, missing = watched_joints(self._settings, self._policy, today)
        watched = [w for w in watched if self._is_on(w.joint.incident.label, w.zone)]
        for reason in [*refused, *missing]:
            log.warning("event=detector_refused sensor=microphone reason=%r", reason)
        plan = (rules, sound_rules, [(w.joint, w.camera, w.zone) for w in watched])
        if plan == self._plan:
            return
        self._close_episodes()
        self._plan, self._sound_rules = plan, sound_rules
        self._watches = [
            Watch(c, r, self._wall, self._checker) for c, r in zip(self._settings.cameras, rules, strict=True)
        ]
        self._fusion = Fusion(watched, self._wall)
        self._renew_listening()

    def _renew_listening(self) -> None:
        """What may be listened for today; a microphone that nothing may listen to is closed."""
        if self.microphone is None or self._sound_model is None:
            return
        listening = Listening(self._sound_rules, self._sound_model, self._wall)
        for reason in listening.refused:
            log.warning("event=detector_refused sensor=microphone reason=%r", reason)
        self._listening = listening if len(listening) else None
        if self._listening is None:
            self.microphone.pause()
        elif not self._paused:
            self.microphone.resume()

    def _close_episodes(self) -> None:
        for index, watch in enumerate(self._watches):
            self._report(index, watch.close(self._clock()))
        if self._listening is not None:
            self._report(NO_CAMERA, self._listening.close(self._clock()))
        for index, change in self._fusion.close(self._clock()):
            self._outlet.episode(index, change)
        self._outlet.flush()

    def obey(self, message: bytes) -> None:
        """Do what relay asks for, if it is of the closed set."""
        try:
            control = parse_control(message)
        except ContractError as error:
            log.warning("event=control_refused reason=%r", str(error))
            return
        code = ControlCode[control.control.upper()]
        if isinstance(control, Pause):
            self._pause(True)
            self._closing_until = self._clock() + SHUTTER_S
        elif isinstance(control, Selftest):
            self._reply(code, ReplyCode.DONE if selftest(self._detector) else ReplyCode.FAILED)
        elif isinstance(control, Configure):
            self._configure(control)
        else:
            self._do(control)
            self._reply(code, ReplyCode.DONE)

    def _do(self, control: AnyControl) -> None:
        """Obey what cannot fail."""
        if isinstance(control, Resume):
            self._pause(False)
        elif isinstance(control, Detectors):
            self._off = frozenset((detector.type, detector.zone) for detector in control.off)
            self._day = dt.date.min  # so that the watches are renewed in the next turn
        elif isinstance(control, LogLevel):
            logging.getLogger().setLevel(control.level.upper())
        elif isinstance(control, Restart):
            self._begin_anew()

    def _begin_anew(self) -> None:
        self._close_episodes()
        self._again = self._stop = True

    def _configure(self, control: Configure) -> None:
        """Take another document, if it is one that this process would start with: then it starts with it."""
        if control.document == self._orders.document:
            self._reply(ControlCode.CONFIGURE, ReplyCode.DONE)
            return
        try:
            check_rules(self._orders.configured(control.document))
        except (Refused, SettingsError) as error:
            log.warning("event=document_refused reason=%r", str(error))
            self._reply(ControlCode.CONFIGURE, ReplyCode.REFUSED)
            return
        self._begin_anew()  # what it has seen is told before the reply, and so of the zones before
        self._reply(ControlCode.CONFIGURE, ReplyCode.DONE)

    def _is_on(self, label: str, zone: str | None) -> bool:
        """Whether no manager has switched a detector off."""
        return (label, None) not in self._off and (label, zone) not in self._off

    def _pause(self, paused: bool) -> None:
        """The privacy shutter: the devices themselves are closed, not only ignored."""
        if paused and not self._paused:
            self._close_episodes()
        self._paused, self._closing_until = paused, None
        for source in self._sources():
            if paused:
                source.pause()
            elif source is not self.microphone or self._listening is not None:
                source.resume()
        self._tell_health(self._state())

    def _see_closed(self) -> None:
        """Answer a pause when every device is closed, and end the process where one does not close."""
        if self._closing_until is None:
            return
        if all(source.is_paused for source in self._sources()):
            self._closing_until = None
            self._tell_health(self._state())
            self._reply(ControlCode.PAUSE, ReplyCode.DONE)
        elif self._clock() > self._closing_until:
            log.error("event=shutter_stuck hint=the_process_ends_so_that_the_device_closes")
            self._stuck = self._stop = True

    def _see_stuck(self) -> None:
        """Have this process replaced where a thread hangs in a device: the loop goes on without it and sees nothing."""
        stuck = next((source for source in self._sources() if source.blocked_s > STUCK_S), None)
        if stuck is None or self._tripped:
            return
        log.error("event=stuck sensor=%s after_s=%.0f hint=the_process_is_replaced", stuck.name, stuck.blocked_s)
        self._tripped = True
        if not trip():
            self._stuck = self._stop = True

    def _reply(self, control: ControlCode, reply: ReplyCode) -> None:
        self._outlet.tell(Observation(Kind.REPLY, control=control, reply=reply))

    def _state(self) -> SenseState:
        if self._paused:
            return SenseState.PAUSED
        cameras_live = all(c.state is CameraState.LIVE for c in self.cameras)
        wanted = bool(self._settings.microphone.source and self._sound_rules)
        states = {MicrophoneState.LIVE, MicrophoneState.ENDED}
        hears = not wanted or (self.microphone is not None and self.microphone.state in states)
        if cameras_live and hears and self.detector_state is DetectorState.MODEL:
            return SenseState.READY
        return SenseState.DEGRADED

    def _tell_health(self, state: SenseState) -> None:
        states = [camera.state for camera in self.cameras] + [CameraState.NONE] * (4 - len(self.cameras))
        self._outlet.tell(
            Observation(
                Kind.HEALTH,
                sense=state,
                cameras=(states[0], states[1], states[2], states[3]),
                microphone=self.microphone.state if self.microphone else MicrophoneState.NONE,
                detector=self.detector_state,
                rate=self._rate(),
            )
        )
        self._told_there = self._there()
        self._health_at = self._clock() + HEALTH_INTERVAL_S
        self._outlet.flush()

    def _there(self) -> list[tuple[bool, bool]]:
        """Which sources are live and which are gone: told at once, not with the next health."""
        return [(source.is_live, source.is_lost) for source in self._sources()]

    def _rate(self) -> RateClass:
        if not self._settings.cameras:
            return RateClass.NONE
        elapsed = self._clock() - self._rated_at
        if elapsed < HEALTH_INTERVAL_S / 2:
            return self._last_rate  # too short a time to tell
        wanted = sum(camera.fps for camera in self._settings.cameras) * elapsed
        self._last_rate = self._class_of((self._analysed - self._analysed_then) / wanted)
        self._analysed_then, self._rated_at = self._analysed, self._clock()
        return self._last_rate

    @staticmethod
    def _class_of(share: float) -> RateClass:
        if share == 0:
            return RateClass.STOPPED
        if share < 0.5:
            return RateClass.LOW
        return RateClass.REDUCED if share < 0.9 else RateClass.FULL

    def _log_summary(self) -> None:
        elapsed = max(1e-9, self._clock() - self._started)
        log.info(
            "event=stopped frames=%d frames_per_s=%.1f camera_drops=%d pipe_drops=%d seconds=%.1f",
            self._analysed,
            self._analysed / elapsed,
            sum(camera.drops for camera in self.cameras),
            self._outlet.dropped,
            elapsed,
        )


class _Routed:
    """Sends the frames of cameras that simulate detections to their own detector, all others to the real one."""

    def __init__(self, real: Detector, simulated: dict[int, Detector]) -> None:
        self._real = real
        self._simulated = simulated

    def detect(self, frames: Sequence[tuple[int, Frame]]) -> list[Detections]:
        """The objects of each frame, in the order of `frames`."""
        if not self._simulated:
            return self._real.detect(frames)
        real = [(i, frame) for i, frame in frames if i not in self._simulated]
        found = iter(self._real.detect(real) if real else [])
        return [
            self._simulated[i].detect([(i, frame)])[0] if i in self._simulated else next(found) for i, frame in frames
        ]


def check_rules(settings: Settings) -> None:
    """Whether the behaviours can run by these settings.

    Raises:
        SettingsError: a rule has a parameter that cannot be.
    """
    for camera in settings.cameras:
        Watch(camera)
    watched_joints(settings)


@dataclass(slots=True)
class Orders:
    """What relay says to a sense that starts.

    Attributes:
        own: Settings of the device's own files.
        trust: Who may sign a document.
        document: Settings of a manager, signed; None: the own ones alone.
        off: Types, and zones or None for all, that are switched off.
        paused: Whether the privacy shutter is closed.
    """

    own: Settings = field(default_factory=Settings)
    trust: TrustFile | None = None
    document: str | None = None
    off: tuple[tuple[str, str | None], ...] = ()
    paused: bool = False

    def configured(self, document: str | None) -> Settings:
        """The settings with a document, whose signature is checked here: relay's word for it does not count.

        Raises:
            Refused: nobody that is trusted signed it for this device.
            SettingsError: it has what a manager may not change, or what cannot be.
        """
        if document is None:
            return self.own
        if self.trust is None:
            raise Refused("unknown_key", "nobody is trusted")
        device = self.own.device
        found = check_desired(document.encode(), f"{device.site}/{device.name}", self.trust.current(), None)
        return with_wanted(self.own, found.settings)


class _Waiting:
    """A sense that has not begun: every device is closed until relay says what to do."""

    def __init__(self, outlet: Outlet, own: Settings, trust: TrustFile) -> None:
        self._outlet = outlet
        self.orders = Orders(own, trust)
        self.later: list[bytes] = []
        self._ready = False

    def until_told(self) -> None:
        """Wait until relay has said by what to sense, and then pause or resume."""
        self._outlet.tell(Observation(Kind.HEALTH, sense=SenseState.STARTING))
        allow(LOAD_S)
        notify("READY=1")
        self._ready = False
        while not self._ready:
            self._outlet.flush()
            while (message := self._outlet.control()) is not None:  # to the last: a pause may stand behind a resume
                self._hear(message)
            if not self._ready:
                self._outlet.wait(TICK_S)
                notify("WATCHDOG=1")

    def _hear(self, message: bytes) -> None:
        try:
            control = parse_control(message)
        except ContractError as error:
            log.warning("event=control_refused reason=%r", str(error))
            return
        code = ControlCode[control.control.upper()]
        if isinstance(control, Configure):
            self.orders.document = control.document
            return  # it is answered when it is known to work
        if isinstance(control, Detectors):
            self.orders.off = tuple((detector.type, detector.zone) for detector in control.off)
        elif isinstance(control, (Pause, Resume)):
            self.orders.paused = isinstance(control, Pause)
            self._ready = True
        elif isinstance(control, LogLevel):
            logging.getLogger().setLevel(control.level.upper())
        elif isinstance(control, Selftest):
            self.later.append(message)  # when a detector is open
            return
        self.answer(code, ReplyCode.DONE)

    def answer(self, control: ControlCode, reply: ReplyCode) -> None:
        """Answer relay."""
        self._outlet.tell(Observation(Kind.REPLY, control=control, reply=reply))
        self._outlet.flush()


def _begun(outlet: Outlet, own: Settings, policy: Policy, trust: TrustFile) -> Sense:
    """A sense that keeps relay's orders; a document with which it cannot be is refused, and others are waited for.

    Raises:
        SenseError, SettingsError, InferenceError: it cannot be without a document either.
    """
    waiting = _Waiting(outlet, own, trust)
    while True:
        waiting.until_told()
        document = waiting.orders.document
        try:
            settings = waiting.orders.configured(document)
            check_rules(settings)
            outlet.name_zones(settings.zone_names)
            sense = Sense(settings, policy, outlet, orders=waiting.orders)
        except (Refused, SettingsError, SenseError, InferenceError) as error:
            if document is None:
                raise
            log.error("event=document_refused reason=%r", str(error))  # noqa: TRY400 - the reason says it all
            waiting.answer(ControlCode.CONFIGURE, ReplyCode.REFUSED)
            continue
        waiting.answer(ControlCode.CONFIGURE, ReplyCode.DONE)
        for message in waiting.later:
            sense.obey(message)
        return sense


def sense_main(settings: Settings, policy: Policy, connection: socket.socket | None) -> int:
    """Run the sensing process.

    Args:
        settings: The configuration.
        policy: The policy, as sense itself has read it.
        connection: Inherited end of the pipe (`vigie run`); None as a service, which connects to relay by itself.

    Raises:
        SenseError: as a service, the outside can be reached from here; or nothing is configured.
    """
    if connection is None and reaches_outside():
        raise SenseError(
            "refusing to sense: this process has a route to the outside; "
            "start it by its unit (PrivateNetwork=yes), or use `vigie run` in development"
        )
    for camera in settings.cameras:
        log.info("event=camera name=%s source=%s", camera.name, mask_url(camera.source))

    def connect() -> socket.socket:
        client = pipe.connect(settings.pipe.socket)
        pipe.check_peer(client, frozenset({settings.pipe.socket.stat().st_uid}))
        return client

    log.info("event=starting pid=%d", os.getpid())
    trust = TrustFile(settings.fleet.trust_file, service=connection is None)
    outlet = Outlet(connect, connection, settings.zone_names, time.monotonic)
    return _begun(outlet, settings, policy, trust).run()
