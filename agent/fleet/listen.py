"""What comes on some topics just as it was published: with the publisher's QoS and, with MQTT 5, its retain flag."""

from __future__ import annotations

import contextlib
import queue
import secrets
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from agent.fleet.client import FleetError
from agent.fleet.conform import Received
from agent.relay.mqtt import MqttError, new_client
from agent.settings import MqttSettings

_ANSWER_S = 10.0
_V5, _V311 = MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311


@dataclass(frozen=True, slots=True)
class Listening:
    """A subscription.

    Attributes:
        messages: What has come.
        flags: Whether retain flags are those of the publisher; else only what the broker has kept bears one.
    """

    messages: queue.SimpleQueue[Received]
    flags: bool


@contextlib.contextmanager
def listening(settings: MqttSettings, topics: Sequence[str]) -> Iterator[Listening]:
    """Subscribe for as long as the context lasts: with MQTT 5, else with 3.1.1.

    Raises:
        FleetError: the broker cannot be reached, or does not allow it.
    """
    versions = {"5": [_V5], "3.1.1": [_V311], "auto": [_V5, _V311]}[settings.protocol]
    where = f"broker {settings.host}:{settings.port}"
    said = ""
    for version in versions:
        messages: queue.SimpleQueue[Received] = queue.SimpleQueue()
        try:
            client = new_client(settings, f"vigie-fleet-{secrets.token_hex(4)}", version, reconnect=True)
            said = _subscribe(client, settings, topics, messages, version)
        except (OSError, MqttError, ValueError) as error:
            raise FleetError(f"{where}: {error}") from error
        try:
            if not said:
                yield Listening(messages, flags=version is _V5)
                return
        finally:
            client.disconnect()
            client.loop_stop()
    raise FleetError(f"{where}: {said}")


def _subscribe(
    client: paho.Client,
    settings: MqttSettings,
    topics: Sequence[str],
    messages: queue.SimpleQueue[Received],
    version: MQTTProtocolVersion,
) -> str:
    """Connect and subscribe; an empty text, or what is wrong."""
    answered = threading.Event()
    refusal: list[str] = []

    def on_connect(client: paho.Client, userdata: Any, flags: Any, reason: ReasonCode, properties: Any) -> None:
        del userdata, flags, properties
        if reason.is_failure:
            refusal.append(str(reason))
            answered.set()
        elif version is _V5:
            client.subscribe([(topic, SubscribeOptions(qos=2, retainAsPublished=True)) for topic in topics])
        else:
            client.subscribe([(topic, 2) for topic in topics])

    def on_subscribe(
        client: paho.Client, userdata: Any, number: int, reasons: list[ReasonCode], properties: Any
    ) -> None:
        del client, userdata, number, properties
        answers = zip(topics, reasons, strict=False)
        refusal.extend(f"may not subscribe to {topic}: {reason}" for topic, reason in answers if reason.is_failure)
        answered.set()

    def on_message(client: paho.Client, userdata: Any, message: paho.MQTTMessage) -> None:
        del client, userdata
        messages.put(Received(message.topic, bytes(message.payload), message.qos, bool(message.retain)))

    client.on_connect, client.on_subscribe, client.on_message = on_connect, on_subscribe, on_message
    client.connect(settings.host, settings.port, settings.keepalive_s)
    client.loop_start()
    if not answered.wait(_ANSWER_S):
        return "no answer"
    return refusal[0] if refusal else ""
