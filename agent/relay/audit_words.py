"""The audit log in plain words, for people who have to answer for it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from agent.relay.audit import MESSAGES, Entry

#: Whether the content of an entry left the device.
Left = Literal["yes", "maybe", "no"]

_DELIVERY = "('first_attempt', 'acknowledged', 'evicted')"
_CLASSES = {"level": "level {}", "variant": "{}", "count": "{} people", "duration": "lasted {}", "onset": "heard at {}"}
_DIGEST_SHOWN = 12


@dataclass(slots=True)
class Delivery:
    """What became of one event; times as in the log."""

    first_attempt: str | None = None
    acknowledged: str | None = None
    evicted: str | None = None

    @property
    def left(self) -> Left:
        """Whether it left the device."""
        if self.acknowledged:
            return "yes"
        return "maybe" if self.first_attempt else "no"

    def words(self) -> str:
        """Such as `delivered 2026-11-23 12:00:01`."""
        if self.acknowledged:
            return f"delivered {clock(self.acknowledged)}"
        attempt = f"handed to the connection {clock(self.first_attempt)}" if self.first_attempt else ""
        if self.evicted:
            given_up = f"given up {clock(self.evicted)}"
            return f"may have left: {attempt}, {given_up}" if attempt else f"never left: {given_up}"
        return f"may have left: {attempt}, no answer yet" if attempt else "has not left yet"


def deliveries(database: sqlite3.Connection, begin: str) -> dict[str, Delivery]:
    """What became of each event from a time on; for the first attempt the first one counts."""
    found: dict[str, Delivery] = {}
    query = f"SELECT event_id, kind, at FROM audit WHERE kind IN {_DELIVERY} AND at >= ? ORDER BY seq DESC"  # noqa: S608
    for event, kind, at in database.execute(query, (begin,)):
        setattr(found.setdefault(event, Delivery()), kind, at)
    return found


def clock(at: str) -> str:
    """A time of the log, to the second."""
    return at[:19].replace("T", " ")


def left(entry: Entry, delivery: Delivery | None) -> Left:
    """Whether what an entry says left the device."""
    if entry.kind in {"released", "salvaged"}:
        return delivery.left if delivery else "no"
    return "yes" if entry.kind in MESSAGES else "no"


def words(entry: Entry) -> str:
    """What an entry says."""
    try:
        body = json.loads(entry.body or "null")
        if entry.kind in MESSAGES and body.keys() == {"again"}:
            return f"told {entry.kind} again, as in entry {body['again']}"
        if entry.kind in MESSAGES and body.keys() == {"payload", "topic"}:
            body = {**json.loads(body["payload"]), "topic": body["topic"].split("/")}
        return _TOLD[entry.kind](body)
    except (ValueError, AttributeError, KeyError, TypeError):  # of a kind or form that this version does not know
        plain = _PLAIN.get(entry.kind, f"{entry.kind}: {{body}}")
        return plain.format(event=entry.event or "", body=entry.body or "")


_PLAIN = {
    "opened": "relay started, boot {body}",
    "closed": "relay stopped in order",
    "first_attempt": "event {event} was handed to the connection",
    "acknowledged": "the broker has event {event}",
    "decommissioned": "the device was decommissioned: keys, journal and configuration were erased after this",
    "held": "event {event} waits for the clock to be set: {body}",
    "evicted": "event {event} was given up",
    "salvaged": "event {event} was carried over from a journal that could not be read",
    **{kind: f"told {kind}: {{body}}" for kind in MESSAGES},
}


def _event(body: dict[str, Any]) -> str:
    data = body["data"]
    place = f" in zone {data['zone']}" if "zone" in data else f" on camera {data['camera']}" if "camera" in data else ""
    said = [form.format(data[key]) for key, form in _CLASSES.items() if key in data]
    said.append(f"confidence {data['confidence']}")
    kind = body["type"].removeprefix("vigie.").removesuffix(".v1")
    clock_note = "" if data["clock"] == "synced" else ", by a clock that was not set"
    return (
        f"{kind} {data['phase']}{place} at {clock(body['time'])}{clock_note}: {', '.join(said)}; basis {data['basis']}"
    )


def _birth(body: dict[str, Any]) -> str:
    kinds = [
        d["type"].removeprefix("vigie.").removesuffix(".v1") + (", never sent" if d["mode"] == "shadow" else "")
        for d in body["detectors"]
    ]
    return (
        f"told what runs: agent {body['agent']}; detectors: {'; '.join(kinds) or 'none'};"
        f" counts below {body['k']} hidden;"
        f" configuration {body['config'][:_DIGEST_SHOWN]}…, policy {body['policy'][:_DIGEST_SHOWN]}…"
    )


def _status(body: dict[str, Any]) -> str:
    return f"told that it is {body['state']}" + (
        f", because of: {', '.join(body['reasons'])}" if body["reasons"] else ""
    )


def _will(body: dict[str, Any]) -> str:
    return f"agreed with the broker what to tell if the connection breaks: that it is {body['state']}"


def _state(body: dict[str, Any]) -> str:
    _, zone, kind = body["topic"]
    said = [form.format(body[key]) for key, form in _CLASSES.items() if key in body]
    how = f"goes on since {clock(body['since'])}" if body["open"] else "is over"
    return f"told that {kind} in zone {zone} {how}: {', '.join([*said, 'by event ' + body['event']])}"


def _count(body: dict[str, Any]) -> str:
    _, zone = body["topic"]
    people = f"{body['count']} people, with noise" if "count" in body else "no count"
    return f"told of zone {zone} for {body['grain_s']} s from {clock(body['time'])}: {people}"


def _health(body: dict[str, Any]) -> str:
    cameras = ", ".join(body["cameras"]) or "none"
    return (
        f"told how it was at {clock(body['time'])}: sense {body['sense']}, cameras {cameras},"
        f" microphone {body['microphone']}, detector {body['detector']}, frame rate {body['rate']}"
    )


def _suppressed(body: dict[str, Any]) -> str:
    classes = ", ".join(f"{reason} {number}" for reason, number in body.items() if reason not in {"boot", "day"})
    return f"told how much was held back on {body['day']}: {classes}"


def _in_force(what: str) -> Callable[[dict[str, Any]], str]:
    def told(body: dict[str, Any]) -> str:
        before = f", before it {body['old'][:_DIGEST_SHOWN]}…" if body["old"] else ""
        return f"{what} {body['new'][:_DIGEST_SHOWN]}… is in force{before}"

    return told


def _command(body: dict[str, Any]) -> str:
    by = f" of key {body['key']}" + (f" ({body['name']})" if "name" in body else "") if "key" in body else ""
    args = "".join(f" {value}" for value in body.get("args", {}).values())
    reason = f", because of: {body['reason']}" if "reason" in body else ""
    return f"command {body['verb']}{args}{by}, request {body['request'] or 'unreadable'}: {body['state']}{reason}"


def _shutter(what: str) -> Callable[[dict[str, Any]], str]:
    return lambda body: f"privacy shutter to be {what}, by key {body['key']}, request {body['request']}"


def _result(body: dict[str, Any]) -> str:
    reason = f", because of: {body['reason']}" if "reason" in body else ""
    request = body.get("request_id", "unreadable")
    return f"told that command {body['topic'][1]}, request {request}, is {body['state']}{reason}"


def _reported(body: dict[str, Any]) -> str:
    reason = f", because of: {body['reason']}" if "reason" in body else ""
    wanted = f"version {body['version']} is {body['state']}" if "version" in body else body["state"]
    in_force = f"version {body['in_force']}" if "in_force" in body else "the device's own files"
    return f"told of its configuration: {wanted}{reason}; in force: {in_force}, with its zones and rules"


def _aiming(body: dict[str, Any]) -> str:
    return {
        "begin": "{by} opened the technician's view for {minutes} minutes at most",
        "look": "{by} looks at the technician's view: strokes and markers, never a picture",
        "save": "{by} changed zones from the technician's view",
        "end": "the technician's view is closed",
    }[body["state"]].format_map(body)


def _replaced(body: dict[str, Any]) -> str:
    return f"this log begins anew, since the one before was not usable ({body['reason']}); kept as {body['kept_as']}"


def _migrated(body: dict[str, Any]) -> str:
    return f"the {body['entries']} entries up to here were made without a chain, and were chained now"


_TOLD: dict[str, Callable[[dict[str, Any]], str]] = {
    "released": _event,
    "salvaged": _event,
    "birth": _birth,
    "status": _status,
    "will": _will,
    "state": _state,
    "count": _count,
    "health": _health,
    "suppressed": _suppressed,
    "configuration": _in_force("configuration"),
    "policy": _in_force("policy"),
    "command": _command,
    "pause": _shutter("closed"),
    "resume": _shutter("opened"),
    "result": _result,
    "reported": _reported,
    "aiming": _aiming,
    "replaced": _replaced,
    "migrated": _migrated,
}
