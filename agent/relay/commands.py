"""Commands: what comes on `cmd/<verb>` is checked, obeyed once, and answered on `cmd/<verb>/result`.

A command is `accepted → executing → succeeded | failed`, or it is `rejected` with a reason and changes nothing. Each
step is on the disk, with its entry in the audit log, before it is told; the broker is told that a command has arrived
when it is accepted on the disk. So one that is delivered several times, or is under way when relay dies, is obeyed once
and answered each time. What a command leaves in force (the privacy shutter, detectors that are off, a key that is
revoked) is in the ledger, and is told to every sense that starts.

What nobody that is trusted has signed is refused too, at a bounded rate: beyond it, it is counted and not answered.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import logging
import math
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from agent.canonical import canonical
from agent.command import VERBS, Command, Diagnostics, Reason, Refused, Result, moment, request_of, stamp
from agent.contract import (
    AnyControl,
    ControlCode,
    Detector,
    Detectors,
    LogLevel,
    LogLevelName,
    Pause,
    ReplyCode,
    Resume,
    Selftest,
    topic,
)
from agent.relay.audit import ActKind
from agent.relay.journal import Journal, JournalFullError
from agent.relay.ledger import MOST, Entry, State
from agent.relay.limit import TokenBucket
from agent.relay.mqtt import Incoming
from agent.trust import Request, TrustFile, check_command

log = logging.getLogger(__name__)

#: Time for sense to answer, seconds: a model may have to be loaded before.
ANSWER_S = 60.0
#: Refusals that are answered and recorded, per second and at once.
_REFUSALS_PER_S, _REFUSALS = 1.0, 30
_TOPIC_LEVEL = re.compile(r"[a-z.]{1,32}")
_RESPONSE = re.compile(r"cmd/[A-Za-z0-9._-]{1,64}/result(?:/[A-Za-z0-9._-]{1,64}){0,4}")
_LONGEST_RESPONSE = 256
#: The answer of sense that ends a command.
_ENDED_BY = {
    "detector.disable": ControlCode.DETECTORS,
    "detector.enable": ControlCode.DETECTORS,
    "pause": ControlCode.PAUSE,
    "resume": ControlCode.RESUME,
    "selftest": ControlCode.SELFTEST,
}


#: What a sense that starts is told of the shutter answers whoever asked for either.
_SAME = {code: {ControlCode.PAUSE, ControlCode.RESUME} for code in (ControlCode.PAUSE, ControlCode.RESUME)}


class Hands(Protocol):
    """What commands need of the process around them."""

    def control(self, control: AnyControl) -> None:
        """Tell sense, if it is there."""

    def tell(self, path: str, result: Result, correlation: bytes | None) -> int | None:
        """Publish a result below the device's root; its number on the connection, None without one."""

    def announce(self) -> None:
        """Publish birth, status and all else that is retained."""

    def diagnostics(self) -> Diagnostics:
        """How the device is."""

    def log_level(self, level: LogLevelName) -> None:
        """Log from this severity on."""

    def restart(self) -> None:
        """Begin anew, soon."""

    def places(self, label: str) -> tuple[Sequence[str | None], Sequence[str | None]]:
        """Zones with a rule of a type (None: a rule without a zone), and those of them where the policy allows it."""


@dataclass(slots=True)
class _Pending:
    """A command that waits for sense."""

    entry: Entry
    until: float


