"""Home Assistant: every device with its zones, its health and a pause switch, by MQTT device discovery.

Home Assistant reads the device's own topics through templates. The bridge does what it cannot do by itself: a retained
`state` of an earlier boot is over, which takes two topics to tell, so states are told again as `ON` and `OFF`; and a
command must be signed, so that of the switch comes here and leaves with a pause-only key.

Source: https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload (2024.12 or newer).
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import secrets
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args, get_origin

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent import __version__
from agent.command import Verb, command
from agent.contract import (
    HEALTH_EVERY_S,
    MAX_CAMERAS,
    MAX_ZONES,
    PERSON_TYPES,
    Birth,
    ContractError,
    Count,
    Event,
    EventType,
    Health,
    State,
    Status,
)
from agent.fleet.bridges.bridge import MAX_DEVICES, Publication
from agent.fleet.said import ROOT, Device, Said, device_of, label_of, read

log = logging.getLogger(__name__)

#: For how long a type shows as on whose end is never told, seconds.
OFF_DELAY_S = 60
#: Largest discovery message that an earlier run may have left.
_MAX_LEFT = 1 << 20
_ON, _OFF = b"ON", b"OFF"
#: Of `status`, in the templates of Home Assistant.
_GONE = "value_json.state in ('offline', 'decommissioned')"
#: https://www.home-assistant.io/integrations/binary_sensor/#device-class, by the type or its family.
_DEVICE_CLASS = {
    "crowd": "occupancy",
    "zone": "motion",
    "direction": "motion",
    "person": "safety",
    "altercation": "safety",
    "incident": "safety",
    "sound": "sound",
    "camera": "tamper",
    "object": "problem",
    "waste": "problem",
    "surface": "problem",
}

#: For how long a device may still obey the switch, should the command be late.
_COMMAND_LASTS = dt.timedelta(minutes=5)

#: A type in a zone, or without one.
_Where = tuple[str, str | None]
_Component = dict[str, Any]


@dataclass(slots=True)
class _Seen:
    """What is known of one device."""

    birth: Birth | None = None
    status: Status | None = None
    cameras: int = 0
    counted: set[str] = field(default_factory=set)
    where: set[_Where] = field(default_factory=set)
    states: dict[_Where, State] = field(default_factory=dict)
    said: dict[_Where, bytes] = field(default_factory=dict)
    told: dict[str, _Component] = field(default_factory=dict)

    @property
    def boot(self) -> str | None:
        """The start of relay that goes on."""
        latest = self.status or self.birth
        return latest.boot if latest else None

    def on(self) -> list[_Where]:
        """What the device may tell of, and where: in the zones of its birth, else where it was seen, else anywhere."""
        zones: dict[str, set[str | None]] = {}
        for detector in self.birth.detectors if self.birth else ():
            if detector.mode == "on":
                zones.setdefault(label_of(detector), set()).update(detector.zones)
        for label, named in zones.items():
            named.update(set() if named else {zone for seen, zone in self.where if seen == label} or {None})
        return [(label, zone) for label, named in zones.items() for zone in sorted(named, key=str)]


def signed_pause(key: Ed25519PrivateKey, now: Callable[[], dt.datetime]) -> Callable[[Device, bool], Publication]:
    """What signs the commands of the pause switch.

    Args:
        key: A key that the devices trust; its role need be no more than `pause-only`.
        now: Aware wall time.
    """

    def made(device: Device, close: bool) -> Publication:
        verb: Verb = "pause" if close else "resume"
        payload = command(key, str(device), verb, secrets.token_urlsafe(12), now(), lasts=_COMMAND_LASTS)
        return Publication(f"{ROOT}/{device}/cmd/{verb}", payload)

    return made


class HomeAssistant:
    """The bridge to Home Assistant."""

    def __init__(
        self,
        pause: Callable[[Device, bool], Publication] | None,
        *,
        sites: Iterable[str] = (),
        discovery: str = "homeassistant",
        prefix: str = "vigie-homeassistant",
    ) -> None:
        """A bridge that knows no device.

        Args:
            pause: Makes the signed command that closes (True) or opens the cameras of a device; None: no switch.
            sites: Sites to show; none: all.
            discovery: Home Assistant's discovery prefix.
            prefix: Root of the bridge's own topics.
        """
        self._pause = pause
        self._discovery = discovery
        self._prefix = prefix
        self._devices: dict[Device, _Seen] = {}
        self.refused: Counter[str] = Counter()
        """Messages that were not taken, by reason."""
        below = ("birth", "status", "health", "count/+", "state/#", "event/#")
        self.filters = (
            *(f"{ROOT}/{site}/+/{levels}" for site in (*sites,) or ("+",) for levels in below),
            f"{discovery}/status",
            f"{discovery}/device/+/config",
            *((f"{prefix}/+/+/pause/set",) if pause else ()),
        )
        self.will: Publication | None = Publication(f"{prefix}/status", b"offline", retain=True)

    def connected(self) -> list[Publication]:
        """The bridge is there, and so is every device that it knows."""
        return [Publication(f"{self._prefix}/status", b"online", retain=True), *self._everything()]

    def take(self, topic: str, payload: bytes, *, retained: bool) -> list[Publication]:
        """What to say upon a message of a device or of Home Assistant."""
        try:
            if topic == f"{self._discovery}/status":
                return self._everything() if payload == b"online" and not retained else []
            if topic.startswith(f"{self._discovery}/device/"):
                return self._adopt(topic, payload) if retained else []
            if topic.startswith(f"{self._prefix}/"):
                return self._command(topic, payload, retained=retained)
            said = read(topic, payload)
            return [] if said is None else self._hear(said)
        except ContractError as error:
            self.refused[str(error)] += 1
            return []

    def _hear(self, said: Said) -> list[Publication]:
        seen = self._seen(said.device)
        if said.kind == "birth" and said.document is None:
            return self._forget(said.device)
        document, flash = said.document, list[Publication]()
        if isinstance(document, Birth):
            seen.birth = document
        elif isinstance(document, Status):
            seen.status = document
        elif isinstance(document, Health):
            seen.cameras = min(len(document.cameras), MAX_CAMERAS)
        elif isinstance(document, Count):
            _bounded(seen.counted, cast("str", said.zone))
        elif isinstance(document, Event):
            flash = self._happen(said.device, seen, document)
        elif isinstance(document, State):
            where = (cast("str", said.label), said.zone)
            _place(seen, where)
            seen.states[where] = document
        elif said.kind == "state":
            seen.states.pop((cast("str", said.label), said.zone), None)
        return [*self._discover(said.device, seen), *flash, *self._tell_states(said.device, seen)]

    def _happen(self, device: Device, seen: _Seen, event: Event) -> list[Publication]:
        """Follow an event of what has no zone, and so no state of the device's own, but an end that will be told."""
        where = (label_of(event), event.data.zone)
        _place(seen, where)
        if where[1] is not None or not _ends(where):
            return []
        over = event.data.phase == "ended" or event.data.duration is not None
        boot = event.id[:8]
        seen.states[where] = State(boot=boot, event=event.id, open=not over, since=event.time, time=event.time)
        if event.data.phase != "started" or not over or where not in seen.on():
            return []
        seen.said[where] = _ON  # it is over when it is told: it goes on, and off at once
        return [Publication(self._state_topic(device, where), _ON, retain=True)]

    def _seen(self, device: Device) -> _Seen:
        if device not in self._devices and len(self._devices) >= MAX_DEVICES:
            raise ContractError("too many devices")
        return self._devices.setdefault(device, _Seen())

    def _everything(self) -> list[Publication]:
        return [
            self._config(device, seen, seen.told) for device, seen in self._devices.items() if seen.birth and seen.told
        ]

    def _discover(self, device: Device, seen: _Seen) -> list[Publication]:
        """The discovery of a device where it is not what was told: what is gone is taken away first."""
        if seen.birth is None:
            return []
        wanted = self._components(device, seen)
        if wanted == seen.told:
            return []
        gone = {name: {"platform": told["platform"]} for name, told in seen.told.items() if name not in wanted}
        seen.told = wanted
        taken = [self._config(device, seen, wanted | gone)] if gone else []
        return [*taken, self._config(device, seen, wanted)]

    def _forget(self, device: Device) -> list[Publication]:
        """Take a device away whose birth was taken away."""
        seen = self._devices.pop(device)
        topics = [self._state_topic(device, where) for where in seen.said]
        return [Publication(topic, b"", retain=True) for topic in (*topics, self._config_topic(device))]

    def _adopt(self, topic: str, payload: bytes) -> list[Publication]:
        """Learn which components an earlier run has told, so that what is gone since can be taken away."""
        own = topic.split("/")[-2].split("_")
        if len(own) != 3 or own[0] != "vigie" or not payload:
            return []  # somebody else's
        device = device_of(own[1], own[2])
        left = _components_of(payload)
        seen = self._seen(device)
        seen.told = left | seen.told
        return self._discover(device, seen)

    def _command(self, topic: str, payload: bytes, *, retained: bool) -> list[Publication]:
        """The signed command of the pause switch."""
        levels = topic.removeprefix(f"{self._prefix}/").split("/")
        if len(levels) != 4 or levels[2:] != ["pause", "set"]:
            return []  # the bridge's own
        device = Device(levels[0], levels[1])
        if retained or self._pause is None or device not in self._devices or payload not in {_ON, _OFF}:
            raise ContractError("no command of the pause switch")
        log.info("event=pause_switch device=%s pause=%s", device, payload == _ON)
        return [self._pause(device, payload == _ON)]

    def _tell_states(self, device: Device, seen: _Seen) -> list[Publication]:
        """Tell each state that has changed; what another boot has left open is over."""
        now: dict[_Where, bytes] = {}
        for where in seen.on() if seen.birth else ():
            state = seen.states.get(where)
            # Without a zone nothing is retained: until an event comes, what an earlier run has said stands.
            if _ends(where) and (state is not None or where[1] is not None):
                now[where] = _ON if state is not None and state.open and state.boot == seen.boot else _OFF
        gone = dict.fromkeys(seen.said.keys() - now.keys(), b"")
        changed = {where: said for where, said in now.items() if seen.said.get(where) != said}
        seen.said = now
        return [
            Publication(self._state_topic(device, where), said, retain=True) for where, said in (gone | changed).items()
        ]

    def _state_topic(self, device: Device, where: _Where) -> str:
        return "/".join((self._prefix, *device, "state", *([where[1]] if where[1] else []), where[0]))

    def _config_topic(self, device: Device) -> str:
        return f"{self._discovery}/device/{_id(device)}/config"

    def _config(self, device: Device, seen: _Seen, components: dict[str, _Component]) -> Publication:
        assert seen.birth is not None  # noqa: S101 - nothing is told of a device before its birth
        document = {
            "device": {
                "identifiers": [_id(device)],
                "name": device.name,
                "manufacturer": "Vigie",
                "model": "Vigie agent",
                "sw_version": seen.birth.agent,
                "suggested_area": device.site,
            },
            "origin": {"name": "vigie fleet bridge", "sw_version": __version__},
            "availability": [
                {
                    "topic": f"{ROOT}/{device}/status",
                    "value_template": f"{{{{ 'offline' if {_GONE} else 'online' }}}}",
                },
                {"topic": f"{self._prefix}/status"},
            ],
            "availability_mode": "all",
            "qos": 1,
            "components": components,
        }
        return Publication(self._config_topic(device), json.dumps(document).encode(), retain=True)

    def _components(self, device: Device, seen: _Seen) -> dict[str, _Component]:
        assert seen.birth is not None  # noqa: S101 - nothing is told of a device before its birth
        root = f"{ROOT}/{device}"
        found = {"connection": self._connection(root), "status": _status(root), "problem": _problem(root)}
        if self._pause:
            found["pause"] = self._switch(device, root)
        found |= _health(root, seen.cameras)
        for zone in sorted(seen.counted):
            found[f"people_{zone}"] = _people(root, zone)
        for label, place in seen.on():
            own = label.replace(".", "_") + (f"_{place}" if place else "")
            found[own] = self._detection(device, root, (label, place))
        for name, component in found.items():
            component["unique_id"] = f"{_id(device)}_{name}"
        return found

    def _connection(self, root: str) -> _Component:
        return {
            "platform": "binary_sensor",
            "name": "Connection",
            "device_class": "connectivity",
            "entity_category": "diagnostic",
            "state_topic": f"{root}/status",
            "value_template": f"{{{{ 'OFF' if {_GONE} else 'ON' }}}}",
            # Its own, else it would be unavailable just when it has something to say.
            "availability": [{"topic": f"{self._prefix}/status"}],
        }

    def _switch(self, device: Device, root: str) -> _Component:
        return {
            "platform": "switch",
            "name": "Pause",
            "icon": "mdi:eye-off",
            "state_topic": f"{root}/status",
            "value_template": "{{ 'ON' if value_json.state == 'paused' else 'OFF' }}",
            "command_topic": f"{self._prefix}/{device.site}/{device.name}/pause/set",
            "retain": False,
        }

    def _detection(self, device: Device, root: str, where: _Where) -> _Component:
        """A type in a zone: from the bridge's word where its end is told, else from its events."""
        label, zone = where
        component: _Component = {
            "platform": "binary_sensor",
            "name": _words(label) + (f", {zone}" if zone else ""),
            "device_class": _DEVICE_CLASS[label.partition(".")[0]],
        }
        if _ends(where):
            return component | {"state_topic": self._state_topic(device, where)}
        here = f"value_json.data.zone is defined and value_json.data.zone == '{zone}'"
        somewhere = "value_json.data.zone is not defined"
        return component | {
            "state_topic": f"{root}/event/{label}",
            # An empty result leaves the state as it is: the event was of another zone.
            "value_template": f"{{% if {here if zone else somewhere} %}}ON{{% endif %}}",
            "off_delay": OFF_DELAY_S,
        }


