"""JSON that is signed or hashed: one text for each value (RFC 8785), and reading what a stranger has sent.

RFC 8785 is JSON as ECMAScript writes it, with sorted keys and no spaces, so that the same value always has the same
bytes. `parse` takes JSON in any form that says each thing once; what it gives has one canonical form.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from decimal import Decimal
from json.encoder import encode_basestring
from typing import Any

#: Whole numbers from here on are not exact in all languages (RFC 7493, section 2.2).
_INEXACT = 2**53


class JsonError(ValueError):
    """What is no JSON of the kind that can be signed; the text says why."""


def canonical(value: Any) -> bytes:
    """Canonical JSON (RFC 8785) of strings, numbers, booleans, null, lists and tables; bytes become hexadecimal.

    Raises:
        ValueError: a number that is not finite, or half of a surrogate pair.
        TypeError: anything else.
    """
    return _text(value).encode()


def _text(value: Any) -> str:  # noqa: PLR0911 - one for each type of JSON
    if isinstance(value, str):
        return encode_basestring(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, dict):
        names = sorted(value) if "".join(value).isascii() else sorted(value, key=_utf16)
        return "{" + ",".join([f"{encode_basestring(name)}:{_text(value[name])}" for name in names]) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join([_text(inner) for inner in value]) + "]"
    if isinstance(value, bytes):
        return f'"{value.hex()}"'
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _utf16(name: str) -> bytes:
    """What keys are sorted by (RFC 8785, 3.2.3)."""
    return name.encode("utf-16-be")


def _number(value: float) -> str:
    """A number as ECMAScript writes it (ECMA-262, Number::toString); both languages choose the same digits."""
    if not math.isfinite(value):
        raise ValueError(f"{value} has no JSON form")
    if value == 0:
        return "0"
    sign, decimals, exponent = Decimal(repr(value)).normalize().as_tuple()
    digits, places = "".join(map(str, decimals)), len(decimals)
    point = places + int(exponent)  # where the point stands, counted from the first digit
    if places <= point <= 21:
        text = digits + "0" * (point - places)
    elif 0 < point <= 21:
        text = f"{digits[:point]}.{digits[point:]}"
    elif -6 < point <= 0:
        text = f"0.{'0' * -point}{digits}"
    else:
        text = f"{digits[0]}{'.' if places > 1 else ''}{digits[1:]}e{point - 1:+d}"
    return f"-{text}" if sign else text


def parse(payload: bytes, max_size: int) -> dict[str, Any]:
    """The table in a payload of a stranger, in time that grows with its size alone.

    Raises:
        JsonError: it is too large or nested too deeply, no JSON, no table, says a key twice, or has a number that
            others would read differently.
    """
    if len(payload) > max_size:
        raise JsonError(f"{len(payload)} bytes, more than {max_size}")
    try:
        table = _DECODER.decode(payload.decode())
        canonical(table)
    except RecursionError:
        raise JsonError("nested too deeply") from None
    except JsonError:
        raise
    except ValueError as error:
        raise JsonError(f"no JSON: {type(error).__name__}") from None
    if not isinstance(table, dict):
        raise JsonError("no table")
    return table


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise JsonError("a key stands there twice")
    return table


def _whole(text: str) -> int:
    if len(text) > 17 or abs(value := int(text)) >= _INEXACT:
        raise JsonError("a whole number is too large to be exact")
    return value


def _broken(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise JsonError("a number is too large")
    return value


def _constant(text: str) -> float:
    raise JsonError(f"{text} is no JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_once, parse_int=_whole, parse_float=_broken, parse_constant=_constant)
