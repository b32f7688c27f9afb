"""The whole agent against a real mosquitto: it publishes, survives the death of its halves, and stays small."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from agent.demo.configuration import write_configuration

pytestmark = pytest.mark.rig


def wait_for(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Poll a real part until the condition holds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    pytest.fail(f"not within {seconds:.0f} s: {what}")


class Broker:
    """A mosquitto on loopback and everything that it delivers."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        configuration = folder / "mosquitto.conf"
        configuration.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\n")
        self.process = subprocess.Popen(
            ["mosquitto", "-c", str(configuration)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin"},
        )
        self.messages: list[tuple[str, dict[str, Any]]] = []
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2)
        self.client.on_connect = lambda client, *_: client.subscribe("vigie/#", 1)
        self.client.on_message = lambda _c, _u, m: self.messages.append((m.topic, json.loads(m.payload)))

    def start(self) -> None:
        """Wait until it listens, then subscribe."""

        def listens() -> bool:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return True
            return False

        wait_for(listens, 10, "mosquitto listens")
        self.client.connect("127.0.0.1", self.port)
        self.client.loop_start()

    def events(self) -> list[dict[str, Any]]:
        """All events so far."""
        return [payload for topic, payload in list(self.messages) if "/event/" in topic]

    def state(self) -> str | None:
        """The last retained status."""
        states: list[str] = [payload["state"] for topic, payload in list(self.messages) if topic.endswith("/status")]
        return states[-1] if states else None

    def stop(self) -> None:
        """End client and broker."""
        self.client.disconnect()
        self.client.loop_stop()
        self.process.terminate()
        self.process.wait(10)


@pytest.fixture
def broker(require: Callable[..., None], tmp_path: Path) -> Iterator[Broker]:
    require("mosquitto")
    server = Broker(tmp_path)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def agent(folder: Path, source: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """`vigie run` as a user starts it."""
    config = write_configuration(folder, source, None, {"host": "127.0.0.1", "port": port, "tls": False})
    process = subprocess.Popen([sys.executable, "-m", "agent", "run", "--config", str(config)])
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(30)


def child(parent: int, name: str) -> int | None:
    """Process id of the supervisor's child of that name."""
    for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        with contextlib.suppress(FileNotFoundError):
            if name in Path(f"/proc/{pid}/cmdline").read_text().split("\0"):
                return int(pid)
    return None


def kill_and_see_it_back(parent: int, name: str, broker: Broker) -> None:
    """Kill a half of the agent; it must come back, and events with it."""
    victim = wait_for(lambda: child(parent, name), 30, f"{name} runs")
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: child(parent, name) not in {None, victim}, 40, f"{name} again")
    seen = len(broker.events())
    wait_for(lambda: len(broker.events()) > seen, 90, f"events after {name} was killed")


def resident_mib(pid: int) -> float:
    """VmRSS of a process, MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def released(folder: Path) -> set[str]:
    """Ids that the audit log says were released."""
    with contextlib.closing(sqlite3.connect(next((folder / "journal").glob("*.sqlite")))) as database:
        return {row[0] for row in database.execute("SELECT event_id FROM audit WHERE kind = 'released'")}


def test_the_agent_publishes_and_comes_back_when_either_half_is_killed(broker: Broker, tmp_path: Path) -> None:
    with agent(tmp_path, "sim:crowd?people=12&seconds=600", broker.port) as process:
        wait_for(lambda: broker.state() in {"ready", "degraded"}, 40, "the agent is up")
        wait_for(lambda: len(broker.events()) >= 1, 60, "a first event")
        for name in ("sense", "relay", "sense"):
            victim = wait_for(lambda name=name: child(process.pid, name), 30, f"{name} runs")
            os.kill(victim, signal.SIGKILL)
            successor = wait_for(
                lambda name=name, victim=victim: (pid := child(process.pid, name)) != victim and pid,
                40,
                f"{name} again",
            )
            assert successor != victim
            seen = len(broker.events())
            wait_for(lambda seen=seen: len(broker.events()) > seen, 90, f"events after {name} was killed")
        process.terminate()
        assert process.wait(30) == 0
        wait_for(lambda: broker.state() == "offline", 10, "the last status")
        wait_for(lambda: {e["id"] for e in broker.events()} == released(tmp_path), 10, "all released ids delivered")


def test_both_processes_stay_small(broker: Broker, data: Path, tmp_path: Path) -> None:
    with agent(tmp_path, f"file:{data}/clips/pets2009_s2l1.mp4", broker.port) as process:
        wait_for(lambda: len(broker.events()) >= 2, 80, "events from the real clip")
        relay, sense = child(process.pid, "relay"), child(process.pid, "sense")
        assert relay is not None
        assert sense is not None
        assert resident_mib(relay) <= 80
        assert resident_mib(sense) <= 400


def test_a_configuration_that_cannot_work_ends_at_once_with_2(tmp_path: Path) -> None:
    (tmp_path / "vigie.toml").write_text("[mqtt]\nhots = 'x'\n")
    done = subprocess.run(
        [sys.executable, "-m", "agent", "run", "--config", str(tmp_path / "vigie.toml")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert "did you mean 'host'" in done.stderr
