"""The life of a device under a real systemd: its own certificate, a sealed key, a clock that is set late, and its end.

Nobody can set the clock of a container. So relay alone has another one (libfaketime, with the monotonic clock left as
it is), which begins in 1970 and is set by a file; chronyd is real, follows another real one on loopback, and sets
nothing.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from container import NEEDS, UNITS, Container, container, require_container
from deployed import DeployedMosquitto, Fleet
from parts import SQUARE, Subscriber, wait_for

from tests.conftest import lacking

pytestmark = [pytest.mark.rig, pytest.mark.timeout(900)]

RELAY, VIGIE = "vigie-relay.service", "/opt/vigie/current/bin/vigie"
DRY_RUN = ("-x", "-d")  # sets no clock, and stays in the foreground
CLOCK = "srv/clock"
CONFIGURATION = (
    """
[device]
site = "rig"
name = "cam-07"
[mqtt]
host = "127.0.0.1"
port = {port}
ca_file = "/run/credentials/vigie-relay.service/ca.pem"
cert_file = "/run/credentials/vigie-relay.service/device.pem"
key_file = "/run/credentials/vigie-relay.service/device.key"
backoff_max_s = 1
[clock]
required = true
[pipe]
sense_user = "vigie-sense"
[inference]
detector = "motion"
[[camera]]
name = "north"
source = "sim:crowd?people=12&seconds=600&detections=1"
"""
    + SQUARE
)
POLICY = """
[policy.gate]
k = 1
crowd_grain_s = 2
[[policy.detector]]
type = "crowd.gathering"
purpose = "Proof of the clock"
legal_basis = "RIG"
body = "The rig"
contact = "The rig"
retention_days = 1
until = 2999-01-01
"""


def faketime() -> Path:
    """The library that gives one process another clock."""
    return next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), Path("libfaketime"))


class Chrony:
    """Two real chronyds on loopback: one that follows itself, and one that follows it and answers on port 323."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start both; the second is synchronised a moment later."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        common = f"bindcmdaddress /\nuser root\npidfile {self._folder}"
        for name, lines in (
            ("reference", f"local stratum 1\nport {port}\nbindaddress 127.0.0.1\nallow 127.0.0.1\ncmdport 0\n"),
            ("device", f"server 127.0.0.1 port {port} iburst minpoll 0 maxpoll 0\nport 0\n"),
        ):
            file = self._folder / f"{name}.conf"
            file.write_text(f"{lines}{common}/{name}.pid\n")
            self._running.append(
                subprocess.Popen(
                    ["/usr/sbin/chronyd", *DRY_RUN, "-f", str(file)],
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )

    def stop(self) -> None:
        """Stop them."""
        for process in self._running:
            process.terminate()
            process.wait(10)


@dataclass
class Machine:
    """A container with a device in it, and what is around it."""

    inside: Container
    fleet: Fleet
    broker: DeployedMosquitto
    chrony: Chrony
    reader: Subscriber
    began: float = field(default_factory=time.time)

    def status(self) -> dict[str, Any]:
        done = self.inside.run(VIGIE, "status", "--json", check=False)
        found: dict[str, Any] = json.loads(done.stdout) if done.stdout else {}
        return found

    def set_clock(self, offset_s: int) -> None:
        """Give relay a clock that is so far off, seconds."""
        self.inside.write(CLOCK, f"{offset_s:+d}s\n")


@pytest.fixture(scope="module")
def machine(require: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    require(*NEEDS, "mosquitto", "chronyd", "faketime")
    require_container()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("127.0.0.1", 323))
        except OSError:  # the container shares this machine's network
            lacking("a chronyd of this machine answers on port 323")
    folder = tmp_path_factory.mktemp("life")
    fleet = Fleet(folder, ("manager", "rig"))
    broker, chrony = DeployedMosquitto(folder, fleet), Chrony(folder)
    issued = fleet.settings(broker.port, "manager.rig")
    assert issued.cert_file is not None
    assert issued.key_file is not None
    with contextlib.ExitStack() as stack:
        inside = stack.enter_context(container(folder / "container", [f"{faketime().parent}:/opt/faketime"]))
        stack.callback(broker.stop)
        stack.callback(chrony.stop)
        inside.write("etc/vigie/vigie.toml", CONFIGURATION.format(port=broker.port))
        inside.write("etc/vigie/policy.toml", POLICY)
        asked = inside.run(VIGIE, "certificate", "request").stdout
        inside.write("srv/device.pem", fleet.authority.sign_request("device", asked.encode()).decode())
        inside.write("srv/ca.pem", fleet.ca_file.read_text())
        inside.run(VIGIE, "certificate", "install", "/srv/device.pem", "--ca", "/srv/ca.pem")
        fleet.write_lists()
        broker.start()
        reader = Subscriber(broker.port, tls=(fleet.ca_file, issued.cert_file, issued.key_file))
        stack.callback(reader.stop)
        yield Machine(inside, fleet, broker, chrony, reader)
        print(inside.run("journalctl", "-q", "--no-pager", "-n", "80", "-u", "vigie*").stdout)  # noqa: T201


def test_the_key_never_left_and_is_sealed_for_this_machine(machine: Machine) -> None:
    inside = machine.inside
    listed = inside.run("stat", "-c", "%a %U %n", "/etc/vigie/keys", "/etc/vigie/keys/device.key").stdout.splitlines()
    assert listed == ["700 root /etc/vigie/keys", "600 root /etc/vigie/keys/device.key"]
    assert "sealed" in inside.run(VIGIE, "certificate", "seal").stdout
    found = json.loads(inside.run(VIGIE, "certificate", "status", "--json").stdout)
    assert (found["state"], found["key"]) == ("valid", "sealed")
    assert "PRIVATE KEY" not in inside.run("cat", "/etc/vigie/keys/device.key.cred").stdout


def test_what_happened_in_1970_leaves_with_its_time_when_the_clock_is_set(machine: Machine) -> None:
    inside = machine.inside
    drop_ins = f"etc/systemd/system/{RELAY}.d"
    inside.write(f"{drop_ins}/sealed-key.conf", (UNITS / f"{RELAY}.d" / "sealed-key.conf").read_text())
    inside.write(
        f"{drop_ins}/clock.conf",
        "[Service]\nEnvironment=LD_PRELOAD=/opt/faketime/libfaketime.so.1 DONT_FAKE_MONOTONIC=1 NO_FAKE_STAT=1"
        f" FAKETIME_CACHE_DURATION=1 FAKETIME_TIMESTAMP_FILE=/{CLOCK}\n",
    )
    machine.set_clock(-int(machine.began) + 60)
    inside.run("systemctl", "daemon-reload")
    inside.run("systemctl", "enable", "--now", "vigie.target")
    wait_for(lambda: machine.status().get("outbox_events"), 60, "an event is held")
    held_at = time.time()
    found = machine.status()
    assert (found["clock"], found["broker"]) == ("unsynced", None), "no certificate holds in 1970"
    assert "clock" in found["status"]["reasons"]

    (pid,) = inside.show(RELAY, "MainPID")
    inside.run("systemctl", "kill", "-s", "KILL", "--kill-whom=main", RELAY)
    wait_for(lambda: inside.show(RELAY, "MainPID", "SubState") not in ([pid, "running"], ["0", "auto-restart"]), 30, "")
    wait_for(lambda: machine.status().get("outbox_events"), 30, "it is held still")

    machine.chrony.start()
    wait_for(lambda: machine.status().get("clock_source") == "chrony", 30, "chronyd answers in relay's sandbox")
    machine.set_clock(0)
    wait_for(machine.reader.events, 60, "what was held has left")
    (first, *_) = machine.reader.events()
    moment = dt.datetime.fromisoformat(first["time"].replace("Z", "+00:00")).timestamp()
    assert first["data"]["clock"] == "synced"
    assert machine.began - 2 <= moment <= held_at, "the moment at which it happened, and not that at which it left"
    found = wait_for(lambda: (s := machine.status()).get("broker") and s, 30, "connected")
    assert found["clock"] == "synced"
    assert 0 < found["clock_error_s"] < 1
    verdict = inside.run(VIGIE, "audit", "verify", "--json", check=False)
    assert json.loads(verdict.stdout)["problems"] == []


def test_its_end_is_told_and_leaves_nothing_of_it(machine: Machine) -> None:
    inside = machine.inside
    done = inside.run(VIGIE, "decommission", "--yes", "--json", check=False)
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)
    assert (done.returncode, found["told"], found["kept"]) == (0, True, []), done.stderr
    wait_for(lambda: machine.reader.state() == "decommissioned", 10, "the broker has the last word")
    heads = wait_for(
        lambda: [p for topic, p in list(machine.reader.messages) if topic.endswith("audit/head") and "final" in p],
        10,
        "a final head",
    )
    assert heads[-1]["source"] == "/vigie/rig/cam-07"
    left = inside.run("find", "/etc/vigie", "/var/lib/vigie", "-type", "f").stdout
    assert left == ""
    assert inside.run("systemctl", "is-enabled", "vigie.target", check=False).stdout == "disabled\n"
    for unit in ("vigie-sense.service", RELAY):
        assert inside.show(unit, "ActiveState") == ["inactive"]
    # It cannot come back by itself: there is nothing that it could be.
    assert inside.run(VIGIE, "certificate", "status", check=False).returncode == 1
