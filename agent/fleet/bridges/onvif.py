"""ONVIF: each event as `onvif-ej` JSON over MQTT, below a prefix for each device.

    vigie-cam-07/onvif-ej/RuleEngine/FieldDetector/ObjectsInside/&cam-07/quay
    {"UtcTime": "2026-11-23T10:15:00Z",
     "Source": {"VideoSource": "cam-07", "Rule": "quay"}, "Data": {"IsInside": "true", "vigie:Confidence": "high"}}

Topic and payload are those of the ONVIF Core Specification, "Event Broker" (topic structure and JSON event payload;
neither has a `Key` any more). Standard topics are those of the Analytics Service Specification (annex of rules)
and of the Imaging Service Specification (events); where none says what was observed, the event has a topic of its own
(`tns:vigie`). There is no `ObjectId`: Vigie has no objects to tell apart.

A property is retained until it ends. Whatever one person can start is sent without that, though its topic may be a
property's: its end is never told, and a retained `true` would stand for ever.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from agent.contract import PERSON_TYPES, ContractError, Count, Event, EventType, Status
from agent.fleet.bridges.bridge import MAX_DEVICES, Publication
from agent.fleet.said import MAX_SIZE, ROOT, Device, Said, device_of, label_of, read

#: Most properties of one device that stand at once.
_MAX_OPEN = 4096
#: Data items of Vigie's own, and where they stand in an event.
_OWN = {
    "vigie:Level": "level",
    "vigie:Variant": "variant",
    "vigie:Count": "count",
    "vigie:Confidence": "confidence",
    "vigie:Duration": "duration",
    "vigie:Evidence": "evidence",
    "vigie:Onset": "onset",
    "vigie:OnsetError": "onset_error",
    "vigie:Clock": "clock",
    "vigie:Basis": "basis",
}


@dataclass(frozen=True, slots=True)
class LocalTopic:
    """How a type is told.

    Attributes:
        name: Topic without the prefix, the payload's format and the source.
        sources: Names of the source items, in their order.
        state: Data item that says whether it goes on; None where the topic has none.
    """

    name: str
    sources: tuple[str, ...] = ("VideoSource", "Rule")
    state: str | None = "State"


#: Standard topics by type or family; every other type has one of Vigie's own.
_STANDARD = {
    "zone.intrusion": LocalTopic("RuleEngine/FieldDetector/ObjectsInside", state="IsInside"),
    "person.loitering": LocalTopic("RuleEngine/LoiteringDetector/ObjectIsLoitering", state=None),
    "object.abandoned": LocalTopic("RuleEngine/ObjectAbandoned", state=None),
    "camera.tampered": LocalTopic("VideoSource/GlobalSceneChange/AnalyticsService", ("Source",)),
    "sound": LocalTopic(
        "AudioAnalytics/Audio/DetectedSound",
        ("AudioSourceConfigurationToken", "AudioAnalyticsConfigurationToken", "Rule"),
        "isSoundDetected",
    ),
}
_OCCUPANCY = LocalTopic("RuleEngine/CountAggregation/OccupancyCounter", state=None)


def local_topic(label: str) -> LocalTopic:
    """How events of a type, such as `crowd.gathering`, are told."""
    standard = _STANDARD.get(label) or _STANDARD.get(label.partition(".")[0])
    own = "".join(word.capitalize() for word in label.replace(".", "_").split("_"))
    return standard or LocalTopic(f"RuleEngine/tns:vigie/{own}")


@dataclass(slots=True)
class _Known:
    """What is known of one device: its boot, and the properties that stand with the boot that said them."""

    boot: str | None = None
    standing: dict[str, str] = field(default_factory=dict)


class Onvif:
    """The bridge to whatever reads ONVIF events from a broker."""

    def __init__(self, *, sites: Iterable[str] = (), prefix: str = "vigie-{device}") -> None:
        """A bridge that knows no device.

        Args:
            sites: Sites to tell of; none: all.
            prefix: Topic prefix of a device, with `{device}` and, if wanted, `{site}`.

        Raises:
            ValueError: the prefix does not tell devices apart, or is no topic.
        """
        try:
            own = prefix.format(site="\0", device="\0")
        except (KeyError, IndexError, ValueError):
            raise ValueError(f"prefix {prefix!r}: only {{site}} and {{device}} may stand in braces") from None
        if "{device}" not in prefix or set(prefix) & set("+#") or prefix.startswith(f"{ROOT}/"):
            raise ValueError(f"prefix {prefix!r}: it needs {{device}}, no wildcard, and a root of its own")
        self._prefix = prefix
        self._devices: dict[Device, _Known] = {}
        self.refused: Counter[str] = Counter()
        """Messages that were not taken, by reason."""
        below = ("status", "event/#", "count/+")
        levels = ("+" if "\0" in level else level for level in own.split("/"))
        self.filters = (
            *(f"{ROOT}/{site}/+/{level}" for site in (*sites,) or ("+",) for level in below),
            "/".join((*levels, "onvif-ej", "#")),
        )
        self.will: Publication | None = None

    def connected(self) -> list[Publication]:
        """Nothing: what stands is retained."""
        return []

    def take(self, topic: str, payload: bytes, *, retained: bool) -> list[Publication]:
        """The events that follow from a message of a device."""
        try:
            if "/onvif-ej/" in topic:
                return self._adopt(topic, payload) if retained else []
            said = read(topic, payload)
            return [] if said is None else self._hear(said)
        except ContractError as error:
            self.refused[str(error)] += 1
            return []

    def _known(self, device: Device) -> _Known:
        if device not in self._devices and len(self._devices) >= MAX_DEVICES:
            raise ContractError("too many devices")
        return self._devices.setdefault(device, _Known())

    def _hear(self, said: Said) -> list[Publication]:
        known = self._known(said.device)
        if isinstance(said.document, Status):
            known.boot = said.document.boot
            return self._clear(known)
        if isinstance(said.document, Count):
            return self._count(said.device, known, str(said.zone), said.document)
        if isinstance(said.document, Event):
            return self._event(said.device, known, said.document)
        return []

    def _event(self, device: Device, known: _Known, event: Event) -> list[Publication]:
        label, boot = label_of(event), event.id[:8]
        local = local_topic(label)
        camera = event.data.camera or device.name
        place = [event.data.zone or label if name == "Rule" else camera for name in local.sources]
        values = {name: getattr(event.data, where) for name, where in _OWN.items()}
        data = {name: value for name, value in values.items() if value is not None}
        data |= {"vigie:EventId": event.id, "vigie:Device": str(device)}
        if label == "person.loitering":
            data["Since"] = event.time
        goes_on = event.data.phase != "ended" and event.data.duration is None and known.boot in {None, boot}

        def told(state: str, *, retain: bool) -> Publication:
            item = {local.state: state} if local.state else {}
            return self._publication(device, local, place, event.time, item | data, retain=retain)

        if EventType.parse(label) in PERSON_TYPES:
            return [told("true", retain=False)]
        if goes_on:
            return [self._stand(known, boot, told("true", retain=True))]
        ended = told("false", retain=True)
        known.standing.pop(ended.topic, None)
        return [ended] if event.data.phase == "ended" else [told("true", retain=False), ended]

    def _count(self, device: Device, known: _Known, zone: str, count: Count) -> list[Publication]:
        """The people of a zone; below k, or where the budget is spent, there is no such property."""
        people = count.count if isinstance(count.count, int) else None
        data = {"Count": str(people), "vigie:Clock": count.clock, "vigie:Device": str(device)}
        told = self._publication(device, _OCCUPANCY, [device.name, zone], count.time, data, retain=True)
        if people is not None:
            return [self._stand(known, known.boot or "", told)]
        return [Publication(told.topic, b"", retain=True)] if known.standing.pop(told.topic, None) is not None else []

    def _stand(self, known: _Known, boot: str, told: Publication) -> Publication:
        if told.topic not in known.standing and len(known.standing) >= _MAX_OPEN:
            raise ContractError("more properties than a device can have")
        known.standing[told.topic] = boot
        return told

    def _clear(self, known: _Known) -> list[Publication]:
        """Delete the properties that another boot has left; an empty payload says so."""
        gone = [topic for topic, boot in known.standing.items() if boot != known.boot]
        for topic in gone:
            del known.standing[topic]
        return [Publication(topic, b"", retain=True) for topic in gone]

    def _adopt(self, topic: str, payload: bytes) -> list[Publication]:
        """Learn what an earlier run has left standing."""
        try:
            data: Any = json.loads(payload)["Data"] if len(payload) <= MAX_SIZE else {}
            own, boot = data["vigie:Device"], data.get("vigie:EventId", "")[:8]
            site, _, name = own.partition("/")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return []  # somebody else's
        device = device_of(site, name)
        if not topic.startswith(self._root(device)) or "false" in {data.get("State"), data.get("isSoundDetected")}:
            return []
        known = self._known(device)
        if topic not in known.standing and len(known.standing) < _MAX_OPEN:
            known.standing[topic] = boot
        return self._clear(known) if known.boot else []

    def _root(self, device: Device) -> str:
        return f"{self._prefix.format(site=device.site, device=device.name)}/onvif-ej/"

    def _publication(
        self, device: Device, local: LocalTopic, place: list[str], time: str, data: dict[str, str], *, retain: bool
    ) -> Publication:
        source = dict(zip(local.sources, place, strict=True))
        topic = f"{self._root(device)}{local.name}/&{'/'.join(place)}"
        payload = {"UtcTime": time, "Source": source, "Data": data}
        return Publication(topic, json.dumps(payload, separators=(",", ":")).encode(), retain=retain)
