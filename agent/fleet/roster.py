"""Which devices there are, as the broker has kept it: their status, birth, and what became of their configuration."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from agent.command import Desired, Reported
from agent.contract import Birth, Status
from agent.fleet.client import Client, Message

_Model = TypeVar("_Model", bound=BaseModel)


@dataclass
class Device:
    """What is known of one device.

    Attributes:
        site: Its site.
        name: Its name.
        status: Its last status; None where it never said one that can be read.
        birth: What runs on it.
        reported: What became of its configuration.
        desired: Version of the configuration that is wanted of it; 0 for none.
    """

    site: str
    name: str
    status: Status | None = None
    birth: Birth | None = None
    reported: Reported | None = None
    desired: int = 0

    @property
    def target(self) -> str:
        """`<site>/<device>`."""
        return f"{self.site}/{self.name}"

    @property
    def state(self) -> str:
        """Its state, or `unknown`."""
        return self.status.state if self.status else "unknown"

    @property
    def labels(self) -> tuple[str, ...]:
        """Its labels."""
        return self.birth.labels if self.birth else ()

    def row(self) -> dict[str, Any]:
        """What a list says of it."""
        reported = self.reported
        return {
            "site": self.site,
            "device": self.name,
            "state": self.state,
            "reasons": list(self.status.reasons) if self.status else [],
            "agent": self.birth.agent if self.birth else None,
            "labels": list(self.labels),
            "config": reported.state if reported else None,
            "config_reason": reported.reason if reported else None,
            "config_in_force": reported.in_force if reported else None,
            "config_desired": self.desired or None,
            "local_version": reported.local_version if reported else None,
        }


@dataclass(frozen=True)
class Choice:
    """Which devices are meant; what is empty excludes none.

    Attributes:
        site: Their site.
        labels: Labels, all of which they have.
        names: Their names.
    """

    site: str | None = None
    labels: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()

    def filter(self, *levels: str) -> str:
        """The topic filter of some levels of the devices that may be meant."""
        return "/".join(("vigie/v1", self.site or "+", "+", *levels))

    def takes(self, device: Device) -> bool:
        """Whether a device is meant."""
        return (
            (self.site is None or device.site == self.site)
            and self.labels <= set(device.labels)
            and (not self.names or device.name in self.names)
        )


@dataclass
class Roster:
    """Devices by site and name, as messages tell of them."""

    devices: dict[tuple[str, str], Device] = field(default_factory=dict)

    def hear(self, message: Message) -> Device | None:
        """Take a message in; the device that it is of, None where it is of none or cannot be read."""
        levels = message.topic.split("/")
        if len(levels) < 5 or levels[:2] != ["vigie", "v1"]:
            return None
        site, name, topic = levels[2], levels[3], "/".join(levels[4:])
        device = self.devices.get((site, name)) or Device(site, name)
        if topic == "status":
            device.status = _read(Status, message.payload) or device.status
        elif topic == "birth":
            device.birth = _read(Birth, message.payload) or device.birth
        elif topic == "config/reported":
            device.reported = _read(Reported, message.payload) or device.reported
        elif topic == "config/desired":
            document = _read(Desired, message.payload)
            device.desired = document.version if document else 0
        else:
            return None
        self.devices[site, name] = device
        return device

    def chosen(self, choice: Choice) -> list[Device]:
        """The devices that are meant, in order."""
        return [device for _, device in sorted(self.devices.items()) if choice.takes(device)]


def _read(model: type[_Model], payload: bytes) -> _Model | None:
    try:
        return model.model_validate_json(payload)
    except ValidationError:  # of another version, or anybody's
        return None


TOPICS = (("status",), ("birth",), ("config", "reported"), ("config", "desired"))


def roster(client: Client, choice: Choice, quiet_s: float) -> list[Device]:
    """The devices that are meant.

    Args:
        client: Connected.
        choice: Which.
        quiet_s: As for `Client.retained`.

    Raises:
        FleetError: the broker does not allow it.
    """
    client.subscribe(*(choice.filter(*levels) for levels in TOPICS))
    found = Roster()
    follow(found, client.retained(quiet_s))
    return found.chosen(choice)


def follow(found: Roster, messages: Iterable[Message]) -> None:
    """Take in messages."""
    for message in messages:
        found.hear(message)
