"""The technician's view as a process: it looks through the cameras in sense's place and serves one page.

A camera belongs to one process, so sense waits while this runs (`Conflicts=` in its unit). The same code sees, hears
and watches; what it finds ends here: nothing goes to relay but who looks, and nothing is written but zones.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import os
import select
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from agent import pipe
from agent.aim.edit import LocalZones, parse_drawing
from agent.aim.server import Desk, Server
from agent.aim.session import Session
from agent.aim.view import CameraView, SoundView, page_bytes
from agent.behaviours.listen import Listening
from agent.behaviours.watch import Watch
from agent.capture.camera import Camera
from agent.capture.frame import Frame, FrameSource
from agent.capture.microphone import Microphone, open_sound
from agent.capture.open import open_source
from agent.contract import CameraState, EventType
from agent.inference.backend import InferenceError
from agent.notify import notify
from agent.perception.detect import open_detector
from agent.perception.hearing import Ears, Hearing, Room
from agent.perception.scene import Detections, Detector
from agent.perception.tag import open_tagger
from agent.policy import Policy, local_day
from agent.sense import reaches_outside
from agent.settings import CameraSettings, RuleSettings, SettingsError
from agent.word import MAX_WORD, Answer, Begin, Look, Save, word_socket

log = logging.getLogger(__name__)

#: The page's document is made anew so often at most, seconds.
VIEW_S = 1.0
#: Whatever may be somebody keeps a place out of the drawing: detections down to this score. Lower ones are posts and
#: signs, and would keep these out too.
GUESS = 0.05
_TICK_S = 0.25
_ANSWER_S = 5.0


class AimError(RuntimeError):
    """There is no view; the text says why and what to do."""


class Relay:
    """The connection to relay, without which there is no view."""

    def __init__(self, path: Path) -> None:
        """Connect.

        Args:
            path: Of relay's socket for words.

        Raises:
            AimError: relay does not answer.
        """
        try:
            self._connection = pipe.connect(path)
        except OSError as error:
            raise AimError(
                f"{error.strerror}: without relay nobody would know of the view; is the agent running?"
            ) from error
        self._connection.settimeout(_ANSWER_S)
        self._lock = threading.Lock()

    def say(self, word: Begin | Look | Save) -> str | None:
        """Say a word; None once it is in the audit log, else why not."""
        with self._lock:
            try:
                self._connection.send(word.model_dump_json().encode())
                answer = Answer.model_validate_json(self._connection.recv(MAX_WORD + 1))
            except (OSError, ValueError):
                return "relay has hung up"
        return None if answer.answer == "recorded" else answer.reason

    @property
    def gone(self) -> bool:
        """Whether relay has hung up, which ends the view."""
        with self._lock:
            return bool(select.select([self._connection], [], [], 0)[0])  # it says nothing unasked

    def close(self) -> None:
        """Hang up: relay records the end."""
        self._connection.close()


class Aim:
    """The loop behind the page."""

    def __init__(
        self,
        zones: LocalZones,
        policy: Policy,
        session: Session,
        relay: Relay,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open the detector; cameras and microphone open when it runs.

        Args:
            zones: The device's own configuration.
            policy: What may be detected.
            session: Until when.
            relay: Where each step is recorded first.
            clock: Monotonic seconds.
        """
        self._own = zones
        self._policy = policy
        self._session = session
        self._relay = relay
        self._clock = clock
        self._wake = threading.Event()
        self._stop = False
        self._redraw = False
        self._made_at = -VIEW_S
        self._page = page_bytes([], None, [])
        inference = zones.settings.inference
        self._least = inference.score
        self._detector, _, reasons = open_detector(inference.model_copy(update={"score": min(GUESS, self._least)}))
        for reason in reasons:
            log.warning("event=detector reason=%r", reason)
        self._simulated: dict[int, Detector] = {}
        settings = zones.settings
        self._cameras = [self._camera(index, camera) for index, camera in enumerate(settings.cameras)]
        self._views = [CameraView(camera) for camera in settings.cameras]
        self._hearings: deque[Hearing] = deque(maxlen=8)
        self._sound = SoundView()
        self._refused: list[str] = []
        self._watches: list[Watch] = []
        self._listening: Listening | None = None
        self._microphone = self._open_microphone()
        self._renew()

    def _camera(self, index: int, camera: CameraSettings) -> Camera:
        def opener() -> FrameSource:
            if camera.source.startswith("sim:"):
                from agent.simulate.source import open_sim

                source, detector = open_sim(camera.source, replay=False)
                if detector is not None:
                    self._simulated[index] = detector
                return source
            return open_source(camera.source, fps=camera.fps, loop=camera.loop, replay=False)

        return Camera(camera.name, opener, fps=camera.fps, wake=self._wake, look=not camera.source.startswith("sim:"))

    def _open_microphone(self) -> Microphone | None:
        """The microphone, where something may be listened for today."""
        settings = self._own.settings.microphone
        if settings.source is None or not settings.rules:
            return None
        rules, refused = self._policy.permitted(settings, self._today())
        self._refused += refused
        if not rules:
            return None
        try:
            tagger, model, _ = open_tagger(self._own.settings.inference)
        except InferenceError as error:
            self._refused.append(f"microphone: no network names sounds: {error}")
            return None
        self._listening = Listening(rules, model, _wall)
        source, channels, loop = settings.source, settings.channels, settings.loop
        ears = Ears(tagger, channels, Room(settings.gain_db, settings.floor_dbfs), self._hearings.append)
        return Microphone(lambda: open_sound(source, channels=channels, loop=loop), ears)

    @staticmethod
    def _today() -> dt.date:
        return local_day(_wall())

    def _renew(self) -> None:
        """Watch by the zones as they are now."""
        self._watches = []
        self._refused = [reason for reason in self._refused if reason.startswith(("microphone", "sound"))]
        for camera, view in zip(self._own.settings.cameras, self._views, strict=True):
            rules, refused = self._policy.permitted(camera, self._today())
            self._refused += refused
            self._watches.append(Watch(camera, rules, _wall))
            view.draw_zones(camera)

    def run(self, server: Server, tell: Callable[[str], None]) -> None:
        """Serve until the time is over, somebody ends it, relay hangs up, or a signal comes.

        Args:
            server: The page.
            tell: Gives each new token to the technician.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.2}, daemon=True)
        sources: list[Camera | Microphone] = [*self._cameras, *([self._microphone] if self._microphone else [])]
        for source in sources:
            source.start()
        thread.start()
        notify("READY=1")
        log.info("event=view_open seconds=%d", self._session.left_s)
        token = ""
        try:
            while not self._stop and not self._session.over and not self._relay.gone:
                if token != self._session.token:
                    token = self._session.token
                    tell(token)
                self.step()
                notify("WATCHDOG=1")
        finally:
            self._session.end()
            server.shutdown()
            for source in sources:
                source.close()
            self._relay.close()
            log.info("event=view_closed")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._stop = True
        self._wake.set()

    def step(self) -> None:
        """One turn: frames, hearings, and once a second the page's document."""
        self._wake.wait(_TICK_S)
        self._wake.clear()
        if self._redraw:
            self._redraw = False
            self._renew()
        frames = [(i, frame) for i, camera in enumerate(self._cameras) if (frame := camera.take()) is not None]
        for (index, frame), guesses in zip(frames, self._detect(frames), strict=True):
            watch, view = self._watches[index], self._views[index]
            view.lights.follow(watch.update(frame, at_least(guesses, self._least)))
            view.see(frame, guesses, watch.tracks)
        for camera, watch, view in zip(self._cameras, self._watches, self._views, strict=True):
            if camera.state in {CameraState.LOST, CameraState.ENDED}:
                watch.close(self._clock())
                view.lose()
        while self._hearings:
            hearing = self._hearings.popleft()
            self._sound.hear(hearing)
            if self._listening is not None:
                self._sound.lights.follow(self._listening.update(hearing))
        if self._clock() - self._made_at >= VIEW_S:
            self._made_at = self._clock()
            self._page = self._document()

    def _detect(self, frames: list[tuple[int, Frame]]) -> list[Detections]:
        real = [(i, frame) for i, frame in frames if i not in self._simulated]
        found = iter(self._detector.detect(real) if real else [])
        return [
            self._simulated[i].detect([(i, frame)])[0] if i in self._simulated else next(found) for i, frame in frames
        ]

    def _document(self) -> bytes:
        cameras = [
            view.document(camera.state.name.lower()) for view, camera in zip(self._views, self._cameras, strict=True)
        ]
        microphone = self._microphone
        sound = self._sound.document(microphone.state.name.lower(), microphone.level_dbfs) if microphone else None
        return page_bytes(cameras, sound, self._refused)

    def view(self) -> bytes:
        """What is seen now, as JSON."""
        return self._page

    def zones(self) -> dict[str, Any]:
        """The zones and rules of the device's own files."""
        return {
            "cameras": [
                {
                    "name": camera.name,
                    "zones": [
                        {
                            **zone.model_dump(mode="json"),
                            "rules": [rule.type for rule in camera.rules if rule.zone == zone.name],
                            "direction": _direction(camera.rules, zone.name),
                        }
                        for zone in camera.zones
                    ],
                }
                for camera in self._own.settings.cameras
            ],
            "undo": self._own.can_undo,
            "file": str(self._own.path),
        }

    def save(self, document: bytes, uid: int) -> list[str]:
        """Save zones; the problems that keep them from being saved, one a line."""
        try:
            drawing = parse_drawing(document)
            self._own.check(drawing)
        except SettingsError as error:
            return error.problems
        return self._change(lambda: self._own.save(drawing), uid)

    def undo(self, uid: int) -> list[str]:
        """Take back the last change; as `save`."""
        return self._change(self._own.undo, uid)

    def _change(self, change: Callable[[], None], uid: int) -> list[str]:
        reason = self._relay.say(Save(uid=uid))
        if reason is not None:
            return [f"not saved, since it could not be recorded: {reason}"]
        try:
            change()
        except SettingsError as error:
            return error.problems
        self._redraw = True
        self._wake.set()
        return []

    def looks(self, uid: int) -> str | None:
        """Somebody has the token: the reason in words why they may not look, or None."""
        return self._relay.say(Look(uid=uid))


