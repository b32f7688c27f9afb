"""A broker that does as a test says: what no real one does on demand, such as to stay silent or to refuse MQTT 5."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import pytest

_CONNECT, _CONNACK, _PUBLISH, _PUBACK, _SUBSCRIBE, _SUBACK, _DISCONNECT = 1, 2, 3, 4, 8, 9, 14
_NOT_AUTHORIZED = 0x87
_UNACCEPTABLE_VERSION = 0x01
_PATIENCE_S = 20.0


@dataclass(frozen=True)
class Manners:
    """How the broker treats one connection.

    Attributes:
        greeting: What it does on CONNECT. `old` is a broker from before MQTT 5, which refuses its version number.
        acknowledges: Whether PUBLISH is answered.
        denies: Topics that it does not take (MQTT 5 says so in the PUBACK).
        receive_maximum: As in CONNACK of MQTT 5; None to say nothing about it.
    """

    greeting: Literal["accept", "old", "hang_up", "silence"] = "accept"
    acknowledges: bool = True
    denies: frozenset[str] = frozenset()
    receive_maximum: int | None = None


@dataclass(frozen=True)
class Published:
    """One PUBLISH as it came."""

    topic: str
    payload: bytes
    qos: int
    retain: bool


@dataclass
class Connection:
    """What the broker saw of one connection.

    Attributes:
        level: Protocol level of CONNECT: 4 is MQTT 3.1.1, 5 is MQTT 5.
        published: Messages in their order.
        said_goodbye: Whether DISCONNECT came.
        subscribed: Topic filters.
        acknowledged: Packet identifiers of deliveries that were acknowledged.
    """

    level: int = 0
    subscribed: list[str] = field(default_factory=list)
    acknowledged: list[int] = field(default_factory=list)
    published: list[Published] = field(default_factory=list)
    said_goodbye: bool = False


class ScriptedBroker:
    """A few packets of MQTT 3.1.1 and 5 on loopback. It delivers what `deliver` says, and nothing else."""

    def __init__(self) -> None:
        self.manners = [Manners()]
        """For one connection after the other; the last one for all that follow."""
        self.connections: list[Connection] = []
        self._changed = threading.Condition()
        self._sending = threading.Lock()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Until something has come in that makes the condition true."""
        with self._changed:
            assert self._changed.wait_for(condition, _PATIENCE_S), f"the broker waited in vain: {what}"

    def published(self) -> list[Published]:
        """All messages of all connections."""
        return [message for connection in self.connections for message in connection.published]

    def deliver(self, topic: str, payload: bytes, number: int, *, retain: bool = False, response: str = "") -> None:
        """Send a message with QoS 1 to whoever is connected.

        Args:
            topic: Its topic.
            payload: Its payload.
            number: Its packet identifier.
            retain: Whether it says that it is retained.
            response: Response Topic, for MQTT 5.
        """
        name, properties = topic.encode(), b""
        if self.connections[-1].level == 5:
            asked = b"\x08" + len(response).to_bytes(2, "big") + response.encode() if response else b""
            properties = bytes([len(asked)]) + asked
        body = len(name).to_bytes(2, "big") + name + number.to_bytes(2, "big") + properties + payload
        with self._sending:
            self._sockets[-1].sendall(bytes([_PUBLISH << 4 | 2 | retain]) + _length(len(body)) + body)

    def drop(self) -> None:
        """Cut all connections, as a broker that dies does."""
        for connected in self._sockets:
            with contextlib.suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self.drop()
        for thread in self._threads:
            thread.join(_PATIENCE_S)
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                connected, _ = self._server.accept()
            except OSError:  # closed
                return
            seen = Connection()
            with self._changed:
                manners = self.manners[min(len(self.connections), len(self.manners) - 1)]
                self.connections.append(seen)
                self._sockets.append(connected)
            thread = threading.Thread(target=self._serve, args=(connected, manners, seen))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connected: socket.socket, manners: Manners, seen: Connection) -> None:
        with connected, connected.makefile("rb") as stream, contextlib.suppress(OSError):
            while head := stream.read(1):
                body = stream.read(_remaining_length(lambda: stream.read(1)[0]))
                with self._changed:
                    answer = self._answer(head[0], body, manners, seen)
                    self._changed.notify_all()
                if answer is None:
                    return
                with self._sending, contextlib.suppress(OSError):  # who has closed may have said more before
                    connected.sendall(answer)

    def _answer(self, head: int, body: bytes, manners: Manners, seen: Connection) -> bytes | None:
        """The packet to answer with, empty for no answer, None to hang up."""
        kind = head >> 4
        if kind == _CONNECT:
            seen.level = body[6]
            return _greeting(manners, seen.level)
        if kind == _PUBLISH:
            message, number = _parse_publish(head, body, seen.level)
            seen.published.append(message)
            if message.qos and manners.acknowledges:
                denied = seen.level == 5 and message.topic in manners.denies
                return _packet(_PUBACK, number + (bytes([_NOT_AUTHORIZED]) if denied else b""))
        if kind == _PUBACK:
            seen.acknowledged.append(int.from_bytes(body[:2], "big"))
        if kind == _SUBSCRIBE:
            names = list(_filters(body[2:] if seen.level != 5 else body[3 + body[2] :]))
            seen.subscribed += names
            return _packet(_SUBACK, body[:2] + (b"\0" if seen.level == 5 else b"") + b"\1" * len(names))
        if kind == _DISCONNECT:
            seen.said_goodbye = True
            return None
        return b""


def _packet(kind: int, body: bytes) -> bytes:
    return bytes([kind << 4, len(body)]) + body


def _filters(body: bytes) -> Iterator[str]:
    """The topic filters of a SUBSCRIBE, each with a byte of options behind it."""
    while body:
        end = 2 + int.from_bytes(body[:2], "big")
        yield body[2:end].decode()
        body = body[end + 1 :]


def _length(value: int) -> bytes:
    """A variable byte integer."""
    found = b""
    while True:
        value, low = divmod(value, 128)
        found += bytes([low | (128 if value else 0)])
        if not value:
            return found


def _remaining_length(next_byte: Callable[[], int]) -> int:
    """A variable byte integer (MQTT 5, 1.5.5)."""
    value = 0
    for shift in (0, 7, 14, 21):
        byte = next_byte()
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            break
    return value


def _greeting(manners: Manners, level: int) -> bytes | None:
    if manners.greeting == "silence":
        return b""
    if manners.greeting == "hang_up":
        return None
    if manners.greeting == "old" and level == 5:
        return _packet(_CONNACK, bytes([0, _UNACCEPTABLE_VERSION]))
    if level != 5:
        return _packet(_CONNACK, b"\0\0")
    limit = manners.receive_maximum
    properties = b"" if limit is None else b"\x21" + limit.to_bytes(2, "big")
    return _packet(_CONNACK, b"\0\0" + bytes([len(properties)]) + properties)


def _parse_publish(head: int, body: bytes, level: int) -> tuple[Published, bytes]:
    """The message, and its packet identifier as it came."""
    end = 2 + int.from_bytes(body[:2], "big")
    name, qos = body[2:end].decode(), head >> 1 & 3
    number = body[end : end + 2] if qos else b""
    rest = body[end + len(number) :]
    if level == 5:
        rest = rest[1 + rest[0] :]  # properties, which are short
    return Published(name, rest, qos, bool(head & 1)), number


@pytest.fixture
def broker() -> Iterator[ScriptedBroker]:
    """A broker that accepts everybody until the test says otherwise."""
    scripted = ScriptedBroker()
    try:
        yield scripted
    finally:
        scripted.close()
