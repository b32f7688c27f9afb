"""The relay and a real mosquitto: both versions of MQTT, mutual TLS, and a list of who may write where."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from authority import Authority, mutual_tls
from paho.mqtt.enums import CallbackAPIVersion
from parts import Mosquitto, mosquitto, subscriber, wait_for

from agent.relay.mqtt import Acknowledged, Connected, Disconnected, Happening, Link
from agent.settings import MqttSettings

pytestmark = pytest.mark.rig


class Device:
    """A link under test and what has happened on it."""

    def __init__(self, settings: MqttSettings, name: str) -> None:
        self.link = Link(settings, "old-port", name, "0a1b2c3d")
        self.seen: list[Happening] = []
        self.link.start()

    def wait(self, *kinds: type[Happening]) -> Happening:
        """The first happening of these kinds that was not waited for yet."""

        def found() -> list[Happening]:
            self.seen += self.link.happenings()
            while self.seen:
                happening = self.seen.pop(0)
                if isinstance(happening, kinds):
                    return [happening]
            return []

        return wait_for(found, 15, " or ".join(kind.__name__ for kind in kinds))[0]


@pytest.mark.parametrize(("wanted", "spoken"), [("auto", "5"), ("5", "5"), ("3.1.1", "3.1.1")])
def test_a_message_is_acknowledged_in_either_version(
    require: Callable[..., None], tmp_path: Path, wanted: str, spoken: str
) -> None:
    require("mosquitto")
    with mosquitto(tmp_path) as broker, subscriber(broker.port) as reader:
        settings = MqttSettings.model_validate(
            {"host": "127.0.0.1", "port": broker.port, "tls": False, "protocol": wanted}
        )
        device = Device(settings, "cam-07")
        try:
            assert device.wait(Connected) == Connected(spoken)
            number = device.link.publish("vigie/v1/old-port/cam-07/event/crowd.gathering", b'{"id": "x"}')
            answer = device.wait(Acknowledged)
            assert answer == Acknowledged(number or 0, None)
            wait_for(reader.events, 5, "the message arrives")
        finally:
            device.link.stop()


def test_the_broker_says_for_a_device_that_died_that_it_is_offline(
    require: Callable[..., None], tmp_path: Path
) -> None:
    require("mosquitto")
    with mosquitto(tmp_path) as broker, subscriber(broker.port) as reader:
        settings = MqttSettings.model_validate({"host": "127.0.0.1", "port": broker.port, "tls": False})
        device = Device(settings, "cam-07")
        device.wait(Connected)
        client = device.link._client
        assert client is not None
        connection = client.socket()
        assert isinstance(connection, socket.socket)
        connection.shutdown(socket.SHUT_RDWR)  # as when the power is cut: no DISCONNECT
        wait_for(lambda: reader.state() == "offline", 10, "the last will")
        device.link.stop()


def tls_settings(authority: Authority, broker: Mosquitto, name: str, **more: object) -> MqttSettings:
    """Settings of a device with a certificate of this authority."""
    cert, key = authority.issue(name)
    return MqttSettings.model_validate(
        {
            "host": "127.0.0.1",
            "port": broker.port,
            "ca_file": authority.file,
            "cert_file": cert,
            "key_file": key,
            "backoff_min_s": 0.1,
            **more,
        }
    )


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_with_mutual_tls_a_device_writes_below_its_own_name_and_nowhere_else(
    require: Callable[..., None], tmp_path: Path, protocol: str
) -> None:
    require("mosquitto")
    authority = Authority(tmp_path / "pki")
    with mosquitto(tmp_path / "broker", *mutual_tls(authority, tmp_path)) as broker:
        got: list[str] = []
        manager = mqtt.Client(CallbackAPIVersion.VERSION2)
        cert, key = authority.issue("manager")
        manager.tls_set(str(authority.file), str(cert), str(key))
        manager.on_connect = lambda client, *_: client.subscribe("vigie/#", 1)
        manager.on_message = lambda _client, _data, message: got.append(message.topic)
        manager.connect("127.0.0.1", broker.port)
        manager.loop_start()
        device = Device(tls_settings(authority, broker, "cam-07", protocol=protocol), "cam-07")
        try:
            device.wait(Connected)
            device.link.publish("vigie/v1/old-port/cam-07/event/crowd.gathering", b"{}")
            device.wait(Acknowledged)
            wait_for(lambda: "vigie/v1/old-port/cam-07/event/crowd.gathering" in got, 5, "its own topic")
            device.link.publish("vigie/v1/old-port/cam-08/event/crowd.gathering", b"{}")
            answer = device.wait(Acknowledged, Disconnected)
            if protocol == "5":
                assert isinstance(answer, Acknowledged)
                assert answer.refused == "Not authorized"
            own = "vigie/v1/old-port/cam-07/event/person.down"

            def its_own_arrives() -> bool:
                # mosquitto may hang up after a denial; the link is then back in a moment.
                device.link.publish(own, b"{}")
                return own in got

            wait_for(its_own_arrives, 10, "a later message of its own")
        finally:
            device.link.stop()
            manager.disconnect()
            manager.loop_stop()
        assert not [name for name in got if "cam-08" in name]


# paho leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_foreign_authority_is_refused_in_words(require: Callable[..., None], tmp_path: Path) -> None:
    require("mosquitto")
    authority, foreign = Authority(tmp_path / "pki"), Authority(tmp_path / "foreign")
    with mosquitto(tmp_path / "broker", *mutual_tls(authority, tmp_path)) as broker:
        device = Device(tls_settings(foreign, broker, "cam-07"), "cam-07")
        try:
            happening = device.wait(Disconnected)
            assert isinstance(happening, Disconnected)
            assert "certificate verify failed" in happening.reason
        finally:
            device.link.stop()
