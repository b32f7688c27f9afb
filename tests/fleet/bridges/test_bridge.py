"""A bridge at a broker: what it subscribes to and says, and that not even its own mistake ends it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from agent.fleet.bridges.bridge import Publication, _Connection


class Told:
    """A client that is not connected; it keeps what is published and subscribed to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.client = paho.Client(CallbackAPIVersion.VERSION2)
        self.published: list[Any] = []
        self.subscribed: list[Any] = []
        monkeypatch.setattr(self.client, "publish", lambda *said, **how: self.published.append((*said, how)))
        monkeypatch.setattr(self.client, "subscribe", self.subscribed.extend)


class Echo:
    """A bridge that says a message again, and falls over `bad`."""

    filters: tuple[str, ...] = ("a/#", "b/+")
    will: Publication | None = Publication("echo/status", b"offline", retain=True)

    def __init__(self) -> None:
        self.refused: Counter[str] = Counter()

    def connected(self) -> list[Publication]:
        return [Publication("echo/status", b"online", retain=True)]

    def take(self, topic: str, payload: bytes, *, retained: bool) -> list[Publication]:
        if payload == b"bad":
            raise ZeroDivisionError
        return [Publication(f"echo/{topic}", payload, retain=retained)]


def message(topic: str, payload: bytes, *, retain: bool = False) -> paho.MQTTMessage:
    made = paho.MQTTMessage(topic=topic.encode())
    made.payload, made.retain = payload, retain
    return made


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    return Told(monkeypatch)


def call(handler: Callable[..., None] | None, *arguments: Any) -> None:
    assert handler is not None
    handler(*arguments)


def test_it_subscribes_greets_and_answers(told: Told) -> None:
    connection = _Connection(told.client, Echo())
    call(told.client.on_connect, told.client, None, None, ReasonCode(PacketTypes.CONNACK, "Success"), None)
    assert connection.there.is_set()
    assert told.subscribed == [("a/#", 1), ("b/+", 1)]
    call(told.client.on_message, told.client, None, message("a/x", b"hello", retain=True))
    assert told.published == [
        ("echo/status", b"online", {"qos": 1, "retain": True}),
        ("echo/a/x", b"hello", {"qos": 1, "retain": True}),
    ]
    call(told.client.on_disconnect, told.client, None, None, ReasonCode(PacketTypes.DISCONNECT, "Server busy"), None)
    assert not connection.there.is_set()


def test_a_mistake_of_its_own_is_counted_and_said(told: Told, caplog: pytest.LogCaptureFixture) -> None:
    bridge = Echo()
    _Connection(told.client, bridge)
    with caplog.at_level(logging.ERROR):
        call(told.client.on_message, told.client, None, message("a/x", b"bad"))
    call(told.client.on_message, told.client, None, message("a/x", b"good"))
    assert bridge.refused == {"mistake of the bridge": 1}
    assert "event=mistake bridge=Echo" in caplog.text
    assert [said[1] for said in told.published] == [b"good"]


def test_a_refusal_is_kept_and_a_subscription_that_is_not_allowed_is_said(
    told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    connection = _Connection(told.client, Echo())
    call(told.client.on_connect, told.client, None, None, ReasonCode(PacketTypes.CONNACK, "Not authorized"), None)
    assert connection.greeted.is_set()
    assert connection.refusal == "Not authorized"
    assert not told.published
    reasons = [ReasonCode(PacketTypes.SUBACK, "Granted QoS 1"), ReasonCode(PacketTypes.SUBACK, "Not authorized")]
    call(told.client.on_subscribe, told.client, None, 1, reasons, None)
    assert "event=may_not_subscribe topic=b/+ reason='Not authorized'" in caplog.text
    assert "a/#" not in caplog.text
