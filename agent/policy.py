"""The policy file: which detectors may run, why, and how much of what they see may leave.

A data-protection officer writes it; on a device it belongs to root and neither process can change it. Both processes
read it: sense starts no detector without an entry, and relay releases nothing without one. So a relay that was taken
over can only narrow what is sensed, and a sense that was taken over can only send what the policy lets through.

A permission has a last day, in the local time of the device: both processes stop using it at the same midnight, with
nobody's help. `Policy.ending` warns of it ahead.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import stat
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from agent.contract import ALARMS, CROWD_TYPES, INCIDENTS, ONSET_TYPES, PERSON_TYPES, Basis, EventType, Name
from agent.presets import preset
from agent.settings import (
    CameraSettings,
    MicrophoneSettings,
    RuleSettings,
    SettingsError,
    TypeLabel,
    explain,
    read_toml,
)

Text = Annotated[str, Field(min_length=3, max_length=400)]

#: Days before the end of a permission on which it is said in the log; from the first of them on, `status` says so too.
WARN_DAYS = (30, 7, 1, 0)


#: What goes at once leaves at a multiple of this, seconds, so that the moment itself tells little.
TICK_S = 0.1


class PolicyError(SettingsError):
    """A policy file that cannot be used."""


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class DetectorPolicy(_Table):
    """The permission for one kind of detection."""

    type: TypeLabel = Field(description="Event type, such as `crowd.gathering`.")
    zones: tuple[Name, ...] = Field((), description="Zones it is allowed in; empty: all of the device.")
    mode: Literal["on", "shadow"] = Field("on", description="`shadow` is counted on the device and never sent.")
    flow_per_min: float = Field(
        0,
        ge=0,
        le=10_000,
        description="Fewest people who pass there in a minute while it runs, as whoever writes this entry states it. "
        "A type that one person can start is refused where they are fewer than `min_flow_per_min` of the gate.",
    )
    below_flow: Text | None = Field(
        None, description="For safety only: why it is needed even where fewer people pass, in words for the public."
    )
    purpose: Text = Field(description="What it is for, in words that the public understands.")
    legal_basis: Basis = Field(description="Reference of the legal basis; it goes into every event.")
    body: Text = Field(description="The body responsible for it.")
    contact: Text = Field(description="Where people ask, object or complain: an address, e-mail or telephone number.")
    retention_days: int = Field(
        ge=0, le=3650, description="For how long whoever receives the events may keep them, days."
    )
    place: Text | None = Field(
        None, description="The place in the public's words; unset: site and zones of the device."
    )
    until: dt.date = Field(description="Last day on which it may run, in the device's local time.")
    onset: bool = Field(
        False,
        description="Whether events tell to 100 µs when the sound began, so that several devices can locate it; "
        "sound.gunshot and sound.explosion alone.",
    )

    @model_validator(mode="after")
    def _has_an_onset(self) -> DetectorPolicy:
        if self.onset and self.event_type not in ONSET_TYPES:
            raise ValueError(f"onset is for {', '.join(sorted(t.label for t in ONSET_TYPES))} alone, not {self.type}")
        return self

    @property
    def event_type(self) -> EventType:
        """The event type."""
        return EventType.parse(self.type)

    def days_left(self, today: dt.date) -> int:
        """Days until its last one; negative once it has ended."""
        return (self.until - today).days


class GatePolicy(_Table):
    """How much detail may leave."""

    k: int = Field(5, ge=1, le=100, description="No count below k persons leaves; it becomes `<k`.")
    crowd_grain_s: int = Field(60, ge=0, le=3600, description="Grain of crowd and count types, seconds.")
    density_grains: int = Field(
        2,
        ge=1,
        le=10,
        description="Ends of grains in a row at which a zone must be the same before crowd.density tells it, so that "
        "those who only pass hardly change what is told.",
    )
    grain_s: int = Field(10, ge=0, le=3600, description="Grain of all other types, seconds.")
    min_flow_per_min: float = Field(
        20,
        ge=0,
        le=10_000,
        description="People a minute below whom no type that one person can start is told, unless its entry says why.",
    )
    bits_per_minute: float = Field(
        400, ge=20, le=1e6, description="Most information that leaves, bits per minute averaged over any hour."
    )
    burst_bits: float = Field(4000, ge=200, le=1e6, description="Most information that leaves at once, bits.")
    alarm_share: float = Field(0.25, ge=0, le=0.9, description="Share of a burst that is kept for alarms.")
    count_epsilon: float = Field(
        0.5,
        ge=0,
        le=4,
        description="Privacy loss of a person for each number on `count/<zone>` (less is noisier); 0: no counts.",
    )
    count_epsilon_per_day: float = Field(
        120, ge=0, le=10_000, description="Privacy loss in a zone and day after which its counts stop until the next."
    )

    def grain_of(self, event_type: EventType) -> int:
        """Seconds that an event of this type waits for the end of its grain; 0 for alarms, which go at once."""
        if event_type in ALARMS:
            return 0
        return self.crowd_grain_s if event_type in CROWD_TYPES else self.grain_s

    def tick_of(self, event_type: EventType) -> float:
        """Seconds between two moments at which an event of this type can leave."""
        return self.grain_of(event_type) or TICK_S


class Policy(_Table):
    """The whole policy file."""

    detectors: tuple[DetectorPolicy, ...] = Field((), alias="detector")
    gate: GatePolicy = GatePolicy()
    follows: str | None = Field(
        None, description="Preset (`vigie policy preset`) whose list no entry may go beyond; unset: none."
    )

    @model_validator(mode="after")
    def _keeps_to_the_preset(self) -> Policy:
        if self.follows is not None:
            named = preset(self.follows).types
            beyond = sorted({d.type for d in self.detectors if d.type not in named})
            if beyond:
                raise ValueError(
                    f"preset {self.follows} does not name {', '.join(beyond)}; it names {', '.join(named)}"
                )
        return self

    def entry(self, event_type: EventType, zone: str | None, today: dt.date) -> DetectorPolicy | str:
        """The permission for a detector, or the reason in words why there is none.

        Where several entries permit it, the first one of the file counts.

        Args:
            event_type: What it detects.
            zone: Zone it watches, None where the type has no zone.
            today: The date; an entry is valid up to and including its last day.
        """
        entries = [d for d in self.detectors if d.event_type is event_type]
        if not entries:
            return f"{event_type.label}: the policy has no [[policy.detector]] entry for it"
        here = [d for d in entries if not d.zones or zone in d.zones]
        if not here:
            return f"{event_type.label}: the policy does not allow it {f'in zone {zone}' if zone else 'without a zone'}"
        valid = next((d for d in here if d.until >= today), None)
        if valid is None:
            last = max(here, key=lambda d: d.until)
            return f"{event_type.label}: its legal basis {last.legal_basis} ended on {last.until}"
        if valid.mode == "on" and not self._enough_pass(valid):
            return (
                f"{event_type.label}: one person can start it and {valid.flow_per_min:g} people a minute are stated to "
                f"pass (flow_per_min), fewer than the gate's {self.gate.min_flow_per_min:g}; if it is for safety, say "
                "why in below_flow"
            )
        return valid

    def _enough_pass(self, entry: DetectorPolicy) -> bool:
        """Whether so many pass that one person's event is one of many, or safety asks for it all the same."""
        if entry.event_type not in PERSON_TYPES or entry.below_flow is not None:
            return True
        return entry.flow_per_min >= self.gate.min_flow_per_min

    def may_tell(self, event_type: EventType, zone: str | None) -> bool:
        """Whether events of this type leave for a zone (None: without one) on some day."""
        return any(
            d.event_type is event_type and d.mode == "on" and (not d.zones or zone in d.zones) and self._enough_pass(d)
            for d in self.detectors
        )

    def state(self, entry: DetectorPolicy, today: dt.date) -> Literal["on", "shadow", "ended", "refused"]:
        """What becomes of one entry: `ended` after its last day, `refused` where the policy itself stands against it.

        Args:
            entry: One of `detectors`.
            today: The date.
        """
        if entry.days_left(today) < 0:
            return "ended"
        used = self.entry(entry.event_type, entry.zones[0] if entry.zones else None, today)
        return "refused" if isinstance(used, str) else entry.mode

    def permitted(
        self, sensor: CameraSettings | MicrophoneSettings, today: dt.date
    ) -> tuple[list[RuleSettings], list[str]]:
        """The rules that may run today, and for each other one the reason in words.

        Incidents are left out: they are where something is seen, which `agent.behaviours.fusion` knows.
        """
        allowed, refused = [], []
        for rule in sensor.rules:
            if rule.event_type in INCIDENTS:
                continue
            entry = self.entry(rule.event_type, rule.zone, today)
            if isinstance(entry, str):
                refused.append(entry)
            else:
                allowed.append(rule)
        return allowed, refused

    def ending(self, today: dt.date) -> list[DetectorPolicy]:
        """The permissions that end within `WARN_DAYS[0]` days and that no later one takes over, the first to end first.

        Args:
            today: The date.
        """
        near = [d for d in self.detectors if 0 <= d.days_left(today) <= WARN_DAYS[0]]
        return sorted((d for d in near if not self._taken_over(d)), key=lambda d: d.until)

    def _taken_over(self, entry: DetectorPolicy) -> bool:
        """Whether another entry permits the same in the same zones for longer."""
        return any(
            d.type == entry.type
            and d.until > entry.until
            and (not d.zones or (entry.zones and set(entry.zones) <= set(d.zones)))
            for d in self.detectors
        )

    def digest(self) -> str:
        """SHA-256 of the whole policy, in hexadecimal."""
        return hashlib.sha256(self.model_dump_json(by_alias=True).encode()).hexdigest()


def local_day(now: dt.datetime) -> dt.date:
    """The day on which a permission is used: that of the device's own time zone.

    Both processes ask here, and the machine has one time zone (`/etc/localtime`), so they agree on midnight.

    Args:
        now: The moment, aware.
    """
    return now.astimezone().date()


class PolicyFile(_Table):
    """The policy file: one table."""

    policy: Policy


def load_policy(path: Path, *, service: bool = False) -> Policy:
    """The policy in a TOML file.

    Args:
        path: The file; its only table is `[policy]`.
        service: Demand that root owns the file and nobody else can write it.

    Raises:
        PolicyError: it cannot be read, has an unknown key or a missing one, or (as a service) others can change it.
    """
    try:
        policy = PolicyFile.model_validate(read_toml(path)).policy
    except SettingsError as error:
        raise PolicyError(error.problems) from None
    except ValidationError as error:
        raise PolicyError([f"{path}: {line}" for line in explain(error, PolicyFile)]) from None
    if service:
        status = path.stat()
        if status.st_uid != 0 or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise PolicyError([f"{path}: must belong to root and be writable by nobody else: chown root, chmod 644"])
    return policy
