"""The one schema both processes share: what may cross the pipe, and what may leave the device.

Three closed vocabularies, and nothing else, exist outside the sensing process:

* `Observation`, sense to relay: a fixed 32-byte struct of enums and bounded integers. No text, no floats, no ids
  and no times chosen by sense, so that it cannot carry a face, a voice, a position or a track.
* `Control`, relay to sense: a few commands without free text.
* `Event`, relay to broker: CloudEvents 1.0 structured JSON (https://cloudevents.io) with a closed `data`.

This module is pure: it imports nothing of ours.
"""

from __future__ import annotations

import enum
import re
import struct
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError, WithJsonSchema

OBSERVATION_SIZE = 32
CONTROL_MAX_SIZE = 102_400  # a signed configuration, escaped as a text
CONTRACT_VERSION = 1

MAX_ZONES = 64
MAX_CAMERAS = 4
MAX_SLOTS = 64
MAX_COUNT = 255
MAX_AGE_MS = 600_000
MAX_ONSET_AGE = 6_000_000  # in steps of 100 µs: ten minutes
NO_ZONE = 0xFF
NO_CAMERA = 0xFF
NO_COUNT = 0xFFFF
NO_ONSET = 0xFFFF_FFFF
#: `health` leaves at each multiple of this, seconds.
HEALTH_EVERY_S = 300


class ContractError(ValueError):
    """A message that does not keep the contract; the text says what is wrong with it."""


class EventType(enum.IntEnum):
    """Everything Vigie can say. The number crosses the pipe, `name` crosses the broker."""

    CROWD_DENSITY = 1
    CROWD_GATHERING = 2
    CROWD_MOVEMENT = 3
    CROWD_FORECAST = 4
    ZONE_INTRUSION = 10
    DIRECTION_WRONG_WAY = 11
    PERSON_DOWN = 20
    PERSON_RUNNING = 21
    PERSON_LOITERING = 22
    ALTERCATION = 23
    OBJECT_ABANDONED = 30
    WASTE_DUMPED = 31
    SURFACE_TAGGED = 32
    SURFACE_DAMAGED = 33
    SOUND_GUNSHOT = 40
    SOUND_EXPLOSION = 41
    SOUND_GLASS_BREAK = 42
    SOUND_SCREAM = 43
    SOUND_CROWD_CLAMOUR = 44
    SOUND_SIREN = 45
    SOUND_HORN = 46
    INCIDENT_PANIC = 50
    INCIDENT_BRAWL = 51
    INCIDENT_VANDALISM = 52
    CAMERA_TAMPERED = 60

    @property
    def label(self) -> str:
        """The public name, such as `crowd.gathering`."""
        return _LABELS[self]

    @classmethod
    def parse(cls, label: str) -> EventType:
        """The type with this public name.

        Raises:
            ContractError: there is no such type.
        """
        try:
            return _BY_LABEL[label]
        except KeyError:
            raise ContractError(f"no event type is called {label!r}") from None


def _label(event_type: EventType) -> str:
    if event_type is EventType.ALTERCATION:
        return "altercation"
    family, _, rest = event_type.name.lower().partition("_")
    return f"{family}.{rest}"


_LABELS = {t: _label(t) for t in EventType}
_BY_LABEL = {label: t for t, label in _LABELS.items()}

#: Danger that goes out at once, stamped to the second; evicted last when the outbox is full.
ALARMS = frozenset(
    {
        EventType.PERSON_DOWN,
        EventType.SOUND_GUNSHOT,
        EventType.SOUND_EXPLOSION,
        EventType.SOUND_GLASS_BREAK,
        EventType.SOUND_SCREAM,
        EventType.INCIDENT_PANIC,
        EventType.INCIDENT_BRAWL,
    }
)

#: Types that one single person can start: merged in their grain, `started` only, duration as a class.
PERSON_TYPES = frozenset(
    {
        EventType.ZONE_INTRUSION,
        EventType.DIRECTION_WRONG_WAY,
        EventType.PERSON_DOWN,
        EventType.PERSON_RUNNING,
        EventType.PERSON_LOITERING,
        EventType.ALTERCATION,
        EventType.OBJECT_ABANDONED,
        EventType.WASTE_DUMPED,
        EventType.SURFACE_TAGGED,
        EventType.SURFACE_DAMAGED,
    }
)

