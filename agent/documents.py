"""The contract as documents for others: JSON Schemas, AsyncAPI 3.0 and the byte layout of an observation.

Made from `agent.contract` and `agent.command`, written to `deploy/` by `vigie contract export`, and compared with it by
a test.

The schemas are JSON Schema draft 7, which AsyncAPI 3.0 reads without a schema format of its own
(https://www.asyncapi.com/docs/reference/specification/v3.0.0#schemaObject). They describe what is sent: a field that is
not set is absent, never null.
"""

from __future__ import annotations

import json
import struct
from enum import IntEnum
from typing import Any, get_args, get_type_hints

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from agent.command import VERBS, Command, Desired, Reported, Result
from agent.contract import (
    CONTRACT_VERSION,
    CONTROL,
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
    USES,
    AuditHead,
    Birth,
    Count,
    Event,
    EventType,
    Health,
    Notice,
    Observation,
    State,
    Status,
    Suppressed,
    topic,
)
from agent.fleet.incident import INCIDENTS_LEVEL, JOINABLE, Incident

_DIALECT = "http://json-schema.org/draft-07/schema#"
_BINDING = "0.2.0"
#: Channels whose message has another name.
_MESSAGE_OF = {"response": "result"}
_DEVICE = {
    "site": {"description": "Site of the device."},
    "device": {"description": "Name of the device, unique in the fleet."},
}


