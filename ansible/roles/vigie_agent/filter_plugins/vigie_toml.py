"""A table as TOML 1.0, for the agent's settings: what an inventory has in YAML, in the form that the agent reads."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any


def to_toml(table: Mapping[str, Any]) -> str:
    """A table and its tables; `None` leaves a key out.

    Args:
        table: Of strings, numbers, truth values, lists and tables.

    Raises:
        TypeError: there is something in it that TOML has no form for.
    """
    return "\n".join(_lines(table, ())).lstrip("\n") + "\n"


def _lines(table: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    lines, below = [], []
    for key, value in table.items():
        where = (*path, str(key))
        if isinstance(value, Mapping):
            below += ["", f"[{_dotted(where)}]", *_lines(value, where)]
        elif isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
            for item in value:
                below += ["", f"[[{_dotted(where)}]]", *_lines(item, where)]
        elif value is not None:
            lines.append(f"{_key(str(key))} = {_value(value, where)}")
    return lines + below


def _dotted(path: tuple[str, ...]) -> str:
    return ".".join(map(_key, path))


def _key(key: str) -> str:
    bare = key.replace("-", "").replace("_", "")
    return key if bare.isascii() and bare.isalnum() else _text(key)


def _value(value: Any, path: tuple[str, ...]) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float) and math.isfinite(value):
        return repr(float(value))
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list):
        return "[" + ", ".join(_value(item, path) for item in value) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(str(k))} = {_value(v, path)}" for k, v in value.items()) + "}"
    raise TypeError(f"{_dotted(path)}: TOML has no form for {value!r}")


def _text(text: str) -> str:
    """A basic string: one of JSON, but for one character."""
    return json.dumps(str(text), ensure_ascii=False).replace("\x7f", "\\u007f")


class FilterModule:
    """What Ansible finds here."""

    def filters(self) -> dict[str, Callable[..., str]]:
        """By name."""
        return {"vigie_toml": to_toml}
