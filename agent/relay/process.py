"""The relaying process: one loop over the pipe, the gate's grains, the broker's answers and the status socket.

Only this loop's thread touches the journal. What the gate releases in one turn is committed in one transaction before
any of it is handed to the broker. Every other message is in the audit log before it leaves, with one exception: while
the disk is full it goes out all the same, and is recorded with its time as soon as there is room; so is the first
attempt at events that were released before.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import math
import pwd
import selectors
import signal
import socket
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType

from pydantic import BaseModel

from agent import __version__, pipe
from agent.canonical import canonical
from agent.command import Diagnostics, Result
from agent.contract import (
    CONTRACT_VERSION,
    HEALTH_EVERY_S,
    AnyControl,
    Birth,
    CameraState,
    ControlCode,
    DetectorNotice,
    DetectorState,
    Event,
    EventType,
    Kind,
    LogLevelName,
    MicrophoneState,
    Observation,
    Pause,
    ReplyCode,
    Restart,
    SenseState,
    Status,
    Suppressed,
    topic,
)
from agent.device.clock import Clock
from agent.device.machine import boot_id, load, temperature_c
from agent.notify import notify
from agent.policy import Policy, local_day
from agent.relay.audit import MessageKind, head_line
from agent.relay.budget import Budget
from agent.relay.commands import Commands
from agent.relay.configuration import Configuration
from agent.relay.counts import Counts, exact
from agent.relay.gate import Gate, Release
from agent.relay.health import Machine, health_of
from agent.relay.journal import Journal, JournalFullError, Row
from agent.relay.local import LocalServer, LocalStatus
from agent.relay.mqtt import Acknowledged, Connected, Disconnected, Incoming, Link
from agent.relay.notice import NoticeError, notice
from agent.relay.permits import Permits
from agent.relay.state import States
from agent.relay.totals import DailyTotals
from agent.relay.trial import Trial
from agent.relay.word import Aiming
from agent.settings import Settings, SettingsError
from agent.supervise import AGAIN
from agent.trust import TrustFile
from agent.word import word_socket

log = logging.getLogger(__name__)

#: Sense says every 5 s how it is; three times without a word and it is taken for lost.
SENSE_SILENCE_S = 15.0
#: Time that relay gives the broker at an orderly stop, seconds.
FAREWELL_S = 3.0
#: Releases kept in memory while the disk is full; beyond it the oldest that are no alarms are lost and counted.
HELD_BACK = 1000
#: Packets taken from the pipe in one turn, so that a flood starves nothing else.
_PACKETS_A_TURN = 512
_HOUSEKEEPING_S = 1.0
#: What leaves on the second is looked at so shortly after it, seconds: the two clocks do not agree to the microsecond.
_AFTER_SECOND_S = 0.002
_EXPIRE_EVERY_S = 60.0
_FLOOD_MEMORY_S = 60.0
#: What sense says of itself while a device may be open.
_OPEN = frozenset({SenseState.READY, SenseState.DEGRADED})
_WATCHDOG_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class _Message:
    """What leaves and is no event.

    Attributes:
        kind: What it is: the first level of its topic.
        document: What it says.
        levels: Further levels of the topic.
        retain: Whether the broker keeps it.
        path: The topic below the device's root, where it is not made of kind and levels.
        correlation: Correlation Data of MQTT 5.
    """

    kind: MessageKind
    document: BaseModel
    levels: tuple[str, ...] = ()
    retain: bool = False
    path: str = ""
    correlation: bytes | None = None

    @property
    def where(self) -> str:
        """The topic below the device's root."""
        return self.path or "/".join((self.kind, *self.levels))

    def payload(self) -> str:
        """What the broker gets."""
        return self.document.model_dump_json(exclude_none=True)

    def recorded(self) -> str:
        """What the audit log gets: the payload, and where the topic says more than the kind, the topic."""
        if self.where == self.kind:
            return self.payload()
        return canonical({"payload": self.payload(), "topic": self.where}).decode()


