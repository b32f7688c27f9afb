"""Brokers as `deploy/` configures them, with certificates of `vigie fleet pki`: only ports and folders differ."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode
from parts import Mosquitto, wait_for

from agent.fleet.pki import Authority, Sort, access_list, definitions
from agent.settings import MqttSettings

BROKERS = Path(__file__).parents[2] / "deploy" / "broker"


class Fleet:
    """An authority, and the files that brokers and clients get from it."""

    def __init__(self, folder: Path, *users: tuple[Sort, str]) -> None:
        """Issue a certificate for a server on loopback and for each user."""
        self.authority = Authority.make(folder / "ca", "rig authority")
        self.ca_file = folder / "ca" / "ca.pem"
        self._out = folder / "issued"
        self.files = folder / "broker-files"
        self.files.mkdir()
        certificate, key = self.authority.issue("server", "localhost", self._out, hosts=["127.0.0.1"])
        shutil.copy(certificate, self.files / "server.pem")
        shutil.copy(key, self.files / "server.key")
        shutil.copy(self.ca_file, self.files)
        for sort, name in users:
            self.authority.issue(sort, name, self._out)
        self.write_lists()

    def write_lists(self) -> None:
        """What brokers read: the access list, the definitions and the revocations."""
        entries, today = self.authority.issued(), dt.datetime.now(dt.timezone.utc).date()
        (self.files / "acl").write_text(access_list(entries, today))
        (self.files / "definitions.json").write_text(json.dumps(definitions(entries, today)))
        shutil.copy(self.ca_file.with_name("crl.pem"), self.files)

    def settings(self, port: int, user: str) -> MqttSettings:
        """How a user connects."""
        return MqttSettings.model_validate(
            {
                "host": "127.0.0.1",
                "port": port,
                "ca_file": self.ca_file,
                "cert_file": self._out / f"{user}.pem",
                "key_file": self._out / f"{user}.key",
                "protocol": "3.1.1",
            }
        )


class DeployedMosquitto(Mosquitto):
    """A mosquitto with the configuration of `deploy/`."""

    def __init__(self, folder: Path, fleet: Fleet) -> None:
        """Write it."""
        super().__init__(folder)
        text = (BROKERS / "mosquitto" / "mosquitto.conf").read_text()
        text = text.replace("/etc/mosquitto/vigie", str(fleet.files)).replace("/var/lib/mosquitto", str(folder))
        text = text.replace("listener 8883", f"user root\nlistener {self.port} 127.0.0.1")
        self._configuration.write_text(text)


class User:
    """A client of paho that notes what happens."""

    def __init__(self, settings: MqttSettings, name: str, *subscriptions: str, keep: bool = False) -> None:
        """Connect and subscribe.

        Args:
            settings: Of the connection.
            name: Of the client.
            subscriptions: What to subscribe to.
            keep: Whether the broker keeps the session.
        """
        self.got: list[tuple[str, bytes, bool]] = []
        self.granted: list[bool] = []
        self.acknowledged: set[int] = set()
        self.refused: str | None = None
        self._subscriptions = subscriptions
        self.connected = False
        client = mqtt.Client(CallbackAPIVersion.VERSION2, name, clean_session=not keep, reconnect_on_failure=False)
        client.tls_set(str(settings.ca_file), str(settings.cert_file), str(settings.key_file))
        client.on_connect = self._on_connect
        client.on_subscribe = lambda _c, _d, _m, reasons, _p: self.granted.extend(not r.is_failure for r in reasons)
        client.on_message = lambda _c, _d, m: self.got.append((m.topic, bytes(m.payload), bool(m.retain)))
        client.on_publish = lambda _c, _d, number, _r, _p: self.acknowledged.add(number)
        client.connect(settings.host, settings.port)
        client.loop_start()
        self.client = client

    def _on_connect(self, client: mqtt.Client, _data: object, _flags: object, reason: ReasonCode, _p: object) -> None:
        if reason.is_failure:
            self.refused = str(reason)
            return
        self.connected = True
        for name in self._subscriptions:
            client.subscribe(name, 1)

    def ready(self) -> User:
        """Wait until it is connected and every subscription is answered."""
        wait_for(lambda: self.connected and len(self.granted) == len(self._subscriptions), 20, "connected")
        return self

    def publish(self, topic: str, payload: bytes = b"{}", *, retain: bool = False, wait: bool = True) -> None:
        """Publish with QoS 1, and wait for the acknowledgement."""
        number = self.client.publish(topic, payload, qos=1, retain=retain).mid
        if wait:
            wait_for(lambda: number in self.acknowledged, 20, f"{topic} is acknowledged")

    def topics(self) -> list[str]:
        """Topics of what came."""
        return [topic for topic, _, _ in list(self.got)]

    def close(self) -> None:
        """Disconnect."""
        self.client.disconnect()
        self.client.loop_stop()


@contextlib.contextmanager
def users(*all_of: User) -> Iterator[None]:
    """Users who leave in the end."""
    try:
        yield
    finally:
        for one in all_of:
            one.close()
