"""Conformance: whether a live device keeps the published contract, seen from the broker and from nothing else.

What may be said, where, and how, is read from the AsyncAPI document and the JSON Schemas, not from the models that make
them; what they cannot say (that a type is that of its topic, that running numbers have no gap) is checked here.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from agent.contract import HEALTH_EVERY_S, NOTICE_MAX_SIZE
from agent.fleet.json_schema import SchemaError, faults
from agent.fleet.said import ROOT, Device
from agent.fleet.sequence import Sequence

#: Faults of a check that are told one by one; the rest is a number.
_TOLD = 5
#: Largest message that is looked into, bytes.
_MAX_SIZE = 2 * NOTICE_MAX_SIZE


class DocumentError(ValueError):
    """Published documents that cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Received:
    """One message as the broker gave it.

    Attributes:
        topic: Its topic.
        payload: Its payload.
        qos: QoS of the device's own publish, since it was subscribed to with 2.
        retain: The retain flag.
    """

    topic: str
    payload: bytes
    qos: int
    retain: bool


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was checked.

    Attributes:
        name: What.
        ok: Whether it is so; None where nothing came that could tell.
        looked_at: Messages that were looked at.
        faults: The first faults, in words.
        more: Faults beyond those.
    """

    name: str
    ok: bool | None
    looked_at: int
    faults: tuple[str, ...]
    more: int


@dataclass(frozen=True, slots=True)
class _Channel:
    """A topic of the AsyncAPI document, for one device.

    Attributes:
        name: Its name there.
        topic: Its address, filled in as far as the device goes.
        address: What its topics look like; the variable levels are groups.
        sent: Whether the device publishes there; else it only listens.
        qos: QoS that the device publishes with.
        retain: Whether it is retained.
        schema: Schema of its payload.
    """

    name: str
    topic: str
    address: re.Pattern[str]
    sent: bool
    qos: int
    retain: bool
    schema: dict[str, Any]


CHECKS = {
    "topics": "every topic is in the AsyncAPI document",
    "schema": "every payload keeps its JSON Schema",
    "qos": "QoS is what the document says",
    "retain": "the retain flag is what the document says",
    "place": "source and type are those of the topic",
    "present": "everything that is always retained is there",
    "boot": "status and birth are of one boot",
    "online": "the device is online",
    "permitted": "birth permits every event, on the same legal basis",
    "notice": "notice and birth agree",
    "numbers": "running numbers of events have no gap",
    "repeated": "an event that came again is the same",
    "schedule": "health is told at its fixed times",
    "head": "the audit log only grows",
}


class Conformance:
    """What a device has said so far, and what of it does not keep the contract."""

    def __init__(self, device: Device, documents: Mapping[str, str], *, flags: bool = True) -> None:
        """Nothing has come.

        Args:
            device: Whose messages are looked at.
            documents: The published documents by their paths, as `vigie contract export` writes them.
            flags: Whether the broker passes retain flags on as they were published (MQTT 5).

        Raises:
            DocumentError: the documents cannot be used.
        """
        self._source = f"/vigie/{device.site}/{device.name}"
        self._root = f"{ROOT}/{device}/"
        self._flags = flags
        self._channels = list(_channels(device, documents))
        self._looked: dict[str, int] = defaultdict(int)
        self._faults: dict[str, list[str]] = defaultdict(list)
        self._latest: dict[str, dict[str, Any]] = {}
        self._events: dict[str, bytes] = {}
        self._sequence = Sequence()
        self._permitted: list[tuple[str, Any]] = []

    def take(self, message: Received) -> None:
        """Look at a message of the device's root."""
        below = message.topic.removeprefix(self._root)
        self._see("topics")
        found = next(((c, m) for c in self._channels if (m := c.address.fullmatch(message.topic))), None)
        if found is None:
            self._fault("topics", f"{below}: is in no document")
            return
        channel, levels = found
        if not channel.sent or not message.payload:  # a manager's word, or a retained message that was taken away
            return
        self._see("qos")
        if message.qos != channel.qos:
            self._fault("qos", f"{below}: QoS {message.qos}, not {channel.qos}")
        if self._flags or message.retain:
            self._see("retain")
            if message.retain != channel.retain:
                self._fault("retain", f"{below}: is {'' if message.retain else 'not '}retained")
        document = self._parsed(channel, below, message.payload)
        if document is not None:
            self._follow(channel.name, below, levels.groupdict(), document, message.payload)

    @property
    def topics(self) -> list[str]:
        """What to subscribe to: everything of the device, and by name what is always retained.

        Some brokers give what they have retained to those alone who name it (RabbitMQ).
        """
        return [f"{self._root}#", *(c.topic for c in self._always())]

    @property
    def complete(self) -> bool:
        """Whether everything that is always retained has come."""
        return not self._absent()

    def checks(self) -> list[Check]:
        """What was found, after the last message."""
        self._finish()
        made = []
        for key, name in CHECKS.items():
            said = self._faults[key]
            ok = (not said) if said or self._looked[key] else None
            made.append(Check(name, ok, self._looked[key], tuple(said[:_TOLD]), max(0, len(said) - _TOLD)))
        return made

    def _see(self, check: str) -> None:
        self._looked[check] += 1

    def _fault(self, check: str, words: str) -> None:
        self._faults[check].append(words)

    def _parsed(self, channel: _Channel, below: str, payload: bytes) -> dict[str, Any] | None:
        """The document in a payload; None where it does not keep its schema."""
        self._see("schema")
        try:
            document = json.loads(payload[:_MAX_SIZE], object_pairs_hook=_once, parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            self._fault("schema", f"{below}: is no JSON of at most {_MAX_SIZE} bytes: {str(error)[:80]}")
            return None
        found = list(faults(document, channel.schema))
        if found:
            self._fault("schema", f"{below}: {'; '.join(found[:3])}")
            return None
        table: dict[str, Any] = document
        return table

    def _follow(self, name: str, below: str, levels: dict[str, str], document: dict[str, Any], payload: bytes) -> None:
        if "source" in document:
            self._see("place")
            if document["source"] != self._source:
                self._fault("place", f"{below}: source is {document['source']}")
        if name == "event":
            self._event(below, levels["type"], document, payload)
        elif name == "health":
            self._see("schedule")
            if not re.search(_ON_SCHEDULE, document["time"]):
                self._fault("schedule", f"{below}: {document['time']} is no multiple of {HEALTH_EVERY_S} s")
        elif name == "audithead":
            self._see("head")
            before = self._latest.get(name)
            if before and before["log"] == document["log"] and before["size"] > document["size"]:
                self._fault("head", f"{below}: {document['size']} entries after {before['size']}")
        self._latest[name] = document

    def _event(self, below: str, label: str, event: dict[str, Any], payload: bytes) -> None:
        self._see("place")
        if event["type"] != f"vigie.{label}.v1":
            self._fault("place", f"{below}: type is {event['type']}")
        self._see("numbers")
        if self._sequence.follow(event["id"]):
            self._events[event["id"]] = payload
            self._permitted.append((below, event))
        else:
            self._see("repeated")
            if self._events.get(event["id"], payload) != payload:
                self._fault("repeated", f"{below}: event {event['id']} says something else")

    def _absent(self) -> list[str]:
        """Retained topics without a variable part of which nothing has come."""
        return [c.name for c in self._always() if c.name not in self._latest]

    def _always(self) -> list[_Channel]:
        return [c for c in self._channels if c.sent and c.retain and not c.address.groupindex]

    def _finish(self) -> None:
        """What only shows when all has come."""
        for check in ("present", "online", "boot", "permitted", "notice", "numbers"):
            self._faults[check] = []
        self._looked["present"] = len(self._latest)
        self._faults["present"] = [f"{name}: did not come" for name in self._absent()]
        if self._sequence.missing:
            self._fault("numbers", f"{self._sequence.missing} numbers between the first and the last did not come")
        status, birth, notice = (self._latest.get(name) for name in ("status", "birth", "notice"))
        if status:
            self._looked["online"] = 1
            if status["state"] in {"offline", "decommissioned"}:
                self._fault("online", f"status: {status['state']}")
        if status and birth:
            self._looked["boot"] = 2
            if status["boot"] != birth["boot"]:
                self._fault("boot", f"status is of boot {status['boot']}, birth of {birth['boot']}")
        if birth:
            self._permit(birth)
        if notice and birth:
            self._looked["notice"] = 2
            for key in ("config", "policy", "k", "agent", "contract"):
                if notice[key] != birth[key]:
                    self._fault("notice", f"{key} differs")

    def _permit(self, birth: dict[str, Any]) -> None:
        permitted = {(d["type"], d["basis"]) for d in birth["detectors"] if d["mode"] == "on"}
        of_this_boot = [(below, e) for below, e in self._permitted if e["id"].startswith(f"{birth['boot']}-")]
        self._looked["permitted"] = len(of_this_boot)
        for below, event in of_this_boot:
            if (event["type"], event["data"]["basis"]) not in permitted:
                self._fault("permitted", f"{below}: event {event['id']} is not permitted on {event['data']['basis']}")


_ON_SCHEDULE = ":[0-5][05]:00Z$"
assert HEALTH_EVERY_S == 300  # noqa: S101 - else the pattern above is another one


def _channels(device: Device, documents: Mapping[str, str]) -> Iterator[_Channel]:
    """The topics of the AsyncAPI document, each with what its operation says."""
    try:
        document = json.loads(documents["asyncapi.json"])
        for operation in document["operations"].values():
            name = operation["channel"]["$ref"].rpartition("/")[2]
            channel = document["channels"][name]
            message = next(iter(channel["messages"].values()))["$ref"].rpartition("/")[2]
            payload = document["components"]["messages"][message]["payload"]["$ref"].removeprefix("./")
            binding = operation["bindings"]["mqtt"]
            schema = json.loads(documents[payload])
            list(faults({}, schema))  # raises where it cannot be used
            topic = channel["address"].replace("{site}", device.site).replace("{device}", device.name)
            yield _Channel(
                name,
                topic,
                _address(topic, channel["parameters"]),
                operation["action"] == "send",
                binding["qos"],
                binding.get("retain", False),
                schema,
            )
    except KeyError as error:
        raise DocumentError(f"the published documents have no {error}") from error
    except (ValueError, SchemaError, TypeError, AttributeError, StopIteration) as error:
        raise DocumentError(f"the published documents cannot be used: {error}") from error


def _address(topic: str, parameters: dict[str, Any]) -> re.Pattern[str]:
    """What the topics of a channel look like; its variable levels are groups."""
    levels = []
    for level in topic.split("/"):
        name = level.strip("{}")
        if level == name:
            levels.append(re.escape(level))
        else:
            words = parameters[name].get("enum")
            inner = "|".join(map(re.escape, words)) if words else ".+" if name == "reply" else "[^/]+"
            levels.append(f"(?P<{name}>{inner})")
    return re.compile("/".join(levels))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a key stands there twice")
    return table


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number of JSON")
