"""Real parts that several rigs start: mosquitto, a subscriber that misses nothing, the relay as a process."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

_T = TypeVar("_T")

#: Of a configuration: three people on the whole of the picture are a gathering.
SQUARE = """\
[[camera.zone]]
name = "square"
polygon = [[0, 0], [1, 0], [1, 1], [0, 1]]
[[camera.rule]]
type = "crowd.gathering"
zone = "square"
min_persons = 3
hold_s = 1
"""


def wait_for(condition: Callable[[], _T | None], seconds: float, what: str) -> _T:
    """Poll a real part until the condition gives something true; that."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    pytest.fail(f"not within {seconds:.0f} s: {what}")


def free_port() -> int:
    """A port of loopback that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Mosquitto:
    """A mosquitto on loopback that can be killed and started again on what it had stored."""

    def __init__(self, folder: Path, *lines: str) -> None:
        """Configure it, in a folder of its own.

        Args:
            folder: For its configuration and database.
            lines: Lines of its configuration behind `listener`; by default anybody may do anything.
        """
        self.port = free_port()
        self._configuration = folder / "mosquitto.conf"
        settings = [
            "persistence true",
            f"persistence_location {folder}/",
            "autosave_interval 1",
            "autosave_on_changes true",
            "max_queued_messages 0",
            "user root",
            f"listener {self.port} 127.0.0.1",
            *(lines or ("allow_anonymous true",)),
        ]
        self._configuration.write_text("\n".join(settings) + "\n")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it listens."""
        self.process = subprocess.Popen(
            ["mosquitto", "-c", str(self._configuration)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin"},
        )

        def listens() -> bool:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return True
            return False

        wait_for(listens, 10, "mosquitto listens")

    def kill(self) -> None:
        """Kill -9."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it, if it runs."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(10)
            self.process = None


def handshake(port: int, context: ssl.SSLContext, host: str = "localhost") -> None:
    """Log in to a broker.

    With TLS 1.3 a client learns only when it reads that its certificate was refused.

    Raises:
        OSError: the broker does not want it.
    """
    with (
        socket.create_connection((host, port), 5) as plain,
        context.wrap_socket(plain, server_hostname=host) as secured,
    ):
        secured.sendall(b"\x10\x0f\x00\x04MQTT\x04\x02\x00\x0a\x00\x03rig")
        if not secured.recv(4):
            raise ConnectionError("the broker hangs up")


class Subscriber:
    """A client with a persistent session that keeps all it gets."""

    def __init__(
        self,
        port: int,
        topic: str = "vigie/#",
        tls: tuple[Path, Path, Path] | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        """Connect, and again whenever the broker comes back.

        Args:
            port: Of the broker.
            topic: What to subscribe to.
            tls: Files of the authority, the certificate and its key; None for plain text.
            host: Address of the broker.
        """
        self.messages: list[tuple[str, Any]] = []
        self._raw: list[tuple[str, bytes]] = []
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="rig-subscriber", clean_session=False)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe(topic, 1)
        self._client.on_message = self._keep
        if tls:
            authority, certificate, key = map(str, tls)
            self._client.tls_set(authority, certificate, key)
        self._client.connect(host, port)
        self._client.loop_start()

    def _keep(self, client: mqtt.Client, userdata: object, message: mqtt.MQTTMessage) -> None:
        self._raw.append((message.topic, bytes(message.payload)))
        self.messages.append((message.topic, json.loads(message.payload)))

    def raw(self) -> list[tuple[str, bytes]]:
        """All messages so far as they came."""
        return list(self._raw)

    def events(self) -> list[dict[str, Any]]:
        """All events so far, doubles too."""
        return [payload for topic, payload in list(self.messages) if "/event/" in topic]

    def ids(self) -> set[str]:
        """Distinct ids of the events so far."""
        return {event["id"] for event in self.events()}

    def state(self) -> str | None:
        """What the last retained status says."""
        states: list[str] = [payload["state"] for topic, payload in list(self.messages) if topic.endswith("/status")]
        return states[-1] if states else None

    def reasons(self) -> list[str]:
        """Why the device is degraded, as the last retained status says."""
        found: list[list[str]] = [
            payload["reasons"] for topic, payload in list(self.messages) if topic.endswith("/status")
        ]
        return found[-1] if found else []

    def stop(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()


@contextlib.contextmanager
def mosquitto(folder: Path, *lines: str) -> Iterator[Mosquitto]:
    """A running mosquitto."""
    folder.mkdir(parents=True, exist_ok=True)
    broker = Mosquitto(folder, *lines)
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


@contextlib.contextmanager
def subscriber(port: int, tls: tuple[Path, Path, Path] | None = None) -> Iterator[Subscriber]:
    """A connected subscriber."""
    client = Subscriber(port, tls=tls)
    try:
        yield client
    finally:
        client.stop()


def start_vigie(command: str, config: Path, pipe_end: socket.socket | None = None) -> subprocess.Popen[bytes]:
    """A `vigie` process; with one end of the pipe if it shall have it."""
    arguments = [sys.executable, "-m", "agent", command, "--config", str(config)]
    if pipe_end is None:
        return subprocess.Popen(arguments)
    return subprocess.Popen([*arguments, "--pipe-fd", str(pipe_end.fileno())], pass_fds=[pipe_end.fileno()])


def audited(folder: Path, kind: str) -> set[str]:
    """Ids of the events that the audit log has an entry of this kind for."""
    database = folder / "journal.sqlite"
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return {row[0] for row in connection.execute("SELECT event_id FROM audit WHERE kind = ?", (kind,))}


def audit_verdict(config: Path, reader: Subscriber) -> dict[str, Any]:
    """What `vigie audit verify` says, with the heads that a subscriber has kept."""
    heads = config.with_name("heads.jsonl")
    with heads.open("w") as file:
        file.writelines(
            json.dumps(head) + "\n" for topic, head in list(reader.messages) if topic.endswith("/audit/head")
        )
    command = [
        sys.executable,
        "-m",
        "agent",
        "audit",
        "verify",
        "--config",
        str(config),
        "--heads",
        str(heads),
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout, done.stderr
    verdict: dict[str, Any] = json.loads(done.stdout)
    return verdict


def resident_mib(pid: int) -> float:
    """VmRSS of a process, MiB."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS:"))