#: Types whose meaning is a number of people: the k-threshold applies.
CROWD_TYPES = frozenset(
    {EventType.CROWD_DENSITY, EventType.CROWD_GATHERING, EventType.CROWD_MOVEMENT, EventType.CROWD_FORECAST}
)

#: Types that may carry a fine onset time, for location by several devices, where the policy allows it.
ONSET_TYPES = frozenset({EventType.SOUND_GUNSHOT, EventType.SOUND_EXPLOSION})


class Kind(enum.IntEnum):
    """What an observation is about."""

    EPISODE = 1
    HEALTH = 2
    REPLY = 3


class Phase(enum.IntEnum):
    """Life cycle of an episode; forward only."""

    NONE = 0
    STARTED = 1
    ONGOING = 2
    ENDED = 3


class Level(enum.IntEnum):
    """Occupancy class of a zone."""

    NONE = 0
    FREE = 1
    LOW = 2
    MEDIUM = 3
    HIGH = 4
    CRITICAL = 5


class Variant(enum.IntEnum):
    """The sort of crowd movement."""

    NONE = 0
    SURGE = 1
    DISPERSAL = 2
    CONVERGENCE = 3
    COUNTERFLOW = 4


class Confidence(enum.IntEnum):
    """Four steps; finer would be false precision and a free channel."""

    LOW = 0
    MEDIUM = 1
    HIGH = 2
    CONFIRMED = 3


class OnsetError(enum.IntEnum):
    """How far off a told onset may be, milliseconds; the number is the bound."""

    NONE = 0
    MS_1 = 1
    MS_2 = 2
    MS_5 = 5
    MS_10 = 10
    MS_20 = 20
    MS_50 = 50


class Evidence(enum.IntEnum):
    """What agreed on an incident: something heard and something seen."""

    NONE = 0
    GUNSHOT_DISPERSAL = 1
    EXPLOSION_DISPERSAL = 2
    SCREAM_ALTERCATION = 3
    CLAMOUR_ALTERCATION = 4
    GLASS_TAGGED = 5
    GLASS_DAMAGED = 6


#: What may agree on each incident. An incident, and nothing else, names its evidence.
INCIDENTS: dict[EventType, frozenset[Evidence]] = {
    EventType.INCIDENT_PANIC: frozenset({Evidence.GUNSHOT_DISPERSAL, Evidence.EXPLOSION_DISPERSAL}),
    EventType.INCIDENT_BRAWL: frozenset({Evidence.SCREAM_ALTERCATION, Evidence.CLAMOUR_ALTERCATION}),
    EventType.INCIDENT_VANDALISM: frozenset({Evidence.GLASS_TAGGED, Evidence.GLASS_DAMAGED}),
}


class SenseState(enum.IntEnum):
    """State of the sensing process."""

    NONE = 0
    STARTING = 1
    READY = 2
    DEGRADED = 3
    PAUSED = 4
    STOPPING = 5


class CameraState(enum.IntEnum):
    """State of one camera; `NONE` where the device has no such camera."""

    NONE = 0
    CONNECTING = 1
    LIVE = 2
    STALLED = 3
    LOST = 4
    PAUSED = 5
    ENDED = 6


class MicrophoneState(enum.IntEnum):
    """State of the microphone."""

    NONE = 0
    CONNECTING = 1
    LIVE = 2
    SILENT = 3
    CLIPPING = 4
    LOST = 5
    PAUSED = 6
    ENDED = 7


class DetectorState(enum.IntEnum):
    """Which detector serves: a model, moving blobs because no model was found, or a model without the accelerator."""

    NONE = 0
    MODEL = 1
    MOTION = 2
    UNACCELERATED = 3


class RateClass(enum.IntEnum):
    """Analysed frames as a share of the target rate."""

    NONE = 0
    STOPPED = 1
    LOW = 2
    REDUCED = 3
    FULL = 4


class ControlCode(enum.IntEnum):
    """Which control message a reply answers."""

    NONE = 0
    PAUSE = 1
    RESUME = 2
    SELFTEST = 3
    DETECTORS = 4
    CONFIGURE = 5
    RESTART = 6
    LOG_LEVEL = 7


class ReplyCode(enum.IntEnum):
    """How sense answers a control message."""

    NONE = 0
    DONE = 1
    FAILED = 2
    REFUSED = 3


