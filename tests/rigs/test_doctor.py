"""`vigie doctor` beside real parts that fail: cameras, a sound server, a broker with certificates, a full disk.

The faults that need no real part are in tests/device/test_doctor_faults.py.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import soundfile
from authority import Authority, mutual_tls
from container import NEEDS, container, require_container
from numpy.typing import NDArray
from parts import Mosquitto, free_port, mosquitto, start_vigie, wait_for
from rtsp_camera import Server, require_rtsp_server
from sound_server import SoundServer, sound_server

from agent.demo.configuration import write_configuration
from agent.relay.local import ask
from tests.conftest import lacking

pytestmark = [pytest.mark.rig, pytest.mark.alone, pytest.mark.timeout(120)]

LIMIT_S = 10.0


@dataclass
class Device:
    """A device in a folder, as its technician has it."""

    folder: Path
    camera: str = "sim:walkers"
    microphone: str | None = None
    mqtt: dict[str, object] = field(default_factory=lambda: {"host": "127.0.0.1", "port": free_port(), "tls": False})

    @property
    def config(self) -> Path:
        return self.folder / "vigie.toml"

    def write(self) -> None:
        write_configuration(self.folder, self.camera, self.microphone, self.mqtt)
        today = dt.datetime.now(dt.timezone.utc).date()
        config = self.config.read_text()  # a rate that a busy machine keeps, too
        self.config.write_text(config.replace('name = "square-cam"', 'name = "square-cam"\nfps = 2'))
        policy = self.folder / "policy.toml"
        until = today + dt.timedelta(days=365)
        policy.write_text(policy.read_text().replace(str(today + dt.timedelta(days=1)), str(until)))

    def doctor(self, only: str | None = None) -> dict[str, Any]:
        """What `vigie doctor --json` says: within ten seconds where this machine has nothing else to do."""
        quiet = os.getloadavg()[0] < 2 * (os.cpu_count() or 1)
        within = "9" if quiet else "60"
        command = [sys.executable, "-m", "agent", "doctor", "--json", "--config", str(self.config), "--within", within]
        done = subprocess.run(
            [*command, *(["--only", only] if only else [])], capture_output=True, text=True, check=False, timeout=90
        )
        assert done.stdout, done.stderr
        said: dict[str, Any] = json.loads(done.stdout)
        assert said["seconds"] < LIMIT_S or not quiet
        assert done.returncode == {"ok": 0, "warn": 4, "fail": 1}[said["worst"]]
        return said

    def one(self, only: str) -> dict[str, str]:
        """The worst finding of a subject."""
        checks: list[dict[str, str]] = self.doctor(only)["checks"]
        return max(checks, key=lambda check: ("ok", "warn", "fail").index(check["level"]))

    @contextlib.contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """The whole agent."""
        process = start_vigie("run", self.config)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)

    def sees(self, state: str) -> bool:
        """Whether the running agent says this of its camera."""
        with contextlib.suppress(OSError):
            return ask(self.folder / "status.sock").cameras == [state]
        return False

    def state(self) -> str | None:
        with contextlib.suppress(OSError):
            return ask(self.folder / "status.sock").status.state
        return None


@pytest.fixture
def device(tmp_path: Path) -> Device:
    folder = tmp_path / "device"
    folder.mkdir()
    made = Device(folder)
    made.write()
    return made


@pytest.fixture
def camera() -> Iterator[Callable[[Path | None], Server]]:
    require_rtsp_server()
    made: list[Server] = []

    def start(clip: Path | None = None) -> Server:
        server = Server(clip)
        made.append(server)
        server.start()
        return server

    yield start
    for server in made:
        with contextlib.suppress(ProcessLookupError, AssertionError):
            server.signal(signal.SIGCONT)
        server.kill()


def clip(path: Path, picture: Callable[[int], NDArray[np.uint8]], seconds: int = 8) -> Path:
    """An H.264 clip of 15 pictures a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=15)
        stream.width, stream.height, stream.pix_fmt = 384, 288, "yuv420p"
        # A constant quality, so that a picture that is the same is the same after each key frame.
        stream.options = {"preset": "ultrafast", "g": "15", "qp": "20"}
        for number in range(15 * seconds):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), format="bgr24")))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="session")
