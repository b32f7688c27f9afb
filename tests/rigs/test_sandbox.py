"""Sense and relay under a real systemd, in the sandbox of their units: what they still can do, and what they cannot."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from authority import Authority, mutual_tls
from container import NEEDS, UNITS, Container, container, require_container
from parts import SQUARE, Mosquitto, Subscriber, mosquitto, subscriber, wait_for
from rtsp_camera import Server, require_rtsp_server
from sound_server import SoundServer

pytestmark = [pytest.mark.rig, pytest.mark.timeout(600)]

SENSE, RELAY = "vigie-sense", "vigie-relay"
ERRNO = "import errno, os, socket, sys\n"


@dataclass
class Machine:
    """A container with the agent, and what is around it."""

    inside: Container
    broker: Mosquitto
    reader: Subscriber
    sound: SoundServer
    camera: Server
    tone: Path

    def status(self) -> dict[str, Any]:
        """What `vigie status` says inside; empty while relay does not answer."""
        done = self.inside.run("/opt/vigie/current/bin/vigie", "status", "--json", check=False)
        found: dict[str, Any] = json.loads(done.stdout) if done.stdout else {}
        return found

    def tell(self, source: str) -> None:
        """Write the configuration and the policy, with this camera."""
        until = dt.datetime.now(dt.timezone.utc).date() + dt.timedelta(days=90)
        self.inside.write("etc/vigie/vigie.toml", CONFIGURATION.format(port=self.broker.port, source=source))
        entries = (ENTRY.format(type=label, until=until) for label in ("crowd.gathering", "sound.gunshot"))
        self.inside.write("etc/vigie/policy.toml", POLICY + "".join(entries))


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
backoff_max_s = 2
[pipe]
sense_user = "vigie-sense"
[microphone]
source = "device:pulse"
[[microphone.rule]]
type = "sound.gunshot"
[[camera]]
name = "north"
source = "{source}"
loop = true
"""
    + SQUARE
)
POLICY = """
[policy.gate]
k = 1
crowd_grain_s = 2
"""
ENTRY = """
[[policy.detector]]
type = "{type}"
purpose = "Proof of the sandbox"
legal_basis = "RIG"
body = "The rig"
contact = "The rig"
retention_days = 1
until = {until}
"""
#: What a device's own drop-in would say where sound comes from a sound server.
SOUND = "[Service]\nEnvironment=PULSE_SERVER=unix:/srv/sound/pulse.sock PULSE_SOURCE=mic.monitor\n"