#: The bytes of an observation in their order, little-endian: name and struct code.
LAYOUT = (
    ("version", "B"),
    ("kind", "B"),
    ("type", "B"),
    ("phase", "B"),
    ("zone", "B"),
    ("camera", "B"),
    ("slot", "B"),
    ("level", "B"),
    ("variant", "B"),
    ("confidence", "B"),
    ("count", "H"),
    ("age_ms", "I"),
    ("onset_age", "I"),
    ("sense", "B"),
    ("cameras", "4B"),
    ("microphone", "B"),
    ("detector", "B"),
    ("rate", "B"),
    ("control", "B"),
    ("reply", "B"),
    ("evidence", "B"),
    ("onset_error", "B"),
)
_STRUCT = struct.Struct("<" + "".join(code for _, code in LAYOUT))
assert _STRUCT.size == OBSERVATION_SIZE  # noqa: S101 - a layout that is not 32 bytes must never import


@dataclass(frozen=True, slots=True)
class Observation:
    """One message from sense to relay: 32 bytes, little-endian, every bit accounted for.

    Attributes:
        kind: What it is about; the fields a kind does not use must hold their neutral value.
        type: Event type of an episode, else None.
        phase: Life cycle of the episode.
        zone: Index of the zone in the configuration's order, or `NO_ZONE`.
        camera: Index of the camera, or `NO_CAMERA`.
        slot: Small recycled number, 0 to 63, that ties the phases of one open episode together on the pipe.
        level: Occupancy class.
        variant: Sort of crowd movement.
        confidence: Four steps.
        count: Persons, 0 to 255 (255 means "255 or more"), or `NO_COUNT`. The gate turns it into a class or adds
            noise; it never leaves as it is.
        age_ms: Milliseconds since the observed moment, 0 to 600,000. Relay owns the clock.
        onset_age: Age of a sound's onset in steps of 100 µs, or `NO_ONSET`.
        evidence: What agreed on an incident.
        onset_error: How far off the onset may be.
        sense: State of the sensing process (health).
        cameras: States of the cameras, always four (health).
        microphone: State of the microphone (health).
        detector: Which detector serves (health).
        rate: Analysed frame rate as a class (health).
        control: The control message that a reply answers.
        reply: The answer.
    """

    kind: Kind
    type: EventType | None = None
    phase: Phase = Phase.NONE
    zone: int = NO_ZONE
    camera: int = NO_CAMERA
    slot: int = 0
    level: Level = Level.NONE
    variant: Variant = Variant.NONE
    confidence: Confidence = Confidence.LOW
    count: int = NO_COUNT
    age_ms: int = 0
    onset_age: int = NO_ONSET
    evidence: Evidence = Evidence.NONE
    onset_error: OnsetError = OnsetError.NONE
    sense: SenseState = SenseState.NONE
    cameras: tuple[CameraState, CameraState, CameraState, CameraState] = (CameraState.NONE,) * 4
    microphone: MicrophoneState = MicrophoneState.NONE
    detector: DetectorState = DetectorState.NONE
    rate: RateClass = RateClass.NONE
    control: ControlCode = ControlCode.NONE
    reply: ReplyCode = ReplyCode.NONE

    def pack(self) -> bytes:
        """The 32 bytes on the pipe.

        Raises:
            ContractError: a value lies outside its bounds, or a field is set that this kind does not use.
        """
        _check(self)
        return _STRUCT.pack(
            CONTRACT_VERSION,
            self.kind,
            self.type or 0,
            self.phase,
            self.zone,
            self.camera,
            self.slot,
            self.level,
            self.variant,
            self.confidence,
            self.count,
            self.age_ms,
            self.onset_age,
            self.sense,
            *self.cameras,
            self.microphone,
            self.detector,
            self.rate,
            self.control,
            self.reply,
            self.evidence,
            self.onset_error,
        )

    @classmethod
    def unpack(cls, message: bytes) -> Observation:
        """The observation in `message`, checked again from the first to the last bit.

        Raises:
            ContractError: wrong size or version, an unknown enum value, a value outside its bounds, or a field that
                this kind does not use.
        """
        if len(message) != OBSERVATION_SIZE:
            raise ContractError(f"an observation has {OBSERVATION_SIZE} bytes, not {len(message)}")
        (
            version,
            kind,
            type_,
            phase,
            zone,
            camera,
            slot,
            level,
            variant,
            confidence,
            count,
            age_ms,
            onset_age,
            *rest,
        ) = _STRUCT.unpack(message)
        if version != CONTRACT_VERSION:
            raise ContractError(f"contract version {version} is not {CONTRACT_VERSION}")
        sense, camera0, camera1, camera2, camera3, microphone, detector, rate, control, reply, *rest = rest
        evidence, onset_error = rest
        try:
            observation = cls(
                kind=Kind(kind),
                type=EventType(type_) if type_ else None,
                phase=Phase(phase),
                zone=zone,
                camera=camera,
                slot=slot,
                level=Level(level),
                variant=Variant(variant),
                confidence=Confidence(confidence),
                count=count,
                age_ms=age_ms,
                onset_age=onset_age,
                evidence=Evidence(evidence),
                onset_error=OnsetError(onset_error),
                sense=SenseState(sense),
                cameras=(CameraState(camera0), CameraState(camera1), CameraState(camera2), CameraState(camera3)),
                microphone=MicrophoneState(microphone),
                detector=DetectorState(detector),
                rate=RateClass(rate),
                control=ControlCode(control),
                reply=ReplyCode(reply),
            )
        except ValueError as error:
            raise ContractError(str(error)) from None
        _check(observation)
        return observation


