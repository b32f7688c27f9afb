"""What a bridge is: messages in, messages out, and no message that can end it."""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode

from agent.fleet.client import FleetError
from agent.relay.mqtt import MqttError, new_client
from agent.settings import MqttSettings

log = logging.getLogger(__name__)

_GREETING_S = 10.0
_FAREWELL_S = 2.0
#: Messages under way without acknowledgement, of all devices together.
_INFLIGHT = 200

#: Devices that a bridge keeps in mind; what says it is yet another one is refused and counted.
MAX_DEVICES = 10_000


@dataclass(frozen=True, slots=True)
class Publication:
    """A message to publish, with QoS 1."""

    topic: str
    payload: bytes
    retain: bool = False


class Bridge(Protocol):
    """One other system's view of the fleet. One thread uses it."""

    filters: tuple[str, ...]
    """Topics to subscribe to."""
    refused: Counter[str]
    """Messages that were not taken, by reason."""
    will: Publication | None
    """What the broker shall say when the bridge is gone."""

    def connected(self) -> list[Publication]:
        """What to say at the beginning of each connection."""

    def take(self, topic: str, payload: bytes, *, retained: bool) -> list[Publication]:
        """What to say upon a message; a bad one is counted, and answered by nothing.

        Args:
            topic: Its topic.
            payload: Its payload.
            retained: Whether it is an old one that the broker has kept.
        """


class _Connection:
    """A bridge at a broker. Its methods are called by paho's thread."""

    def __init__(self, client: paho.Client, bridge: Bridge) -> None:
        self._bridge = bridge
        self.there = threading.Event()
        self.greeted = threading.Event()
        self.refusal = ""
        client.max_inflight_messages_set(_INFLIGHT)
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_subscribe, client.on_message = self._on_subscribe, self._on_message
        if bridge.will:
            client.will_set(bridge.will.topic, bridge.will.payload, qos=1, retain=bridge.will.retain)

    def _on_connect(self, client: paho.Client, userdata: Any, flags: Any, reason: ReasonCode, properties: Any) -> None:
        del userdata, flags, properties
        self.refusal = str(reason) if reason.is_failure else ""
        if not self.refusal:
            self.there.set()
            client.subscribe([(name, 1) for name in self._bridge.filters])
            _publish(client, self._bridge.connected())
        self.greeted.set()

    def _on_disconnect(
        self, client: paho.Client, userdata: Any, flags: Any, reason: ReasonCode, properties: Any
    ) -> None:
        del client, userdata, flags, properties
        self.there.clear()
        if reason.is_failure:
            log.warning("event=disconnected reason=%r", str(reason))

    def _on_subscribe(
        self, client: paho.Client, userdata: Any, number: int, reasons: list[ReasonCode], properties: Any
    ) -> None:
        del client, userdata, number, properties
        for name, reason in zip(self._bridge.filters, reasons, strict=False):
            if reason.is_failure:
                log.error("event=may_not_subscribe topic=%s reason=%r", name, str(reason))

    def _on_message(self, client: paho.Client, userdata: Any, message: paho.MQTTMessage) -> None:
        del userdata
        try:
            said = self._bridge.take(message.topic, bytes(message.payload), retained=bool(message.retain))
        except Exception:  # else a mistake of the bridge would end paho's thread, and nobody would see it
            log.exception("event=mistake bridge=%s", type(self._bridge).__name__)
            self._bridge.refused["mistake of the bridge"] += 1
        else:
            _publish(client, said)


def _publish(client: paho.Client, said: list[Publication]) -> None:
    for message in said:
        client.publish(message.topic, message.payload, qos=1, retain=message.retain)


@contextlib.contextmanager
def running(settings: MqttSettings, bridge: Bridge, kind: str) -> Iterator[threading.Event]:
    """Run a bridge in a thread of its own for as long as the context lasts; an event that is set while it is connected.

    MQTT 3.1.1 unless the settings ask for 5: every broker speaks it, and a bridge needs nothing that came later.

    Args:
        settings: The broker.
        bridge: What listens and answers.
        kind: Part of the client's name.

    Raises:
        FleetError: the broker cannot be reached at first, or refuses. A connection that is lost later comes back.
    """
    where = f"broker {settings.host}:{settings.port}"
    version = MQTTProtocolVersion.MQTTv5 if settings.protocol == "5" else MQTTProtocolVersion.MQTTv311
    try:
        client = new_client(settings, f"vigie-{kind}-{secrets.token_hex(4)}", version, reconnect=True)
        connection = _Connection(client, bridge)
        client.connect(settings.host, settings.port, settings.keepalive_s)
    except (OSError, MqttError, ValueError) as error:
        raise FleetError(f"{where}: {error}") from error
    client.loop_start()
    try:
        if not connection.greeted.wait(_GREETING_S) or connection.refusal:
            raise FleetError(f"{where}: {connection.refusal or 'no answer'}")
        yield connection.there
        if bridge.will:
            with contextlib.suppress(RuntimeError, ValueError):  # there is no connection, and the broker says it
                will = bridge.will
                client.publish(will.topic, will.payload, qos=1, retain=will.retain).wait_for_publish(_FAREWELL_S)
    finally:
        client.disconnect()
        client.loop_stop()
