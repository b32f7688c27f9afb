"""`vigie fleet conform` on a real mosquitto: a live agent conforms, and a planted fault is found."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from parts import Mosquitto, mosquitto, start_vigie, subscriber, wait_for

from agent.demo.configuration import write_configuration
from agent.documents import documents
from agent.fleet.conform import CHECKS, Conformance
from agent.fleet.listen import listening
from agent.fleet.said import Device
from agent.settings import MqttSettings

pytestmark = [pytest.mark.rig, pytest.mark.timeout(480)]

ROOT = "vigie/v1/demo/camera-1"


@contextlib.contextmanager
def agent(folder: Path, port: int) -> Iterator[None]:
    """An agent that sees a simulated crowd."""
    config = write_configuration(
        folder,
        "sim:crowd?people=12&seconds=600&detections=1",
        None,
        {"host": "127.0.0.1", "port": port, "tls": False},
    )
    process = start_vigie("run", config)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def live(require: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """A broker with an agent on it that is up."""
    require("mosquitto")
    folder = tmp_path_factory.mktemp("live")
    with (
        mosquitto(folder / "broker") as broker,
        subscriber(broker.port) as reader,
        agent(folder, broker.port),
    ):
        wait_for(lambda: reader.state() in {"ready", "degraded"}, 90, "the agent is up")
        yield broker


def start(port: int, *arguments: str, protocol: str = "auto") -> subprocess.Popen[str]:
    """`vigie fleet conform` as a manager starts it."""
    command = [sys.executable, "-m", "agent", "fleet", "--host", "127.0.0.1", "--port", str(port), "--no-tls"]
    return subprocess.Popen(
        [*command, "conform", "demo/camera-1", "--json", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "VIGIE_MQTT__PROTOCOL": protocol},
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit code, and each check by its name."""
    out, problems = process.communicate(timeout=120)
    assert out, problems
    return process.returncode, {check["name"]: check for check in json.loads(out)["checks"]}


def failed(checks: dict[str, dict[str, Any]]) -> dict[str, list[str]]:
    return {name: check["faults"] for name, check in checks.items() if check["ok"] is False}


def test_an_agent_conforms_from_its_first_message_on(require: Callable[..., None], tmp_path: Path) -> None:
    require("mosquitto")
    with mosquitto(tmp_path / "broker") as broker:
        settings = MqttSettings.model_validate({"host": "127.0.0.1", "port": broker.port, "tls": False})
        conformance = Conformance(Device("demo", "camera-1"), documents())
        with listening(settings, conformance.topics) as heard, agent(tmp_path, broker.port):
            assert heard.flags

            def told() -> bool:
                with contextlib.suppress(queue.Empty):
                    while True:
                        conformance.take(heard.messages.get_nowait())
                events = next(check for check in conformance.checks() if check.name == CHECKS["permitted"])
                return conformance.complete and events.looked_at > 1

            wait_for(told, 150, "everything retained and two events")
            checks = {check.name: check for check in conformance.checks()}
    assert {name: check.faults for name, check in checks.items() if check.ok is False} == {}
    for key in ("topics", "schema", "qos", "retain", "place", "present", "boot", "numbers", "permitted", "notice"):
        assert checks[CHECKS[key]].ok, key


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_live_agent_conforms(live: Mosquitto, protocol: str) -> None:
    code, checks = ended(start(live.port, "--seconds", "8", protocol=protocol))
    assert not failed(checks)
    assert code == 0
    for key in ("topics", "schema", "qos", "retain", "place", "present", "boot", "online", "notice"):
        assert checks[CHECKS[key]]["ok"], key
        assert checks[CHECKS[key]]["looked_at"] > 0


def test_the_quick_look_ends_when_everything_retained_has_come(live: Mosquitto) -> None:
    code, checks = ended(start(live.port, "--quick", "--seconds", "100"))
    assert not failed(checks)
    assert code == 0
    assert checks[CHECKS["present"]]["ok"]


#: What a device that does not conform may do: topic, payload, QoS, and whether it is retained.
PLANTED = {
    "topics": ("track/7", b"{}", 1, False),
    "schema": ("count/square", b'{"people":["a face"]}', 1, False),
    "qos": ("status", b'{"state":"ready","boot":"00000000","reasons":[]}', 0, True),
    "retain": ("suppressed", b"{}", 1, True),
    "boot": ("status", b'{"state":"ready","boot":"00000000","reasons":[]}', 1, True),
    "online": ("status", b'{"state":"offline","boot":"00000000","reasons":[]}', 1, True),
}


@pytest.mark.parametrize("check", PLANTED)
def test_a_planted_fault_is_found(live: Mosquitto, check: str, tmp_path: Path) -> None:
    """On a broker of its own with all that the live agent retains, so that the live one stays as it is."""
    with subscriber(live.port) as reader:
        wait_for(lambda: {"notice", "head"} <= {t.rpartition("/")[2] for t, _ in reader.raw()}, 90, "what is retained")
        kept = {topic: payload for topic, payload in reader.raw() if not re.search("/(event|count|health)", topic)}
    with mosquitto(tmp_path) as broker:
        client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        client.connect("127.0.0.1", broker.port)
        client.loop_start()
        try:
            for topic, payload in kept.items():
                client.publish(topic, payload, 1, retain=True).wait_for_publish(10)
            code, checks = ended(start(broker.port, "--quick"))
            assert not failed(checks)
            assert code == 0
            below, payload, qos, retain = PLANTED[check]
            process = start(broker.port, "--seconds", "4")

            def plant() -> bool:
                client.publish(f"{ROOT}/{below}", payload, qos, retain=retain).wait_for_publish(10)
                return process.poll() is not None

            wait_for(plant, 90, "it has looked long enough")
            code, checks = ended(process)
        finally:
            client.disconnect()
            client.loop_stop()
    assert code == 1
    assert CHECKS[check] in failed(checks)
