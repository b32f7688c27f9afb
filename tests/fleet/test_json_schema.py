"""Reading JSON Schema: the same answers as jsonschema's on every published schema, and no keyword is passed over."""

from __future__ import annotations

import copy
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.documents import schemas
from agent.fleet.json_schema import SchemaError, faults

SCHEMAS = schemas()
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 300) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def fitting(schema: dict[str, Any], root: dict[str, Any]) -> st.SearchStrategy[Any]:  # noqa: PLR0911 - one a keyword
    """Values that keep a schema, more or less: patterns are drawn with what may stand around them."""
    if "$ref" in schema:
        return fitting(root["definitions"][schema["$ref"].rpartition("/")[2]], root)
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "anyOf" in schema or "oneOf" in schema:
        return st.one_of(*(fitting(option, root) for option in schema.get("anyOf") or schema["oneOf"]))
    if schema.get("type") == "object":
        required = schema.get("required", [])
        members = {name: fitting(inner, root) for name, inner in schema.get("properties", {}).items()}
        return st.fixed_dictionaries(
            {name: members[name] for name in required},
            optional={name: inner for name, inner in members.items() if name not in required},
        )
    if schema.get("type") == "array":
        return st.lists(fitting(schema["items"], root), max_size=2)
    if schema.get("type") == "string":
        return st.from_regex(schema["pattern"]) if "pattern" in schema else st.text(max_size=5)
    if schema.get("type") == "integer":
        return st.integers(schema.get("minimum", 0) - 1, min(schema.get("maximum", 9), 9))
    return st.booleans() if schema.get("type") == "boolean" else st.floats(-1, 9)


@st.composite
def messages(draw: Any, name: str) -> Any:
    """Messages of a kind, most with one thing in them changed."""
    value = draw(fitting(SCHEMAS[name], SCHEMAS[name]))
    change = draw(st.sampled_from(["nothing", "value", "more", "less"]))
    if isinstance(value, dict) and value and change != "nothing":
        value = copy.deepcopy(value)
        inner = (
            value["data"] if isinstance(value.get("data"), dict) and value["data"] and draw(st.booleans()) else value
        )
        key = draw(st.sampled_from(sorted(inner)))
        if change == "value":
            inner[key] = draw(VALUES)
        elif change == "more":
            inner[draw(st.text(max_size=8))] = draw(VALUES)
        else:
            del inner[key]
    return value


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_message_keeps_a_schema_where_jsonschema_says_so(name: str) -> None:
    validator = jsonschema.Draft7Validator(SCHEMAS[name])
    seen = set()

    @settings(max_examples=40)
    @given(messages(name) | VALUES)
    def agree(value: Any) -> None:
        found = list(faults(value, SCHEMAS[name]))
        if isinstance(value, str) or _has_line_feed_at_an_end(value):
            return  # Python's own `$` is not ECMA's, and jsonschema leaves it at that
        assert bool(found) != validator.is_valid(value), found
        seen.add(bool(found))

    agree()
    assert True in seen


def _has_line_feed_at_an_end(value: Any) -> bool:
    if isinstance(value, str):
        return value.endswith("\n")
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(_has_line_feed_at_an_end(item) for item in inner)


@pytest.mark.parametrize(
    ("schema", "value", "words"),
    [
        ({"type": "integer"}, True, "is no integer"),
        ({"enum": [1]}, True, "is not one of"),
        ({"pattern": "^a$"}, "a\n", "does not keep pattern"),
        ({"oneOf": [{"type": "string"}, {"minLength": 1}]}, "a", "fits 2 of"),
        ({"properties": {"a": {"items": {"maximum": 2}}}}, {"a": [1, 3]}, r"a\[1\]: does not keep maximum 2"),
        ({"additionalProperties": False}, {"b": 1}, "b: is not known"),
        ({"additionalProperties": {"type": "null"}}, {"b": 1}, "b: is no null"),
        ({"required": ["a"]}, {}, "a: is missing"),
    ],
)
def test_a_fault_is_told_with_its_place(schema: dict[str, Any], value: Any, words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        assert not [*faults(value, schema)]


@pytest.mark.parametrize(
    "schema", [{"if": {}}, {"$ref": "other.json"}, {"$ref": "#/definitions/a"}, {"$ref": "#/title", "title": "x"}]
)
def test_a_schema_that_is_not_understood_is_an_error(schema: dict[str, Any]) -> None:
    with pytest.raises(SchemaError):
        list(faults({}, schema))
