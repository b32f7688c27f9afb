"""The watchdog of systemd and sense: a camera whose read never returns, and a loop that stands still.

The source that blocks is a clip in a FIFO whose writer falls silent: the read of it waits in the kernel for as long as
the writer lives, and no time-out of ours is asked. A network camera does not do that, since its reader has time-outs.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
import pytest
from container import NEEDS, Container, container, require_container
from parts import wait_for

pytestmark = [pytest.mark.rig, pytest.mark.timeout(900)]

SENSE = "vigie-sense.service"
FRAMES = "srv/frames.ts"
CONFIGURATION = f"""
[device]
site = "rig"
name = "cam-07"
[mqtt]
host = "127.0.0.1"
tls = false
[pipe]
sense_user = "vigie-sense"
[inference]
detector = "motion"
[[camera]]
name = "north"
source = "file:/{FRAMES}"
loop = true
"""


def clip() -> bytes:
    """Five seconds of moving noise, as a stream that can be read from any place."""
    made = io.BytesIO()
    with av.open(made, "w", "mpegts") as file:
        stream = file.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        noise = np.random.default_rng(0)
        for _ in range(125):
            picture = noise.integers(0, 255, (240, 320, 3), np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        file.mux(stream.encode(None))
    return made.getvalue()


@dataclass
class Machine:
    """A container in which sense watches a FIFO."""

    inside: Container
    fifo: int
    clip: bytes

    def feed(self) -> None:
        """Have some seconds of pictures come, as far as there is somebody to read them."""
        rest = memoryview(self.clip)
        deadline = time.monotonic() + 30
        while rest and time.monotonic() < deadline:
            with contextlib.suppress(BlockingIOError):
                rest = rest[os.write(self.fifo, rest) :]
            if rest:
                time.sleep(0.02)
        assert not rest, "sense reads the pictures"

    def status(self) -> dict[str, Any]:
        done = self.inside.run("/opt/vigie/current/bin/vigie", "status", "--json", check=False)
        found: dict[str, Any] = json.loads(done.stdout) if done.stdout else {}
        return found

    def pid(self) -> str:
        return self.inside.show(SENSE, "MainPID")[0]


@pytest.fixture(scope="module")
def machine(require: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    require(*NEEDS)
    require_container()
    with container(tmp_path_factory.mktemp("watchdog")) as inside:
        inside.write("etc/vigie/vigie.toml", CONFIGURATION)
        inside.write("etc/vigie/policy.toml", "[policy.gate]\nk = 5\n")
        for name in ("ca.pem", "device.pem", "device.key"):
            inside.write(f"etc/vigie/keys/{name}", "", 0o600)
        inside.run("mkfifo", "-m", "644", f"/{FRAMES}")
        # Open for reading and writing, so that the writer never goes: what reads waits for more.
        fifo = os.open(inside.outside(f"/{FRAMES}"), os.O_RDWR | os.O_NONBLOCK)
        try:
            inside.run("systemctl", "daemon-reload")
            inside.run("systemctl", "start", "vigie.target")
            yield Machine(inside, fifo, clip())
            print(inside.run("journalctl", "-q", "--no-pager", "-n", "60", "-u", "vigie*").stdout)  # noqa: T201
        finally:
            os.close(fifo)


def ended_by_watchdog(machine: Machine, pid: str, seconds: float) -> float:
    """Wait for another process; after how many seconds it was there."""
    began = time.monotonic()
    wait_for(lambda: machine.pid() not in {"0", pid}, seconds, "a new process")
    return time.monotonic() - began


def test_a_camera_that_blocks_for_ever_is_replaced_within_the_watchdog_s_time(machine: Machine) -> None:
    machine.feed()
    wait_for(lambda: machine.status().get("cameras") == ["live"], 30, "the camera is live")
    pid = machine.pid()
    (limit,) = machine.inside.show(SENSE, "WatchdogUSec")
    assert limit == "30s"
    took = ended_by_watchdog(machine, pid, 40)
    print(f"replaced {took:.1f} s after the last picture")  # noqa: T201
    assert took <= 30
    said = machine.inside.journal(SENSE)
    assert "event=stuck sensor=camera:north" in said
    assert "Watchdog timeout" in said or "watchdog" in said.lower()
    machine.feed()
    wait_for(lambda: machine.status().get("cameras") == ["live"], 30, "it sees again")


def test_what_was_given_up_is_started_again_when_its_time_has_come(machine: Machine) -> None:
    drop_ins = f"etc/systemd/system/{SENSE}.d/broken.conf", "etc/systemd/system/vigie-revive@.timer.d/soon.conf"
    machine.inside.write(drop_ins[0], "[Service]\nRestartSec=100ms\nExecStart=\nExecStart=/bin/false\n")
    machine.inside.write(drop_ins[1], "[Timer]\nOnActiveSec=\nOnActiveSec=5\nAccuracySec=1\n")
    machine.inside.run("systemctl", "daemon-reload")
    machine.inside.run("systemctl", "restart", SENSE, check=False)
    wait_for(lambda: machine.inside.show(SENSE, "ActiveState") == ["failed"], 30, "it is given up")
    machine.inside.run("rm", f"/{drop_ins[0]}")
    machine.inside.run("systemctl", "daemon-reload")
    wait_for(lambda: machine.inside.show(SENSE, "ActiveState") == ["active"], 60, "it is started again")
    machine.inside.run("systemctl", "stop", "vigie.target")
    wait_for(lambda: machine.inside.show(SENSE, "ActiveState") == ["inactive"], 30, "it is stopped with all the rest")
    machine.inside.run("systemctl", "start", "vigie-revive@vigie-sense.service")
    assert machine.inside.show(SENSE, "ActiveState") == ["inactive"]
    machine.inside.run("systemctl", "start", "vigie.target")


def test_a_loop_that_stands_still_is_replaced(machine: Machine) -> None:
    machine.inside.write(f"etc/systemd/system/{SENSE}.d/short.conf", "[Service]\nWatchdogSec=10\n")
    machine.inside.run("systemctl", "daemon-reload")
    machine.inside.run("systemctl", "restart", SENSE)
    pid = machine.pid()
    machine.inside.run("systemctl", "kill", "-s", "STOP", "--kill-whom=main", SENSE)
    took = ended_by_watchdog(machine, pid, 60)
    print(f"replaced {took:.1f} s after it stood still")  # noqa: T201
    assert "result 'watchdog'" in machine.inside.journal(SENSE)
