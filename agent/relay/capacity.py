"""The most information that can leave, whatever sense does: the bound that the gate keeps, and how it is made up.

All that a broker ever sees is written down here in a code of bits, and the gate lets nothing leave that its budget of
bits does not cover. As the code can be read back without doubt (Kraft's inequality), what left within any time can be
no more than 2 to the power of the bits spent: that is the bound, for every input and every attacker.

The code goes from one moment of release to the next. At each moment it says for every event that leaves "one more" and
then which of all types and places, and what each of its fields says; and after the last one "no more". With `n` moments
a minute, "one more" costs log2(1 + n) bits and "no more" log2(1 + 1/n), which is best where about one event leaves in a
minute. So silence costs bits too, and so do the number of events and the moments they leave at. Their order costs
nothing, since the gate sorts them.

What comes from relay alone costs nothing: ids are random, the running number counts the events, `clock` and `basis` do
not depend on sense. The messages on `state` are made of events that have left already. `health` and the daily totals
leave at fixed times and are paid for in advance; a number on `count`, and each change of `status`, is paid for when it
leaves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import get_args

from agent.contract import (
    CROWD_TYPES,
    HEALTH_EVERY_S,
    INCIDENTS,
    MAX_AGE_MS,
    MAX_COUNT,
    MAX_ONSET_AGE,
    PERSON_TYPES,
    CameraState,
    Confidence,
    CountClass,
    DetectorState,
    DurationClass,
    EventType,
    Evidence,
    Health,
    Level,
    MicrophoneState,
    OnsetError,
    RateClass,
    SenseState,
    Status,
    Suppressed,
    Variant,
)
from agent.policy import Policy, PolicyError
from agent.relay.classes import count_classes
from agent.settings import Settings

#: `status` may change at each of these moments, seconds.
STATUS_TICK_S = 1.0
#: Parts of `health` that are not sense's words.
_OF_THE_MACHINE = ("temperature", "load", "queue", "drops", "clock")
_MINUTES_A_DAY = 24 * 60


@dataclass(frozen=True, slots=True)
class FieldBits:
    """What one field of a message can say.

    Attributes:
        name: Field of the contract.
        values: How many values it has; 1 where sense has no influence on it.
        why: What bounds it.
    """

    name: str
    values: int
    why: str

    @property
    def bits(self) -> float:
        """Its entropy at most."""
        return math.log2(self.values)


@dataclass(frozen=True, slots=True)
class TypeBits:
    """What one event of a type can say.

    Attributes:
        type: The event type.
        places: Zones, cameras and "the device" that the policy lets it be told of.
        fields: Its fields, one by one; not all values go together, so `content` is less than their sum.
        content: Bits of all fields together.
        which: Bits of its type and place among all that could leave at that moment.
        moment: Bits of its moment of release.
    """

    type: EventType
    places: int
    fields: tuple[FieldBits, ...]
    content: float
    which: float
    moment: float

    @property
    def bits(self) -> float:
        """What the event costs."""
        return self.content + self.which + self.moment


@dataclass(frozen=True, slots=True)
class Capacity:
    """The bound of one device.

    Attributes:
        types: Every type that may leave.
        count: Bits of one number on `count`.
        status: Bits of one change of `status`.
        health: Bits of one `health`.
        totals: Bits of the totals of one day.
        fixed: Bits per minute that are spent whatever happens, by what for.
        rate: Bits per minute for all that is paid for when it leaves.
        depth: Bits that may have been saved up for it.
        reserve: Bits of them that only alarms may use.
    """

    types: tuple[TypeBits, ...]
    count: float
    status: float
    health: float
    totals: float
    fixed: dict[str, float]
    rate: float
    depth: float
    reserve: float

    @property
    def per_minute(self) -> float:
        """The most bits per minute, averaged over any hour, a burst included."""
        return sum(self.fixed.values()) + self.rate + self.depth / 60

    @property
    def burst(self) -> float:
        """The most bits at any one moment."""
        return self.depth + self.health + self.totals

    @property
    def cost(self) -> dict[EventType, float]:
        """What an event of each type costs, bits."""
        return {t.type: t.bits for t in self.types}


def capacity(settings: Settings, policy: Policy) -> Capacity:
    """The bound of a device.

    Raises:
        PolicyError: the policy allows fewer bits than the fixed messages need.
    """
    gate = policy.gate
    pairs = {event_type: places for event_type in EventType if (places := _places(event_type, settings, policy))}
    together: dict[float, int] = {}
    for event_type, places in pairs.items():
        tick = gate.tick_of(event_type)
        together[tick] = together.get(tick, 0) + places
    types = tuple(
        _type_bits(event_type, places, together[gate.tick_of(event_type)], policy)
        for event_type, places in pairs.items()
    )
    cameras = len(settings.cameras)
    health = math.log2(
        len(SenseState) * len(CameraState) ** cameras * len(MicrophoneState) * len(DetectorState) * len(RateClass)
    )
    # Sense could warm and load the machine, and fill the queue.
    health += sum(math.log2(len(get_args(Health.model_fields[name].annotation))) for name in _OF_THE_MACHINE)
    totals = len(Suppressed.REASONS) * math.log2(len(get_args(CountClass)))
    fixed = {f"silence every {tick:g} s": _silence(tick) for tick in sorted(together)}
    fixed["silence of status"] = _silence(STATUS_TICK_S)
    fixed["health"] = health * 60 / HEALTH_EVERY_S
    fixed["daily totals"] = totals / _MINUTES_A_DAY
    depth = gate.burst_bits - health - totals
    rate = gate.bits_per_minute - sum(fixed.values()) - depth / 60
    dearest = max([t.bits for t in types], default=0.0)
    if rate <= 0 or depth < 2 * dearest:
        needed = sum(fixed.values()) + depth / 60
        raise PolicyError(
            [
                (
                    f"policy.gate: too few bits: fixed messages and a saved burst take {needed:.0f} a minute, two "
                    f"events {2 * dearest:.0f} at once; raise bits_per_minute or burst_bits"
                )
            ]
        )
    return Capacity(
        types,
        count=math.log2(MAX_COUNT + 2 - gate.k),  # k and more, or `<k`
        status=math.log2(_statuses()) + _moment(STATUS_TICK_S),
        health=health,
        totals=totals,
        fixed=fixed,
        rate=rate,
        depth=depth,
        reserve=gate.alarm_share * depth,
    )


def _places(event_type: EventType, settings: Settings, policy: Policy) -> int:
    """Places of which the policy lets a type be told: zones, and without a zone the cameras and the device."""
    zones = [zone.name for camera in settings.cameras for zone in camera.zones]
    told = sum(policy.may_tell(event_type, zone) for zone in zones)
    return told + policy.may_tell(event_type, None) * (len(settings.cameras) + 1)


def _moment(tick_s: float) -> float:
    """Bits of "one more" where something can leave every `tick_s`."""
    return math.log2(1 + 60 / tick_s)


def _silence(tick_s: float) -> float:
    """Bits per minute of "no more" where something can leave every `tick_s`."""
    return 60 / tick_s * math.log2(1 + tick_s / 60)


def _type_bits(event_type: EventType, places: int, together: int, policy: Policy) -> TypeBits:
    gate = policy.gate
    crowd = event_type in CROWD_TYPES
    confidences, durations = len(Confidence), len(get_args(DurationClass))
    counts = count_classes(gate.k)
    levels = len(Level) if crowd else 1
    variants = len(Variant) if event_type is EventType.CROWD_MOVEMENT else 1
    states = len(counts) * levels * variants if crowd else 1
    grain = gate.grain_of(event_type) or 1
    stamps = math.ceil(MAX_AGE_MS / 1000 / grain) + 1
    evidence = len(INCIDENTS.get(event_type, [Evidence.NONE]))
    fine = any(entry.onset for entry in policy.detectors if entry.event_type is event_type)
    onsets, errors = (MAX_ONSET_AGE + 1, len(OnsetError) - 1) if fine else (0, 0)  # or none at all
    if crowd:
        # started and ongoing tell the state, ongoing also `<k`; the end tells the duration.
        phases, says = 3, confidences * (states + states + 1 + durations)
    elif event_type in PERSON_TYPES:
        phases, says = 1, confidences * (1 + durations)
    else:
        phases, says = 2, confidences * evidence * ((1 + durations) * (1 + onsets * errors) + durations)
    relay = "made by relay: sense has no influence on it"
    fields = (
        *(FieldBits(name, 1, "fixed") for name in ("specversion", "source", "datacontenttype")),
        FieldBits("id", 1, f"{relay}; its running number counts events, which have a price each"),
        FieldBits("type", 1, "in `which`"),
        FieldBits("time", stamps, f"a multiple of {grain} s, at most {MAX_AGE_MS // 60_000} minutes back"),
        FieldBits("data.episode", 1, f"{relay}; random"),
        FieldBits("data.phase", phases, "of its life cycle"),
        FieldBits("data.zone", 1, "in `which`"),
        FieldBits("data.camera", 1, "in `which`"),
        FieldBits("data.level", levels, "class"),
        FieldBits("data.variant", variants, "class"),
        FieldBits("data.count", len(counts) + 1 if crowd else 1, f"class of at least {gate.k}, or `<k`"),
        FieldBits("data.confidence", confidences, "four steps"),
        FieldBits("data.duration", durations + 1, "class, or not known"),
        FieldBits("data.onset", 1 + onsets, "told where an entry of the policy says `onset = true`"),
        FieldBits("data.onset_error", 1 + errors, "class; with an onset"),
        FieldBits("data.evidence", evidence, "what agreed on an incident"),
        FieldBits("data.clock", 1, relay),
        FieldBits("data.basis", 1, "follows from type, zone and day"),
    )
    return TypeBits(
        event_type,
        places,
        fields,
        content=math.log2(says) + math.log2(stamps),
        which=math.log2(together),
        moment=_moment(gate.tick_of(event_type)),
    )


def _statuses() -> int:
    """How many different `status` there are."""
    states = get_args(Status.model_fields["state"].annotation)
    reasons = get_args(get_args(Status.model_fields["reasons"].annotation)[0])
    return int(len(states) * 2 ** len(reasons))
