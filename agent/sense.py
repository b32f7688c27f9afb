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
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
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
from agent.contract import (
    MAX_AGE_MS,
    MAX_ONSET_AGE,
    MAX_SLOTS,
    NO_CAMERA,
    NO_ZONE,
    CameraState,
    ContractError,
    ControlCode,
    DetectorState,
    Kind,
    MicrophoneState,
    Observation,
    OnsetError,
    Pause,
    Phase,
    RateClass,
    ReplyCode,
    Resume,
    SenseState,
    parse_control,
)
from agent.inference.backend import InferenceError
from agent.inference.registry import SoundModel
from agent.notify import notify
from agent.perception.detect import open_detector, selftest
from agent.perception.hearing import Ears, Hearing, Room
from agent.perception.patch import PatchChecker, open_checker
from agent.perception.scene import Detections, Detector, Need
from agent.perception.tag import open_tagger
from agent.policy import Policy, local_day
from agent.settings import CameraSettings, MicrophoneSettings, RuleSettings, Settings, mask_url

log = logging.getLogger(__name__)

HEALTH_INTERVAL_S = 5.0
#: Observations kept while relay does not read; the oldest goes first.
BACKLOG = 256
#: Hearings that wait for the loop; the oldest goes first.
_HEARINGS = 8
#: Longest wait for a frame, so that control messages and health never wait longer.
TICK_S = 0.25


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
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], dt.datetime] = lambda: dt.datetime.now().astimezone(),
    ) -> None:
        """Open the detector and the sources.

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
        self._paused = False
        self._started = clock()
        self._analysed = 0
        self._analysed_then = 0
        self._health_at = clock()
        self._told_lost: list[bool] = []
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
            source.start()
        notify("READY=1")
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
        return 3 if self._spent() else 0

    def _sources(self) -> list[Camera | Microphone]:
        return [*self.cameras, *([self.microphone] if self.microphone else [])]

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._stop = True
        self._wake.set()

    def _spent(self) -> bool:
        return any(source.spent for source in self._sources())

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
            self._obey(message)
        if self._clock() >= self._health_at or self._lost() != self._told_lost:
            self._tell_health(self._state())
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
            rules.append(allowed)
        sound_rules, refused = self._policy.permitted(self._settings.microphone, today)
        watched, missing = watched_joints(self._settings, self._policy, today)
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

    def _obey(self, message: bytes) -> None:
        try:
            control = parse_control(message)
        except ContractError as error:
            log.warning("event=control_refused reason=%r", str(error))
            return
        if isinstance(control, Pause):
            self._pause(True)
            self._reply(ControlCode.PAUSE, ReplyCode.DONE)
        elif isinstance(control, Resume):
            self._pause(False)
            self._reply(ControlCode.RESUME, ReplyCode.DONE)
        else:
            works = selftest(self._detector)
            self._reply(ControlCode.SELFTEST, ReplyCode.DONE if works else ReplyCode.FAILED)

    def _pause(self, paused: bool) -> None:
        """The privacy shutter: the devices themselves are closed, not only ignored."""
        if paused:
            self._close_episodes()
        self._paused = paused
        for source in self._sources():
            if paused:
                source.pause()
            elif source is not self.microphone or self._listening is not None:
                source.resume()
        self._tell_health(self._state())

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
        self._told_lost = self._lost()
        self._health_at = self._clock() + HEALTH_INTERVAL_S
        self._outlet.flush()

    def _lost(self) -> list[bool]:
        """Which sources are gone: told at once, not with the next health."""
        return [source.state in {CameraState.LOST, MicrophoneState.LOST} for source in self._sources()]

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
    return Sense(settings, policy, Outlet(connect, connection, settings.zone_names, time.monotonic)).run()