class Relay:
    """The relaying loop."""

    def __init__(  # noqa: PLR0915 - what the loop knows stands in one place
        self,
        settings: Settings,
        policy: Policy,
        journal: Journal,
        link: Link,
        connection: socket.socket | None,
        clock: Clock | None = None,
    ) -> None:
        """Set up.

        Args:
            settings: The configuration of the device's own files.
            policy: The policy.
            journal: Audit log and outbox, open.
            link: Connection to the broker, not started.
            connection: Inherited end of the pipe; None to listen for sense.
            clock: Whether the wall clock is set; None for what this machine says.

        Raises:
            JournalFullError: the disk is full, so that nobody would know what runs from now on.
            PipeError: the pipe's socket cannot be made.
            OSError: the status socket cannot be made.
        """
        trust = TrustFile(settings.fleet.trust_file, service=connection is None)
        self._configuration = Configuration(settings.journal.folder, settings, trust, journal.boot, _utc)
        self._policy = policy
        self._journal = journal
        self._link = link
        self._clock = clock or Clock(strict=settings.clock.required)
        self._adopt(self._configuration.settings)
        _record_start(journal, self._settings, policy, link)
        target = f"{settings.device.site}/{settings.device.name}"
        self._commands = Commands(target, journal, trust, self, _utc, self._is_set)
        self._trial = Trial(self._configuration, self.control, self._tell_reported, time.monotonic)
        self._deaf = not self._configuration.confirmed
        """Whether sense may still run by another configuration, so that nobody knows what its zones are."""
        self._again = False
        self._states = States(journal.boot)
        self._totals = DailyTotals(journal.boot, policy.gate.k, _utc().date())
        self._suppressed: Suppressed | None = None
        self._second = int(time.time())
        self._selector = selectors.DefaultSelector()
        self._stop = False
        self._started = time.monotonic()
        self._health: Observation | None = None
        self._evicted = journal.evicted
        self._heard_at = time.monotonic()
        self._held: deque[Release] = deque()
        self._lost = 0
        self._disk_full = False
        self._retry_at = 0.0
        self._rate_dropped = 0
        self._rate_dropped_at = -math.inf
        self._expire_at = self._watchdog_at = 0.0
        self._released = self._acknowledged = self._refused = 0
        self._protocol: str | None = None
        self._broker_reason = "not connected yet"
        self._under_way: dict[int, Row] = {}
        self._last_sent = self._attempted = 0
        self._attempts: list[Row] = []
        self._answered: list[int] = []
        self._told: Status | None = None
        self._unrecorded: deque[tuple[MessageKind, str, dt.datetime]] = deque(maxlen=HELD_BACK)
        self._head, self._head_at = b"", 0.0

        self._selector.register(link.wake, selectors.EVENT_READ, self._on_broker)
        self._local = LocalServer(settings.pipe.status_socket)
        self._selector.register(self._local.socket, selectors.EVENT_READ, self._on_ask)
        self._aiming = Aiming(
            word_socket(settings.pipe.status_socket),
            self._selector,
            lambda body: journal.record("aiming", body),
            lambda: "the privacy shutter is closed" if self._commands.paused else None,
        )
        self._sense_uids = _uids(settings.pipe.sense_user)
        self._listener = None if connection else pipe.listen(settings.pipe.socket)
        self._sense = connection
        if connection:
            pipe.stamp(connection)
            self._selector.register(connection, selectors.EVENT_READ, self._on_sense)
        if self._listener:
            self._selector.register(self._listener, selectors.EVENT_READ, self._on_newcomer)
        self._commands.go_on()
        self._give_orders()

    def _adopt(self, settings: Settings, before: Gate | None = None) -> None:
        """Understand what sense says by these settings from now on."""
        policy = self._policy
        self._settings = settings
        self._permits = Permits(policy, [*settings.cameras, settings.microphone])
        self._permits.look(local_day(_utc()))
        gate = Gate(settings, policy, now=time.monotonic, wall=_utc, synced=self._is_set, clock_error=self._clock_error)
        if before is not None:
            gate.succeed(before)
        self._gate = gate
        cost, per_day = exact(policy.gate.count_epsilon), exact(policy.gate.count_epsilon_per_day)
        self._counts = Counts(
            [zone.name for camera in settings.cameras for zone in camera.zones],
            policy,
            gate,
            Budget(cost, per_day, settings.journal.folder / "budget.json"),
            wall=_utc,
            synced=self._is_set,
        )

    def run(self) -> int:
        """Relay until a signal or a restart; the exit code of the process."""
        wake, waker = socket.socketpair()
        waker.setblocking(False)
        self._selector.register(wake, selectors.EVENT_READ, lambda: wake.recv(64))
        signal.set_wakeup_fd(waker.fileno())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        self._link.start()
        notify("READY=1")
        log.info("event=ready boot=%s outbox=%d", self._journal.boot, self._journal.depth)
        try:
            while not self._stop:
                self.turn()
            self._farewell()
        finally:
            signal.set_wakeup_fd(-1)
            self._close()
            wake.close()
            waker.close()
        return AGAIN if self._again else 0

    def turn(self) -> None:
        """Wait for something to do, and do it."""
        for key, _ in self._selector.select(self._timeout()):
            key.data()
        self._commit(self._gate.due())
        self._settle_held()
        self._settle_answers()
        self._expire()
        self._send()
        self._each_second()
        if time.monotonic() >= self._watchdog_at:
            self._watchdog_at = time.monotonic() + _WATCHDOG_EVERY_S
            notify("WATCHDOG=1")

    @property
    def _silent(self) -> bool:
        """Whether sense has said nothing of itself for too long."""
        return time.monotonic() - self._heard_at > SENSE_SILENCE_S

    @property
    def _said(self) -> Observation | None:
        """What sense said last of itself; None before its first word, and while it is silent."""
        return None if self._silent else self._health

    def _is_set(self) -> bool:
        return self._clock.synced

    def _clock_error(self) -> float | None:
        return self._clock.error_s

    def _machine(self) -> Machine:
        """How the device is since this was last asked."""
        journal = self._journal
        dropped, self._evicted = journal.evicted - self._evicted, journal.evicted
        return Machine(
            temperature_c=temperature_c(),
            load=load(),
            waiting=journal.depth,
            filled=journal.filled,
            dropped=dropped,
            synced=self._clock.synced,
        )

    def _each_second(self) -> None:
        """What leaves on the second at most, so that the moment itself tells little."""
        before, self._second = self._second, int(time.time())
        if before == self._second:
            return
        self._clock.look()
        if self._permits.look(local_day(_utc())):
            self._tell_notice()
        status = self._status()
        connected = self._protocol is not None
        if connected and status != self._told and self._gate.pay(self._gate.capacity.status):
            self._tell_status(status)
        self._say(*(_Message("count", count, (zone,)) for zone, count in self._counts.due(heard=connected)))
        if before // HEALTH_EVERY_S != self._second // HEALTH_EVERY_S:
            told = health_of(self._said, len(self._settings.cameras), self._second, self._machine())
            self._say(_Message("health", told))
        self._suppressed = self._totals.due(_utc().date(), self._gate.counters) or self._suppressed
        if self._suppressed is not None and self._say(_Message("suppressed", self._suppressed)):
            self._suppressed = None
        with self._kept():
            self._commands.look()
        with self._kept():
            self._trial.judge(self._said, _utc() if self._clock.synced else None)
        if self._commands.paused and self._health is not None and self._health.sense in _OPEN:
            self.control(Pause())  # the order may have found the pipe full
        self._see_aiming()
        if not self._disk_full:
            self._record_said()
            self._tell_head()

    def _see_aiming(self) -> None:
        """End a view when the privacy shutter closes, and begin anew behind one that has changed the zones."""
        if self._commands.paused and self._aiming.active:
            self._aiming.end()
        self._aiming.settle()
        if self._aiming.saved:
            self.restart()

    def _say(self, *messages: _Message) -> bool:
        """Record what is no event, and hand it to the connection; whether there is one.

        It is not kept for later, since the next one says it better.
        """
        return self._protocol is not None and None not in self._hand(*messages)

    def _hand(self, *messages: _Message) -> list[int | None]:
        """Record messages, and hand them to the connection; their numbers there."""
        if self._protocol is None:
            return [None] * len(messages)
        self._unrecorded.extend((message.kind, message.recorded(), _utc()) for message in messages)
        self._record_said()
        return [
            self._link.publish(self._topic(m.where), m.payload().encode(), retain=m.retain, correlation=m.correlation)
            for m in messages
        ]

    def _record_said(self) -> None:
        """Record what leaves; on a full disk try again later."""
        with contextlib.suppress(JournalFullError):
            if self._attempts:
                self._journal.attempted(self._attempts)
                self._attempts.clear()
            if self._unrecorded:
                self._journal.record_all(list(self._unrecorded))
                self._unrecorded.clear()

    def _expire(self) -> None:
        now = time.monotonic()
        if now < self._expire_at:
            return
        self._expire_at = now + _EXPIRE_EVERY_S
        with contextlib.suppress(JournalFullError):
            gone = self._journal.expire()
            if gone:
                log.warning("event=evicted reason=too_old events=%d", gone)

    def _timeout(self) -> float:
        due = self._gate.next_due()
        second = _HOUSEKEEPING_S - time.time() % _HOUSEKEEPING_S + _AFTER_SECOND_S
        return second if due is None else min(second, max(0.0, due - time.monotonic()))

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._stop = True

    def _on_newcomer(self) -> None:
        assert self._listener is not None  # noqa: S101 - it is registered only if it is there
        connection, _ = self._listener.accept()
        try:
            pipe.check_peer(connection, self._sense_uids)
        except OSError as error:
            log.warning("event=stranger_refused reason=%r", str(error))
            return
        if self._sense is not None and time.monotonic() - self._heard_at < SENSE_SILENCE_S:
            log.warning("event=second_sense_refused hint=the_first_one_is_alive")
            connection.close()
            return
        self._hang_up()
        self._heard_at = time.monotonic()
        pipe.stamp(connection)
        self._sense = connection
        self._selector.register(connection, selectors.EVENT_READ, self._on_sense)
        self._give_orders()

    def _hang_up(self) -> None:
        if self._sense is not None:
            self._selector.unregister(self._sense)
            self._sense.close()
            self._sense = None
            self._gate.sense_restarted()

    def _on_sense(self) -> None:
        for _ in range(_PACKETS_A_TURN):
            if self._sense is None:
                return
            message, waited_s = pipe.receive_stamped(self._sense)
            if message is None:
                return
            if not message:
                self._hang_up()
                return
            if self._deaf and message[1:2] == bytes([Kind.EPISODE]):
                continue
            observation = self._gate.take(message, waited_s)
            if observation is not None:
                self._hear(observation)

    def _hear(self, observation: Observation) -> None:
        if observation.kind is Kind.REPLY:
            log.debug("event=reply control=%s answer=%s", observation.control.name, observation.reply.name)
            self._on_reply(observation.control, observation.reply)
            return
        self._heard_at = time.monotonic()
        if observation.sense is SenseState.STARTING:
            self._gate.sense_restarted()
            if self._health is None or self._health.sense is not SenseState.STARTING:
                self._trial.sense_starts()
            self._give_orders()
        elif observation.sense is not SenseState.STOPPING:
            self._trial.hear(observation, self._settings)
        self._health = observation

    def _give_orders(self) -> None:
        """Tell a sense that starts by what it senses, and last whether it may open anything."""
        for order in (self._trial.order(), *self._commands.orders()):
            self.control(order)

    def _on_reply(self, control: ControlCode, reply: ReplyCode) -> None:
        with self._kept():
            if control is ControlCode.CONFIGURE:
                self._on_configured(reply)
            else:
                self._commands.answered(control, reply)

    @contextlib.contextmanager
    def _kept(self) -> Iterator[None]:
        """Whatever cannot be written now is tried again with the next turn, answer or start."""
        try:
            yield
        except JournalFullError:
            pass  # said where the disk is found to be full
        except OSError as error:
            log.error("event=not_kept reason=%r", str(error))  # noqa: TRY400 - the reason says it all

    def _on_configured(self, reply: ReplyCode) -> None:
        """Sense has taken the configuration, and what it says from here on is to be understood by it; or it has not."""
        if reply is not ReplyCode.DONE:
            self._trial.refused(reply)
            return
        if self._configuration.confirmed:
            return
        self._commit(self._gate.flush())
        self._adopt(self._configuration.settings, self._gate)
        with contextlib.suppress(JournalFullError):
            self._journal.note_in_force("configuration", self._settings.digest())
        self._deaf, self._health = False, None
        self._configuration.confirm()
        self.announce()

    def _tell_reported(self) -> None:
        """Publish what became of the desired configuration."""
        self._say(_Message("reported", self._configuration.reported(), path="config/reported", retain=True))

    def control(self, control: AnyControl) -> None:
        """Tell sense, if it is there; a sense that comes later is given its orders."""
        if self._sense is None:
            return
        try:
            self._sense.send(control.model_dump_json(exclude_none=True).encode(), socket.MSG_DONTWAIT)
        except OSError as error:
            log.warning("event=sense_not_told control=%s reason=%r", control.control, str(error))

    def tell(self, path: str, result: Result, correlation: bytes | None) -> int | None:
        """Publish a command's result below the device's root."""
        return self._hand(_Message("result", result, path=path, correlation=correlation))[0]

    def announce(self) -> None:
        """Publish birth, status and all else that is retained."""
        if self._protocol is not None:
            self._tell_all()

    def diagnostics(self) -> Diagnostics:
        """How the device is."""
        return Diagnostics.model_validate(
            {
                "agent": __version__,
                "uptime_s": int(time.monotonic() - self._started),
                "outbox_events": self._journal.depth,
                "evicted": self._journal.evicted,
                "clock": "synced" if self._clock.synced else "unsynced",
                "mqtt": self._protocol or "5",
                "log_level": logging.getLevelName(logging.getLogger().getEffectiveLevel()).lower(),
                "paused": self._commands.paused,
                "off": tuple(f"{label} {zone}" if zone else label for label, zone in self._journal.ledger.off()),
                "reasons": self._status().reasons,
            }
        )

    def log_level(self, level: LogLevelName) -> None:
        """Log from this severity on, until the next start."""
        logging.getLogger().setLevel(level.upper())

    def restart(self) -> None:
        """Begin anew, and have sense do so."""
        self.control(Restart())
        self._again = self._stop = True

    def places(self, label: str) -> tuple[list[str | None], list[str | None]]:
        """Zones with a rule of a type (None: a rule without a zone), and those of them where the policy allows it."""
        seen = [rule for camera in self._settings.cameras for rule in camera.rules]
        there = [rule.zone for rule in (*seen, *self._settings.microphone.rules) if rule.type == label]
        today = local_day(_utc())
        return there, [z for z in there if not isinstance(self._policy.entry(EventType.parse(label), z, today), str)]

    def _commit(self, releases: list[Release]) -> None:
        """Release what may leave; on a full disk hold it back and try again with the next turn."""
        if not releases and not self._held:
            return
        self._held.extend(releases)
        if self._disk_full and time.monotonic() < self._retry_at:
            return
        try:
            events = self._journal.release(list(self._held))
        except JournalFullError as error:
            if not self._disk_full:
                log.error("event=disk_full reason=%r", str(error))  # noqa: TRY400 - the reason says it all
            self._disk_full = True
            self._retry_at = time.monotonic() + _HOUSEKEEPING_S
            self._drop_held()
            return
        self._disk_full = False
        self._released += len(events)
        self._held.clear()
        self._follow(events)

    def _settle_held(self) -> None:
        """Release what waits for the clock: with its time when that is set, and as it is when it has waited enough."""
        if not self._journal.holds:
            return
        clock = None
        if self._clock.synced:
            clock = (time.monotonic(), time.time(), self._clock.error_s)
        elif self._protocol is None or time.monotonic() - self._started < self._settings.clock.hold_s:
            return
        with contextlib.suppress(JournalFullError):
            events = self._journal.settle(clock)
            self._released += len(events)
            log.info("event=held_released events=%d clock=%s", len(events), "synced" if clock else "unsynced")
            self._follow(events)

    def _follow(self, events: list[Event]) -> None:
        """Tell what is retained of zones, as the events that are released change it."""
        changed = [key for event in events if (key := self._states.follow(event)) is not None]
        self._say(*(_Message("state", self._states[key], key, retain=True) for key in dict.fromkeys(changed)))

    def _drop_held(self) -> None:
        while len(self._held) > HELD_BACK:
            plain = next((r for r in self._held if not r.alarm), self._held[0])
            self._held.remove(plain)
            self._lost += 1

    def _on_broker(self) -> None:
        for happening in self._link.happenings():
            if isinstance(happening, Incoming):
                self._on_incoming(happening)
            elif isinstance(happening, Acknowledged):
                row = self._under_way.pop(happening.message, None)
                if row is None:
                    with contextlib.suppress(JournalFullError):
                        self._commands.acknowledged(happening.message)
                    continue
                if happening.refused is None:
                    self._answered.append(row.seq)
                else:
                    self._refused += 1
                    log.warning("event=refused_by_broker topic=%s reason=%r", row.topic, happening.refused)
            elif isinstance(happening, Connected):
                log.info("event=connected mqtt=%s", happening.protocol)
                self._protocol, self._broker_reason = happening.protocol, ""
                self._begin_connection()
            elif isinstance(happening, Disconnected):
                if happening.reason != self._broker_reason:  # it is tried for days: said once for each reason
                    log.warning("event=disconnected reason=%r", happening.reason)
                self._protocol, self._broker_reason = None, happening.reason
                self._under_way.clear()

    def _on_incoming(self, incoming: Incoming) -> None:
        """Obey a command, or take a configuration, and have the broker forget it once it is on the disk."""
        if incoming.topic == self._topic("config", "desired"):
            self._trial.take(incoming.payload, _utc() if self._clock.synced else None)
        else:
            try:
                self._commands.take(incoming)
            except JournalFullError as error:
                log.warning("event=command_waits reason=%r", str(error))
                return  # it comes again with the next connection
        self._link.take_in(incoming)

    def _begin_connection(self) -> None:
        """Everything that is not acknowledged is sent again, after birth and status."""
        self._under_way.clear()
        self._last_sent = 0
        self._tell_all()
        self._commands.retell()

    def _tell_all(self) -> None:
        """What the broker keeps of this device."""
        self._told = None
        status = self._status()
        states = [_Message("state", self._states[key], key, retain=True) for key in self._states]
        first = (_Message("birth", self._birth(), retain=True), _Message("status", status, retain=True))
        if self._say(*first, *states):
            self._told = status
        if self._head:
            self._link.publish(self._topic("audit", "head"), self._head, retain=True)
        self._tell_notice()
        self._tell_reported()

    def _settle_answers(self) -> None:
        if not self._answered:
            return
        try:
            self._journal.acknowledged(self._answered)
        except JournalFullError:
            return
        self._acknowledged += len(self._answered)
        self._answered.clear()

    def _send(self) -> None:
        """Fill the window of messages under way from the outbox."""
        room = self._link.window - len(self._under_way)
        if self._protocol is None or room <= 0:
            return
        rows = self._journal.waiting(self._last_sent, room)
        fresh = [row for row in rows if row.seq > self._attempted]
        if fresh:
            self._attempts += fresh
            self._attempted = fresh[-1].seq
            self._record_said()
        for row in rows:
            message = self._link.publish(row.topic, row.payload)
            if message is None:
                return
            self._under_way[message] = row
            self._last_sent = row.seq

    def _topic(self, *levels: str) -> str:
        return topic(self._settings.device.site, self._settings.device.name, *levels)

    def _status(self) -> Status:
        health = self._health
        silent, said = self._silent, self._said
        reasons = []
        if silent or (health is not None and health.sense is SenseState.STOPPING):
            reasons.append("sense")
        if said is not None:
            if any(c not in {CameraState.NONE, CameraState.LIVE, CameraState.PAUSED} for c in said.cameras):
                reasons.append("camera")
            if said.microphone in {MicrophoneState.LOST, MicrophoneState.SILENT, MicrophoneState.CONNECTING}:
                reasons.append("microphone")
            if said.detector in {DetectorState.MOTION, DetectorState.UNACCELERATED}:
                reasons.append("detector")
        own = {
            "disk": self._disk_full,
            "journal": self._journal.damaged,
            "rate": self._flooded(),
            "clock": not self._clock.synced,
            "policy": bool(self._permits.refused),
            "aiming": self._aiming.active,
        }
        reasons += [reason for reason, so in own.items() if so]
        if health is None and not silent:
            state = "starting"
        elif said is not None and said.sense is SenseState.PAUSED:
            state = "paused"
        elif said is not None and said.sense is SenseState.STARTING:
            state = "starting"
        else:
            state = "degraded" if reasons else "ready"
        if self._permits.ending and "policy" not in reasons:
            reasons.append("policy")  # a warning: what ends soon runs on until then
        return Status.model_validate({"state": state, "boot": self._journal.boot, "reasons": tuple(reasons)})

    def _flooded(self) -> bool:
        """Whether observations were dropped for their rate within the last minute."""
        dropped, now = self._gate.counters.get("dropped.rate", 0), time.monotonic()
        if dropped != self._rate_dropped:
            self._rate_dropped, self._rate_dropped_at = dropped, now
        return now - self._rate_dropped_at < _FLOOD_MEMORY_S

    def _tell_status(self, status: Status) -> None:
        # A new connection begins with birth, and tells it then.
        if status != self._told and self._say(_Message("status", status, retain=True)):
            self._told = status

    def _tell_head(self) -> None:
        """Publish the head of the audit log at fixed times since the start, or when there is a connection again."""
        now, every = time.monotonic(), self._settings.audit.head_every_s
        if self._protocol is None or now < self._head_at:
            return
        with contextlib.suppress(JournalFullError):
            self._head = head_line(self._journal.publish_head())
            self._head_at = now + every - (now - self._started) % every
            self._link.publish(self._topic("audit", "head"), self._head, retain=True)

    def _tell_notice(self) -> None:
        """Publish what the public may know: with every connection, and on each new day, which can end a permission."""
        if self._protocol is None:
            return
        try:
            made = notice(self._settings, self._policy, local_day(_utc()))
        except NoticeError as error:
            log.warning("event=no_notice reason=%r", str(error))
            return
        self._say(_Message("notice", made, retain=True))

    def _birth(self) -> Birth:
        detectors = tuple(
            DetectorNotice(
                type=f"vigie.{d.type}.v1",
                mode=d.mode,
                basis=d.legal_basis,
                until=d.until.isoformat(),
                zones=tuple(z for z in self._settings.zones_of(d.event_type) if not d.zones or z in d.zones),
            )
            for d in self._policy.detectors
        )
        return Birth(
            boot=self._journal.boot,
            agent=__version__,
            contract=CONTRACT_VERSION,
            k=self._policy.gate.k,
            detectors=detectors,
            config=self._settings.digest(),
            policy=self._policy.digest(),
            labels=self._settings.device.labels,
        )

    def _on_ask(self) -> None:
        health = self._health
        cameras = health.cameras[: len(self._settings.cameras)] if health else ()
        self._local.answer(
            LocalStatus.model_validate(
                {
                    "status": self._status(),
                    "broker": self._protocol,
                    "broker_reason": self._broker_reason,
                    "sense": health.sense.name.lower() if health else "unknown",
                    "cameras": [state.name.lower() for state in cameras],
                    "microphone": health.microphone.name.lower() if health else "unknown",
                    "detector": health.detector.name.lower() if health else "unknown",
                    "rate": health.rate.name.lower() if health else "unknown",
                    "outbox_events": self._journal.depth,
                    "outbox_bytes": self._journal.outbox_bytes,
                    "held_back": len(self._held),
                    "released": self._released,
                    "acknowledged": self._acknowledged,
                    "evicted": self._journal.evicted,
                    "salvaged": self._journal.salvaged,
                    "refused_by_broker": self._refused,
                    "clock": "synced" if self._clock.synced else "unsynced",
                    "clock_source": self._clock.reading.source,
                    "clock_error_s": self._clock.error_s,
                    "counters": {
                        **self._gate.counters,
                        **({"lost.disk_full": self._lost} if self._lost else {}),
                        **{f"refused.{reason}": number for reason, number in self._commands.refused.items()},
                        **({"refused.flood": self._link.flooded} if self._link.flooded else {}),
                    },
                    "uptime_s": int(time.monotonic() - self._started),
                }
            )
        )

    def _farewell(self) -> None:
        """Release what still waits for its grain, give the broker a moment, and say that this is no accident."""
        self._on_sense()
        self._commit(self._gate.flush())
        deadline = time.monotonic() + FAREWELL_S
        self._tell_status(Status(state="stopping", boot=self._journal.boot))
        while self._protocol is not None and self._journal.depth and time.monotonic() < deadline:
            self._send()
            for key, _ in self._selector.select(0.1):
                if key.data == self._on_broker:
                    key.data()
            self._settle_answers()
        self._head_at = 0.0
        self._tell_head()
        self._tell_status(Status(state="offline", boot=self._journal.boot))

    def _close(self) -> None:
        self._link.stop()
        self._local.close()
        self._aiming.close()
        for end in (self._sense, self._listener):
            if end is not None:
                end.close()
        self._selector.close()
        self._record_said()
        self._journal.close()
        log.info(
            "event=stopped released=%d acknowledged=%d waiting=%d",
            self._released,
            self._acknowledged,
            self._journal.depth,
        )


