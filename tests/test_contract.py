"""The contract: every message that keeps it survives the journey, and nothing else does."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract import (
    CONTROL_MAX_SIZE,
    CROWD_TYPES,
    INCIDENTS,
    LAYOUT,
    MAX_AGE_MS,
    MAX_CAMERAS,
    MAX_COUNT,
    MAX_ONSET_AGE,
    MAX_SLOTS,
    MAX_ZONES,
    NO_CAMERA,
    NO_COUNT,
    NO_ONSET,
    NO_ZONE,
    OBSERVATION_SIZE,
    ONSET_TYPES,
    CameraState,
    Confidence,
    ContractError,
    ControlCode,
    DetectorState,
    Event,
    EventData,
    EventType,
    Evidence,
    Kind,
    Level,
    MicrophoneState,
    Observation,
    OnsetError,
    Pause,
    Phase,
    RateClass,
    ReplyCode,
    Resume,
    Selftest,
    SenseState,
    Variant,
    parse_control,
    topic,
)


def without_none(members: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from([member for member in members if member.name != "NONE"])


@st.composite
def episodes(draw: Callable[[st.SearchStrategy[Any]], Any]) -> Observation:
    """Every valid episode."""
    event_type = draw(st.sampled_from(EventType))
    crowd = event_type in CROWD_TYPES
    moves = event_type is EventType.CROWD_MOVEMENT
    onset_age = draw(st.integers(0, MAX_ONSET_AGE) | st.just(NO_ONSET)) if event_type in ONSET_TYPES else NO_ONSET
    return Observation(
        Kind.EPISODE,
        event_type,
        draw(without_none(Phase)),
        zone=draw(st.integers(0, MAX_ZONES - 1) | st.just(NO_ZONE)),
        camera=draw(st.integers(0, MAX_CAMERAS - 1) | st.just(NO_CAMERA)),
        slot=draw(st.integers(0, MAX_SLOTS - 1)),
        level=draw(st.sampled_from(Level)) if crowd else Level.NONE,
        variant=draw(st.sampled_from(Variant)) if moves else Variant.NONE,
        confidence=draw(st.sampled_from(Confidence)),
        count=draw(st.integers(0, MAX_COUNT) | st.just(NO_COUNT)) if crowd else NO_COUNT,
        age_ms=draw(st.integers(0, MAX_AGE_MS)),
        onset_age=onset_age,
        onset_error=OnsetError.NONE if onset_age == NO_ONSET else draw(without_none(OnsetError)),
        evidence=draw(st.sampled_from(sorted(INCIDENTS.get(event_type, {Evidence.NONE})))),
    )


OBSERVATIONS = st.one_of(
    episodes(),
    st.builds(
        Observation,
        st.just(Kind.HEALTH),
        sense=without_none(SenseState),
        cameras=st.tuples(*[st.sampled_from(CameraState)] * 4),
        microphone=st.sampled_from(MicrophoneState),
        detector=st.sampled_from(DetectorState),
        rate=st.sampled_from(RateClass),
    ),
    st.builds(Observation, st.just(Kind.REPLY), control=without_none(ControlCode), reply=without_none(ReplyCode)),
)


@given(OBSERVATIONS)
def test_every_valid_observation_survives_the_pipe(observation: Observation) -> None:
    message = observation.pack()
    assert len(message) == OBSERVATION_SIZE
    assert Observation.unpack(message) == observation


@given(OBSERVATIONS)
def test_no_bit_is_free(observation: Observation) -> None:
    message = observation.pack()
    for bit in range(8 * OBSERVATION_SIZE):
        flipped = bytearray(message)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            other = Observation.unpack(bytes(flipped))
        except ContractError:
            continue
        assert other != observation
        assert other.pack() == flipped


@given(st.binary(max_size=64) | st.binary(min_size=OBSERVATION_SIZE, max_size=OBSERVATION_SIZE))
def test_arbitrary_bytes_are_refused_or_are_an_observation(message: bytes) -> None:
    try:
        observation = Observation.unpack(message)
    except ContractError:
        return
    assert observation.pack() == message


@pytest.mark.parametrize("size", [0, 1, 31, 33, 64, 4096])
def test_any_other_size_is_refused(size: int) -> None:
    with pytest.raises(ContractError, match="32 bytes"):
        Observation.unpack(bytes(size))


INTRUSION = Observation(Kind.EPISODE, EventType.ZONE_INTRUSION, Phase.STARTED, zone=3)
HEALTH = Observation(Kind.HEALTH, sense=SenseState.READY)
REPLY = Observation(Kind.REPLY, control=ControlCode.PAUSE, reply=ReplyCode.DONE)


@pytest.mark.parametrize(
    ("observation", "change", "reason"),
    [
        (INTRUSION, {"zone": MAX_ZONES}, "zone is outside"),
        (INTRUSION, {"camera": MAX_CAMERAS}, "camera is outside"),
        (INTRUSION, {"slot": MAX_SLOTS}, "slot is outside"),
        (INTRUSION, {"age_ms": MAX_AGE_MS + 1}, "age_ms is outside"),
        (INTRUSION, {"age_ms": -1}, "age_ms is outside"),
        (INTRUSION, {"type": EventType.CROWD_DENSITY, "count": MAX_COUNT + 1}, "count is outside"),
        (INTRUSION, {"type": EventType.SOUND_GUNSHOT, "onset_age": MAX_ONSET_AGE + 1}, "onset_age is outside"),
        (INTRUSION, {"type": EventType.SOUND_GUNSHOT, "onset_age": 1}, "belong together"),
        (INTRUSION, {"type": EventType.SOUND_GUNSHOT, "onset_error": OnsetError.MS_1}, "belong together"),
        (INTRUSION, {"type": EventType.INCIDENT_PANIC}, "names the evidence"),
        (INTRUSION, {"type": EventType.INCIDENT_PANIC, "evidence": Evidence.GLASS_TAGGED}, "names the evidence"),
        (INTRUSION, {"evidence": Evidence.GLASS_TAGGED}, "names the evidence"),
        (INTRUSION, {"type": None}, "needs a type"),
        (INTRUSION, {"phase": Phase.NONE}, "needs a phase"),
        (INTRUSION, {"count": 3}, "only crowd types have a count"),
        (INTRUSION, {"level": Level.HIGH}, "only crowd types have a level"),
        (INTRUSION, {"variant": Variant.SURGE}, "only crowd.movement"),
        (INTRUSION, {"onset_age": 1}, "only gunshot and explosion"),
        (INTRUSION, {"sense": SenseState.READY}, "sense is not for episode"),
        (HEALTH, {"sense": SenseState.NONE}, "needs the state"),
        (HEALTH, {"zone": 1}, "zone is not for health"),
        (REPLY, {"reply": ReplyCode.NONE}, "a reply needs"),
        (REPLY, {"age_ms": 5}, "age_ms is not for reply"),
    ],
)
def test_what_breaks_the_contract_is_not_even_sent(
    observation: Observation, change: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ContractError, match=reason):
        dataclasses.replace(observation, **change).pack()


@pytest.mark.parametrize(
    ("offset", "reason"), [(0, "version 2"), (1, "2 is not a valid|Kind"), (30, "names the evidence"), (31, "together")]
)
def test_a_foreign_version_kind_or_unused_field_is_refused(offset: int, reason: str) -> None:
    message = bytearray(INTRUSION.pack())
    message[offset] = 2 if offset != 1 else 200
    with pytest.raises(ContractError, match=reason):
        Observation.unpack(bytes(message))


def test_the_layout_names_every_field_of_an_observation() -> None:
    fields = {field.name for field in dataclasses.fields(Observation)}
    assert {name for name, _ in LAYOUT} == fields | {"version"}


@pytest.mark.parametrize("event_type", EventType)
def test_every_type_is_found_by_its_public_name(event_type: EventType) -> None:
    assert EventType.parse(event_type.label) is event_type


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(ContractError, match=r"no event type is called 'face\.match'"):
        EventType.parse("face.match")


@pytest.mark.parametrize(("name", "message"), [("pause", Pause()), ("resume", Resume()), ("selftest", Selftest())])
def test_control_messages_survive_the_pipe(name: str, message: Pause | Resume | Selftest) -> None:
    assert parse_control(b'{"control":"%s"}' % name.encode()) == message
    assert parse_control(message.model_dump_json().encode()) == message


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"{}",
        b"null",
        b'"pause"',
        b'{"control":"record"}',
        b'{"control":"pause","path":"/tmp/x"}',
        b'{"control":"pause"} trailing',
        b"\xff\xfe",
        b"[" * CONTROL_MAX_SIZE,
        b'{"control":"pause"}' + b" " * CONTROL_MAX_SIZE,
    ],
)
def test_anything_else_is_no_control_message(message: bytes) -> None:
    with pytest.raises(ContractError):
        parse_control(message)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_arbitrary_bytes_never_break_the_control_parser(message: bytes) -> None:
    with contextlib.suppress(ContractError):
        assert parse_control(message).model_dump_json()


EVENT = {
    "specversion": "1.0",
    "id": "5f3a9c01-000123",
    "source": "/vigie/old-port/cam-07",
    "type": "vigie.crowd.gathering.v1",
    "time": "2026-11-23T10:15:00Z",
    "datacontenttype": "application/json",
    "data": {"episode": "9b1e", "phase": "started", "confidence": "high", "clock": "synced", "basis": "FR-2026-04/3"},
}


def test_an_event_leaves_without_the_fields_that_are_not_set() -> None:
    event = Event.model_validate(EVENT)
    assert b"null" not in event.to_json()
    assert Event.model_validate_json(event.to_json()) == event


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("id", "cam-07-000123"),
        ("source", "/vigie/-/x"),
        ("source", "/vigie/a/b/c"),
        ("type", "vigie.face.match.v1"),
        ("time", "2026-11-23T10:15:00.123Z"),
        ("time", "٢٠٢٦-11-23T10:15:00Z"),
        ("subject", "someone"),
    ],
)
def test_an_event_has_no_room_for_anything_else(key: str, value: str) -> None:
    with pytest.raises(ValueError, match=key):
        Event.model_validate({**EVENT, key: value})


@pytest.mark.parametrize(
    ("key", "value"), [("episode", "9b1e7"), ("zone", "Quay 1"), ("count", "17"), ("track", 4), ("box", [0, 0, 1, 1])]
)
def test_the_data_of_an_event_is_classes_and_names_only(key: str, value: object) -> None:
    data = {"episode": "9b1e", "phase": "started", "confidence": "high", "clock": "synced", "basis": "B"}
    with pytest.raises(ValueError, match=key):
        EventData.model_validate({**data, key: value})


def test_topics_lie_below_the_device() -> None:
    assert topic("old-port", "cam-07", "event", "crowd.density") == "vigie/v1/old-port/cam-07/event/crowd.density"