#: Which fields each kind may use; every other field must keep its default, so that no bit is free.
USES: dict[Kind, frozenset[str]] = {
    Kind.EPISODE: frozenset(
        {"type", "phase", "zone", "camera", "slot", "level", "variant", "confidence", "count", "age_ms"}
        | {"onset_age", "onset_error", "evidence"}
    ),
    Kind.HEALTH: frozenset({"sense", "cameras", "microphone", "detector", "rate"}),
    Kind.REPLY: frozenset({"control", "reply"}),
}
_NEUTRAL = {
    name: Observation.__dataclass_fields__[name].default for name in Observation.__dataclass_fields__ if name != "kind"
}
_NO_EVIDENCE = frozenset({Evidence.NONE})
_MUST_BE_NEUTRAL = {kind: tuple(name for name in _NEUTRAL if name not in used) for kind, used in USES.items()}


def _bounded(name: str, value: int, top: int, none: int | None = None) -> None:
    if not (0 <= value <= top or value == none):
        raise ContractError(f"{name} is outside 0 to {top}")


def _check(o: Observation) -> None:
    for name in _MUST_BE_NEUTRAL[o.kind]:
        if getattr(o, name) != _NEUTRAL[name]:
            raise ContractError(f"{name} is not for {o.kind.name.lower()} observations")
    _bounded("zone", o.zone, MAX_ZONES - 1, NO_ZONE)
    _bounded("camera", o.camera, MAX_CAMERAS - 1, NO_CAMERA)
    _bounded("slot", o.slot, MAX_SLOTS - 1)
    _bounded("count", o.count, MAX_COUNT, NO_COUNT)
    _bounded("age_ms", o.age_ms, MAX_AGE_MS)
    _bounded("onset_age", o.onset_age, MAX_ONSET_AGE, NO_ONSET)
    if o.kind is Kind.EPISODE:
        _check_episode(o)
    elif o.kind is Kind.HEALTH and o.sense is SenseState.NONE:
        raise ContractError("health needs the state of sense")
    elif o.kind is Kind.REPLY and (o.control is ControlCode.NONE or o.reply is ReplyCode.NONE):
        raise ContractError("a reply needs a control code and an answer")


def _check_episode(o: Observation) -> None:
    if o.type is None:
        raise ContractError("an episode needs a type")
    if o.phase is Phase.NONE:
        raise ContractError("an episode needs a phase")
    if o.variant is not Variant.NONE and o.type is not EventType.CROWD_MOVEMENT:
        raise ContractError("only crowd.movement has a variant")
    if o.level is not Level.NONE and o.type not in CROWD_TYPES:
        raise ContractError("only crowd types have a level")
    if o.count != NO_COUNT and o.type not in CROWD_TYPES:
        raise ContractError("only crowd types have a count")
    if o.onset_age != NO_ONSET and o.type not in ONSET_TYPES:
        raise ContractError("only gunshot and explosion have an onset age")
    if (o.onset_age == NO_ONSET) != (o.onset_error is OnsetError.NONE):
        raise ContractError("an onset age and its error belong together")
    if o.evidence not in INCIDENTS.get(o.type, _NO_EVIDENCE):
        raise ContractError("an incident, and nothing else, names the evidence that it rests on")