@dataclass(slots=True)
class Commands:
    """The commands of one device.

    Attributes:
        target: `<site>/<device>`.
        journal: Keeps and records them.
        trust: Who may ask.
        hands: Does what is asked.
        wall: Aware wall time.
        synced: Whether the wall clock was ever set.
        now: Monotonic time, seconds.
        refused: Refusals by reason.
    """

    target: str
    journal: Journal
    trust: TrustFile
    hands: Hands
    wall: Callable[[], dt.datetime]
    synced: Callable[[], bool]
    now: Callable[[], float] = time.monotonic
    refused: Counter[str] = field(default_factory=Counter)
    _pending: dict[ControlCode, list[list[_Pending]]] = field(default_factory=dict)  # each group ends with one answer
    _under_way: dict[int, Entry] = field(default_factory=dict)
    _answers: TokenBucket = field(init=False)
    _lent: frozenset[str] = field(default=frozenset())

    def __post_init__(self) -> None:
        self._answers = TokenBucket(_REFUSALS_PER_S, _REFUSALS, self.now)

    def take(self, incoming: Incoming) -> None:
        """Obey a message on `cmd/<verb>`, or refuse it.

        Raises:
            JournalFullError: the disk is full: nothing was obeyed but a pause.
        """
        verb = incoming.topic.removeprefix(topic(*self.target.split("/"), "cmd", "")).replace("/", ".")
        try:
            self._admit(self._check(verb, incoming), incoming)
        except Refused as refused:
            self._refuse(verb, incoming, refused)

    def _check(self, verb: str, incoming: Incoming) -> Request:
        if incoming.retained:
            raise Refused("retained", "a command is not kept by the broker")
        if verb not in VERBS:
            raise Refused("unknown_verb")
        now = self.wall() if self.synced() else None
        return check_command(incoming.payload, verb, self.target, self.trust.current(), now)

    def _admit(self, request: Request, incoming: Incoming) -> None:
        """Accept a command unless it is known already, and obey it."""
        command, ledger = request.command, self.journal.ledger
        digest = hashlib.sha256(command.signature.encode()).hexdigest()
        if request.key.id in ledger.revoked():
            raise Refused("key_revoked", f"key {request.key.id} has revoked itself")
        known = ledger.find(request.key.id, command.request_id)
        if known is not None:
            if known.digest != digest:
                raise Refused("other_request", "its request id was used for another command")
            self._tell(known)
            return
        self._check_fresh(command, request.key.id)
        entry = Entry(
            key=request.key.id,
            request=command.request_id,
            digest=digest,
            verb=command.verb,
            args=command.args.model_dump_json(exclude_none=True),
            state="accepted",
            reason=None,
            expires=moment(command.expires_at).timestamp(),
            topic=self._answer_topic(command.verb, incoming),
            correlation=incoming.correlation,
        )
        try:
            with self.journal.changing() as record:
                ledger.put(entry)
                if command.counter is not None:
                    ledger.count(entry.key, command.counter)
                record("command", self._words(entry, name=request.key.name, args=json.loads(entry.args)))
        except JournalFullError:
            if command.verb == "pause":  # a shutter closes whatever the disk says; it is not remembered
                self._lent |= {entry.key}
                self.hands.control(Pause())
            raise
        log.info("event=command verb=%s key=%s request=%s", entry.verb, entry.key, entry.request)
        self._tell(entry)
        self._begin(entry, only_own=request.key.only_pauses)

    def _check_fresh(self, command: Command, key: str) -> None:
        """Refuse what may have been obeyed before this ledger can tell."""
        ledger = self.journal.ledger
        expires, issued = moment(command.expires_at).timestamp(), moment(command.issued_at).timestamp()
        if self.synced():
            begun = ledger.mark("begun")
            if begun is None or issued < begun:
                raise Refused("replayed", "issued before this device's list of commands began")
            if expires <= (ledger.mark("floor") or 0.0):
                raise Refused("expired", "the device has forgotten commands of that time")
        elif command.counter is None or command.counter <= ledger.counter(key):
            raise Refused("replayed", "without a clock a pause needs a higher counter than all before")
        if ledger.number(key) >= MOST:
            raise Refused("too_many", f"the device knows {MOST} commands of this key that have not expired")

    def _answer_topic(self, verb: str, incoming: Incoming) -> str:
        """Where the result goes, below the device's root."""
        own = topic(*self.target.split("/"), "")
        asked = incoming.response or ""
        below = asked.removeprefix(own)
        honoured = asked.startswith(own) and len(asked) <= _LONGEST_RESPONSE and _RESPONSE.fullmatch(below)
        return below if honoured else f"cmd/{verb}/result"

    def _begin(self, entry: Entry, *, only_own: bool = True) -> None:
        """Obey a command that is accepted; also one that relay died over, which does no harm twice."""
        reason = self._why_not(entry)
        if reason is not None:
            self._end(entry, "rejected", reason)
            return
        entry = self._step(entry, "executing", lambda: self._leave(entry, only_own))
        code = _ENDED_BY.get(entry.verb)
        if code is None:
            self._act(entry)
            return
        control = self._control(code)
        self._pending.setdefault(_code(control), []).append([_Pending(entry, self.now() + ANSWER_S)])
        self.hands.control(control)

    def _why_not(self, entry: Entry) -> Reason | None:
        if entry.verb != "detector.enable":
            return None
        args = json.loads(entry.args)
        there, allowed = self.hands.places(args["type"])
        zone = args.get("zone")
        if not there or (zone is not None and zone not in there):
            return "not_configured"
        return None if (zone in allowed if zone is not None else allowed) else "policy"

    def _leave(self, entry: Entry, only_own: bool) -> ActKind | None:
        """Write what a command leaves in force, in its transaction; what it is for the audit log."""
        ledger, args = self.journal.ledger, json.loads(entry.args)
        if entry.verb == "pause":
            ledger.hold(entry.key)
            return "pause"
        if entry.verb == "resume":
            ledger.let_go(entry.key if only_own else None)
            self._lent = self._lent - {entry.key} if only_own else frozenset()
            return None if self.paused else "resume"
        if entry.verb == "detector.disable":
            ledger.switch_off(args["type"], args.get("zone"))
        elif entry.verb == "detector.enable":
            zone = args.get("zone")
            if zone is not None and (args["type"], None) in ledger.off():  # it was off everywhere
                ledger.switch_on(args["type"], None)
                for other in self.hands.places(args["type"])[0]:
                    if other is not None and other != zone:
                        ledger.switch_off(args["type"], other)
            ledger.switch_on(args["type"], zone)
        elif entry.verb == "key.revoke":
            ledger.revoke(entry.key)
        return None

    def _act(self, entry: Entry) -> None:
        """Do what needs no answer of sense."""
        if entry.verb == "restart":
            self.hands.restart()
            return  # it has succeeded when relay is back
        if entry.verb == "log.level":
            level: LogLevelName = json.loads(entry.args)["level"]
            self.hands.log_level(level)
            self.hands.control(LogLevel(level=level))
        diagnostics = self.hands.diagnostics() if entry.verb == "diagnostics" else None
        self._end(entry, "succeeded", diagnostics=diagnostics)
        if entry.verb == "announce":
            self.hands.announce()

    def _control(self, code: ControlCode) -> AnyControl:
        if code is ControlCode.DETECTORS:
            off = self.journal.ledger.off()
            return Detectors(off=tuple(Detector(type=label, zone=zone) for label, zone in off))
        if code is ControlCode.SELFTEST:
            return Selftest()
        return Pause() if self.paused else Resume()

    @property
    def paused(self) -> bool:
        """Whether the privacy shutter is to be closed."""
        return bool(self.journal.ledger.holders() or self._lent)

    def orders(self) -> list[AnyControl]:
        """What a sense that starts must know; the last says whether it may open anything."""
        orders = [self._control(ControlCode.DETECTORS), self._control(ControlCode.PAUSE)]
        if self._pending.get(ControlCode.SELFTEST):
            orders.insert(1, Selftest())
        waiting = [(code, pending) for code, groups in self._pending.items() for group in groups for pending in group]
        self._pending.clear()
        for order in orders:
            code = _code(order)
            group = [pending for asked, pending in waiting if asked in _SAME.get(code, {code})]
            if group:
                self._pending[code] = [group]
        return orders

    def answered(self, control: ControlCode, reply: ReplyCode) -> None:
        """Sense has answered."""
        groups = self._pending.get(control)
        if not groups:
            return
        for pending in groups.pop(0):
            done = reply is ReplyCode.DONE
            self._end(pending.entry, "succeeded" if done else "failed", None if done else "sense")

    def go_on(self) -> None:
        """Take up what relay died over, at its start."""
        self.look()
        for entry in self.journal.ledger.unfinished():
            key = next((key for key in self.trust.current().keys if key.id == entry.key), None)
            if entry.verb == "restart" and entry.state == "executing":
                self._end(entry, "succeeded")
            else:
                self._begin(entry, only_own=key is None or key.only_pauses)

    def look(self) -> None:
        """Give up waiting for sense where that has lasted too long, and forget what has expired.

        Raises:
            JournalFullError: the disk is full; it is tried again with the next call.
        """
        for groups in self._pending.values():
            for group in groups:
                for pending in [pending for pending in group if pending.until <= self.now()]:
                    self._end(pending.entry, "failed", "sense")
                    group.remove(pending)  # the group stays, for its answer may still come
        if not self.synced():
            return
        ledger, moment_now = self.journal.ledger, math.floor(self.wall().timestamp())
        begins = ledger.mark("begun") is None
        if begins or ledger.oldest() < moment_now:
            with self.journal.changing():
                if begins:
                    ledger.set_mark("begun", moment_now)
                ledger.forget(moment_now)

    def retell(self) -> None:
        """Tell again, on a new connection, what the broker may not have."""
        self._under_way.clear()
        for entry in self.journal.ledger.untold():
            self._tell(entry)

    def acknowledged(self, number: int) -> None:
        """The broker has a message; perhaps a result."""
        entry = self._under_way.pop(number, None)
        if entry is None:
            return
        known = self.journal.ledger.find(entry.key, entry.request)
        if known is not None and known.state == entry.state:
            with self.journal.changing():
                self.journal.ledger.put(replace(known, told=1))

    def _step(self, entry: Entry, state: State, leave: Callable[[], ActKind | None]) -> Entry:
        """The next state, on the disk and told."""
        entry = replace(entry, state=state, told=0)
        with self.journal.changing() as record:
            kind = leave()
            self.journal.ledger.put(entry)
            if kind is not None:
                record(kind, canonical({"key": entry.key, "request": entry.request}).decode())
        self._tell(entry)
        return entry

    def _end(
        self, entry: Entry, state: State, reason: Reason | None = None, *, diagnostics: Diagnostics | None = None
    ) -> None:
        entry = replace(entry, state=state, reason=reason, told=0)
        with self.journal.changing() as record:
            self.journal.ledger.put(entry)
            record("command", self._words(entry))
        log.info("event=command_over verb=%s request=%s state=%s reason=%s", entry.verb, entry.request, state, reason)
        self._tell(entry, diagnostics)

    def _tell(self, entry: Entry, diagnostics: Diagnostics | None = None) -> None:
        result = Result(
            boot=self.journal.boot,
            request_id=entry.request,
            state=entry.state,
            reason=entry.reason,
            time=stamp(self.wall()),
            diagnostics=diagnostics,
        )
        number = self.hands.tell(entry.topic, result, entry.correlation)
        if number is not None and entry.over:
            self._under_way[number] = entry

    def _words(self, entry: Entry, **more: object) -> str:
        said = {"key": entry.key, "request": entry.request, "state": entry.state, "verb": entry.verb, **more}
        if entry.reason is not None:
            said["reason"] = entry.reason
        return canonical(said).decode()

    def _refuse(self, verb: str, incoming: Incoming, refused: Refused) -> None:
        self.refused[refused.reason] += 1
        if not self._answers.take() or not _TOPIC_LEVEL.fullmatch(verb):
            return
        log.warning("event=command_refused verb=%s reason=%r", verb, str(refused))
        request = request_of(incoming.payload)
        said = {"reason": refused.reason, "request": request, "state": "rejected", "verb": verb}
        with self.journal.changing() as record:
            record("command", canonical(said).decode())
        result = Result(
            boot=self.journal.boot,
            request_id=request,
            state="rejected",
            reason=refused.reason,
            time=stamp(self.wall()),
        )
        self.hands.tell(f"cmd/{verb}/result", result, incoming.correlation)


def _code(control: AnyControl) -> ControlCode:
    """What sense's answer to a control message names."""
    return ControlCode[control.control.upper()]