def square(data: Path) -> list[NDArray[np.uint8]]:
    """A few seconds of real footage, 384x288."""
    found = []
    with av.open(str(data / "clips" / "pets2009_s2l1.mp4")) as container:
        for frame in container.decode(video=0):
            image = cv2.resize(frame.to_ndarray(format="bgr24"), (384, 288), interpolation=cv2.INTER_AREA)
            found.append(np.asarray(image, np.uint8))
            if len(found) == 60:
                break
    return found


@pytest.fixture
def sound(require: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SoundServer]:
    require("pulseaudio", "paplay")
    folder = tmp_path / "sound"
    folder.mkdir()
    with sound_server(folder, monkeypatch) as made:
        yield made


@pytest.fixture
def street(tmp_path: Path) -> Path:
    """A minute of noise at -50 dBFS, as a quiet street has it."""
    path = tmp_path / "street.wav"
    soundfile.write(path, np.random.default_rng(1).normal(0, 10 ** (-50 / 20), 60 * 16_000), 16_000)
    return path


@dataclass
class Secured:
    """A broker that asks for certificates, and the authority that made them."""

    broker: Mosquitto
    authority: Authority
    folder: Path


@pytest.fixture
def secured(require: Callable[..., None], tmp_path: Path) -> Iterator[Secured]:
    require("mosquitto")
    authority = Authority(tmp_path / "authority")
    folder = tmp_path / "broker"
    folder.mkdir()
    with mosquitto(folder, *mutual_tls(authority, folder)) as broker:
        yield Secured(broker, authority, folder)


def keys(authority: Authority, port: int, age: dt.timedelta = dt.timedelta()) -> dict[str, object]:
    """The table `[mqtt]` of camera-1."""
    cert, key = authority.issue("camera-1", age)
    key.chmod(0o600)
    return {
        "host": "127.0.0.1",
        "port": port,
        "ca_file": str(authority.file),
        "cert_file": str(cert),
        "key_file": str(key),
    }


def failed(check: dict[str, str], what: str, fix: str, level: str = "fail") -> None:
    assert check["level"] == level, check
    assert what in check["what"], check
    assert fix in check["fix"], check


def test_a_healthy_device_is_well_while_the_agent_runs_and_while_it_does_not(
    device: Device,
    secured: Secured,
    sound: SoundServer,
    street: Path,
    square: list[NDArray[np.uint8]],
    camera: Callable[[Path | None], Server],
    tmp_path: Path,
) -> None:
    server = camera(clip(tmp_path / "square.mp4", lambda number: square[number % len(square)], 120))
    device.camera, device.microphone = server.url, "device:pulse"
    device.mqtt = keys(secured.authority, secured.broker.port)
    device.write()
    player = sound.play(street)
    try:
        with device.running():
            wait_for(lambda: device.state() == "ready", 60, "the agent is ready")
            said = device.doctor()
            assert said["worst"] == "ok", [check for check in said["checks"] if check["level"] != "ok"]
            told = {check["subject"]: check["what"] for check in said["checks"]}
            assert "as sense says" in told["camera"]
            assert "as sense says" in told["microphone"]
            assert "round trip" in told["broker"]
            assert device.state() == "ready", "it took nothing from the agent"
        player.kill()
        player.wait(10)
        player = sound.play(street)
        said = device.doctor()
        bad = [check for check in said["checks"] if check["level"] != "ok"]
        assert [check["subject"] for check in bad] == ["agent"], bad  # it does not run, which is all
        told = {check["subject"]: check["what"] for check in said["checks"]}
        assert "384x288" in told["camera"]
        assert "sharp" in told["camera"]
        assert "background -5" in told["microphone"]
        assert "ACL, round trip" in told["broker"]
        assert "consistent" in told["audit"]
        assert "secret" not in json.dumps(said)
    finally:
        player.kill()
        player.wait(10)


def test_a_dead_camera(device: Device, camera: Callable[[Path | None], Server]) -> None:
    server = camera(None)
    server.kill()
    device.camera = server.url
    device.write()
    failed(device.one("camera"), "cannot connect", "is it powered")


def test_a_frozen_camera(device: Device, camera: Callable[[Path | None], Server]) -> None:
    server = camera(None)
    device.camera = server.url
    device.write()
    server.signal(signal.SIGSTOP)
    failed(device.one("camera"), "no answer within 5 s", "cut its power")