class _Closed(BaseModel):
    """A message without room for anything that is not named here."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


_NAME = "[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?"
#: Part of a topic and of `source`: unique in the fleet, no wildcard, no slash.
Name = Annotated[str, StringConstraints(pattern=f"^{_NAME}$")]
_TYPE_LABELS = sorted(_BY_LABEL)
DetectorLabel = Annotated[
    str,
    StringConstraints(pattern="^(" + "|".join(map(re.escape, _TYPE_LABELS)) + ")$"),
    WithJsonSchema({"type": "string", "enum": _TYPE_LABELS}),
]
LogLevelName = Literal["debug", "info", "warning", "error"]


class Pause(_Closed):
    """Close the cameras and the microphone (privacy shutter)."""

    control: Literal["pause"] = "pause"


class Resume(_Closed):
    """Open them again; sense opens none before relay has said pause or resume."""

    control: Literal["resume"] = "resume"


class Selftest(_Closed):
    """Run the detector once on a built-in picture and say whether it works."""

    control: Literal["selftest"] = "selftest"


class Detector(_Closed):
    """One kind of detection, everywhere or in one zone."""

    type: DetectorLabel
    """Such as `crowd.gathering`."""
    zone: Name | None = None
    """Zone; absent: wherever it is configured."""


class Detectors(_Closed):
    """Run what is configured and permitted, without these."""

    control: Literal["detectors"] = "detectors"
    off: Annotated[tuple[Detector, ...], Field(max_length=256)] = ()
    """What a manager has switched off: it can narrow what the policy allows, and nothing else."""


class Configure(_Closed):
    """Sense by the device's own settings and this document of a manager, of which sense checks the signature itself."""

    control: Literal["configure"] = "configure"
    document: str | None = None
    """`Desired` of `agent.command`, unchanged; absent: the device's own settings alone."""


class Restart(_Closed):
    """Begin anew, with everything closed in between."""

    control: Literal["restart"] = "restart"


class LogLevel(_Closed):
    """Log from this severity on, until the next start."""

    control: Literal["log_level"] = "log_level"
    level: LogLevelName
    """The least severity."""


AnyControl = Pause | Resume | Selftest | Detectors | Configure | Restart | LogLevel
Control = Annotated[AnyControl, Field(discriminator="control")]
CONTROL: TypeAdapter[AnyControl] = TypeAdapter(Control)


def parse_control(message: bytes) -> AnyControl:
    """The control message in `message`.

    Raises:
        ContractError: too large, no JSON, or not one of the closed set.
    """
    if len(message) > CONTROL_MAX_SIZE:
        raise ContractError(f"a control message has at most {CONTROL_MAX_SIZE} bytes")
    try:
        return CONTROL.validate_json(message)
    except ValidationError as error:
        raise ContractError(f"no control message: {error.errors()[0]['type']}") from None


#: Reference of the legal basis, as an officer writes it.
Basis = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ./:_-]{0,39}$")]

EventId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}-[0-9]{6,12}$")]
EpisodeId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{4}$")]
_DATE = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME = "[0-9]{2}:[0-9]{2}:[0-9]{2}"
Date = Annotated[str, StringConstraints(pattern=f"^{_DATE}$")]
#: UTC, to the second (or to 100 µs for an onset): RFC 3339.
Timestamp = Annotated[str, StringConstraints(pattern=f"^{_DATE}T{_TIME}Z$")]
OnsetTimestamp = Annotated[str, StringConstraints(pattern=rf"^{_DATE}T{_TIME}\.[0-9]{{4}}Z$")]
#: Eight random hexadecimal digits, new at each start of relay.
BootId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]

CountClass = Literal["<k", "1-4", "5-9", "10-19", "20-49", "50-99", "100-199", ">=200"]
DurationClass = Literal["<10s", "<1min", "1-5min", "5-15min", "15-60min", ">1h"]
PhaseName = Literal["started", "ongoing", "ended"]
LevelName = Literal["free", "low", "medium", "high", "critical"]
VariantName = Literal["surge", "dispersal", "convergence", "counterflow"]
ConfidenceName = Literal["low", "medium", "high", "confirmed"]
ClockName = Literal["synced", "unsynced"]
#: What was heard, then what was seen.
EvidenceName = Literal[
    "gunshot+dispersal",
    "explosion+dispersal",
    "scream+altercation",
    "clamour+altercation",
    "glass+tagged",
    "glass+damaged",
]
OnsetErrorName = Literal["1ms", "2ms", "5ms", "10ms", "20ms", "50ms"]


