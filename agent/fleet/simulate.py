"""A simulated fleet: many devices that speak the contract to a real broker, and an account of every message.

Each device does as relay does: a birth, a status that is also its last will, health, and events that stand in its
outbox until the broker acknowledges them (QoS 1) and are sent again on the next connection. An observer with a session
that the broker keeps subscribes to all events. In the end, everything that was acknowledged must have reached it.

A few threads serve all devices, each by one selector: a thread for each device is what costs memory, and a fleet's
broker should be what is measured. Connecting is done one after another, as TLS asks for most of the work there.
"""

from __future__ import annotations

import datetime as dt
import itertools
import secrets
import selectors
import socket
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode, MQTTProtocolVersion

from agent import __version__
from agent.contract import CONTRACT_VERSION, Birth, Event, EventData, Health, Status, topic
from agent.relay.mqtt import MqttError, new_client
from agent.settings import MqttSettings

SITE = "simulated"
_TYPE = "crowd.gathering"
#: Messages of one device under way without acknowledgement.
_INFLIGHT = 20
_STEP_S = 0.02
_MISC_S = 1.0
_RETRY_S = 1.0
_MOST_RETRY_S = 10.0
_CONNECT_S = 10.0
_SAMPLES = 200_000


@dataclass(frozen=True, slots=True)
class Figures:
    """What a run gave.

    Attributes:
        devices: How many there were.
        connected: How many were connected when all had begun.
        connect_s: How long that took, seconds.
        seconds: How long events were made, seconds.
        made: Events made.
        acknowledged: Events that the broker has acknowledged.
        received: Different events that the observer got.
        lost: Acknowledged and not received.
        repeated: Received again.
        per_second: Acknowledged events a second.
        ack_ms: Time to the acknowledgement, from the first attempt: 50th, 95th and 99th percentile, milliseconds.
        seen_ms: Time to the observer, likewise.
        reconnects: Connections after the first, of all devices.
        observer_reconnects: Those of the observer.
        resent: Events that were sent again on another connection.
    """

    devices: int
    connected: int
    connect_s: float
    seconds: float
    made: int
    acknowledged: int
    received: int
    lost: int
    repeated: int
    per_second: float
    ack_ms: tuple[float, float, float] | None
    seen_ms: tuple[float, float, float] | None
    reconnects: int
    observer_reconnects: int
    resent: int


class SimulationError(RuntimeError):
    """The run cannot be done; the text says why."""


