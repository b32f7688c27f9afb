"""The published documents: they are what the contract says, and they are what their standards demand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from agent.cli.app import app
from agent.contract import (
    OBSERVATION_SIZE,
    Birth,
    Event,
    EventData,
    EventType,
    Pause,
    Status,
)
from agent.documents import asyncapi, documents, schemas
from agent.relay.audit import MESSAGES

DEPLOY = Path(__file__).parents[1] / "deploy"
EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "5f3a9c01-000123",
    "source": "/vigie/old-port/cam-07",
    "type": "vigie.crowd.gathering.v1",
    "time": "2026-11-23T10:15:00Z",
    "datacontenttype": "application/json",
    "data": {"episode": "9b1e", "phase": "started", "confidence": "high", "clock": "synced", "basis": "FR-2026-04/3"},
}


@pytest.mark.parametrize("name", documents())
def test_the_published_document_is_what_the_contract_says(name: str) -> None:
    published = (DEPLOY / name).read_text(encoding="utf-8")
    assert published == documents()[name], f"deploy/{name} is out of date: vigie contract export --out deploy"


def test_nothing_else_is_published_as_a_schema() -> None:
    assert {f"schemas/{path.name}" for path in (DEPLOY / "schemas").iterdir()} == {
        name for name in documents() if name.startswith("schemas/")
    }


def test_export_writes_every_document(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["contract", "export", "--out", str(tmp_path / "new")])
    assert result.exit_code == 0
    assert {str(p.relative_to(tmp_path / "new")) for p in (tmp_path / "new").rglob("*.*")} == set(documents())


def test_export_says_where_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = CliRunner().invoke(app, ["contract", "export", "--out", str(tmp_path / "file")])
    assert result.exit_code == 3
    assert "cannot be written" in result.output


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in a JSON document."""
    if isinstance(value, dict):
        yield value
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from nodes(child)


@pytest.mark.parametrize("name", schemas())
def test_a_schema_is_valid_and_closed_everywhere(name: str) -> None:
    schema = schemas()[name]
    jsonschema.Draft7Validator.check_schema(schema)
    objects = [node for node in nodes(schema) if node.get("type") == "object"]
    # The device's own settings have a schema of their own: vigie config schema.
    settings = [schema["properties"].get("settings")] if name in {"desired", "reported"} else []
    assert len(objects) > len(settings)
    assert all(node["additionalProperties"] is False for node in objects if node not in settings)
    assert not any(node.get("type") == "null" for node in nodes(schema))


#: Made once: hypothesis draws a hundred events.
EVENT_SCHEMA = schemas()["event"]