def at_least(found: Detections, score: float) -> Detections:
    """The detections of at least this score."""
    kept = found.scores >= score
    return Detections(found.boxes[kept], found.scores[kept], found.classes[kept])


def _direction(rules: tuple[RuleSettings, ...], zone: str) -> Any:
    wanted = EventType.DIRECTION_WRONG_WAY
    return next((r.parameters.get("allowed") for r in rules if r.event_type is wanted and r.zone == zone), None)


def _wall() -> dt.datetime:
    return dt.datetime.now().astimezone()


def aim_main(
    config: Path | None, policy: Policy, listener: socket.socket, seconds: float, tell: Callable[[str], None]
) -> None:
    """Run the view.

    Args:
        config: As for `agent.settings.load`.
        policy: What may be detected.
        listener: Where the page is served.
        seconds: How long at most.
        tell: Gives each new token to the technician, once the view is recorded.

    Raises:
        AimError: it must not or cannot be opened here.
        SettingsError, InferenceError: the configuration cannot be used.
    """
    if "LISTEN_PID" in os.environ and reaches_outside():
        raise AimError("refusing to look: this process has a route to the outside; start it by its unit")
    zones = LocalZones(config)
    if not zones.settings.cameras:
        raise AimError("no [[camera]] is configured: vigie config wizard asks for one")
    relay = Relay(word_socket(zones.settings.pipe.status_socket))
    with contextlib.closing(relay):
        reason = relay.say(Begin(minutes=max(1, -(-int(seconds) // 60))))
        if reason is not None:
            raise AimError(f"relay does not record the view, so there is none: {reason}")
        session = Session(seconds)
        aim = Aim(zones, policy, session, relay)
        server = Server(listener, Desk(session, aim))
        with contextlib.closing(listener):
            aim.run(server, tell)