class EventData(_Closed):
    """What an event says. Everything here is a class, a random id or a name from the local configuration."""

    episode: EpisodeId
    """Random, ties the phases of one episode together and dies with it."""
    phase: PhaseName
    """`started` without a later `ended` where the type is about persons or the duration is already told."""
    zone: Name | None = None
    """Zone it happened in; absent where the type has none."""
    camera: Name | None = None
    """Camera, where there is no zone."""
    level: LevelName | None = None
    """Occupancy class of the zone (crowd types, at least k people)."""
    variant: VariantName | None = None
    """Sort of movement (`crowd.movement`)."""
    count: CountClass | None = None
    """People as a class (crowd types); `<k` below the k of the device's birth message."""
    confidence: ConfidenceName
    """`confirmed` is for what a second kind of sensor has confirmed."""
    duration: DurationClass | None = None
    """How long it lasted, where that is known."""
    onset: OnsetTimestamp | None = None
    """Onset of a gunshot or an explosion, where the policy allows it and the clock is synchronised."""
    onset_error: OnsetErrorName | None = None
    """How far off the onset may be, that of the clock included where it is known, but for a soft beginning that the
    noise covers and the electronics."""
    evidence: EvidenceName | None = None
    """What was heard and what was seen that agree on an incident."""
    clock: ClockName
    """Whether the device's clock was synchronised."""
    basis: Basis
    """Reference of the legal basis."""


_TYPE_NAMES = [f"vigie.{event_type.label}.v1" for event_type in EventType]
EventTypeName = Annotated[
    str,
    StringConstraints(pattern="^(" + "|".join(map(re.escape, _TYPE_NAMES)) + ")$"),
    WithJsonSchema({"type": "string", "enum": _TYPE_NAMES}),
]


class Event(_Closed):
    """CloudEvents 1.0, structured JSON mode: the only thing that says what happened."""

    specversion: Literal["1.0"] = "1.0"
    id: EventId
    """Boot id and a running number: unique, and the same when the event is delivered twice."""
    source: Annotated[str, StringConstraints(pattern=f"^/vigie/{_NAME}/{_NAME}$")]
    """`/vigie/<site>/<device>`."""
    type: EventTypeName
    time: Timestamp
    """When it happened, as the beginning of its grain; alarms to the second."""
    datacontenttype: Literal["application/json"] = "application/json"
    data: EventData

    def to_json(self) -> bytes:
        """The MQTT payload: UTF-8 JSON without the fields that are not set."""
        return self.model_dump_json(exclude_none=True).encode()


class Status(_Closed):
    """Retained on `status`, and the last will: is the device alive."""

    state: Literal["starting", "ready", "degraded", "paused", "stopping", "offline", "decommissioned"]
    """`decommissioned`: it has erased its keys and does not come back; the last `audit/head` says so, signed."""
    boot: BootId
    """The episodes of any other boot are over."""
    reasons: tuple[
        Literal["camera", "microphone", "detector", "sense", "disk", "clock", "journal", "policy", "rate", "aiming"],
        ...,
    ] = ()
    """Why it is degraded; `policy` also, as a warning, from 30 days before a permission ends. `aiming`: a technician
    looks at its view, so that sense waits."""

    @property
    def is_gone(self) -> bool:
        """Whether the device is not there, for now or for ever."""
        return self.state in {"offline", "decommissioned"}


class DetectorNotice(_Closed):
    """One detector that is on, as the birth message lists it."""

    type: EventTypeName
    mode: Literal["on", "shadow"]
    """`shadow` is counted on the device and never sent."""
    basis: Basis
    """Reference of the legal basis."""
    until: Date
    """Last day on which it may run."""
    zones: tuple[Name, ...] = ()
    """Zones in which a rule looks for it; empty where no rule names one."""


class Birth(_Closed):
    """Retained on `birth`: what runs on this device and on what legal basis."""

    boot: BootId
    agent: Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z.+-]{1,40}$")]
    """Version of the agent."""
    contract: int
    """Version of the contract."""
    k: Annotated[int, Field(ge=1, le=100)]
    """No count below k people leaves the device."""
    detectors: tuple[DetectorNotice, ...]
    """What may be detected."""
    config: Sha256
    """SHA-256 of the configuration, without user names and passwords."""
    policy: Sha256
    """SHA-256 of the policy."""
    labels: Annotated[tuple[Name, ...], Field(max_length=8)] = ()
    """Labels of the device, as its settings say."""


