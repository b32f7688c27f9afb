"""The connection to the broker: one thread that connects, with everything it has to say put into a queue.

Each connection is a new client of paho, so that nothing is kept in two places: what is not acknowledged stands in the
outbox and is sent again. MQTT 5 is tried first; a broker that does not know it gets 3.1.1. The pause between two tries
doubles and is jittered, since a whole fleet loses its broker at the same moment.

The broker keeps the session for a day, so that a command reaches a device that was away. What comes in is acknowledged
when relay says so, which is when it is on the disk; what was under way when relay died comes again.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import random
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from agent.command import DESIRED_MAX_SIZE, LONGEST, VERBS
from agent.contract import Status, topic
from agent.settings import MqttSettings

log = logging.getLogger(__name__)

_CONNECT_TIMEOUT_S = 5.0
_POLL_S = 0.5
#: Places of the window that events leave free, for birth, notice, status and the audit log's head; else the last word
#: could wait behind a backlog.
_RESERVED = 4
_MOST_UNDER_WAY = 65_535
_NO_SUBSCRIPTION = "the broker gave no answer to the subscriptions"
_NO_ANSWER = "the broker gave no answer to the greeting; its TLS, ACL or MQTT version may not fit"
#: Messages from the broker that wait for relay; a hostile broker that sends more finds them dropped.
_INCOMING = 64
#: How many of them an honest broker has under way, and how large they are, bytes.
_RECEIVE_MAXIMUM, _LARGEST_PACKET = 32, 65_536
#: Longest Correlation Data that is echoed, bytes.
_CORRELATION = 256
#: A connection that lasts this long was a good one: the next pause is short again.
_STABLE_S = 10.0
_V5, _V311 = MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311


class MqttError(RuntimeError):
    """The connection cannot be set up at all; the text says what to change."""


@dataclass(frozen=True, slots=True)
class Connected:
    """The broker has accepted the connection; nothing is under way on it yet."""

    protocol: str


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection is gone, or did not come about; `reason` is for people."""

    reason: str


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The broker has answered for a message; `refused` says why it does not take it."""

    message: int
    refused: str | None


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message for the device.

    Attributes:
        topic: Its topic.
        payload: Its payload; of one that is too large the beginning, which is too large too.
        retained: Whether the broker kept it, or was asked to (MQTT 5).
        response: Response Topic of MQTT 5.
        correlation: Correlation Data of MQTT 5.
        number: Packet identifier.
        connection: Where it came from.
    """

    topic: str
    payload: bytes
    retained: bool
    response: str | None
    correlation: bytes | None
    number: int
    connection: paho.Client


Happening = Connected | Disconnected | Acknowledged | Incoming


def tls_context(settings: MqttSettings) -> ssl.SSLContext | None:
    """TLS 1.2 or newer with the files of the settings; None where TLS is off.

    Raises:
        MqttError: a file is missing or no certificate.
    """
    if not settings.tls:
        return None
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if settings.cert_file:
            context.load_cert_chain(settings.cert_file, settings.key_file)
    except (OSError, ssl.SSLError) as error:
        files = f"ca_file={settings.ca_file} cert_file={settings.cert_file} key_file={settings.key_file}"
        raise MqttError(f"mqtt: a certificate or key cannot be used ({error}); check {files}") from error
    return context


def new_client(
    settings: MqttSettings,
    client_id: str,
    protocol: MQTTProtocolVersion,
    *,
    reconnect: bool = False,
    stays: bool = False,
) -> paho.Client:
    """A client of paho with the names and keys of the settings.

    Args:
        settings: The broker.
        client_id: Unique there.
        protocol: Version of MQTT.
        reconnect: Whether paho connects again by itself.
        stays: Whether the broker keeps the session (of MQTT 5: as `connect` says), and who it is for acknowledges by
            hand.

    Raises:
        MqttError: a file of the settings cannot be used.
    """
    client = paho.Client(
        CallbackAPIVersion.VERSION2,
        client_id,
        clean_session=None if protocol is _V5 else not stays,
        protocol=protocol,
        reconnect_on_failure=reconnect,
        manual_ack=stays,
    )
    client.connect_timeout = _CONNECT_TIMEOUT_S
    context = tls_context(settings)
    if context is not None:
        client.tls_set_context(context)
    if settings.username is not None:
        password = None
        if settings.password_file is not None:
            try:
                password = settings.password_file.read_text().rstrip("\n")
            except OSError as error:
                raise MqttError(f"mqtt.password_file: {settings.password_file}: {error.strerror}") from error
        client.username_pw_set(settings.username, password)
    return client