@dataclass(slots=True)
class _Tally:
    """What all threads count; each number has one writer at a time, under the lock."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    counts: Counter[str] = field(default_factory=Counter)
    acknowledged: set[str] = field(default_factory=set)
    received: set[str] = field(default_factory=set)
    sent_at: dict[str, float] = field(default_factory=dict)
    ack_s: list[float] = field(default_factory=list)
    seen_s: list[float] = field(default_factory=list)


class _Connection:
    """One client of paho without a thread of its own, that connects again to the next broker."""

    def __init__(self, brokers: Sequence[MqttSettings], client_id: str, first: int) -> None:
        self._brokers = brokers
        self._id = client_id
        self._next = first
        self._pause_s = _RETRY_S
        self._try_at = 0.0
        self._misc_at = 0.0
        self.client: paho.Client | None = None
        self.accepted = False
        self.connections = 0
        self.said = "no answer"
        """Why it is not connected."""

    def set_up(self, client: paho.Client) -> None:
        """Set will and callbacks of a new client."""

    def begun(self) -> None:
        """Do what comes first on a connection that is accepted."""

    def may_try(self, now: float) -> bool:
        """Whether it is time for the next try."""
        return now >= self._try_at

    def connect(self, now: float) -> None:
        """Try to connect; it takes as long as TLS does."""
        settings = self._brokers[self._next % len(self._brokers)]
        self._next += 1
        version = MQTTProtocolVersion.MQTTv5 if settings.protocol == "5" else MQTTProtocolVersion.MQTTv311
        client = new_client(settings, self._id, version)
        client.connect_timeout = _CONNECT_S
        client.max_inflight_messages_set(_INFLIGHT)
        client.on_connect = self._on_connect
        self.set_up(client)
        try:
            client.connect(settings.host, settings.port, settings.keepalive_s)
        except (OSError, ValueError) as error:
            self.said = str(error)
            self._later(now)
            return
        self.client = client

    def _later(self, now: float) -> None:
        self._try_at = now + self._pause_s
        self._pause_s = min(2 * self._pause_s, _MOST_RETRY_S)

    def _on_connect(self, client: paho.Client, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        del client, userdata, flags, properties
        if reason.is_failure:
            self.said = str(reason)
            return
        self.accepted = True
        self.connections += 1
        self._pause_s = _RETRY_S
        self.begun()

    def serve(self, now: float, *, readable: bool) -> bool:
        """Read, write and look after the connection; whether it is still there."""
        client = self.client
        if client is None:
            return False
        # TLS may have decrypted more than was read: then the socket does not tell.
        rc = client.loop_read() if readable or _pending(client) else MQTTErrorCode.MQTT_ERR_SUCCESS
        if rc is MQTTErrorCode.MQTT_ERR_SUCCESS and client.want_write():
            rc = client.loop_write()
        if rc is MQTTErrorCode.MQTT_ERR_SUCCESS and now >= self._misc_at:
            self._misc_at = now + _MISC_S
            rc = client.loop_misc()
        if rc is MQTTErrorCode.MQTT_ERR_SUCCESS and client.socket() is not None:
            return True
        self.client, self.accepted = None, False
        self._later(now)
        return False

    def socket(self) -> socket.socket | None:
        """Its socket, while there is one."""
        return self.client.socket() if self.client else None  # type: ignore[return-value]

    def close(self) -> None:
        """Say goodbye."""
        if self.client is not None:
            self.client.disconnect()
            self.client = None


def _pending(client: paho.Client) -> bool:
    connection = client.socket()
    pending = getattr(connection, "pending", None)
    return bool(pending and pending())


class SimulatedDevice(_Connection):
    """One device: it makes events, and keeps them until they are acknowledged."""

    def __init__(self, name: str, brokers: Sequence[MqttSettings], first: int, tally: _Tally) -> None:
        super().__init__(brokers, f"vigie-{SITE}-{name}", first)
        self.name = name
        self._boot = secrets.token_hex(4)
        self._tally = tally
        self._numbers = itertools.count(1)
        self._outbox: OrderedDict[str, bytes] = OrderedDict()
        self._under_way: dict[int, str] = {}
        self._tried: set[str] = set()

    @property
    def waiting(self) -> int:
        """Events that are not acknowledged."""
        return len(self._outbox)

    def set_up(self, client: paho.Client) -> None:
        """As relay: the last will says that it is offline."""
        will = Status(state="offline", boot=self._boot).model_dump_json().encode()
        client.will_set(topic(SITE, self.name, "status"), will, qos=1, retain=True)
        client.on_publish = self._on_publish
        self._under_way.clear()

    def begun(self) -> None:
        """As relay: birth and status, then what waits."""
        birth = Birth(
            boot=self._boot,
            agent=__version__,
            contract=CONTRACT_VERSION,
            k=5,
            detectors=(),
            config="0" * 64,
            policy="0" * 64,
        )
        self._say("birth", birth.model_dump_json().encode())
        self._say("status", Status(state="ready", boot=self._boot).model_dump_json().encode())
        now = dt.datetime.now(dt.timezone.utc)
        health = Health(time=f"{now:%Y-%m-%dT%H:%M:%SZ}", sense="ready", cameras=("live",), rate="full")
        self._say("health", health.model_dump_json().encode(), retain=False)
        for event_id in list(self._outbox):
            self._send(event_id)

    def make_event(self) -> None:
        """A new event."""
        now = dt.datetime.now(dt.timezone.utc)
        event_id = f"{self._boot}-{next(self._numbers):06}"
        event = Event(
            id=event_id,
            source=f"/vigie/{SITE}/{self.name}",
            type=f"vigie.{_TYPE}.v1",
            time=f"{now:%Y-%m-%dT%H:%M:%SZ}",
            data=EventData(
                episode=secrets.token_hex(2),
                phase="started",
                zone="quay",
                count="20-49",
                confidence="high",
                clock="synced",
                basis="SIMULATED",
            ),
        )
        self._outbox[event_id] = event.to_json()
        self._tally.sent_at[event_id] = time.monotonic()
        if self.accepted:
            self._send(event_id)

    def _say(self, level: str, payload: bytes, *, retain: bool = True) -> None:
        if self.client is not None:
            self.client.publish(topic(SITE, self.name, level), payload, qos=1, retain=retain)

    def _send(self, event_id: str) -> None:
        if self.client is None:
            return
        if event_id in self._tried:
            with self._tally.lock:
                self._tally.counts["resent"] += 1
        self._tried.add(event_id)
        info = self.client.publish(topic(SITE, self.name, "event", _TYPE), self._outbox[event_id], qos=1)
        self._under_way[info.mid] = event_id

    def _on_publish(self, client: paho.Client, userdata: Any, number: int, reason: Any, properties: Any) -> None:
        del userdata, properties
        event_id = self._under_way.pop(number, None)
        if client is not self.client or event_id is None or reason.is_failure:
            return
        if self._outbox.pop(event_id, None) is None:
            return
        self._tried.discard(event_id)
        with self._tally.lock:
            self._tally.acknowledged.add(event_id)
            if len(self._tally.ack_s) < _SAMPLES:
                self._tally.ack_s.append(time.monotonic() - self._tally.sent_at[event_id])


class _Observer(_Connection):
    """The subscriber: its session outlives its connection, so that the broker owes it every event."""

    def __init__(self, brokers: Sequence[MqttSettings], first: int, tally: _Tally) -> None:
        super().__init__(brokers, f"vigie-simulate-{secrets.token_hex(4)}", first)
        self._tally = tally
        self.subscribed = False

    def set_up(self, client: paho.Client) -> None:
        """Ask for a session that the broker keeps; paho has no setter, and names and keys are relay's to set."""
        client._clean_session = False  # noqa: SLF001
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe

    def begun(self) -> None:
        """Subscribe, on each connection: the broker may have lost the session."""
        if self.client is not None:
            self.client.subscribe(f"vigie/v1/{SITE}/+/event/#", 1)

    def _on_subscribe(self, client: Any, userdata: Any, number: int, reasons: list[Any], properties: Any) -> None:
        del client, userdata, number, properties
        self.subscribed = not any(reason.is_failure for reason in reasons)
        self.said = str(reasons[0])

    def _on_message(self, client: paho.Client, userdata: Any, message: paho.MQTTMessage) -> None:
        del client, userdata
        now = time.monotonic()
        event = Event.model_validate_json(message.payload)
        with self._tally.lock:
            if event.id in self._tally.received:
                self._tally.counts["repeated"] += 1
                return
            sent_at = self._tally.sent_at.get(event.id)
            if sent_at is None:
                return  # of another run
            self._tally.received.add(event.id)
            if len(self._tally.seen_s) < _SAMPLES:
                self._tally.seen_s.append(now - sent_at)