class State(_Closed):
    """Retained on `state/<zone>/<type>`: what the events of a type have said of a zone; made of nothing but them."""

    boot: BootId
    """What another boot has left open is over."""
    event: EventId
    """The latest event."""
    open: bool
    """Whether it goes on."""
    since: Timestamp
    """Time of the event with which it began."""
    time: Timestamp
    """Time of the latest event."""
    level: LevelName | None = None
    """As in the event."""
    variant: VariantName | None = None
    """As in the event."""
    count: CountClass | None = None
    """As in the event."""


class Count(_Closed):
    """On `count/<zone>`, at the end of each grain of crowd types: people in the zone, with noise."""

    time: Timestamp
    """Beginning of the grain."""
    grain_s: int
    """Length of the grain, seconds."""
    count: Annotated[int, Field(ge=0, le=MAX_COUNT)] | Literal["<k"] | None = None
    """People with discrete Laplace noise; `<k` where that is below k, and while no event says that the zone has k.

    Absent where the budget of the day is spent, or too few bits are left."""
    epsilon: Annotated[float, Field(ge=0)]
    """Privacy loss of everybody who was in the zone in this grain; 0 where the count says nothing new. That the zone
    is busy at all is said by `crowd.density` without noise, and this does not cover it."""
    epsilon_left: Annotated[float, Field(ge=0)]
    """What the zone may still spend today (UTC)."""
    clock: ClockName
    """Whether the device's clock was synchronised."""


class Health(_Closed):
    """On `health`, every five minutes by the clock whatever happens: how the device is, in classes."""

    time: Timestamp
    """The moment, a multiple of five minutes."""
    sense: Literal["unknown", "starting", "ready", "degraded", "paused", "stopping"]
    """The sensing process; `unknown` while it says nothing."""
    cameras: tuple[Literal["none", "connecting", "live", "stalled", "lost", "paused", "ended"], ...] = ()
    """In the order of the configuration."""
    microphone: Literal["none", "connecting", "live", "silent", "clipping", "lost", "paused", "ended"] = "none"
    """The microphone."""
    detector: Literal["none", "model", "motion", "unaccelerated"] = "none"
    """Which detector serves."""
    rate: Literal["none", "stopped", "low", "reduced", "full"] = "none"
    """Analysed frames as a share of the target."""
    temperature: Literal["unknown", "normal", "warm", "hot", "critical"] = "unknown"
    """Of the hottest part: from 70 °C warm, from 85 °C hot, from 95 °C critical."""
    load: Literal["unknown", "low", "medium", "high", "over"] = "unknown"
    """Of the processor over five minutes: from half of it medium, from 0.8 high, more than all of it over."""
    queue: Literal["empty", "short", "long", "full"] = "empty"
    """Events that wait for the broker: from 1,000 long, from nine tenths of the outbox full."""
    drops: Literal["none", "some", "many"] = "none"
    """Events given up since the last message on `health`, for age or room: from 100 many."""
    clock: Literal["synced", "unsynced"] = "unsynced"
    """Whether the clock was ever set."""


class Suppressed(_Closed):
    """On `suppressed`, after each day (UTC): how much the gate held back, as classes."""

    boot: BootId
    """A day in which relay started has one message for the part after it only."""
    day: Date
    """The day that is over."""
    rate: CountClass
    """Observations above the rate of the pipe."""
    malformed: CountClass
    """Messages that do not keep the contract."""
    place: CountClass
    """Of a zone or camera that is not configured."""
    order: CountClass
    """Ends of what never began, and what began anew without an end."""
    full: CountClass
    """Beyond the episodes that may be open at once."""
    policy: CountClass
    """Without a permission."""
    k: CountClass
    """Of fewer than k people, or over too soon."""
    bits: CountClass
    """Beyond the information that may leave."""

    REASONS: ClassVar = ("rate", "malformed", "place", "order", "full", "policy", "k", "bits")


