"""What several devices say together: incidents, which are made of crowd and sound events and of nothing else.

An incident is a CloudEvent as an event is, on `vigie/v1/<site>/_incidents/<kind>`. `_incidents` is no device: a name of
a device has no underscore, so the access list that lets each device write below its own name lets none write there.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, WithJsonSchema

from agent.command import Closed
from agent.contract import (
    ConfidenceName,
    CountClass,
    EventType,
    LevelName,
    Name,
    PhaseName,
    Timestamp,
    VariantName,
)
from agent.fleet.said import ROOT

#: Where a device's name would stand.
INCIDENTS_LEVEL = "_incidents"
MAX_PLACES = 64

#: What may be joined, and nothing else: sounds and crowds, which single nobody out. Never `person.*`,
#: `zone.intrusion`, `object.*` or what else one person alone can start, since a person who is told by one camera after
#: another is followed.
JOINABLE = (
    EventType.SOUND_GUNSHOT,
    EventType.SOUND_EXPLOSION,
    EventType.CROWD_MOVEMENT,
    EventType.CROWD_DENSITY,
)
Kind = Literal["sound.gunshot", "sound.explosion", "crowd.movement", "crowd.density"]

_TYPE_NAMES = [f"vigie.joined.{event_type.label}.v1" for event_type in JOINABLE]
_NAME = "[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?"
#: `<device>/<zone>`.
PlaceName = Annotated[str, StringConstraints(pattern=f"^{_NAME}/{_NAME}$")]
Half = Annotated[float, Field(gt=0, le=100_000)]


class Location(Closed):
    """Where a sound was made: an ellipse that holds the place with a probability of 95 %."""

    latitude: Annotated[float, Field(ge=-90, le=90)]
    """Of the centre, degrees north (WGS 84)."""
    longitude: Annotated[float, Field(ge=-180, le=180)]
    """Degrees east."""
    semi_major_m: Half
    """Longer half axis, metres."""
    semi_minor_m: Half
    """Shorter half axis, metres."""
    azimuth_deg: Annotated[float, Field(ge=0, le=180)]
    """Direction of the longer axis, degrees from north over east."""


class IncidentData(Closed):
    """What an incident says. Devices and zones are places of the map; nothing here is about a person."""

    incident: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}$")]
    """Random, ties the phases of one incident together and dies with it."""
    phase: PhaseName
    """A sound is `started` only."""
    devices: Annotated[tuple[Name, ...], Field(min_length=1, max_length=MAX_PLACES)]
    """Those whose events were joined, by name."""
    location: Location | None = None
    """Where a sound was made."""
    unlocated: Literal["few-devices", "geometry", "no-fit"] | None = None
    """Why there is no location: fewer than three devices told a fine onset by a synchronised clock; they stand so that
    it could be anywhere along a line; no single sound explains what they heard."""
    echoes: Annotated[int, Field(ge=0, le=MAX_PLACES)] | None = None
    """Devices whose onset was taken for an echo, or for wrong."""
    variant: VariantName | None = None
    """Sort of movement."""
    path: Annotated[tuple[PlaceName, ...], Field(min_length=2, max_length=MAX_PLACES)] | None = None
    """Zones that a movement has passed, in this order."""
    square: Name | None = None
    """Square of the map whose density is told."""
    level: LevelName | None = None
    """Occupancy class of the square, by the people there at least and its area."""
    count: CountClass | None = None
    """Class of the people that its zones hold at least; zones that say nothing, or `<k`, count as empty."""
    silent: Annotated[int, Field(ge=0, le=MAX_PLACES)] | None = None
    """Zones of the square whose device is not there."""
    confidence: ConfidenceName
    """The least of the joined events."""


class Incident(Closed):
    """CloudEvents 1.0, structured JSON mode: what several devices say together."""

    specversion: Literal["1.0"] = "1.0"
    id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}-[0-9]{6,12}$")]
    """Random for each run, and a running number."""
    source: Annotated[str, StringConstraints(pattern=f"^/vigie/{_NAME}/{INCIDENTS_LEVEL}$")]
    """`/vigie/<site>/_incidents`."""
    type: Annotated[
        str,
        StringConstraints(pattern="^(" + "|".join(map(re.escape, _TYPE_NAMES)) + ")$"),
        WithJsonSchema({"type": "string", "enum": _TYPE_NAMES}),
    ]
    time: Timestamp
    """When it began, by the clocks of the devices."""
    datacontenttype: Literal["application/json"] = "application/json"
    data: IncidentData

    @property
    def topic(self) -> str:
        """Where it is published."""
        site = self.source.split("/")[2]
        return f"{ROOT}/{site}/{INCIDENTS_LEVEL}/{self.type.removeprefix('vigie.joined.').removesuffix('.v1')}"

    def to_json(self) -> bytes:
        """The MQTT payload: UTF-8 JSON without the fields that are not set."""
        return self.model_dump_json(exclude_none=True).encode()