def test_a_frozen_picture(
    device: Device, camera: Callable[[Path | None], Server], square: list[NDArray[np.uint8]], tmp_path: Path
) -> None:
    device.camera = camera(clip(tmp_path / "still.mp4", lambda _: square[0])).url
    device.write()
    failed(device.one("camera"), "the picture is frozen", "cut its power")


def test_a_black_picture(device: Device, camera: Callable[[Path | None], Server], tmp_path: Path) -> None:
    noise = np.random.default_rng(1)
    black = clip(tmp_path / "black.mp4", lambda _: noise.integers(0, 4, (288, 384, 3), np.uint8))
    device.camera = camera(black).url
    device.write()
    failed(device.one("camera"), "the picture is black", "cap off")


def test_a_blurred_picture(
    device: Device, camera: Callable[[Path | None], Server], square: list[NDArray[np.uint8]], tmp_path: Path
) -> None:
    noise = np.random.default_rng(1)

    def blurred(number: int) -> NDArray[np.uint8]:
        soft = cv2.GaussianBlur(square[number % len(square)], (0, 0), 5)
        return np.asarray((soft + noise.normal(0, 2, soft.shape)).clip(0, 255), np.uint8)

    device.camera = camera(clip(tmp_path / "blurred.mp4", blurred)).url
    device.write()
    failed(device.one("camera"), "blurred", "focus ring", "warn")


def test_a_camera_that_the_running_agent_has_lost(device: Device, camera: Callable[[Path | None], Server]) -> None:
    server = camera(None)
    device.camera = server.url
    device.write()
    with device.running():
        wait_for(lambda: device.sees("live"), 60, "live")
        server.kill()
        wait_for(lambda: device.sees("lost"), 30, "lost")
        failed(device.one("camera"), "cannot connect", "is it powered")
        assert device.one("agent")["line"] == "camera"


def test_a_microphone_that_is_unplugged(device: Device, sound: SoundServer) -> None:
    device.microphone = "device:pulse"
    device.write()
    sound.kill()
    failed(device.one("mic"), "", "plug it in")


def test_a_microphone_that_is_silent(device: Device, sound: SoundServer) -> None:
    device.microphone = "device:pulse"
    device.write()
    failed(device.one("mic"), "digital silence", "muted")


def test_a_microphone_of_another_name(device: Device, sound: SoundServer) -> None:
    device.microphone = "device:USB Array"
    device.write()
    failed(device.one("mic"), "no input device has 'USB Array'", "set microphone.source to one of them")


def test_a_certificate_that_has_expired(device: Device, secured: Secured) -> None:
    device.mqtt = keys(secured.authority, secured.broker.port, dt.timedelta(days=3))
    device.write()
    failed(device.one("certificate"), "expired on", "get another one")
    failed(device.one("broker"), "hangs up", "see the line certificate")


def test_an_authority_that_is_not_the_brokers(device: Device, secured: Secured, tmp_path: Path) -> None:
    stranger = Authority(tmp_path / "stranger")
    device.mqtt = {**keys(secured.authority, secured.broker.port), "ca_file": str(stranger.file)}
    device.write()
    failed(device.one("broker"), "is not trusted", "copy ca.pem")
    failed(device.one("certificate"), "was not signed by", "one authority", "warn")


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_an_access_list_that_does_not_let_the_device_speak(device: Device, secured: Secured, protocol: str) -> None:
    secured.broker.stop()
    (secured.folder / "acl").write_text("user manager\ntopic readwrite vigie/#\npattern read vigie/v1/+/%u/#\n")
    secured.broker.start()
    device.mqtt = {**keys(secured.authority, secured.broker.port), "protocol": protocol}
    device.write()
    failed(device.one("broker"), "the access list does not let this device", "pattern readwrite")


def test_a_broker_that_is_down(device: Device) -> None:
    failed(device.one("broker"), "no broker listens there", "ask the manager")