def _record_start(journal: Journal, settings: Settings, policy: Policy, link: Link) -> None:
    """Record what is in force from now on, and what each greeting leaves with the broker."""
    journal.note_in_force("configuration", settings.digest())
    journal.note_in_force("policy", policy.digest())
    journal.record("will", link.will.decode())


def _uids(user: str | None) -> frozenset[int]:
    """The user's id.

    Raises:
        SettingsError: there is no such user.
    """
    if user is None:
        return frozenset()
    try:
        return frozenset({pwd.getpwnam(user).pw_uid})
    except KeyError:
        raise SettingsError([f"pipe.sense_user: this machine has no user {user!r}"]) from None


def _utc() -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc)


def open_journal(settings: Settings) -> Journal:
    """The journal as the settings have it.

    Raises:
        JournalError: it cannot be used.
    """
    return Journal(
        settings.journal.folder,
        settings.device.site,
        settings.device.name,
        outbox_max_bytes=int(settings.journal.outbox_max_mib * 2**20),
        outbox_max_age_s=settings.journal.outbox_max_age_h * 3600,
        audit_max_bytes=int(settings.journal.audit_max_mib * 2**20),
        key_file=settings.audit.key_file,
        machine_boot=boot_id(),
    )


def relay_main(settings: Settings, policy: Policy, connection: socket.socket | None) -> int:
    """Run the relaying process; its exit code.

    Raises:
        SettingsError, JournalError, MqttError, OSError: it cannot start; the text says why.
    """
    journal = open_journal(settings)
    try:
        link = Link(settings.mqtt, settings.device.site, settings.device.name, journal.boot)
        relay = Relay(settings, policy, journal, link, connection)
    except BaseException:
        journal.close()
        raise
    return relay.run()