@st.composite
def events(draw: Any) -> Event:
    """Any event at all."""
    fields = EVENT_SCHEMA["definitions"]["EventData"]["properties"]
    data = {
        "episode": draw(st.from_regex(fields["episode"]["pattern"], fullmatch=True)),
        "phase": draw(st.sampled_from(fields["phase"]["enum"])),
        "confidence": draw(st.sampled_from(fields["confidence"]["enum"])),
        "clock": draw(st.sampled_from(fields["clock"]["enum"])),
        "basis": draw(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9 ./:_-]{0,39}", fullmatch=True)),
        "zone": draw(st.none() | st.from_regex(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", fullmatch=True)),
        "onset": draw(st.none() | st.just("2026-11-23T10:15:00.1234Z")),
        **{key: draw(st.none() | st.sampled_from(fields[key]["enum"])) for key in ("level", "count", "duration")},
    }
    return Event(
        id="5f3a9c01-000123",
        source="/vigie/old-port/cam-07",
        type=f"vigie.{draw(st.sampled_from(EventType)).label}.v1",
        time="2026-11-23T10:15:00Z",
        data=EventData.model_validate({**data, "episode": data["episode"].strip()}),
    )


@given(events())
def test_every_event_fits_the_published_schema(event: Event) -> None:
    jsonschema.validate(json.loads(event.to_json()), EVENT_SCHEMA)


@pytest.mark.parametrize(
    "broken",
    [
        {**EVENT, "subject": "x"},
        {**EVENT, "type": "vigie.face.match.v1"},
        {**EVENT, "data": {**EVENT["data"], "track": 7}},
        {**EVENT, "data": {**EVENT["data"], "zone": None}},
        {key: value for key, value in EVENT.items() if key != "specversion"},
    ],
)
def test_the_published_schema_refuses_what_the_contract_does_not_send(broken: dict[str, Any]) -> None:
    jsonschema.validate(EVENT, schemas()["event"])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, schemas()["event"])


def test_status_birth_and_control_fit_their_schemas() -> None:
    birth = Birth(boot="5f3a9c01", agent="0.1.0", contract=1, k=5, detectors=(), config="0" * 64, policy="f" * 64)
    status = Status(state="degraded", boot="5f3a9c01", reasons=("camera",))
    for name, message in (("birth", birth), ("status", status), ("control", Pause())):
        jsonschema.validate(json.loads(message.model_dump_json()), schemas()[name])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({}, schemas()["control"])


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    document = asyncapi()
    for node in nodes(document):
        if "$ref" not in node:
            continue
        path, _, pointer = node["$ref"].partition("#")
        target = json.loads((DEPLOY / path).read_text()) if path else document
        for step in pointer.split("/")[1:]:
            target = target[step]
        assert target


def test_the_asyncapi_document_has_the_structure_of_version_3() -> None:
    document = asyncapi()
    assert document["asyncapi"] == "3.0.0"
    assert document["info"].keys() >= {"title", "version"}
    for channel in document["channels"].values():
        placeholders = {part.strip("{}") for part in channel["address"].split("/") if part.startswith("{")}
        assert placeholders == set(channel["parameters"])
        assert all(set(p) <= {"enum", "default", "description", "examples"} for p in channel["parameters"].values())
        assert channel["messages"]
    for operation in document["operations"].values():
        assert operation["action"] in {"send", "receive"}
        channel = operation["channel"]["$ref"]
        assert all(message["$ref"].startswith(f"{channel}/messages/") for message in operation["messages"])
        assert operation["bindings"]["mqtt"]["qos"] == 1


def test_events_are_not_retained_and_states_are() -> None:
    retained = {
        name: operation["bindings"]["mqtt"]["retain"]
        for name, operation in asyncapi()["operations"].items()
        if operation["action"] == "send"
    }
    assert {name for name, retains in retained.items() if retains} == {
        "sendStatus",
        "sendBirth",
        "sendState",
        "sendAuditHead",
        "sendNotice",
        "sendReported",
    }
    assert {name for name, retains in retained.items() if not retains} == {
        "sendEvent",
        "sendCount",
        "sendIncident",
        "sendHealth",
        "sendSuppressed",
        "sendResult",
        "sendResponse",
    }


def test_everything_that_the_journal_records_as_a_message_has_a_channel() -> None:
    first = {channel["address"].split("/")[4] for channel in asyncapi()["channels"].values()}
    in_other_words = {"will": "status", "reported": "config", "result": "cmd"}
    assert {in_other_words.get(kind, kind) for kind in MESSAGES} <= first
    assert {"event", "audit"} <= first


def test_a_command_and_a_configuration_name_where_their_answer_is() -> None:
    document = asyncapi()
    answers = {
        operation["channel"]["$ref"]: operation["reply"]["channel"]["$ref"]
        for operation in document["operations"].values()
        if operation["action"] == "receive"
    }
    assert answers == {"#/channels/command": "#/channels/result", "#/channels/desired": "#/channels/reported"}


def test_the_byte_table_covers_every_byte_once() -> None:
    rows = [
        line.split("|")[1:3] for line in documents()["observation.md"].splitlines() if line[:3].strip("| ").isdigit()
    ]
    spans = [(int(offset), int(size)) for offset, size in rows]
    assert [offset for offset, _ in spans] == [sum(size for _, size in spans[:i]) for i in range(len(spans))]
    assert sum(size for _, size in spans) == OBSERVATION_SIZE
