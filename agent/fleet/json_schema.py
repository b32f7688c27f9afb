"""JSON Schema draft 7, as far as the published documents use it: what in a value does not keep a schema.

A device is checked by the documents that others read, and not by the models from which they are made, else a mistake
in between would never be seen. A keyword that is not known here is an error, never passed over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

#: Keywords that say nothing of a value, and those that `faults` itself reads.
_KNOWN = frozenset({"$schema", "title", "description", "definitions", "default", "type", "enum", "const"})
_TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda v: isinstance(v, dict),
    "array": lambda v: isinstance(v, list),
    "string": lambda v: isinstance(v, str),
    "integer": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "number": lambda v: isinstance(v, (int, float)) and not isinstance(v, bool),
    "boolean": lambda v: isinstance(v, bool),
    "null": lambda v: v is None,
}
#: Keywords of numbers, strings and lists, and whether a value of the right type keeps them.
_BOUNDS: dict[str, tuple[type | tuple[type, ...], Callable[[Any, Any], bool]]] = {
    "minimum": ((int, float), lambda v, bound: v >= bound),
    "maximum": ((int, float), lambda v, bound: v <= bound),
    "exclusiveMinimum": ((int, float), lambda v, bound: v > bound),
    "exclusiveMaximum": ((int, float), lambda v, bound: v < bound),
    "minLength": (str, lambda v, bound: len(v) >= bound),
    "maxLength": (str, lambda v, bound: len(v) <= bound),
    # ECMA 262: `$` is the very end, before which Python allows a line feed.
    "pattern": (str, lambda v, bound: re.search(re.sub(r"\$$", r"\\Z", bound), v) is not None),
    "minItems": (list, lambda v, bound: len(v) >= bound),
    "maxItems": (list, lambda v, bound: len(v) <= bound),
    "minProperties": (dict, lambda v, bound: len(v) >= bound),
    "maxProperties": (dict, lambda v, bound: len(v) <= bound),
}


class SchemaError(ValueError):
    """A schema that cannot be used: a keyword or a reference that is not known here."""


def faults(value: Any, schema: dict[str, Any], root: dict[str, Any] | None = None, at: str = "") -> Iterator[str]:
    """What does not keep the schema: where, and which keyword.

    Args:
        value: As `json.loads` gives it.
        schema: The schema.
        root: The document in which its references lead; by default itself.
        at: Where the value stands in its message.

    Raises:
        SchemaError: the schema cannot be used.
    """
    root = schema if root is None else root
    if "$ref" in schema:
        schema = _target(schema["$ref"], root)
    where = at or "the message"
    for keyword, bound in schema.items():
        if keyword in _BOUNDS:
            kind, keeps = _BOUNDS[keyword]
            if isinstance(value, kind) and not isinstance(value, bool) and not keeps(value, bound):
                yield f"{where}: does not keep {keyword} {bound}"
        elif keyword in _INNER:
            kind, inside = _INNER[keyword]
            if isinstance(value, kind):
                yield from inside(value, schema, root, at)
        elif keyword == "type" and not any(_TYPES[name](value) for name in _listed(bound)):
            yield f"{where}: is no {' or '.join(_listed(bound))}"
        elif keyword in {"enum", "const"} and not any(_same(value, word) for word in _listed(bound)):
            yield f"{where}: is not one of the words that may stand there"
        elif keyword in {"anyOf", "oneOf"}:
            fitting = sum(not any(faults(value, option, root, at)) for option in bound)
            if not fitting or (keyword == "oneOf" and fitting > 1):
                yield f"{where}: fits {fitting} of the forms that are allowed"
        elif keyword not in _KNOWN:
            raise SchemaError(f"keyword {keyword!r} is not known here")


def _items(value: list[Any], schema: dict[str, Any], root: dict[str, Any], at: str) -> Iterator[str]:
    for i, item in enumerate(value):
        yield from faults(item, schema["items"], root, f"{at}[{i}]")


def _required(value: dict[str, Any], schema: dict[str, Any], root: dict[str, Any], at: str) -> Iterator[str]:
    del root
    yield from (f"{_below(at, name)}: is missing" for name in schema["required"] if name not in value)


def _properties(value: dict[str, Any], schema: dict[str, Any], root: dict[str, Any], at: str) -> Iterator[str]:
    for name, inner in schema["properties"].items():
        if name in value:
            yield from faults(value[name], inner, root, _below(at, name))


def _others(value: dict[str, Any], schema: dict[str, Any], root: dict[str, Any], at: str) -> Iterator[str]:
    others = schema["additionalProperties"]
    for name, inner in value.items():
        if name in schema.get("properties", {}) or others is True:
            continue
        if others is False:
            yield f"{_below(at, name)}: is not known"
        else:
            yield from faults(inner, others, root, _below(at, name))


#: Keywords that look into a list or an object.
_INNER: dict[str, tuple[type, Callable[[Any, dict[str, Any], dict[str, Any], str], Iterator[str]]]] = {
    "items": (list, _items),
    "required": (dict, _required),
    "properties": (dict, _properties),
    "additionalProperties": (dict, _others),
}


def _below(at: str, name: str) -> str:
    return f"{at}.{name[:40]}" if at else name[:40]


def _listed(bound: Any) -> list[Any]:
    return bound if isinstance(bound, list) else [bound]


def _same(one: Any, other: Any) -> bool:
    # In JSON, 1 is 1.0 and true is no number.
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _target(reference: str, root: dict[str, Any]) -> dict[str, Any]:
    if not reference.startswith("#/"):
        raise SchemaError(f"reference {reference!r} leads out of the document")
    found: Any = root
    try:
        for step in reference.split("/")[1:]:
            found = found[step]
    except (KeyError, TypeError):
        raise SchemaError(f"reference {reference!r} leads nowhere") from None
    if not isinstance(found, dict):
        raise SchemaError(f"reference {reference!r} leads to no schema")
    return found
