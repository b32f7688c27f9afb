"""What a device has said: a topic and a payload, read by the contract's own models before anything is made of them.

Anybody may write to a broker. So a message is taken only if it is whole, closed, of a bounded size, and in its right
place: a site or a device that the payload names must be those of the topic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import BaseModel, TypeAdapter, ValidationError

from agent.contract import (
    NOTICE_MAX_SIZE,
    AuditHead,
    Birth,
    ContractError,
    Count,
    DetectorNotice,
    Event,
    EventType,
    Health,
    Name,
    Notice,
    NoticeDetector,
    State,
    Status,
    Suppressed,
)

#: Root of everything that devices publish.
ROOT = "vigie/v1"
#: Largest message that a device sends, bytes.
MAX_SIZE = NOTICE_MAX_SIZE
#: Topics below a device's root, without their variable levels, and what is said there.
_MODELS: dict[tuple[str, ...], type[BaseModel]] = {
    ("status",): Status,
    ("birth",): Birth,
    ("health",): Health,
    ("suppressed",): Suppressed,
    ("notice",): Notice,
    ("audit", "head"): AuditHead,
    ("event", "{type}"): Event,
    ("count", "{zone}"): Count,
    ("state", "{zone}", "{type}"): State,
}
_LABELS = frozenset(event_type.label for event_type in EventType)
_NAME: TypeAdapter[str] = TypeAdapter(Name)


class Device(NamedTuple):
    """One device of the fleet."""

    site: str
    name: str

    def __str__(self) -> str:
        return f"{self.site}/{self.name}"


@dataclass(frozen=True, slots=True)
class Said:
    """One message of a device.

    Attributes:
        device: Whose.
        kind: First level of its topic below the device's root, such as `status`.
        zone: Zone in the topic.
        label: Event type in the topic, such as `crowd.gathering`.
        document: What it says; None where a retained message was taken away.
    """

    device: Device
    kind: str
    zone: str | None
    label: str | None
    document: BaseModel | None


def read(topic: str, payload: bytes) -> Said | None:
    """What a message says; None for what no device says of itself, such as commands.

    Raises:
        ContractError: no device sends this; the text says why, without a word of the payload.
    """
    levels = topic.split("/")
    if levels[:2] != ROOT.split("/") or len(levels) < 5:
        return None
    device, below = device_of(levels[2], levels[3]), _with_dots(levels[4:])
    place = next((place for place in _MODELS if _fits(place, below)), None)
    if place is None:
        return None
    found = dict(zip(place, below, strict=True))
    zone, label = found.get("{zone}"), found.get("{type}")
    if zone is not None:
        _name(zone)
    if label is not None and label not in _LABELS:
        raise ContractError("a level of the topic is no event type")
    if not payload:
        return Said(device, place[0], zone, label, None)
    if len(payload) > MAX_SIZE:
        raise ContractError(f"a message has at most {MAX_SIZE} bytes")
    try:
        document = _MODELS[place].model_validate_json(payload)
    except ValidationError as error:
        raise ContractError(f"no {place[0]} message: {error.errors()[0]['type']}") from None
    _in_its_place(device, label, document)
    return Said(device, place[0], zone, label, document)


def device_of(site: str, name: str) -> Device:
    """The device of this site and name.

    Raises:
        ContractError: one of them is no name.
    """
    return Device(_name(site), _name(name))


def label_of(message: Event | DetectorNotice | NoticeDetector) -> str:
    """The type of an event or of a permission as topics have it, such as `crowd.gathering`."""
    return message.type.removeprefix("vigie.").removesuffix(".v1")


def _with_dots(below: list[str]) -> list[str]:
    """The levels as they were published: RabbitMQ makes `crowd/gathering` of `crowd.gathering`."""
    head = {"event": 1, "state": 2}.get(below[0])
    return below if head is None or len(below) != head + 2 else [*below[:head], ".".join(below[head:])]


def _fits(place: tuple[str, ...], below: list[str]) -> bool:
    return len(place) == len(below) and all(a == b or a.startswith("{") for a, b in zip(place, below, strict=True))


def _name(text: str) -> str:
    try:
        return _NAME.validate_python(text)
    except ValidationError:
        raise ContractError("a level of the topic is no name") from None


def _in_its_place(device: Device, label: str | None, document: Any) -> None:
    source = getattr(document, "source", None)
    if source is not None and source != f"/vigie/{device.site}/{device.name}":
        raise ContractError("the source is not the device of the topic")
    if isinstance(document, Event) and label_of(document) != label:
        raise ContractError("the type is not that of the topic")