def _ends(where: _Where) -> bool:
    """Whether the end of such a thing is told."""
    return EventType.parse(where[0]) not in PERSON_TYPES


def _id(device: Device) -> str:
    # Names have no underscore, so that this is one device only.
    return f"vigie_{device.site}_{device.name}"


def _words(label: str) -> str:
    return label.replace(".", " ").replace("_", " ").capitalize()


def _status(root: str) -> _Component:
    return {
        "platform": "sensor",
        "name": "Status",
        "device_class": "enum",
        "options": list(get_args(Status.model_fields["state"].annotation)),
        "entity_category": "diagnostic",
        "state_topic": f"{root}/status",
        "value_template": "{{ value_json.state }}",
        "json_attributes_topic": f"{root}/status",
        "json_attributes_template": "{{ {'reasons': value_json.reasons} | tojson }}",
    }


def _problem(root: str) -> _Component:
    return {
        "platform": "binary_sensor",
        "name": "Problem",
        "device_class": "problem",
        "entity_category": "diagnostic",
        "state_topic": f"{root}/status",
        "value_template": "{{ 'ON' if value_json.state == 'degraded' else 'OFF' }}",
    }


def _people(root: str, zone: str) -> _Component:
    return {
        "platform": "sensor",
        "name": f"People, {zone}",
        "icon": "mdi:account-group",
        "state_class": "measurement",
        "state_topic": f"{root}/count/{zone}",
        # Fewer than k people, or a budget that is spent, is no number.
        "value_template": "{{ value_json.count if value_json.count is number else None }}",
    }


