"""Three nodes of RabbitMQ on loopback, as plain processes, with the configuration that `deploy/` has."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from parts import free_port, wait_for

BROKERS = Path(__file__).parents[2] / "deploy" / "broker"
_SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
NODES = 3


class Node:
    """One node: a process group of its own."""

    def __init__(self, folder: Path, number: int, files: Path, names: list[str], registry: int) -> None:
        """Write its configuration: that of `deploy/`, with other names, ports and folders.

        Args:
            folder: Of the cluster.
            number: From 1.
            files: Folder with ca.pem, server.pem, server.key and definitions.json.
            names: Of all nodes.
            registry: Port of Erlang's registry of names, epmd.
        """
        self._registry = registry
        self.port = free_port()
        self.name = names[number - 1]
        self._amqp, self._distribution, self._metrics = free_port(), free_port(), free_port()
        self._home = folder
        self._own = folder / f"node-{number}"
        self._own.mkdir(parents=True)
        text = (BROKERS / "rabbitmq" / "rabbitmq.conf").read_text()
        for other, name in enumerate(names, 1):
            text = text.replace(f"rabbit@broker-{other}", name)
        text = text.replace("/etc/rabbitmq/vigie", str(files))
        text = text.replace("127.0.0.1:5672", f"127.0.0.1:{self._amqp}")
        text = text.replace("mqtt.listeners.ssl.1 = 8883", f"mqtt.listeners.ssl.1 = 127.0.0.1:{self.port}")
        text = text.replace("prometheus.tcp.port = 15692", f"prometheus.tcp.port = {self._metrics}")
        # Three nodes share a machine with others.
        text = text.replace("vm_memory_high_watermark.relative = 0.5", "vm_memory_high_watermark.absolute = 1GB")
        text = text.replace("disk_free_limit.absolute = 2GB", "disk_free_limit.absolute = 100MB")
        (self._own / "rabbitmq.conf").write_text(text)
        (self._own / "enabled_plugins").write_text((BROKERS / "rabbitmq" / "enabled_plugins").read_text())
        self._process: subprocess.Popen[bytes] | None = None

    def _environment(self) -> dict[str, str]:
        own = self._own
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "HOME": str(self._home),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._registry),
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self._amqp),
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_MNESIA_BASE": str(own / "mnesia"),
            "RABBITMQ_LOG_BASE": str(own / "log"),
            "RABBITMQ_PID_FILE": str(own / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(own / "enabled_plugins"),
            "RABBITMQ_CONFIG_FILE": str(own / "rabbitmq"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            # One scheduler each, that does not spin: there are more nodes than processors.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1 +sbwt none",
        }

    def start(self) -> None:
        """Start it; `await_started` waits for it."""
        with (self._own / "out").open("ab") as out:
            self._process = subprocess.Popen(
                [_SERVER],
                env=self._environment(),
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def await_started(self, seconds: float = 180) -> None:
        """Wait until it takes MQTT connections."""

        def listens() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, self.said()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return True
            return False

        wait_for(listens, seconds, f"{self.name} listens")

    def said(self) -> str:
        """The end of what the node said."""
        logs = [self._own / "out", *(self._own / "log").glob("*.log")]
        return "\n".join(log.read_text(errors="replace")[-1500:] for log in logs if log.exists())

    def resident_mib(self) -> float:
        """Memory of its processes, MiB."""
        if self._process is None:
            return 0.0
        group, total = os.getpgid(self._process.pid), 0
        for status in Path("/proc").glob("[0-9]*/status"):
            with contextlib.suppress(OSError):
                if os.getpgid(int(status.parent.name)) == group:
                    lines = status.read_text().splitlines()
                    total += sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
        return total / 1024

    def kill(self) -> None:
        """Kill -9, the whole node."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)
            self._process = None


@contextlib.contextmanager
def rabbitmq(folder: Path, files: Path) -> Iterator[list[Node]]:
    """A running cluster of three."""
    names = [f"vigie{os.getpid()}x{number}@localhost" for number in range(1, NODES + 1)]
    # One secret for all: without it each node would make its own at the same moment.
    cookie = folder / ".erlang.cookie"
    folder.mkdir(parents=True, exist_ok=True)
    cookie.write_text("VIGIERIG")
    cookie.chmod(0o400)
    registry = free_port()
    nodes = [Node(folder, number, files, names, registry) for number in range(1, NODES + 1)]
    try:
        # A node joins the others before it listens. All at once they may race for who begins (deploy/broker/README.md).
        for node in nodes:
            node.start()
            node.await_started()
        yield nodes
    finally:
        for node in nodes:
            node.kill()
        # The first node has started it, as a daemon.
        subprocess.run(["epmd", "-port", str(registry), "-kill"], stdout=subprocess.DEVNULL, check=False)