class _AsSent(GenerateJsonSchema):
    """What is sent: every field is there, but those that are not set are absent and never null."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def field_is_required(
        self, field: core_schema.ModelField | core_schema.DataclassField | core_schema.TypedDictField, total: bool
    ) -> bool:
        del total
        inner = field["schema"]
        return inner["type"] != "default" or inner.get("default") is not None

    def field_title_should_be_set(self, schema: Any) -> bool:
        del schema
        return False  # a title that repeats the key says nothing


def documents() -> dict[str, str]:
    """Every document by its path below `deploy/`."""
    tables = {f"schemas/{name}.json": schema for name, schema in schemas().items()} | {"asyncapi.json": asyncapi()}
    texts = {path: json.dumps(table, indent=2, ensure_ascii=False) + "\n" for path, table in tables.items()}
    return texts | {"observation.md": observation_table()}


def schemas() -> dict[str, dict[str, Any]]:
    """The JSON Schema of each message, by its name."""
    adapters: dict[str, TypeAdapter[Any]] = {"control": CONTROL}
    models: tuple[type[BaseModel], ...] = (
        *(Event, Status, Birth, State, Count, Health, Suppressed, AuditHead, Notice),
        *(Command, Result, Desired, Reported, Incident),
    )
    adapters.update({model.__name__.lower(): TypeAdapter(model) for model in models})
    return {name: _schema(adapter) for name, adapter in adapters.items()}


def _schema(adapter: TypeAdapter[Any]) -> dict[str, Any]:
    schema = adapter.json_schema(mode="serialization", schema_generator=_AsSent, ref_template="#/definitions/{model}")
    if "$defs" in schema:
        schema["definitions"] = schema.pop("$defs")
    schema.pop("discriminator", None)  # OpenAPI's, not JSON Schema's
    return {"$schema": _DIALECT, **schema}


def asyncapi() -> dict[str, Any]:
    """The AsyncAPI 3.0 document; payloads refer to `schemas/*.json` beside it."""
    types = {"type": {"description": "What happened.", "enum": [event_type.label for event_type in EventType]}}
    zone = {"zone": {"description": "Zone of the device."}}
    verb = {"verb": {"description": "What to do.", "enum": list(VERBS)}}
    reply = {"reply": {"description": "Further levels of the Response Topic (MQTT 5); one level or more."}}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Vigie",
            "version": f"{CONTRACT_VERSION}.0.0",
            "description": "What a Vigie device tells a broker: what happens, never who; and what it obeys. The number "
            "in an event's id counts up by one within a boot, so that a gap is seen.",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {
            "event": _channel("event", topic("{site}", "{device}", "event", "{type}"), {**_DEVICE, **types}),
            "status": _channel("status", topic("{site}", "{device}", "status"), _DEVICE),
            "birth": _channel("birth", topic("{site}", "{device}", "birth"), _DEVICE),
            "state": _channel(
                "state", topic("{site}", "{device}", "state", "{zone}", "{type}"), _DEVICE | zone | types
            ),
            "count": _channel("count", topic("{site}", "{device}", "count", "{zone}"), _DEVICE | zone),
            "health": _channel("health", topic("{site}", "{device}", "health"), _DEVICE),
            "suppressed": _channel("suppressed", topic("{site}", "{device}", "suppressed"), _DEVICE),
            "audithead": _channel("audithead", topic("{site}", "{device}", "audit", "head"), _DEVICE),
            "notice": _channel("notice", topic("{site}", "{device}", "notice"), _DEVICE),
            "command": _channel("command", topic("{site}", "{device}", "cmd", "{verb}"), _DEVICE | verb),
            "result": _channel("result", topic("{site}", "{device}", "cmd", "{verb}", "result"), _DEVICE | verb),
            "response": _channel(
                "result", topic("{site}", "{device}", "cmd", "{verb}", "result", "{reply}"), _DEVICE | verb | reply
            ),
            "incident": _channel(
                "incident",
                topic("{site}", INCIDENTS_LEVEL, "{kind}"),
                {"site": _DEVICE["site"], "kind": {"description": "Its sort.", "enum": [t.label for t in JOINABLE]}},
            ),
            "desired": _channel("desired", topic("{site}", "{device}", "config", "desired"), _DEVICE),
            "reported": _channel("reported", topic("{site}", "{device}", "config", "reported"), _DEVICE),
        },
        "operations": {
            "sendEvent": _send("event", "Tell what happens.", retain=False),
            "sendStatus": _send("status", "Tell whether the device is alive; also its last will.", retain=True),
            "sendBirth": _send("birth", "Tell what runs, and on what legal basis.", retain=True),
            "sendState": _send("state", "Tell what the events have said last.", retain=True),
            "sendCount": _send("count", "Tell how many people are there, with noise.", retain=False),
            "sendHealth": _send("health", "Tell how the device is, in classes.", retain=False),
            "sendSuppressed": _send("suppressed", "Tell how much was held back in a day.", retain=False),
            "sendAuditHead": _send("audithead", "Commit to the audit log, at fixed intervals.", retain=True),
            "sendNotice": _send("notice", "Tell the public what is detected, and why.", retain=True),
            "receiveCommand": _receive("command", "Obey a signed command that is not retained.", answer="result"),
            "sendResult": _send("result", "Tell how far a command is.", retain=False),
            "sendResponse": _send("response", "The same, where the command names a Response Topic.", retain=False),
            "sendIncident": _send("incident", "Tell what several devices say together (correlator).", retain=False),
            "receiveDesired": _receive("desired", "Take the signed, retained configuration.", answer="reported"),
            "sendReported": _send("reported", "Tell what became of the configuration.", retain=True),
        },
        "components": {
            "messages": {
                "event": _message("event", "Something happens", "application/cloudevents+json"),
                "status": _message("status", "State of the device", "application/json"),
                "birth": _message("birth", "What runs on the device", "application/json"),
                "state": _message("state", "What goes on in a zone", "application/json"),
                "count": _message("count", "People in a zone", "application/json"),
                "health": _message("health", "Health of the device", "application/json"),
                "suppressed": _message("suppressed", "What was held back", "application/json"),
                "audithead": _message("audithead", "Signed head of the audit log", "application/json"),
                "notice": _message("notice", "What the public may know of the device", "application/json"),
                "command": _message("command", "Signed command", "application/json"),
                "result": _message("result", "How far a command is", "application/json"),
                "incident": _message("incident", "What several devices say together", "application/cloudevents+json"),
                "desired": _message("desired", "Signed configuration", "application/json"),
                "reported": _message("reported", "What became of the configuration", "application/json"),
            }
        },
    }


def _channel(name: str, address: str, parameters: dict[str, Any]) -> dict[str, Any]:
    return {
        "address": address,
        "parameters": parameters,
        "messages": {name: {"$ref": f"#/components/messages/{name}"}},
    }


def _send(name: str, summary: str, *, retain: bool) -> dict[str, Any]:
    return {
        "action": "send",
        "channel": {"$ref": f"#/channels/{name}"},
        "summary": summary,
        "messages": [{"$ref": f"#/channels/{name}/messages/{_MESSAGE_OF.get(name, name)}"}],
        "bindings": {"mqtt": {"qos": 1, "retain": retain, "bindingVersion": _BINDING}},
    }


def _receive(name: str, summary: str, *, answer: str) -> dict[str, Any]:
    return {
        "action": "receive",
        "channel": {"$ref": f"#/channels/{name}"},
        "summary": summary,
        "messages": [{"$ref": f"#/channels/{name}/messages/{name}"}],
        "bindings": {"mqtt": {"qos": 1, "bindingVersion": _BINDING}},
        "reply": {"channel": {"$ref": f"#/channels/{answer}"}},
    }


def _message(name: str, title: str, content_type: str) -> dict[str, Any]:
    return {"name": name, "title": title, "contentType": content_type, "payload": {"$ref": f"./schemas/{name}.json"}}


def observation_table() -> str:
    """The byte layout of an observation, and the values of its enumerations, as Markdown."""
    lines = [
        "# Observation",
        "",
        f"From sense to relay: {OBSERVATION_SIZE} bytes, little-endian; contract version {CONTRACT_VERSION}.",
        "A field that a kind does not use holds its neutral value; relay refuses every message that differs.",
        "",
        "| offset | bytes | field | kind | values | neutral |",
        "|---:|---:|---|---|---|---|",
    ]
    offset = 0
    for name, code in LAYOUT:
        size = struct.calcsize("<" + code)
        values, neutral = _values(name)
        kinds = ", ".join(kind.name.lower() for kind, fields in USES.items() if name in fields) or "all"
        lines.append(f"| {offset} | {size} | `{name}` | {kinds} | {values} | {neutral} |")
        offset += size
    lines += ["", "## Enumerations", "", "| name | values |", "|---|---|"]
    lines += [f"| {e.__name__} | {', '.join(f'{m.value} {_word(m)}' for m in e)} |" for e in _enums().values()]
    return "\n".join(lines) + "\n"


#: Bounds of the plain numbers: what may stand there, and the neutral value.
_NUMBERS = {
    "version": (f"{CONTRACT_VERSION}", ""),
    "zone": (f"0 to {MAX_ZONES - 1}, in the order of the configuration", f"{NO_ZONE}"),
    "camera": (f"0 to {MAX_CAMERAS - 1}", f"{NO_CAMERA}"),
    "slot": (f"0 to {MAX_SLOTS - 1}", "0"),
    "count": (f"0 to {MAX_COUNT} people, the last for more too", f"{NO_COUNT}"),
    "age_ms": (f"0 to {MAX_AGE_MS} ms", "0"),
    "onset_age": (f"0 to {MAX_ONSET_AGE} steps of 100 µs", f"{NO_ONSET}"),
}


def _values(name: str) -> tuple[str, str]:
    if name in _NUMBERS:
        return _NUMBERS[name]
    of = _enums()[name]
    return of.__name__, "" if name == "kind" else "0"


def _enums() -> dict[str, type[IntEnum]]:
    """The enumeration behind each field that has one."""
    found: dict[str, type[IntEnum]] = {}
    for name, hint in get_type_hints(Observation).items():
        for candidate in (hint, *get_args(hint)):
            if isinstance(candidate, type) and issubclass(candidate, IntEnum):
                found.setdefault(name, candidate)
    return found


def _word(member: IntEnum) -> str:
    return f"`{member.label if isinstance(member, EventType) else member.name.lower()}`"
