"""The bridges on a real mosquitto with a live agent: what Home Assistant, an ONVIF reader and Prometheus would see."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from parts import Mosquitto, Subscriber, free_port, mosquitto, start_vigie, wait_for

from agent.command import key_id
from agent.contract import Event, EventData
from agent.demo.configuration import write_configuration
from agent.relay.keys import make_key, read_private_key

pytestmark = [pytest.mark.rig, pytest.mark.timeout(480)]

SCHEMA = Path(__file__).parents[1] / "fleet" / "bridges" / "homeassistant.schema.json"
CONFIG = "homeassistant/device/vigie_demo_camera-1/config"
ROOT = "vigie/v1/demo/camera-1"


class Everything(Subscriber):
    """Keeps all that is on the broker, whatever it is."""

    def _keep(self, client: mqtt.Client, userdata: object, message: mqtt.MQTTMessage) -> None:
        self._raw.append((message.topic, bytes(message.payload)))

    def latest(self, topic: str) -> bytes | None:
        """The last payload of a topic."""
        return next((payload for name, payload in reversed(self.raw()) if name == topic), None)

    def status(self) -> str | None:
        """What the device says that it is."""
        payload = self.latest(f"{ROOT}/status")
        state: str | None = json.loads(payload)["state"] if payload else None
        return state


class Live:
    """A broker with an agent on it that trusts one key, to pause and no more."""

    def __init__(self, broker: Mosquitto, reader: Everything, key: Path, state: Path) -> None:
        self.broker = broker
        self.reader = reader
        self.key = key
        self.state = state

    @contextlib.contextmanager
    def bridge(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """A bridge as a manager starts it; it must end in order."""
        command = [sys.executable, "-m", "agent", "fleet", "--host", "127.0.0.1", "--port", str(self.broker.port)]
        process = subprocess.Popen([*command, "--no-tls", "bridge", *arguments])
        try:
            yield process
            process.terminate()
            assert process.wait(20) == 0
        finally:
            process.kill()
            process.wait(20)

    def publish(self, topic: str, payload: bytes) -> None:
        """Say something, as Home Assistant would."""
        client = mqtt.Client(CallbackAPIVersion.VERSION2)
        client.connect("127.0.0.1", self.broker.port)
        client.loop_start()
        client.publish(topic, payload, 1).wait_for_publish(10)
        client.disconnect()
        client.loop_stop()


@pytest.fixture(scope="module")
def live(require: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    require("mosquitto")
    folder = tmp_path_factory.mktemp("live")
    key = folder / "pause.key"
    make_key(key)
    public = read_private_key(key).public_key()
    (folder / "trust.toml").write_text(
        f'[[key]]\nid = "{key_id(public)}"\npublic = "{public.public_bytes_raw().hex()}"\n'
        'name = "Home Assistant"\nroles = ["pause-only"]\n'
    )
    with mosquitto(folder / "broker") as broker:
        reader = Everything(broker.port, "#")
        config = write_configuration(
            folder,
            "sim:crowd?people=12&seconds=600&detections=1",
            None,
            {"host": "127.0.0.1", "port": broker.port, "tls": False},
        )
        with config.open("a") as file:
            file.write(f'[fleet]\ntrust_file = "{folder}/trust.toml"\n')
        agent = start_vigie("run", config)
        try:
            wait_for(lambda: reader.status() in {"ready", "degraded"}, 90, "the agent is up")
            yield Live(broker, reader, key, folder)
        finally:
            agent.terminate()
            agent.wait(30)
            reader.stop()


def test_home_assistant_gets_a_discovery_that_keeps_its_schema_and_a_switch_that_pauses(live: Live) -> None:
    reader = live.reader
    with live.bridge("homeassistant", "--key", str(live.key)):
        payload = wait_for(lambda: reader.latest(CONFIG), 90, "the discovery")
        jsonschema.validate(json.loads(payload), json.loads(SCHEMA.read_text(encoding="utf-8")))
        components: dict[str, Any] = json.loads(payload)["components"]
        assert {"crowd_gathering_square", "person_loitering_square", "zone_intrusion_lawn", "pause"} <= set(components)
        wait_for(lambda: reader.latest("vigie-homeassistant/status") == b"online", 90, "the bridge is there")
        state = components["crowd_gathering_square"]["state_topic"]
        wait_for(lambda: reader.latest(state) == b"ON", 90, "the crowd")
        switch = components["pause"]["command_topic"]
        live.publish(switch, b"ON")
        wait_for(lambda: reader.status() == "paused", 90, "the cameras are closed")
        live.publish(switch, b"OFF")
        wait_for(lambda: reader.status() in {"ready", "degraded"}, 90, "the cameras are open")
    assert reader.latest("vigie-homeassistant/status") == b"offline"


def test_a_key_that_the_device_does_not_trust_pauses_nothing(live: Live, tmp_path: Path) -> None:
    make_key(tmp_path / "other.key")
    reader = live.reader
    with live.bridge("homeassistant", "--key", str(tmp_path / "other.key"), "--prefix", "other"):
        wait_for(lambda: reader.latest("other/status") == b"online", 90, "the bridge is there")
        wait_for(lambda: b'"other/demo/camera-1/pause/set"' in (reader.latest(CONFIG) or b""), 90, "the discovery")
        live.publish("other/demo/camera-1/pause/set", b"ON")

        def refused() -> bool:
            return b"unknown_key" in (reader.latest(f"{ROOT}/cmd/pause/result") or b"")

        wait_for(refused, 90, "the device refuses")
    assert reader.status() != "paused"


def test_an_onvif_reader_sees_the_people_of_a_zone(live: Live) -> None:
    topic = "vigie-camera-1/onvif-ej/RuleEngine/CountAggregation/OccupancyCounter/&camera-1/square"
    with live.bridge("onvif"):
        document = json.loads(wait_for(lambda: live.reader.latest(topic), 90, "a count"))
        assert document["Source"] == {"VideoSource": "camera-1", "Rule": "square"}
        assert document["Data"].keys() == {"Count", "vigie:Clock", "vigie:Device"}


def test_prometheus_sees_the_device_and_a_verdict(live: Live) -> None:
    port, file = free_port(), str(live.state / "verdicts.sqlite")

    def scraped() -> str:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as got:
            return str(got.read().decode())
        return ""

    with live.bridge("prometheus", "--port", str(port), "--verdicts", file):
        wait_for(lambda: 'vigie_up{site="demo",device="camera-1"} 1\n' in scraped(), 90, "the device is up")
        # Said in the device's place: when it will see something new itself is not known.
        event = Event(
            id="0a1b2c3d-000001",
            source="/vigie/demo/camera-1",
            type="vigie.zone.intrusion.v1",
            time="2026-11-23T10:15:00Z",
            data=EventData(episode="9b1e", phase="started", confidence="high", clock="synced", basis="DEMO"),
        )
        live.publish(f"{ROOT}/event/zone.intrusion", event.to_json())
        wait_for(lambda: 'vigie_events_total{site="demo",type="zone.intrusion"} ' in scraped(), 90, "an event")

        def judged() -> bool:
            command = [sys.executable, "-m", "agent", "fleet", "verdict", event.id, "false", "--verdicts", file]
            return subprocess.run(command, check=False, timeout=60, capture_output=True).returncode == 0

        wait_for(judged, 90, "the event is kept")
        wait_for(lambda: 'verdict="false"} 1\n' in scraped(), 90, "the verdict")
        assert 'vigie_events_missing{site="demo",device="camera-1"} 0\n' in scraped()