def _health(root: str, cameras: int) -> dict[str, _Component]:
    """A sensor for each field of the health message: its classes as options, or a number."""
    found = {}
    for name, info in Health.model_fields.items():
        classes = _classes(info.annotation)
        if name == "time":
            continue
        if get_origin(info.annotation) is tuple:
            places = {f"{name}_{i}": (f"{_words(name)[:-1]} {i + 1}", f"[{i}]") for i in range(cameras)}
        else:
            places = {name: (_words(name), "")}
        for key, (words, index) in places.items():
            found[f"health_{key}"] = {
                "platform": "sensor",
                "name": words,
                "entity_category": "diagnostic",
                **({"device_class": "enum", "options": classes} if classes else {"state_class": "measurement"}),
                "state_topic": f"{root}/health",
                "value_template": f"{{{{ value_json.get('{name}'){index} }}}}",
                "expire_after": 3 * HEALTH_EVERY_S,
            }
    return found


def _classes(annotation: Any) -> list[str]:
    """The words that a field may have."""
    if get_origin(annotation) is Literal:
        return [str(word) for word in get_args(annotation)]
    return [word for inner in get_args(annotation) for word in _classes(inner)]


def _bounded(zones: set[str], zone: str) -> None:
    if zone not in zones and len(zones) >= MAX_ZONES:
        raise ContractError("more zones than a device can have")
    zones.add(zone)


def _place(seen: _Seen, where: _Where) -> None:
    zones = {zone for _, zone in seen.where if zone is not None}
    if where[1] is not None:
        _bounded(zones, where[1])
    seen.where.add(where)


def _components_of(payload: bytes) -> dict[str, _Component]:
    """Names and platforms of the components in a discovery message.

    Raises:
        ContractError: it is none of ours.
    """
    try:
        document: Any = json.loads(payload) if len(payload) <= _MAX_LEFT else None
        items = document["components"].items()
        return {name: {"platform": item["platform"]} for name, item in items if item["platform"].isidentifier()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ContractError("no discovery message of this bridge") from None
