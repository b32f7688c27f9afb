"""Desired configurations for many devices: what would change, and what becomes of it."""

from __future__ import annotations

import datetime as dt
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.command import DESIRED_MAX_SIZE, desired
from agent.desired import changeable, with_wanted
from agent.fleet.client import Client
from agent.fleet.roster import Device, Roster
from agent.settings import Settings

_OVER = frozenset({"applied", "rolled_back", "rejected", "diverged"})


@dataclass
class Push:
    """One device's new configuration.

    Attributes:
        device: The device, as the broker knows it.
        why_not: Why it is not sent, in words; None when it is.
        document: SHA-256 of the document that was sent.
    """

    device: Device
    why_not: str | None = None
    document: str | None = None

    @property
    def over(self) -> bool:
        """Whether nothing more is to come."""
        return self.why_not is not None or self.state in _OVER

    @property
    def state(self) -> str:
        """What became of it."""
        if self.why_not is not None:
            return "not sent"
        reported = self.device.reported
        return reported.state if reported and reported.document == self.document else "no answer"

    @property
    def reason(self) -> str:
        """Why it is not applied, if that is known."""
        if self.why_not is not None or self.device.reported is None or self.state == "no answer":
            return self.why_not or ""
        return self.device.reported.reason or ""


def merged(device: Device, wanted: dict[str, Any]) -> dict[str, Any]:
    """What a device would have in force with some wanted settings.

    Args:
        device: It must have reported.
        wanted: A part of the configuration, as `agent.desired` allows it.

    Raises:
        SettingsError: the device would refuse them.
    """
    return changeable(with_wanted(_as_reported(device), wanted))


def as_merged(device: Device, wanted: dict[str, Any]) -> Settings:
    """The same as settings, for the rules to be checked.

    Raises:
        SettingsError: the device would refuse them.
    """
    return with_wanted(_as_reported(device), wanted)


def _as_reported(device: Device) -> Settings:
    table = device.reported.settings if device.reported else {}
    return Settings(**{key: table[key] for key in ("camera", "microphone") if key in table})


def differences(before: Any, after: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where two settings differ: path, before, after. Tables in lists are told apart by their names or types."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            yield from differences(before.get(key), after.get(key), f"{path}.{key}".lstrip("."))
    elif _named(before) is not None and _named(after) is not None:
        yield from differences(_named(before), _named(after), path)
    elif before != after:
        yield path, before, after


def _named(value: Any) -> dict[str, Any] | None:
    """A list of tables by their names; None where it is none, or two have one name."""
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        return None
    named = {item.get("name") or f"{item.get('type')} {item.get('zone', '')}".strip(): item for item in value}
    return named if len(named) == len(value) else None


def push(
    client: Client,
    key: Ed25519PrivateKey,
    devices: Sequence[Device],
    wanted: dict[str, Any],
    *,
    accept_local: bool,
    patience_s: float,
    progress: Callable[[int], None],
) -> list[Push]:
    """Want settings of each device, and wait until they are applied or not.

    Args:
        client: Connected, and subscribed as by `roster`.
        key: Signs a document for each device.
        devices: Which, as `roster` has found them.
        wanted: A part of the configuration.
        accept_local: Also of devices where a technician has edited their own files.
        patience_s: How long the answers are waited for, seconds.
        progress: Told how many devices are over.

    Raises:
        FleetError: the broker is lost, or does not allow it.
    """
    pushes = [Push(device, _why_not(device, accept_local)) for device in devices]
    sent = [item for item in pushes if item.why_not is None]
    now = dt.datetime.now(dt.timezone.utc)
    messages = []
    for item in list(sent):
        reported = item.device.reported
        assert reported is not None  # noqa: S101 - asked above
        version = 1 + max(item.device.desired, reported.version or 0, reported.in_force or 0)
        document = desired(key, item.device.target, version, reported.local_version, now, wanted)
        if len(document) > DESIRED_MAX_SIZE:
            item.why_not = f"the document has {len(document)} bytes; {DESIRED_MAX_SIZE} is the most"
            sent.remove(item)
            continue
        item.document = hashlib.sha256(document).hexdigest()
        messages.append((f"vigie/v1/{item.device.target}/config/desired", document))
    for item, refused in zip(sent, client.publish_all(messages, retain=True), strict=True):
        item.why_not = refused
    found = Roster({(device.site, device.name): device for device in devices})
    deadline = time.monotonic() + patience_s
    while (left := sum(not item.over for item in pushes)) and time.monotonic() < deadline:
        progress(len(pushes) - left)
        message = client.take(min(1.0, deadline - time.monotonic()))
        if message is not None:
            found.hear(message)
    progress(sum(item.over for item in pushes))
    return pushes


def _why_not(device: Device, accept_local: bool) -> str | None:
    if device.reported is None:
        return "it has never reported its configuration"
    if device.reported.state == "diverged" and not accept_local:
        return "a technician has edited its files: look at config diff, then --accept-local"
    return None
