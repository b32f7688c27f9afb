"""Messages from a broker: what devices send is read, and whatever else comes is refused in a closed set of words."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract import ContractError, Event, Status
from agent.fleet.said import MAX_SIZE, Device, label_of, read

STATUS = b'{"state":"ready","boot":"5f3a9c01","reasons":[]}'
EVENT = {
    "specversion": "1.0",
    "id": "5f3a9c01-000123",
    "source": "/vigie/old-port/cam-07",
    "type": "vigie.crowd.gathering.v1",
    "time": "2026-11-23T10:15:00Z",
    "datacontenttype": "application/json",
    "data": {"episode": "9b1e", "phase": "started", "confidence": "high", "clock": "synced", "basis": "FR-2026-04/3"},
}
ROOT = "vigie/v1/old-port/cam-07"


def test_a_status_and_an_event_are_read() -> None:
    said = read(f"{ROOT}/status", STATUS)
    assert said is not None
    assert said.device == Device("old-port", "cam-07")
    assert str(said.device) == "old-port/cam-07"
    assert isinstance(said.document, Status)
    said = read(f"{ROOT}/event/crowd.gathering", json.dumps(EVENT).encode())
    assert said is not None
    assert isinstance(said.document, Event)
    assert said.label == label_of(said.document) == "crowd.gathering"


def test_a_type_that_rabbitmq_made_two_levels_of_is_read_as_one() -> None:
    said = read(f"{ROOT}/event/crowd/gathering", json.dumps(EVENT).encode())
    assert said is not None
    assert said.label == "crowd.gathering"
    said = read(f"{ROOT}/state/quay/crowd/density", b"")
    assert said is not None
    assert (said.zone, said.label) == ("quay", "crowd.density")
    assert read(f"{ROOT}/event/crowd/gathering/more", b"{}") is None


def test_a_retained_message_that_was_taken_away_is_told_as_such() -> None:
    said = read(f"{ROOT}/state/quay/crowd.density", b"")
    assert said is not None
    assert (said.kind, said.zone, said.label, said.document) == ("state", "quay", "crowd.density", None)


@pytest.mark.parametrize(
    "topic", ["other/thing", "vigie/v1/old-port", f"{ROOT}/cmd/pause", f"{ROOT}/event", f"{ROOT}/status/more", ""]
)
def test_what_no_device_says_of_itself_is_left_alone(topic: str) -> None:
    assert read(topic, b"{}") is None


@pytest.mark.parametrize(
    ("topic", "payload", "words"),
    [
        ("vigie/v1/Old/cam/status", STATUS, "no name"),
        ("vigie/v1/old-port/cam 07/status", STATUS, "no name"),
        (f"{ROOT}/status", b"{", "no status message: json_invalid"),
        (f"{ROOT}/status", b"\xff\xfe", "no status message: json_invalid"),
        (f"{ROOT}/status", STATUS[:-1] + b',"x":1}', "extra_forbidden"),
        (f"{ROOT}/status", b"[" * 100_000, "at most"),
        (f"{ROOT}/status", b"[" * 10_000, "json_invalid"),
        (f"{ROOT}/status", b" " * (MAX_SIZE + 1), "at most"),
        (f"{ROOT}/event/face.match", json.dumps(EVENT).encode(), "no event type"),
        (f"{ROOT}/event/crowd.density", json.dumps(EVENT).encode(), "not that of the topic"),
        ("vigie/v1/old-port/cam-08/event/crowd.gathering", json.dumps(EVENT).encode(), "not the device"),
        (f"{ROOT}/count/QUAY", b"{}", "no name"),
    ],
)
def test_what_keeps_no_contract_is_refused(topic: str, payload: bytes, words: str) -> None:
    with pytest.raises(ContractError, match=words):
        read(topic, payload)


@given(
    st.sampled_from(
        ["status", "birth", "health", "event/crowd.density", "state/quay/sound.siren", "audit/head", "x/y"]
    ),
    st.binary(max_size=200)
    | st.recursive(st.none() | st.text() | st.integers(), st.lists, max_leaves=5).map(
        lambda value: json.dumps(value).encode()
    ),
)
def test_nothing_else_than_a_refusal_comes_of_any_bytes(below: str, payload: bytes) -> None:
    try:
        said = read(f"{ROOT}/{below}", payload)
    except ContractError:
        return
    assert said is None or said.document is None or payload


@given(st.text(), st.text(), st.text())
def test_any_topic_is_read_or_refused(site: str, device: str, below: str) -> None:
    try:
        said = read(f"vigie/v1/{site}/{device}/{below}", b"")
    except ContractError:
        return
    assert said is None or f"{said.device}" == f"{site}/{device}"
