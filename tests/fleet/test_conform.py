"""Conformance: a device that keeps the documents passes, and each way of not keeping them is told."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.command import Reported
from agent.contract import AuditHead, Birth, DetectorNotice, Event, EventData, Health, Notice, Status
from agent.documents import documents
from agent.fleet.conform import CHECKS, Check, Conformance, DocumentError, Received
from agent.fleet.said import Device

DEVICE = Device("old-port", "cam-07")
ROOT = "vigie/v1/old-port/cam-07"
DOCUMENTS = documents()
BOOT = "5f3a9c01"
DIGEST = "0" * 64
SOURCE = "/vigie/old-port/cam-07"
TIME = "2026-11-23T10:15:00Z"


def event(number: int, **more: Any) -> Event:
    data = {"episode": "9b1e", "phase": "started", "confidence": "high", "clock": "synced", "basis": "DEMO", **more}
    return Event(
        id=f"{BOOT}-{number:06d}",
        source=SOURCE,
        type="vigie.sound.siren.v1",
        time=TIME,
        data=EventData.model_validate(data),
    )


def head(size: int) -> AuditHead:
    return AuditHead(
        log="0" * 16, source=SOURCE, size=size, root=DIGEST, kept_from=1, time=TIME, key=DIGEST, signature="0" * 128
    )


def message(below: str, document: Any, *, qos: int = 1, retain: bool = False) -> Received:
    payload = document if isinstance(document, bytes) else document.model_dump_json(exclude_none=True).encode()
    return Received(f"{ROOT}/{below}", payload, qos, retain)


STATUS = message("status", Status(state="ready", boot=BOOT), retain=True)
BIRTH = message(
    "birth",
    Birth(
        boot=BOOT,
        agent="1.2.3",
        contract=1,
        k=5,
        detectors=(DetectorNotice(type="vigie.sound.siren.v1", mode="on", basis="DEMO", until="2026-12-31"),),
        config=DIGEST,
        policy=DIGEST,
    ),
    retain=True,
)


def notice(k: int = 5) -> Received:
    made = Notice(
        source=SOURCE,
        agent="1.2.3",
        contract=1,
        config=DIGEST,
        policy=DIGEST,
        k=k,
        detectors=(),
        models=(),
        audit_head="x",
        register_entries=(),
    )
    return message("notice", made, retain=True)


REPORTED = message(
    "config/reported",
    Reported(boot=BOOT, state="local", config=DIGEST, local_version=1, settings={}, time=TIME),
    retain=True,
)
RETAINED = (STATUS, BIRTH, notice(), message("audit/head", head(7), retain=True), REPORTED)


def checked(*messages: Received, flags: bool = True) -> dict[str, Check]:
    conformance = Conformance(DEVICE, DOCUMENTS, flags=flags)
    for said in messages:
        conformance.take(said)
    names = {name: key for key, name in CHECKS.items()}
    return {names[check.name]: check for check in conformance.checks()}


def failed(*messages: Received, flags: bool = True) -> dict[str, tuple[str, ...]]:
    found = checked(*RETAINED, *messages, flags=flags)
    return {key: check.faults for key, check in found.items() if check.ok is False}


def test_a_device_that_keeps_the_documents_passes() -> None:
    health = Health(time=TIME, sense="ready")
    found = checked(
        *RETAINED,
        message("event/sound.siren", event(4)),
        message("event/sound.siren", event(4)),
        message("event/sound.siren", event(5)),
        message("health", health),
        message("audit/head", head(9), retain=True),
    )
    assert {key: check.faults for key, check in found.items() if check.ok is not True} == {}


def test_what_did_not_come_is_not_checked() -> None:
    found = checked()
    assert found["present"].ok is False
    assert {key for key, check in found.items() if check.ok is None} == CHECKS.keys() - {"present"}


def test_it_is_complete_when_everything_retained_has_come() -> None:
    conformance = Conformance(DEVICE, DOCUMENTS)
    for said in RETAINED:
        assert not conformance.complete
        conformance.take(said)
    assert conformance.complete


def test_what_is_always_retained_is_subscribed_to_by_name_too() -> None:
    assert Conformance(DEVICE, DOCUMENTS).topics == [
        f"{ROOT}/#",
        *(f"{ROOT}/{below}" for below in ("status", "birth", "audit/head", "notice", "config/reported")),
    ]


def test_what_managers_say_is_not_the_devices_fault() -> None:
    assert not failed(message("cmd/pause", b"rubbish", qos=0), message("config/desired", b"{}", retain=True))


def test_answers_below_the_own_result_topic_are_known() -> None:
    result = b'{"boot":"5f3a9c01","state":"accepted","time":"2026-11-23T10:15:00Z"}'
    assert not failed(message("cmd/pause/result", result), message("cmd/pause/result/me/7", result))
    assert "topics" in failed(message("cmd/fly/result", result))


@pytest.mark.parametrize(
    ("check", "said", "words"),
    [
        ("topics", message("track/7", b"{}"), "track/7: is in no document"),
        ("topics", message("event/face.match", b"{}"), "is in no document"),
        ("topics", message("status/more", b"{}"), "is in no document"),
        ("schema", message("health", b"{"), "health: is no JSON"),
        ("schema", message("health", b"[" * 100_000), "health: is no JSON"),
        ("schema", message("health", b'{"time":NaN}'), "NaN is no number of JSON"),
        ("schema", message("health", b'{"time":1,"time":2}'), "a key stands there twice"),
        ("schema", message("health", b'{"face":1}'), "face: is not known"),
        ("schema", message("count/quay", b"[]"), "is no object"),
        ("qos", message("health", Health(time=TIME, sense="ready"), qos=0), "health: QoS 0, not 1"),
        ("retain", message("health", Health(time=TIME, sense="ready"), retain=True), "health: is retained"),
        ("retain", message("status", STATUS.payload), "status: is not retained"),
        ("place", message("event/sound.horn", event(4)), "type is vigie.sound.siren.v1"),
        ("place", message("event/sound.siren", event(4).model_copy(update={"source": "/vigie/a/b"})), "source is"),
        ("boot", message("status", Status(state="ready", boot="0" * 8), retain=True), "of boot 00000000"),
        ("online", message("status", Status(state="offline", boot=BOOT), retain=True), "offline"),
        ("permitted", message("event/sound.siren", event(4, basis="OTHER")), "not permitted on OTHER"),
        ("notice", notice(k=6), "k differs"),
        ("schedule", message("health", Health(time="2026-11-23T10:17:00Z", sense="ready")), "no multiple of 300 s"),
        ("head", message("audit/head", head(6), retain=True), "6 entries after 7"),
    ],
)
def test_each_fault_is_told(check: str, said: Received, words: str) -> None:
    found = failed(said)
    assert found.keys() == {check}
    assert words in found[check][0]


def test_a_gap_and_an_event_that_changes_are_told() -> None:
    events = [message("event/sound.siren", event(number)) for number in (4, 5, 8)]
    assert failed(*events) == {"numbers": ("2 numbers between the first and the last did not come",)}
    changed = message("event/sound.siren", event(4, confidence="low"))
    assert failed(events[0], changed) == {"repeated": (f"event/sound.siren: event {BOOT}-000004 says something else",)}


def test_without_the_publishers_flag_only_a_retained_message_that_must_not_be_is_a_fault() -> None:
    assert not failed(message("status", STATUS.payload), flags=False)
    assert "retain" in failed(message("health", Health(time=TIME, sense="ready"), retain=True), flags=False)


def test_only_the_first_faults_are_told_one_by_one() -> None:
    found = checked(*[message(f"track/{number}", b"{}") for number in range(8)])["topics"]
    assert (len(found.faults), found.more) == (5, 3)


@pytest.mark.parametrize(
    ("broken", "text"),
    [
        *(("asyncapi.json", text) for text in (None, "{", "[]", "{}", '{"operations": {"x": {}}}')),
        *(("schemas/event.json", text) for text in (None, "{", "[]", '{"if": {}}', '{"$ref": "#/nowhere"}')),
    ],
)
def test_documents_that_cannot_be_used_are_refused(broken: str, text: str | None) -> None:
    table = dict(DOCUMENTS)
    del table[broken]
    if text is not None:
        table[broken] = text
    with pytest.raises(DocumentError):
        Conformance(DEVICE, table)


@given(
    st.sampled_from(["status", "event/sound.siren", "birth", "notice", "audit/head", "x"]),
    st.binary(max_size=60) | st.sampled_from([b"{}", b"[]", b"7", b"null", b'"x"']),
    st.booleans(),
)
def test_no_message_ends_it(below: str, payload: bytes, retain: bool) -> None:
    checked(message(below, payload, retain=retain))
