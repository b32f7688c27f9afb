"""The whole agent against a real mosquitto: it publishes, survives the death of its halves, and stays small."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from parts import Mosquitto, Subscriber, audited, mosquitto, resident_mib, start_vigie, subscriber, wait_for

from agent.demo.configuration import write_configuration

pytestmark = [pytest.mark.rig, pytest.mark.timeout(240)]


@dataclass
class Rig:
    """A broker and somebody who listens to it."""

    broker: Mosquitto
    reader: Subscriber


@pytest.fixture
def rig(require: Callable[..., None], tmp_path: Path) -> Iterator[Rig]:
    require("mosquitto")
    with mosquitto(tmp_path / "broker") as broker, subscriber(broker.port) as reader:
        yield Rig(broker, reader)


@contextlib.contextmanager
def agent(folder: Path, source: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """`vigie run` as a user starts it."""
    config = write_configuration(folder, source, None, {"host": "127.0.0.1", "port": port, "tls": False})
    process = start_vigie("run", config)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


def child(parent: int, name: str) -> int | None:
    """Process id of the supervisor's child of that name."""
    for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        with contextlib.suppress(FileNotFoundError):
            if name in Path(f"/proc/{pid}/cmdline").read_text().split("\0"):
                return int(pid)
    return None


def kill_and_see_it_back(parent: int, name: str, reader: Subscriber) -> None:
    """Kill a half of the agent; it must come back, and events with it."""
    victim = wait_for(lambda: child(parent, name), 30, f"{name} runs")
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: child(parent, name) not in {None, victim}, 40, f"{name} again")
    seen = len(reader.events())
    wait_for(lambda: len(reader.events()) > seen, 90, f"events after {name} was killed")


def test_the_agent_publishes_and_comes_back_when_either_half_is_killed(rig: Rig, tmp_path: Path) -> None:
    reader = rig.reader
    with agent(tmp_path, "sim:crowd?people=12&seconds=600", rig.broker.port) as process:
        wait_for(lambda: reader.state() in {"ready", "degraded"}, 40, "the agent is up")
        wait_for(reader.events, 60, "a first event")
        for name in ("sense", "relay", "sense"):
            kill_and_see_it_back(process.pid, name, reader)
        process.terminate()
        assert process.wait(30) == 0
        wait_for(lambda: reader.state() == "offline", 10, "the last status")
        released = audited(tmp_path / "journal", "released")
        wait_for(lambda: reader.ids() == released, 10, "all released ids delivered")


def test_both_processes_stay_small(rig: Rig, data: Path, tmp_path: Path) -> None:
    with agent(tmp_path, f"file:{data}/clips/pets2009_s2l1.mp4", rig.broker.port) as process:
        wait_for(lambda: len(rig.reader.events()) >= 2, 80, "events from the real clip")
        relay, sense = child(process.pid, "relay"), child(process.pid, "sense")
        assert relay is not None
        assert sense is not None
        assert resident_mib(relay) <= 80
        assert resident_mib(sense) <= 400