class AuditHead(_Closed):
    """Retained on `audit/head`: the signed root of the audit log. Whoever keeps it can prove a later change."""

    log: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
    """Random id of the log; another one begins when the old one could not be read, or its key was replaced."""
    source: Annotated[str, StringConstraints(pattern=f"^/vigie/{_NAME}/{_NAME}$")]
    """`/vigie/<site>/<device>`."""
    size: Annotated[int, Field(ge=1, lt=2**53)]
    """Entries of the log; they are numbered from 1."""
    root: Sha256
    """Merkle tree hash of these entries (RFC 6962)."""
    kept_from: Annotated[int, Field(ge=1, lt=2**53)]
    """Every entry from this one on is kept; of older ones the hashes are."""
    time: Timestamp
    """When it was signed."""
    key: Sha256
    """SHA-256 of the 32 bytes of the public key."""
    final: Literal[True] | None = None
    """The device was decommissioned: there will be no other entry, and the key is erased."""
    signature: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{128}$")]
    """Ed25519 over `vigie-audit-head-1`, a line feed, and the other fields as canonical JSON (RFC 8785)."""


#: Largest notice, bytes of JSON.
NOTICE_MAX_SIZE = 65_536
#: An officer's or a maker's own words; nothing that sense says comes here.
Words = Annotated[str, StringConstraints(max_length=4000)]


class NoticeDetector(_Closed):
    """One permission, as the policy states it."""

    type: EventTypeName
    mode: Literal["on", "shadow", "ended", "refused"]
    """`shadow` is counted on the device and never sent; `ended` is past its last day; `refused` does not run either,
    since fewer people pass than its policy demands."""
    zones: tuple[Name, ...]
    """Empty: all of the device."""
    purpose: Words
    """What it is for."""
    basis: Basis
    """Reference of the legal basis."""
    body: Words
    """The body responsible."""
    contact: Words
    """Where people ask, object or complain."""
    retention_days: int
    """For how long the receiver may keep the events, days."""
    place: Words | None = None
    """The place; absent: the device's site and zones."""
    until: Date
    """Last day."""


class NoticeModel(_Closed):
    """One network on the device that may serve."""

    name: Words
    version: Words
    task: Literal["detect", "tag-sound", "check-patch"]
    sha256: Sha256
    """SHA-256 of its file."""
    licence: Words
    """SPDX identifier."""
    measured: Words
    """What its card says was measured; empty: not measured."""


class RegisterEntry(_Closed):
    """One language of an entry in the fields of the Algorithmic Transparency Standard 0.3.1 (algorithmregister.org)."""

    standard_version: Literal["0.3.1"] = "0.3.1"
    lang: Literal["en", "fr"]
    last_change_date: Date
    """When the policy was changed last."""
    revision_date: Date | None = None
    """When the first permission ends; absent where there is none."""
    revision_note: Words
    name: Words
    organization: Words
    department: Words
    country: Words
    contact_email: Words
    description_short: Words
    status: Literal["pilot", "operational", "retired"]
    decision_making_process: Words
    domain: Literal["public safety"] = "public safety"
    area: Words
    goal: Words
    impact: Words
    risks: Words
    risk_category: Words
    proportionality: Words
    lawful_basis: Words
    training_data: Words
    source_data: Words
    connected_data_sources: Words
    description: Words
    algorithm_type: Literal["hybrid"] = "hybrid"
    methods_and_models: Words
    performance: Words
    type: Literal["descriptive"] = "descriptive"
    monitoring: Words
    human_intervention: Words
    objection_procedure: Words
    rollback: Words


class Notice(_Closed):
    """Retained on `notice`: what the public may know of this device, at most `NOTICE_MAX_SIZE` bytes."""

    source: Annotated[str, StringConstraints(pattern=f"^/vigie/{_NAME}/{_NAME}$")]
    """`/vigie/<site>/<device>`."""
    agent: Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z.+-]{1,40}$")]
    """Version of the agent."""
    contract: int
    """Version of the contract."""
    config: Sha256
    """SHA-256 of the configuration, without user names and passwords."""
    policy: Sha256
    """SHA-256 of the policy."""
    k: Annotated[int, Field(ge=1, le=100)]
    """No count below k people leaves the device."""
    detectors: tuple[NoticeDetector, ...]
    models: tuple[NoticeModel, ...]
    audit_head: Words
    """Topic on which the head of the audit log is published."""
    register_entries: tuple[RegisterEntry, ...]
    """The same in English and in French, for a public register."""


def topic(site: str, device: str, *levels: str) -> str:
    """An MQTT topic below the device's own root, such as `vigie/v1/old-port/cam-07/status`."""
    return "/".join(("vigie/v1", site, device, *levels))
