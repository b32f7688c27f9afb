"""JSON that is signed: one text a value, and nothing of a stranger that could be read in two ways."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.canonical import JsonError, canonical, parse

#: From RFC 8785, appendix B, and section 3.2.3.
NUMBERS = [
    (0.0, "0"),
    (-0.0, "0"),
    (5e-324, "5e-324"),
    (-5e-324, "-5e-324"),
    (1.7976931348623157e308, "1.7976931348623157e+308"),
    (9007199254740992, "9007199254740992"),
    (295147905179352830000.0, "295147905179352830000"),
    (9.999999999999997e22, "9.999999999999997e+22"),
    (1e23, "1e+23"),
    (1.0000000000000001e23, "1.0000000000000001e+23"),
    (999999999999999700000.0, "999999999999999700000"),
    (999999999999999900000.0, "999999999999999900000"),
    (1e21, "1e+21"),
    (9.999999999999997e-7, "9.999999999999997e-7"),
    (0.000001, "0.000001"),
    (333333333.3333332, "333333333.3333332"),
    (4.50, "4.5"),
]


@pytest.mark.parametrize(("number", "text"), NUMBERS)
def test_numbers_are_written_as_the_rfc_shows(number: float, text: str) -> None:
    assert canonical(number).decode() == text


def test_keys_are_sorted_by_utf_16_as_the_rfc_shows() -> None:
    table = {"\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\u0080": 6, "\u00f6": 7}
    assert list(json.loads(canonical(table)).values()) == [2, 4, 6, 7, 1, 5, 3]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(-(2.0**53) + 1, 2.0**53 - 1)  # a larger one may look like a whole number that is not exact
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_what_is_read_again_is_written_alike(table: dict[str, Any]) -> None:
    written = canonical(table)
    assert canonical(parse(written, 1_000_000)) == written
    assert json.loads(written) == table


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_keeps_its_value(number: float) -> None:
    assert float(canonical(number)) == number


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b'{"a": 1, "a": 1}', "twice"),
        (b'{"a": {"b": 1, "b": 2}}', "twice"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "Infinity"),
        (b'{"a": 1e999}', "too large"),
        (b'{"a": 9007199254740992}', "exact"),
        (b'{"a": ' + b"9" * 5000 + b"}", "exact"),
        (b'{"a": "\\ud800"}', "no JSON"),
        (b'{"\xff": 1}', "no JSON"),
        (b"[1]", "no table"),
        (b"", "no JSON"),
        (b'{"a": ' + b"[" * 20_000 + b"]" * 20_000 + b"}", "deep"),
        (b"{}" + b" " * 100_000, "more than"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(payload: bytes, why: str) -> None:
    with pytest.raises(JsonError, match=why):
        parse(payload, 100_000)


@given(st.binary(max_size=200) | st.text().map(str.encode))
def test_any_bytes_are_read_or_refused(payload: bytes) -> None:
    try:
        table = parse(payload, 150)
    except JsonError:
        return
    assert all(not isinstance(value, float) or math.isfinite(value) for value in table.values())
