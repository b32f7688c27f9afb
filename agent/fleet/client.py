"""The manager's connection to the broker: subscribe, publish, and take what comes, each with an end in time."""

from __future__ import annotations

import contextlib
import queue
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode

from agent.relay.mqtt import MqttError, new_client
from agent.settings import MqttSettings

_ANSWER_S = 10.0
_V5, _V311 = MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311


class FleetError(RuntimeError):
    """The broker does not answer, or does not allow something; the text says which."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message as it came.

    Attributes:
        topic: Its topic.
        payload: Its payload.
        retained: Whether the broker had kept it.
    """

    topic: str
    payload: bytes
    retained: bool


class Client:
    """A connected client. Use `connected`; its methods are for one thread."""

    def __init__(self, settings: MqttSettings, protocol: MQTTProtocolVersion) -> None:
        self.messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self.where = f"broker {settings.host}:{settings.port}"
        self._answers: dict[int, str | None] = {}
        self._changed = threading.Condition()
        self._greeted: str | None = None
        """What the broker says to the greeting: an empty text when it accepts."""
        self._filters: list[str] = []
        self._client = new_client(settings, f"vigie-fleet-{secrets.token_hex(4)}", protocol, reconnect=True)
        self._client.on_connect = self._on_connect
        self._client.on_connect_fail = lambda *_: self._greet("no connection")
        self._client.on_message = self._on_message
        self._client.on_subscribe = self._on_subscribe
        self._client.on_publish = self._on_publish
        self._client.connect(settings.host, settings.port, settings.keepalive_s)
        self._client.loop_start()

    def greeting(self) -> str:
        """What the broker says: an empty text, or why it refuses."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._greeted is not None, _ANSWER_S):
                return "no answer"
            return self._greeted or ""

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()

    def subscribe(self, *filters: str) -> None:
        """Subscribe with QoS 1, and again after each reconnection.

        Raises:
            FleetError: the broker refuses, or does not answer.
        """
        self._filters += filters
        _, number = self._client.subscribe([(name, 1) for name in filters])
        self._settled(number, f"may not subscribe to {', '.join(filters)}")

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish with QoS 1, and wait until the broker has it.

        Raises:
            FleetError: it refuses, or does not answer.
        """
        info = self._client.publish(topic, payload, qos=1, retain=retain)
        if info.rc is not MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise FleetError(f"{self.where}: connection lost")
        self._settled(info.mid, f"may not publish on {topic}")

    def publish_all(self, messages: Sequence[tuple[str, bytes]], *, retain: bool = False) -> list[str | None]:
        """Publish many with QoS 1, all under way at once; for each None, or why the broker does not have it.

        Args:
            messages: Topic and payload of each.
            retain: Whether the broker keeps them.
        """
        numbers = [self._client.publish(name, payload, qos=1, retain=retain).mid for name, payload in messages]
        with self._changed:
            self._changed.wait_for(lambda: all(n in self._answers for n in numbers), _ANSWER_S + len(messages) / 100)
            return [self._answers.pop(number, "the broker does not answer") for number in numbers]

    def take(self, timeout: float) -> Message | None:
        """The next message, or None when there is none for so many seconds."""
        with contextlib.suppress(queue.Empty):
            return self.messages.get(timeout=max(0.0, timeout))
        return None

    def retained(self, quiet_s: float, longest_s: float = 30.0) -> Iterator[Message]:
        """What the broker has kept for the subscriptions, until nothing comes for a while.

        Args:
            quiet_s: MQTT has no mark behind the last retained message; this much silence stands for it, seconds.
            longest_s: Where messages never cease, it ends all the same, seconds.
        """
        deadline = time.monotonic() + longest_s
        while time.monotonic() < deadline and (message := self.take(quiet_s)) is not None:
            if message.retained:
                yield message

    def _settled(self, number: int | None, refusal: str) -> None:
        with self._changed:
            if number is None or not self._changed.wait_for(lambda: number in self._answers, _ANSWER_S):
                raise FleetError(f"{self.where}: no answer within {_ANSWER_S:.0f} s")
            reason = self._answers.pop(number)
        if reason is not None:
            raise FleetError(f"{self.where}: {refusal}: {reason}")

    def _greet(self, said: str) -> None:
        with self._changed:
            self._greeted = said
            self._changed.notify_all()

    def _answer(self, number: int, reason: ReasonCode | None) -> None:
        with self._changed:
            self._answers[number] = str(reason) if reason is not None and reason.is_failure else None
            self._changed.notify_all()

    def _on_connect(self, client: paho.Client, userdata: Any, flags: Any, reason: ReasonCode, properties: Any) -> None:
        del userdata, flags, properties
        if not reason.is_failure and self._filters:
            client.subscribe([(name, 1) for name in self._filters])
        self._greet(str(reason) if reason.is_failure else "")

    def _on_message(self, client: paho.Client, userdata: Any, message: paho.MQTTMessage) -> None:
        del client, userdata
        self.messages.put(Message(message.topic, bytes(message.payload), bool(message.retain)))

    def _on_subscribe(
        self, client: paho.Client, userdata: Any, number: int, reasons: list[ReasonCode], properties: Any
    ) -> None:
        del client, userdata, properties
        self._answer(number, next((reason for reason in reasons if reason.is_failure), None))

    def _on_publish(self, client: paho.Client, userdata: Any, number: int, reason: ReasonCode, properties: Any) -> None:
        del client, userdata, properties
        self._answer(number, reason)


@contextlib.contextmanager
def connected(settings: MqttSettings) -> Iterator[Client]:
    """A client that is connected: with MQTT 5, or with 3.1.1 where the broker or the settings want that.

    Raises:
        FleetError: the broker cannot be reached, or refuses.
    """
    versions = {"5": [_V5], "3.1.1": [_V311], "auto": [_V5, _V311]}[settings.protocol]
    said = ""
    for version in versions:
        try:
            client = Client(settings, version)
        except (OSError, MqttError, ValueError) as error:
            raise FleetError(f"broker {settings.host}:{settings.port}: {error}") from error
        said = client.greeting()
        if said:
            client.close()
            continue
        try:
            yield client
        finally:
            client.close()
        return
    raise FleetError(f"broker {settings.host}:{settings.port}: {said}")
