"""Networks small enough to write down: ONNX is protobuf, and protobuf is tags and lengths."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

Field = tuple[int, "int | str | bytes"]
FLOAT = 1


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def _message(*fields: Field) -> bytes:
    encoded = b""
    for number, value in fields:
        if isinstance(value, int):
            encoded += _varint(number << 3) + _varint(value)
        else:
            content = value.encode() if isinstance(value, str) else value
            encoded += _varint(number << 3 | 2) + _varint(len(content)) + content
    return encoded


def _tensor(name: str, shape: Sequence[int | str], element: int) -> bytes:
    sizes = [(1, _message((1, size) if isinstance(size, int) else (2, size))) for size in shape]
    return _message((1, name), (2, _message((1, _message((1, element), (2, _message(*sizes)))))))


@pytest.fixture(scope="session")
def network() -> Callable[..., bytes]:
    """Make an ONNX model that applies one elementwise operator: `network("Abs", ("batch", 4))`."""

    def make(operator: str, shape: Sequence[int | str], element: int = FLOAT) -> bytes:
        node = _message((1, "x"), (2, "y"), (4, operator))
        graph = _message((1, node), (2, "one"), (11, _tensor("x", shape, element)), (12, _tensor("y", shape, element)))
        return _message((1, 8), (7, graph), (8, _message((1, ""), (2, 17))))

    return make