def test_a_disk_that_is_full(device: Device, require: Callable[..., None]) -> None:
    require("mount")
    if os.geteuid() != 0:
        lacking("mounting a small disk needs root")
    folder = device.folder / "journal"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "vigie-rig", str(folder)], check=True)
    try:
        with (folder / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass
        failed(device.one("disk"), "the disk is full", "sudo du")
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_two_agents_at_once(device: Device, require: Callable[..., None], tmp_path: Path) -> None:
    require("mosquitto")
    with mosquitto(tmp_path / "broker") as broker:
        device.mqtt["port"] = broker.port
        device.write()
        second = Device(tmp_path / "second", mqtt=device.mqtt)
        second.folder.mkdir()
        second.write()
        with device.running():
            wait_for(device.state, 40, "it answers")
            assert "alone" not in {check["line"] for check in device.doctor("agent")["checks"]}
            with second.running():
                wait_for(second.state, 40, "the other one answers, too")
                found = next(check for check in device.doctor("agent")["checks"] if check["line"] == "alone")
                failed(found, "2 agents run for this device", "end the one that is too many")


def test_what_the_doctor_publishes_is_the_status_that_was_there(device: Device, secured: Secured) -> None:
    from parts import subscriber

    device.mqtt = keys(secured.authority, secured.broker.port)
    device.write()
    manager = (secured.authority.file, *secured.authority.issue("manager"))
    with subscriber(secured.broker.port, manager) as reader:
        for _ in range(2):
            assert device.one("broker")["level"] == "ok"
        wait_for(lambda: len(reader.raw()) >= 1, 10, "a message")
        assert {topic for topic, _ in reader.raw()} == {"vigie/v1/demo/camera-1/status"}
        assert {payload["state"] for _, payload in reader.messages} == {"offline"}


DEVICE = """
policy_file = "/etc/vigie/policy.toml"
[device]
site = "old-port"
name = "cam-07"
[mqtt]
host = "127.0.0.1"
port = 1
tls = false
[pipe]
sense_user = "vigie-sense"
[[camera]]
name = "quay-cam"
source = "sim:crowd?people=3&detections=1"
"""


def test_services_that_failed_and_a_person_without_root(require: Callable[..., None], tmp_path: Path) -> None:
    require(*NEEDS)
    require_container()
    vigie = "/opt/vigie/current/bin/vigie"
    with container(tmp_path / "container") as machine:

        def checks(*before: str, only: str) -> list[dict[str, str]]:
            done = machine.run(*before, vigie, "doctor", "--json", "--only", only, check=False)
            found: list[dict[str, str]] = json.loads(done.stdout)["checks"]
            return found

        for name in ("ca.pem", "device.pem", "device.key"):  # the unit hands them over, whatever is in them
            machine.write(f"etc/vigie/keys/{name}", "unused\n", 0o600)
        machine.write("etc/vigie/vigie.toml", DEVICE)
        machine.write("etc/vigie/policy.toml", "[policy]\n")
        machine.run("systemctl", "start", "vigie.target")
        wait_for(lambda: {c["level"] for c in checks(only="units")} == {"ok"} or None, 40, "both units run")
        assert checks(only="agent")[0]["level"] == "ok"

        # Somebody who is in no group of ours: all that may not be read is told, with sudo, and nothing breaks.
        nobody = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")
        found = checks(*nobody, only="agent,units,outbox,audit,disk,clock,hardware")
        assert {c["subject"] for c in found if c["level"] == "warn"} == {"agent", "outbox", "audit"}, found
        assert all("sudo" in c["fix"] or "sudo" in c["what"] for c in found if c["level"] == "warn")
        assert not [c for c in found if c["level"] == "fail" or "this check broke" in c["what"]]

        made = machine.run(vigie, "logs", "bundle", "--out", "/tmp/help.tar.gz", "--json")
        assert {"vigie-relay.log", "vigie-sense.log"} <= {one["file"] for one in json.loads(made.stdout)["files"]}
        log = machine.run("tar", "xzOf", "/tmp/help.tar.gz", "vigie-relay.log").stdout
        assert "event=ready boot=" in log, log

        machine.write("etc/vigie/vigie.toml", DEVICE + "colour = 3\n")
        machine.run("systemctl", "restart", "vigie-sense", check=False)
        found = checks(only="units,config")
        failed(next(c for c in found if c["subject"] == "units"), "exit code 2", "vigie config check")
        failed(next(c for c in found if c["subject"] == "config"), "unknown key", "mend that line")
