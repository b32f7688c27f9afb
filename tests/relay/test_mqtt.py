"""The connection to the broker: which MQTT it speaks, what it says of a broker's answers, and how it comes back."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from paho.mqtt.enums import MQTTProtocolVersion

from agent.relay.mqtt import (
    Acknowledged,
    Connected,
    Disconnected,
    Happening,
    Incoming,
    Link,
    MqttError,
    new_client,
    tls_context,
)
from agent.settings import MqttSettings

if TYPE_CHECKING:
    from tests.relay.conftest import Manners, ScriptedBroker

BOOT = "5f3a9c01"
TOPIC = "vigie/v1/old-port/cam-07/event/sound.scream"
PATIENCE_S = 20.0


def settings(port: int, **more: Any) -> MqttSettings:
    return MqttSettings.model_validate(
        {"host": "127.0.0.1", "port": port, "tls": False, "backoff_min_s": 0.05, "backoff_max_s": 0.1, **more}
    )


class Device:
    """A link and what has happened on it."""

    def __init__(self, wanted: MqttSettings) -> None:
        self.link = Link(wanted, "old-port", "cam-07", BOOT)
        self._seen: list[Happening] = []
        self.link.start()

    def wait(self, kind: type[Happening]) -> Any:
        """The next happening of this kind; what comes before it is passed over."""
        while True:
            while self._seen:
                happening = self._seen.pop(0)
                if isinstance(happening, kind):
                    return happening
            ready, _, _ = select.select([self.link.wake], [], [], PATIENCE_S)
            assert ready, f"no {kind.__name__}"
            self._seen += self.link.happenings()


Connect = Callable[..., Device]


@pytest.fixture
def connect(broker: ScriptedBroker) -> Iterator[Connect]:
    devices = []

    def connected(**more: Any) -> Device:
        devices.append(Device(settings(broker.port, **more)))
        return devices[-1]

    yield connected
    for device in devices:
        device.link.stop()


def manners(broker: ScriptedBroker, *each: dict[str, Any]) -> None:
    """How the broker treats one connection after the other."""
    kind: type[Manners] = type(broker.manners[0])
    broker.manners = [kind(**one) for one in each]


@pytest.mark.parametrize(("wanted", "level", "spoken"), [("auto", 5, "5"), ("5", 5, "5"), ("3.1.1", 4, "3.1.1")])
def test_it_speaks_the_version_that_was_asked_for(
    broker: ScriptedBroker, connect: Connect, wanted: str, level: int, spoken: str
) -> None:
    assert connect(protocol=wanted).wait(Connected) == Connected(spoken)
    assert [connection.level for connection in broker.connections] == [level]


@pytest.mark.parametrize("greeting", ["old", "hang_up"])
def test_a_broker_that_does_not_know_mqtt_5_gets_3_1_1(broker: ScriptedBroker, connect: Connect, greeting: str) -> None:
    manners(broker, {"greeting": greeting}, {})
    assert connect().wait(Connected) == Connected("3.1.1")
    assert [connection.level for connection in broker.connections] == [5, 4]


def test_who_asks_for_mqtt_5_alone_does_not_get_another(broker: ScriptedBroker, connect: Connect) -> None:
    manners(broker, {"greeting": "old"}, {"greeting": "old"}, {})
    device = connect(protocol="5")
    assert "protocol version" in device.wait(Disconnected).reason.lower()
    assert device.wait(Connected) == Connected("5")


def test_a_message_is_published_with_qos_1_and_acknowledged(broker: ScriptedBroker, connect: Connect) -> None:
    device = connect()
    device.wait(Connected)
    number = device.link.publish(TOPIC, b"{}")
    answer = device.wait(Acknowledged)
    assert (answer.message, answer.refused) == (number, None)
    (message,) = broker.published()
    assert (message.topic, message.payload, message.qos, message.retain) == (TOPIC, b"{}", 1, False)


def test_a_message_that_is_denied_comes_back_with_the_reason(broker: ScriptedBroker, connect: Connect) -> None:
    manners(broker, {"denies": frozenset({TOPIC})})
    device = connect()
    device.wait(Connected)
    number = device.link.publish(TOPIC, b"{}")
    answer = device.wait(Acknowledged)
    assert (answer.message, answer.refused) == (number, "Not authorized")


def test_nothing_can_be_published_before_the_broker_has_answered(broker: ScriptedBroker, connect: Connect) -> None:
    manners(broker, {"greeting": "silence"})
    device = connect()
    broker.wait(lambda: any(c.level for c in broker.connections), "a greeting")
    assert device.link.publish(TOPIC, b"{}") is None


def test_it_comes_back_when_the_broker_drops_it(broker: ScriptedBroker, connect: Connect) -> None:
    device = connect()
    for _ in range(3):
        device.wait(Connected)
        broker.drop()
        assert "connection lost" in device.wait(Disconnected).reason
    device.wait(Connected)


def test_a_message_without_an_answer_is_forgotten_with_its_connection(broker: ScriptedBroker, connect: Connect) -> None:
    """The outbox sends it again, under the same event id; paho must not do so too."""
    manners(broker, {"acknowledges": False}, {})
    device = connect()
    device.wait(Connected)
    device.link.publish(TOPIC, b"first")
    broker.wait(lambda: len(broker.published()) == 1, "the first message")
    broker.drop()
    device.wait(Connected)
    device.link.publish(TOPIC, b"second")
    device.wait(Acknowledged)
    assert [message.payload for message in broker.connections[1].published] == [b"second"]


def test_a_broker_that_was_away_is_tried_with_mqtt_5_again(broker: ScriptedBroker, connect: Connect) -> None:
    """A balancer hangs up in the same way while no broker stands behind it."""
    manners(broker, {"greeting": "hang_up"}, {"greeting": "hang_up"}, {})
    assert connect().wait(Connected) == Connected("5")
    assert [connection.level for connection in broker.connections] == [5, 4, 5]


def test_the_window_is_what_the_broker_allows_less_four_for_birth_notice_status_and_head(
    broker: ScriptedBroker, connect: Connect
) -> None:
    manners(broker, {"receive_maximum": 10})
    device = connect(inflight=64)
    device.wait(Connected)
    assert device.link.window == 6


def test_the_last_word_does_not_wait_behind_a_full_window(broker: ScriptedBroker, connect: Connect) -> None:
    manners(broker, {"acknowledges": False})
    device = connect()
    device.wait(Connected)
    for _ in range(device.link.window):
        device.link.publish(TOPIC, b"{}")
    device.link.publish("vigie/v1/old-port/cam-07/status", b"offline", retain=True)
    device.link.stop()
    broker.wait(lambda: broker.connections[0].said_goodbye, "DISCONNECT")
    assert broker.published()[-1].payload == b"offline"


def test_a_stop_says_goodbye_so_that_the_last_will_stays_unsaid(broker: ScriptedBroker, connect: Connect) -> None:
    device = connect()
    device.wait(Connected)
    device.link.stop()
    broker.wait(lambda: broker.connections[0].said_goodbye, "DISCONNECT")


def test_where_nobody_listens_the_reason_names_the_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    device = Device(settings(port))
    try:
        assert device.wait(Disconnected).reason.startswith(f"127.0.0.1:{port}: ")
    finally:
        device.link.stop()


def test_a_missing_certificate_is_named(tmp_path: Path) -> None:
    wanted = MqttSettings(ca_file=tmp_path / "absent.pem")
    with pytest.raises(MqttError, match=r"a certificate or key cannot be used .* ca_file=.*absent\.pem"):
        tls_context(wanted)


def test_a_missing_password_file_is_named(tmp_path: Path) -> None:
    wanted = settings(1883, username="cam-07", password_file=tmp_path / "absent")
    with pytest.raises(MqttError, match=r"mqtt\.password_file: .*absent: No such file"):
        new_client(wanted, "vigie-old-port-cam-07", MQTTProtocolVersion.MQTTv5)


COMMANDS = "vigie/v1/old-port/cam-07/cmd"


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_what_is_for_the_device_comes_in_and_is_acknowledged_by_hand(
    broker: ScriptedBroker, connect: Connect, protocol: str
) -> None:
    device = connect(protocol=protocol)
    device.wait(Connected)
    below = [name.removeprefix("vigie/v1/old-port/cam-07/") for name in broker.connections[-1].subscribed]
    # RabbitMQ makes `cmd/log/level` of `cmd/log.level`.
    assert below == [
        *("cmd/+", "cmd/detector/disable", "cmd/detector/enable", "cmd/key/revoke", "cmd/log/level"),
        "config/desired",
    ]
    response = f"{COMMANDS}/pause/result/room" if protocol == "5" else ""
    broker.deliver(f"{COMMANDS}/pause", b"{}", 21, retain=True, response=response)
    incoming: Incoming = device.wait(Incoming)
    assert (incoming.topic, incoming.payload, incoming.retained) == (f"{COMMANDS}/pause", b"{}", True)
    assert incoming.response == (response or None)
    assert broker.connections[-1].acknowledged == []
    device.link.take_in(incoming)
    broker.wait(lambda: broker.connections[-1].acknowledged == [21], "the acknowledgement")


def test_what_came_on_a_connection_that_is_gone_is_not_acknowledged_on_the_next(
    broker: ScriptedBroker, connect: Connect
) -> None:
    device = connect()
    device.wait(Connected)
    broker.deliver(f"{COMMANDS}/pause", b"{}", 21)
    incoming = device.wait(Incoming)
    broker.drop()
    device.wait(Disconnected)
    device.wait(Connected)
    device.link.take_in(incoming)
    number = device.link.publish(TOPIC, b"{}")
    assert device.wait(Acknowledged) == Acknowledged(number or 0, None)
    assert broker.connections[-1].acknowledged == []


def test_a_broker_that_floods_fills_no_memory(broker: ScriptedBroker, connect: Connect) -> None:
    device = connect()
    device.wait(Connected)
    for number in range(1, 201):
        broker.deliver(f"{COMMANDS}/pause", b"x" * 60_000, number)
    device.link.publish(TOPIC, b"{}")  # its acknowledgement comes after them
    while device.link._queue.empty():
        assert select.select([device.link.wake], [], [], PATIENCE_S)[0]
        device.link.wake.recv(4096)
    seen = [happening for happening in device.link.happenings() if isinstance(happening, Incoming)]
    assert (len(seen), device.link.flooded) == (64, 136)
    assert {len(happening.payload) for happening in seen} == {49_153}, "of each the beginning, which is too large too"