class _Worker(threading.Thread):
    """Serves some connections, and makes the events of its devices."""

    def __init__(self, connections: Sequence[_Connection], rate: float, halt: threading.Event) -> None:
        super().__init__(name="simulate", daemon=True)
        self._connections = connections
        self._devices = [one for one in connections if isinstance(one, SimulatedDevice)]
        self._turns = itertools.cycle(self._devices)
        self._rate = rate
        self._halt = halt
        self._selector = selectors.DefaultSelector()
        self._sockets: dict[_Connection, socket.socket] = {}
        """Those that the selector has: paho may close one in the middle of a publish."""
        self.making = threading.Event()
        self.made = 0

    def run(self) -> None:
        """Serve until it is halted."""
        began: float | None = None
        while not self._halt.is_set():
            now = time.monotonic()
            self._connect_one(now)
            ready = {key.data for key, _ in self._selector.select(_STEP_S)}
            for connection in self._connections:
                self._serve(connection, now, connection in ready)
            if not self.making.is_set():
                began = None
                continue
            began = began or now
            for _ in range(self._owed(now - began)):
                next(self._turns).make_event()
                self.made += 1
        for connection in self._connections:
            connection.close()
        self._selector.close()

    def _owed(self, seconds: float) -> int:
        return max(0, int(seconds * self._rate) - self.made) if self._devices else 0

    def _connect_one(self, now: float) -> None:
        """One at a time, so that the others are served in between."""
        for connection in self._connections:
            if connection.client is None and connection.may_try(now):
                connection.connect(now)
                sock = connection.socket()
                if sock is not None:
                    self._sockets[connection] = sock
                    self._selector.register(sock, selectors.EVENT_READ, connection)
                return

    def _serve(self, connection: _Connection, now: float, readable: bool) -> None:
        if connection.client is not None and not connection.serve(now, readable=readable):
            self._selector.unregister(self._sockets.pop(connection))