class Link:
    """A connection that comes back by itself. `happenings` and `publish` are for one thread; paho has its own."""

    def __init__(self, settings: MqttSettings, site: str, device: str, boot: str) -> None:
        """Check the settings; nothing is connected yet.

        Raises:
            MqttError: they cannot work.
        """
        self._settings = settings
        self._client_id = f"vigie-{site}-{device}"
        self._protocol = _V311 if settings.protocol == "3.1.1" else _V5
        new_client(settings, self._client_id, self._protocol)
        self.window = settings.inflight
        """Events that may be under way at once; the broker of this connection may allow fewer than the settings."""
        self._status_topic = topic(site, device, "status")
        self.will = Status(state="offline", boot=boot).model_dump_json().encode()
        """What the broker says on `status` when the connection ends without a goodbye."""
        # RabbitMQ makes a level's end of the dot in a verb.
        dotted = [topic(site, device, "cmd", *verb.split(".")) for verb in VERBS if "." in verb]
        commands = [topic(site, device, "cmd", "+"), *dotted]
        self._subscriptions = {**dict.fromkeys(commands, 2), topic(site, device, "config", "desired"): 0}
        self._queue: queue.SimpleQueue[Happening] = queue.SimpleQueue()
        self._incoming: queue.Queue[Incoming] = queue.Queue(_INCOMING)
        self.flooded = 0
        """Messages dropped since the broker sent too many at once."""
        self.wake, self._waker = socket.socketpair()
        """Becomes readable when there are happenings."""
        self._waker.setblocking(False)
        self.wake.setblocking(False)
        self._stopping = threading.Event()
        self._gone = threading.Event()
        self._client: paho.Client | None = None
        self._accepted = self._subscribed = False
        self._reason = ""
        self._backoff_s = settings.backoff_min_s
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)

    def start(self) -> None:
        """Begin to connect."""
        self._thread.start()

    def happenings(self) -> list[Happening]:
        """What has happened since the last call."""
        with contextlib.suppress(BlockingIOError):
            while self.wake.recv(4096):
                pass
        found: list[Happening] = []
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self._queue.get_nowait())
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self._incoming.get_nowait())
        return found

    def take_in(self, message: Incoming) -> None:
        """Tell the broker that a message need not come again."""
        if message.number and message.connection is self._client:
            message.connection.ack(message.number, 1)

    def publish(
        self, topic_name: str, payload: bytes, *, retain: bool = False, correlation: bytes | None = None
    ) -> int | None:
        """Hand a message to the connection with QoS 1; its number, or None when there is no connection.

        Args:
            topic_name: Its topic.
            payload: Its payload.
            retain: Whether the broker keeps it.
            correlation: Correlation Data; MQTT 3.1.1 has none.
        """
        client = self._client
        if client is None or not self._accepted:
            return None
        properties = None
        if correlation is not None and self._protocol is _V5:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.CorrelationData = correlation
        info = client.publish(topic_name, payload, qos=1, retain=retain, properties=properties)
        return info.mid if info.rc is MQTTErrorCode.MQTT_ERR_SUCCESS else None

    def stop(self) -> None:
        """Disconnect, so that the broker does not send the will, and end the thread."""
        self._stopping.set()
        if self._client is not None:
            self._client.disconnect()
        if self._thread.is_alive():
            self._thread.join(_CONNECT_TIMEOUT_S + 1)
        self.wake.close()
        self._waker.close()

    def _tell(self, happening: Happening) -> None:
        self._queue.put(happening)
        with contextlib.suppress(OSError):
            self._waker.send(b"x")

    def _run(self) -> None:
        while not self._stopping.is_set():
            began = time.monotonic()
            self._connect_once()
            if time.monotonic() - began > _STABLE_S:
                self._backoff_s = self._settings.backoff_min_s
            self._stopping.wait(self._backoff_s * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
            self._backoff_s = min(2 * self._backoff_s, self._settings.backoff_max_s)

    def _connect_once(self) -> None:
        """One connection from its first to its last byte."""
        self._accepted = self._subscribed = False
        self._gone.clear()
        self._reason = "the broker closed the connection"
        protocol = self._protocol
        try:
            client = new_client(self._settings, self._client_id, protocol, stays=True)
            client.will_set(self._status_topic, self.will, qos=1, retain=True)
            client.max_inflight_messages_set(self._settings.inflight + _RESERVED)
            client.on_connect = self._on_connect
            client.on_subscribe = self._on_subscribe
            client.on_disconnect = self._on_disconnect
            client.on_publish = self._on_publish
            client.on_message = self._on_message
            self._client = client
            settings = self._settings
            if protocol is _V5:
                client.connect(
                    settings.host, settings.port, settings.keepalive_s, clean_start=False, properties=_session()
                )
            else:
                client.connect(settings.host, settings.port, settings.keepalive_s)
            # In paho's own thread: publishing from another one is safe only then.
            client.loop_start()
            self._wait_for_the_end(client)
            client.loop_stop()
        except (OSError, MqttError, ValueError) as error:
            self._reason = f"{self._settings.host}:{self._settings.port}: {error}"
        self._client = None
        if self._must_fall_back(protocol):
            log.info("event=falls_back mqtt=3.1.1 reason=%r", self._reason)
            self._protocol = _V311
            self._connect_once()
            return
        if self._settings.protocol == "auto" and not self._accepted:
            self._protocol = _V5  # the broker was away, not old
        self._accepted = False
        self._tell(Disconnected(self._reason))

    def _wait_for_the_end(self, client: paho.Client) -> None:
        deadline = time.monotonic() + _CONNECT_TIMEOUT_S
        while not self._gone.wait(_POLL_S):
            thread = client._thread  # noqa: SLF001 - paho does not say when a packet has ended it
            if thread is None or not thread.is_alive():
                self._reason = "the broker sent a packet that cannot be read"
                return
            if not self._subscribed and time.monotonic() > deadline:
                self._reason = _NO_SUBSCRIPTION if self._accepted else _NO_ANSWER
                return

    def _must_fall_back(self, protocol: MQTTProtocolVersion) -> bool:
        """Whether the broker does not speak MQTT 5: it says so, or hangs up without an answer as old ones do."""
        if self._settings.protocol != "auto" or protocol is _V311 or self._accepted or self._stopping.is_set():
            return False
        return self._reason == _NO_ANSWER or "protocol version" in self._reason.lower()

    def _on_connect(
        self, client: paho.Client, userdata: Any, flags: Any, reason: ReasonCode, properties: Properties | None
    ) -> None:
        del userdata, flags
        if reason.is_failure:
            self._reason = f"the broker refuses the connection: {reason}"
            return
        allowed = min(self._settings.inflight + _RESERVED, getattr(properties, "ReceiveMaximum", _MOST_UNDER_WAY))
        self.window = max(1, allowed - _RESERVED)
        self._accepted = True
        if self._protocol is _V5:
            # As published, so that a command that somebody has the broker keep is known by that.
            client.subscribe(
                [
                    (name, SubscribeOptions(1, retainAsPublished=True, retainHandling=handling))
                    for name, handling in self._subscriptions.items()
                ]
            )
        else:
            client.subscribe([(name, 1) for name in self._subscriptions])

    def _on_subscribe(
        self, client: paho.Client, userdata: Any, message: int, reasons: list[ReasonCode], properties: Properties | None
    ) -> None:
        del client, userdata, message, properties
        if any(reason.is_failure for reason in reasons):
            log.warning("event=deaf reason=%r", "the broker's access list lets no commands through")
        self._subscribed = True
        self._tell(Connected("5" if self._protocol is _V5 else "3.1.1"))

    def _on_disconnect(
        self, client: paho.Client, userdata: Any, flags: Any, reason: ReasonCode, properties: Properties | None
    ) -> None:
        del client, userdata, flags, properties
        if not self._accepted:
            if "refuses" not in self._reason:
                self._reason = _NO_ANSWER
        elif reason.is_failure:
            self._reason = f"connection lost: {reason}; a publish that the ACL denies ends it too on some brokers"
        self._gone.set()

    def _on_publish(
        self, client: paho.Client, userdata: Any, message: int, reason: ReasonCode, properties: Properties | None
    ) -> None:
        del userdata, properties
        if client is self._client:
            self._tell(Acknowledged(message, str(reason) if reason.is_failure else None))

    def _on_message(self, client: paho.Client, userdata: Any, message: paho.MQTTMessage) -> None:
        del userdata
        response = getattr(message.properties, "ResponseTopic", None)
        correlation = getattr(message.properties, "CorrelationData", None)
        try:
            name = message.topic
        except UnicodeDecodeError:  # from a hostile broker: it matches nothing that was subscribed
            self.flooded += 1
            return
        incoming = Incoming(
            name,
            bytes(message.payload[: DESIRED_MAX_SIZE + 1]),
            bool(message.retain),
            response,
            correlation if correlation is not None and len(correlation) <= _CORRELATION else None,
            message.mid if message.qos else 0,
            client,
        )
        try:
            self._incoming.put_nowait(incoming)
        except queue.Full:
            self.flooded += 1
            return
        with contextlib.suppress(OSError):
            self._waker.send(b"x")


def _session() -> Properties:
    """What is asked of the broker in MQTT 5."""
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = int(LONGEST.total_seconds())
    properties.ReceiveMaximum = _RECEIVE_MAXIMUM
    properties.MaximumPacketSize = _LARGEST_PACKET
    return properties