@pytest.fixture(scope="module")
def machine(require: Callable[..., None], data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    require(*NEEDS, "mosquitto", "pulseaudio", "paplay")
    require_rtsp_server()
    require_container()
    folder = tmp_path_factory.mktemp("machine")
    authority = Authority(folder / "pki")
    clip = data / "clips" / "pets2009_s2l1.mp4"
    sounds = folder / "sound"
    sounds.mkdir(mode=0o755)
    tone = folder / "tone.wav"
    moments = np.arange(120 * 16_000) / 16_000
    soundfile.write(tone, (0.5 * np.sin(2 * np.pi * 440 * moments)).astype(np.float32), 16_000)
    sound, camera = SoundServer(sounds), Server(clip)
    tls = (authority.file, *authority.issue("manager"))
    binds = [f"{clip}:/srv/clip.mp4", f"{sounds}:/srv/sound"]
    try:
        sound.start()
        sounds.chmod(0o755)
        camera.start()
        with (
            mosquitto(folder / "broker", *mutual_tls(authority, folder)) as broker,
            subscriber(broker.port, tls) as reader,
            container(folder / "container", binds) as inside,
        ):
            cert, key = authority.issue("cam-07")
            for name, file in (("ca.pem", authority.file), ("device.pem", cert), ("device.key", key)):
                inside.write(f"etc/vigie/keys/{name}", file.read_text(), 0o600)
            inside.write(f"etc/systemd/system/{SENSE}.service.d/sound.conf", SOUND)
            made = Machine(inside, broker, reader, sound, camera, tone)
            made.tell("file:/srv/clip.mp4")
            inside.run("systemctl", "daemon-reload")
            inside.run("systemctl", "start", "vigie.target")
            yield made
            print(inside.run("journalctl", "-q", "--no-pager", "-n", "200", "-u", "vigie*").stdout)  # noqa: T201
    finally:
        camera.kill()
        sound.kill()


def test_the_units_have_no_mistake_and_little_exposure(machine: Machine) -> None:
    for unit in (SENSE, RELAY, "vigie-camera@1", "vigie-engines"):
        assert machine.inside.run("systemd-analyze", "verify", f"{unit}.service").stderr == ""
        said = machine.inside.run("systemd-analyze", "security", "--no-pager", f"{unit}.service").stdout
        found = re.search(r"Overall exposure level for .*: (\d+\.\d) ", said)
        assert found
        assert float(found[1]) <= 1.2, said


def test_footage_becomes_events_that_leave_over_mutual_tls(machine: Machine) -> None:
    wait_for(lambda: machine.status().get("cameras") == ["live"], 60, "the camera is live")
    wait_for(machine.reader.events, 60, "an event of the clip")
    for unit in (SENSE, RELAY):
        assert machine.inside.show(f"{unit}.service", "ActiveState", "Type", "WatchdogUSec") == [
            *("active", "notify"),
            "30s",
        ]
    assert {event["data"]["basis"] for event in machine.reader.events()} == {"RIG"}


def test_sound_is_heard(machine: Machine) -> None:
    wait_for(lambda: machine.status().get("microphone") == "silent", 60, "nothing plays")
    player = machine.sound.play(machine.tone)
    try:
        wait_for(lambda: machine.status().get("microphone") == "live", 20, "the tone is heard")
    finally:
        player.kill()
        player.wait(10)


FAMILIES = f"""{ERRNO}
for name in ("AF_INET", "AF_INET6", "AF_PACKET", "AF_NETLINK", "AF_VSOCK", "AF_BLUETOOTH", "AF_CAN"):
    try:
        kind = socket.SOCK_RAW if name in ("AF_PACKET", "AF_NETLINK", "AF_CAN") else socket.SOCK_STREAM
        socket.socket(getattr(socket, name), kind).close()
        print(name, "opened")
    except OSError as error:
        print(name, errno.errorcode[error.errno])
print(*sorted(os.listdir("/sys/class/net")))
"""


def test_sense_can_open_no_socket_of_any_network(machine: Machine) -> None:
    assert "AF_INET opened" in machine.inside.run("python3", "-c", FAMILIES).stdout, "the control: outside it can"
    *families, _ = machine.inside.inside(SENSE, FAMILIES).splitlines()
    assert len(families) == 7
    assert {line.split()[1] for line in families} == {"EAFNOSUPPORT"}


REACH = """import socket, sys
for address in sys.argv[1:] or ADDRESSES:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 3).close()
        print(address, "reached")
    except OSError as error:
        print(address, type(error).__name__, error.errno)
for family, address in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
    try:
        socket.socket(family, socket.SOCK_DGRAM).connect((address, 9))
        print("a route to", address)
    except OSError as error:
        print("no route", error.errno)
"""


def test_a_network_camera_is_all_that_sense_reaches(machine: Machine) -> None:
    inside = machine.inside
    camera = f"127.0.0.1:{machine.camera.port}"
    inside.write("etc/vigie/camera-1.env", f"CAMERA={camera}\n")
    inside.write(
        f"etc/systemd/system/{SENSE}.service.d/network-camera.conf",
        (UNITS / f"{SENSE}.service.d" / "network-camera.conf").read_text(),
    )
    machine.tell("rtsp://127.0.0.1:8551/live")
    inside.run("systemctl", "daemon-reload")
    inside.run("systemctl", "stop", "vigie.target")
    before = len(machine.reader.events())
    inside.run("systemctl", "start", "vigie-camera@1.socket", "vigie.target")
    wait_for(lambda: machine.status().get("cameras") == ["live"], 60, "the network camera is live")
    wait_for(lambda: len(machine.reader.events()) > before, 60, "an event of the network camera")

    pid = inside.show("vigie-camera@1.service", "MainPID")[0]
    assert inside.run("cat", f"/proc/{pid}/comm").stdout == "systemd-socket-\n"
    addresses = [camera, f"127.0.0.1:{machine.broker.port}", "127.0.0.1:8552", "127.0.0.1:8551"]
    outside = inside.run("python3", "-c", REACH, *addresses[:2]).stdout
    assert outside.count("reached") == 2, "the control: outside of the sandbox both answer"
    said = inside.inside(SENSE, REACH.replace("ADDRESSES", repr(addresses))).splitlines()
    assert said[:3] == [f"{address} ConnectionRefusedError 111" for address in addresses[:3]]
    assert said[3] == "127.0.0.1:8551 reached"
    assert said[4] == "no route 101"
    assert said[5].startswith("no route")


WRITES = """import os
found = []
for folder, folders, files in os.walk("/"):
    if folder in ("/proc", "/sys"):
        folders.clear()
        continue
    try:
        os.close(os.open(os.path.join(folder, ".probe"), os.O_CREAT | os.O_WRONLY))
        os.unlink(os.path.join(folder, ".probe"))
        print("folder", folder)
    except OSError:
        pass
    for name in files:
        path = os.path.join(folder, name)
        if os.path.isfile(path) and not os.path.islink(path):
            try:
                os.close(os.open(path, os.O_WRONLY | os.O_APPEND))
                print("file", path)
            except OSError:
                pass
"""


@pytest.mark.parametrize(
    ("unit", "folders"),
    [
        (SENSE, ["/run/vigie-sense"]),
        (RELAY, ["/run/vigie", "/tmp", "/var/lib/vigie", "/var/tmp"]),
    ],
)
def test_nothing_can_be_written_but_what_is_meant_to_be(machine: Machine, unit: str, folders: list[str]) -> None:
    said = machine.inside.inside(unit, WRITES).splitlines()
    assert sorted(line.split()[1] for line in said if line.startswith("folder")) == folders
    assert [line for line in said if line.startswith("file") and "/var/lib/vigie/" not in line] == []


def crash(inside: Container, service: str) -> None:
    """Kill a running service as a fault of memory would; it must come back."""
    wait_for(lambda: inside.show(service, "SubState") == ["running"], 60, f"{service} runs")
    assert inside.show(service, "LimitCORE", "CoredumpFilter", "MemorySwapMax") == ["0", "0x0", "0"]
    pid = inside.show(service, "MainPID")[0]
    # The files of a process that may not be dumped belong to root.
    wait_for(lambda: inside.run("stat", "-c", "%U", f"/proc/{pid}/maps").stdout == "root\n", 30, "not dumpable")
    inside.run("systemctl", "kill", "-s", "SEGV", "--kill-whom=main", service)
    wait_for(lambda: inside.show(service, "MainPID")[0] not in {"0", pid}, 60, "a new process")


def test_a_crash_leaves_no_core_dump(machine: Machine) -> None:
    inside = machine.inside
    inside.run(
        "sh", "-c", "mkdir -p /srv/control && cd /srv/control && ulimit -c unlimited && sh -c 'kill -SEGV $$' || true"
    )
    dumps = ("find", "/", "-xdev", "-name", "*core*", "-newer", "/run/started", "-type", "f")
    inside.run("touch", "/run/started")
    for unit in (SENSE, RELAY):
        crash(inside, f"{unit}.service")
    found = [
        inside.run(*dumps).stdout,
        inside.run("find", "/run", "/tmp", "/var/tmp", "-name", "*core*", "-type", "f").stdout,
    ]
    assert "".join(found) == ""
    control = inside.run("find", "/srv/control", "-type", "f").stdout
    assert control, "the control: without the sandbox a crash leaves one"


#: Nodes as they are on a device, of drivers that this machine does not have: the kernel's answer tells who refused.
NODES = {"/dev/video0": (81, 0), "/dev/snd/pcmC0D0c": (116, 24), "/dev/nvmap": (10, 250), "/dev/nvidia0": (195, 0)}
OPENS = f"""{ERRNO}
for path in {[*NODES, "/dev/kmsg"]}:
    try:
        os.close(os.open(path, os.O_RDWR))
        print(path, "opened")
    except OSError as error:
        print(path, errno.errorcode[error.errno])
try:
    os.mknod("/tmp/video0", 0o20600, os.makedev(81, 0))
    print("mknod made")
except OSError as error:
    print("mknod", errno.errorcode[error.errno])
"""


def test_relay_opens_no_camera_microphone_or_gpu(machine: Machine) -> None:
    inside = machine.inside
    for path, (major, minor) in NODES.items():
        inside.run("mkdir", "-p", str(Path(path).parent))
        inside.run("mknod", "-m", "666", path, "c", str(major), str(minor))
    control = dict(line.split() for line in inside.run("python3", "-c", OPENS).stdout.splitlines())
    assert {control[path] for path in NODES} <= {"ENXIO", "ENODEV"}, "the control: outside, only the driver is missing"
    said = dict(line.split() for line in inside.inside(RELAY, OPENS).splitlines())
    assert {said[path] for path in NODES} == {"ENOENT"}
    assert said["mknod"] == "EPERM"


RISE = f"""{ERRNO}
import ctypes, subprocess
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
for name in ("NoNewPrivs", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "Seccomp"):
    print(name, status[name].strip())
def tried(what, act):
    try:
        print(what, act() or "done")
    except OSError as error:
        print(what, errno.errorcode[error.errno])
libc = ctypes.CDLL(None, use_errno=True)
def called(name, *arguments):
    if getattr(libc, name)(*arguments):
        raise OSError(ctypes.get_errno(), name)
tried("setuid", lambda: os.setuid(0))
tried("userns", lambda: called("unshare", 0x10000000))
tried("netns", lambda: called("unshare", 0x40000000))
tried("mount", lambda: called("mount", b"none", b"/run", b"tmpfs", 0, None))
tried("ptrace", lambda: called("ptrace", 16, 1, None, None))
tried("bpf", lambda: called("syscall", 321 if os.uname().machine == "x86_64" else 280, 0, None, 0))
print("suid", subprocess.run(["/srv/as-root", "-u"], capture_output=True, text=True).stdout.strip())
"""


@pytest.mark.parametrize("unit", [SENSE, RELAY])
def test_neither_can_gain_a_privilege(machine: Machine, unit: str) -> None:
    inside = machine.inside
    inside.run("sh", "-c", "cp /usr/bin/id /srv/as-root && chmod 4755 /srv/as-root")
    assert inside.run("runuser", "-u", unit, "--", "/srv/as-root", "-u").stdout == "0\n", "the control: it makes root"
    said = dict(line.split() for line in inside.inside(unit, RISE).splitlines())
    uid = inside.run("id", "-u", unit).stdout.strip()
    nothing = "0" * 16
    assert said == {
        "NoNewPrivs": "1",
        **dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), nothing),
        "Seccomp": "2",
        **dict.fromkeys(("setuid", "userns", "netns", "mount", "ptrace", "bpf"), "EPERM"),
        "suid": uid,
    }