def simulate(
    brokers: Sequence[MqttSettings],
    devices: int,
    rate: float,
    seconds: float,
    *,
    device_brokers: Callable[[str], Sequence[MqttSettings]] | None = None,
    workers: int = 2,
    settle_s: float = 60.0,
    progress: Callable[[str, int, int], None] = lambda *_: None,
    during: Callable[[float], None] = lambda _: None,
) -> Figures:
    """Run a simulated fleet.

    Args:
        brokers: Brokers of the observer; several are the nodes of a cluster, and a client that loses one takes the
            next. A fleet is spread over them.
        devices: How many.
        rate: Events a second, of all devices together.
        seconds: For how long events are made.
        device_brokers: The brokers of a device, by its name, where it has a certificate of its own.
        workers: Threads that serve the devices.
        settle_s: How long is waited for the last acknowledgements and deliveries.
        progress: Told what is done, how much of it, and of how much.
        during: Called now and then while events are made, with the seconds since they began.

    Raises:
        SimulationError: the observer cannot subscribe, or a device's files cannot be used.
    """
    tally, halt = _Tally(), threading.Event()
    observer = _Observer(brokers, len(brokers) - 1, tally)
    watcher = _Worker([observer], 0.0, halt)
    fleet = []
    try:
        for number in range(devices):
            name = f"sim-{number + 1:05}"
            fleet.append(SimulatedDevice(name, device_brokers(name) if device_brokers else brokers, number, tally))
    except MqttError as error:
        raise SimulationError(str(error)) from error
    parts = [part for part in (fleet[i::workers] for i in range(workers)) if part]
    served = [_Worker(part, rate * len(part) / devices, halt) for part in parts]
    try:
        watcher.start()
        if not _until(lambda: observer.subscribed, _CONNECT_S * 2):
            where = f"{brokers[-1].host}:{brokers[-1].port}"
            raise SimulationError(f"the observer could not subscribe at {where}: {observer.said}")
        began = time.monotonic()
        for worker in served:
            worker.start()
        limit_s = _CONNECT_S + devices * 0.2
        _until(lambda: _there(fleet) == devices, limit_s, lambda: progress("connecting", _there(fleet), devices))
        connect_s, connected = time.monotonic() - began, _there(fleet)
        began = time.monotonic()
        for worker in served:
            worker.making.set()
        wanted = int(rate * seconds)

        def going() -> None:
            during(time.monotonic() - began)
            progress("publishing", len(tally.acknowledged), wanted)

        _until(lambda: False, seconds, going)
        for worker in served:
            worker.making.clear()
        made_s = time.monotonic() - began
        acknowledged_then = len(tally.acknowledged)
        going_on = lambda: progress("settling", len(tally.received), len(tally.sent_at))  # noqa: E731
        _until(lambda: not any(device.waiting for device in fleet), settle_s, going_on)
        _until(lambda: not tally.acknowledged - tally.received, settle_s, going_on)
    finally:
        halt.set()
        for worker in (watcher, *served):
            if worker.is_alive():
                worker.join(_CONNECT_S + 5)
    return Figures(
        devices=devices,
        connected=connected,
        connect_s=connect_s,
        seconds=made_s,
        made=sum(worker.made for worker in served),
        acknowledged=len(tally.acknowledged),
        received=len(tally.received),
        lost=len(tally.acknowledged - tally.received),
        repeated=tally.counts["repeated"],
        per_second=acknowledged_then / made_s,
        ack_ms=_percentiles(tally.ack_s),
        seen_ms=_percentiles(tally.seen_s),
        reconnects=sum(max(0, device.connections - 1) for device in fleet),
        observer_reconnects=max(0, observer.connections - 1),
        resent=tally.counts["resent"],
    )


def _there(fleet: Sequence[SimulatedDevice]) -> int:
    return sum(device.accepted for device in fleet)


def _until(condition: Callable[[], bool], seconds: float, meanwhile: Callable[[], None] = lambda: None) -> bool:
    """Wait for a condition; whether it came about in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        meanwhile()
        time.sleep(0.1)
    return condition()


def _percentiles(seconds: Sequence[float]) -> tuple[float, float, float] | None:
    """50th, 95th and 99th percentile, milliseconds."""
    if not seconds:
        return None
    ranked = sorted(seconds)
    at = [ranked[min(len(ranked) - 1, int(share * len(ranked)))] for share in (0.5, 0.95, 0.99)]
    return (1000 * at[0], 1000 * at[1], 1000 * at[2])
