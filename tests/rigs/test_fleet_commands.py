"""A manager and a device over a real mosquitto with mutual TLS: what is obeyed, what is refused, what comes back."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from authority import Authority, mutual_tls
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from parts import Mosquitto, mosquitto, start_vigie, wait_for

from agent.canonical import canonical
from agent.command import Verb, command, desired, key_id
from agent.fleet.client import Client, FleetError, connected
from agent.settings import MqttSettings
from tests.conftest import lacking

pytestmark = [pytest.mark.rig, pytest.mark.timeout(400)]

KEY, STRANGER = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2))
HERE = "old-port/cam-07"
ROOT = f"vigie/v1/{HERE}"


def now() -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc)


def write_device(folder: Path, port: int, authority: Authority) -> Path:
    """A device whose camera is simulated, and which trusts one key for everything."""
    cert, key = authority.issue("cam-07")
    (folder / "policy.toml").write_text(
        '[[policy.detector]]\ntype = "crowd.density"\nzones = ["quay", "pier"]\npurpose = "Safety"\n'
        'legal_basis = "FR-1"\nbody = "The city"\ncontact = "dpo@city.example"\nretention_days = 30\n'
        "until = 2099-12-31\n"
    )
    public = KEY.public_key()
    (folder / "trust.toml").write_text(
        f'[[key]]\nid = "{key_id(public)}"\npublic = "{public.public_bytes_raw().hex()}"\nname = "control room"\n'
        'roles = ["operate", "configure"]\n'
    )
    config = folder / "vigie.toml"
    config.write_text(
        f'policy_file = "{folder}/policy.toml"\n[device]\nsite = "old-port"\nname = "cam-07"\n'
        f'[mqtt]\nhost = "127.0.0.1"\nport = {port}\nca_file = "{authority.file}"\ncert_file = "{cert}"\n'
        f'key_file = "{key}"\nbackoff_min_s = 0.1\nbackoff_max_s = 0.5\n'
        f'[journal]\nfolder = "{folder}/journal"\n[fleet]\ntrust_file = "{folder}/trust.toml"\ntrial_s = 30\n'
        f'[pipe]\nsocket = "{folder}/pipe.sock"\nstatus_socket = "{folder}/status.sock"\n'
        '[inference]\ndetector = "motion"\n'
        '[[camera]]\nname = "north"\nsource = "sim:crowd?people=8&seconds=3600"\nfps = 5\n'
        '[[camera.zone]]\nname = "quay"\npolygon = [[0, 0], [1, 0], [1, 1], [0, 1]]\n'
        '[[camera.rule]]\ntype = "crowd.density"\nzone = "quay"\n'
    )
    return config


@dataclass
class Manager:
    """Whoever holds the keys, and all that he was told."""

    client: Client
    said: list[tuple[str, Any]] = field(default_factory=list)

    def hear(self) -> None:
        while (message := self.client.take(0)) is not None:
            with contextlib.suppress(ValueError):  # his own malformed ones come back to him
                self.said.append((message.topic.removeprefix(f"{ROOT}/"), json.loads(message.payload or b"null")))

    def results(self, request: str | None) -> list[dict[str, Any]]:
        self.hear()
        return [p for topic, p in self.said if topic.endswith("/result") and p.get("request_id") == request]

    def over(self, request: str, seconds: float = 30) -> dict[str, Any]:
        """The last result of a request."""
        ends = {"succeeded", "failed", "rejected"}
        wait_for(lambda: any(r["state"] in ends for r in self.results(request)), seconds, f"{request} is over")
        return self.results(request)[-1]

    def retained(self, topic: str) -> Any:
        self.hear()
        return next((payload for name, payload in reversed(self.said) if name == topic), None)

    def send(self, payload: bytes, verb: str, *, retain: bool = False) -> None:
        self.client.publish(f"{ROOT}/cmd/{verb}", payload, retain=retain)

    def ask(self, verb: Verb, request: str, **args: str) -> dict[str, Any]:
        self.send(command(KEY, HERE, verb, request, now(), args=args), verb)
        return self.over(request)

    def push(self, version: int, settings: dict[str, Any], local_version: int = 1) -> None:
        document = desired(KEY, HERE, version, local_version, now(), settings)
        self.client.publish(f"{ROOT}/config/desired", document, retain=True)

    def reported(self, *states: str, version: int, seconds: float = 60) -> dict[str, Any]:
        """What is told of a version once it is in one of these states."""

        def found() -> Any:
            last = self.retained("config/reported")
            return last if last and last["state"] in states and last.get("version") == version else None

        told: dict[str, Any] = wait_for(found, seconds, f"version {version} is {' or '.join(states)}")
        return told


@dataclass
class Rig:
    """A broker, its authority, a device, and a manager."""

    broker: Mosquitto
    authority: Authority
    config: Path
    process: subprocess.Popen[bytes]
    manager: Manager

    @property
    def folder(self) -> Path:
        return self.config.parent / "journal"

    def child(self, name: str) -> int:
        def found() -> int | None:
            for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
                with contextlib.suppress(FileNotFoundError):
                    if name in Path(f"/proc/{pid}/cmdline").read_text().split("\0"):
                        return int(pid)
            return None

        return wait_for(found, 30, f"{name} runs")

    def kill(self, name: str) -> None:
        os.kill(self.child(name), signal.SIGKILL)

    def audited(self, kind: str) -> list[dict[str, Any]]:
        with contextlib.closing(sqlite3.connect(f"file:{self.folder}/journal.sqlite?mode=ro", uri=True)) as database:
            rows = database.execute("SELECT body FROM audit WHERE kind = ? ORDER BY seq", (kind,))
            return [json.loads(body) for (body,) in rows]


def tls(authority: Authority, port: int, name: str) -> MqttSettings:
    cert, key = authority.issue(name)
    return MqttSettings(host="127.0.0.1", port=port, ca_file=authority.file, cert_file=cert, key_file=key)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Mosquitto, Authority]]:
    folder = tmp_path_factory.mktemp("broker")
    authority = Authority(folder / "authority")
    with mosquitto(folder / "mosquitto", *mutual_tls(authority, folder)) as running:
        yield running, authority


@pytest.fixture(scope="module")
def rig(broker: tuple[Mosquitto, Authority], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    running, authority = broker
    folder = tmp_path_factory.mktemp("device")
    config = write_device(folder, running.port, authority)
    with connected(tls(authority, running.port, "manager")) as client:
        client.subscribe(f"{ROOT}/#")
        manager = Manager(client)
        process = start_vigie("run", config)
        try:
            wait_for(lambda: (manager.retained("status") or {}).get("state") in {"ready", "degraded"}, 60, "a device")
            yield Rig(running, authority, config, process, manager)
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture(scope="module", autouse=True)
def _mosquitto_is_there() -> None:
    import shutil

    if shutil.which("mosquitto", path=os.environ.get("PATH", os.defpath) + ":/usr/sbin") is None:
        lacking("this rig needs mosquitto")


def test_a_device_reads_and_writes_below_its_own_name_alone(broker: tuple[Mosquitto, Authority]) -> None:
    running, authority = broker
    with (
        connected(tls(authority, running.port, "cam-08")) as device,
        connected(tls(authority, running.port, "manager")) as manager,
    ):
        manager.subscribe("vigie/v1/east/#")
        device.subscribe("vigie/#")
        for topic in ("vigie/v1/east/cam-09/cmd/pause", "vigie/v1/east/cam-08/cmd/pause"):
            manager.publish(topic, b"{}")
        # MQTT 5 says so, the connection may end with it, and either way nothing comes out of it.
        with connected(tls(authority, running.port, "cam-08")) as forger, contextlib.suppress(FleetError):
            forger.publish("vigie/v1/east/cam-09/status", b"forged")
        device.publish("vigie/v1/east/cam-08/status", b"own")
        seen = [manager.take(5) for _ in range(3)]
        assert {message.topic for message in seen if message} == {
            "vigie/v1/east/cam-09/cmd/pause",
            "vigie/v1/east/cam-08/cmd/pause",
            "vigie/v1/east/cam-08/status",
        }
        heard = [device.take(5) for _ in range(2)]
        assert {m.topic for m in heard if m} == {"vigie/v1/east/cam-08/cmd/pause", "vigie/v1/east/cam-08/status"}
        assert manager.take(0.5) is None
        assert device.take(0.5) is None


def test_a_good_command_is_obeyed_and_the_shutter_closes_the_camera(rig: Rig) -> None:
    manager = rig.manager
    told = manager.ask("diagnostics", "good-diagnostics")
    assert told["state"] == "succeeded"
    assert told["diagnostics"]["paused"] is False
    assert manager.ask("pause", "good-pause-1")["state"] == "succeeded"
    wait_for(lambda: (manager.retained("status") or {})["state"] == "paused", 20, "paused")
    rig.kill("sense")
    time.sleep(0.5)
    assert manager.ask("diagnostics", "good-diagnostics-2")["diagnostics"]["paused"] is True
    wait_for(lambda: (manager.retained("status") or {})["state"] == "paused", 40, "paused after sense was killed")
    assert manager.ask("resume", "good-resume-1")["state"] == "succeeded"
    wait_for(lambda: (manager.retained("status") or {})["state"] in {"ready", "degraded"}, 40, "it looks again")


def bad_commands() -> list[tuple[str, str, bytes, bool]]:
    """Name, reason, payload, and whether it is retained; each would pause the device if it were obeyed."""

    def pause(request: str, key: Ed25519PrivateKey = KEY, at: float = 0, target: str = HERE, hours: float = 1) -> bytes:
        moment = now() + dt.timedelta(hours=at)
        return command(key, target, "pause", request, moment, lasts=dt.timedelta(hours=hours))

    good = json.loads(pause("bad-unsigned"))
    return [
        ("bad-unsigned", "bad_signature", canonical({**good, "signature": "0" * 128}), False),
        ("bad-foreign", "unknown_key", pause("bad-foreign", STRANGER), False),
        (
            "bad-forged",
            "bad_signature",
            canonical({**json.loads(pause("bad-forged", STRANGER)), "key_id": good["key_id"]}),
            False,
        ),
        ("bad-expired", "expired", pause("bad-expired", at=-2), False),
        ("bad-replayed", "replayed", pause("bad-replayed", at=-1, hours=2), False),
        ("bad-device", "wrong_target", pause("bad-device", target="old-port/cam-08"), False),
        ("bad-long", "too_long", pause("bad-long", hours=25), False),
        ("bad-future", "from_the_future", pause("bad-future", at=1), False),
        ("bad-retained", "retained", pause("bad-retained"), True),
        ("bad-changed", "bad_signature", canonical({**good, "request_id": "bad-changed"}), False),
        ("bad-field", "malformed", canonical({**good, "request_id": "bad-field", "sudo": True}), False),
    ]


def test_every_bad_command_is_refused_with_a_reason_and_changes_nothing(rig: Rig) -> None:
    manager = rig.manager
    before = manager.ask("diagnostics", "before-the-bad")["diagnostics"]
    configuration = manager.retained("config/reported")
    for request, reason, payload, retain in bad_commands():
        manager.send(payload, "pause", retain=retain)
        told = manager.over(request)
        assert (told["state"], told["reason"]) == ("rejected", reason), request
    manager.send(b"", "pause", retain=True)  # clears the retained one
    manager.send(b"{}" + b" " * 5000, "pause")
    wait_for(lambda: any(r.get("reason") == "too_large" for r in manager.results(None)), 10, "too large")
    after = manager.ask("diagnostics", "after-the-bad")["diagnostics"]
    changeable = ("paused", "off", "log_level")
    assert [after[name] for name in changeable] == [before[name] for name in changeable]
    assert manager.retained("config/reported") == configuration
    assert (manager.retained("status") or {})["state"] != "paused"
    refused = {said.get("reason") for said in rig.audited("command") if said["state"] == "rejected"}
    assert refused >= {reason for _, reason, _, _ in bad_commands()}


def test_a_flood_of_malformed_commands_stops_nothing(rig: Rig) -> None:
    manager, draw = rig.manager, random.Random(7)
    good = command(KEY, HERE, "pause", "flood", now())
    for _ in range(2000):
        payload = bytearray(good)
        payload[draw.randrange(len(payload))] ^= 1 << draw.randrange(8)
        manager.send(bytes(payload), "pause")
    assert manager.ask("diagnostics", "after-the-flood")["diagnostics"]["paused"] is False


def test_a_command_succeeds_once_though_it_comes_three_times_and_relay_is_killed(rig: Rig) -> None:
    manager = rig.manager
    payload = command(KEY, HERE, "selftest", "thrice-1", now())
    manager.send(payload, "selftest")
    wait_for(lambda: manager.results("thrice-1"), 20, "accepted")
    rig.kill("relay")
    manager.send(payload, "selftest")
    manager.send(payload, "selftest")
    told = manager.over("thrice-1", 60)
    manager.ask("diagnostics", "after-thrice")
    steps = [said["state"] for said in rig.audited("command") if said.get("request") == "thrice-1"]
    assert steps == ["accepted", told["state"]]


def test_a_restart_begins_both_processes_anew_and_no_death_is_counted(rig: Rig) -> None:
    manager, before = rig.manager, {name: rig.child(name) for name in ("relay", "sense")}
    boot = (manager.retained("status") or {})["boot"]
    assert manager.ask("restart", "restart-1")["state"] == "succeeded"
    assert (manager.retained("birth") or {})["boot"] != boot
    alive = {"ready", "degraded"}
    wait_for(lambda: (manager.retained("status") or {})["state"] in alive, 60, "it looks again")
    assert {name: rig.child(name) for name in before} == before, "the same processes, begun anew"


def test_a_command_waits_at_the_broker_for_a_relay_that_is_dead(rig: Rig) -> None:
    manager = rig.manager
    rig.kill("relay")
    manager.send(command(KEY, HERE, "log.level", "while-dead", now(), args={"level": "info"}), "log.level")
    assert manager.over("while-dead", 60)["state"] == "succeeded"
    steps = [said["state"] for said in rig.audited("command") if said.get("request") == "while-dead"]
    assert steps == ["accepted", "succeeded"]


def zone(name: str, **camera: Any) -> dict[str, Any]:
    square = [[0, 0], [1, 0], [1, 1], [0, 1]]
    rule = {"type": "crowd.density", "zone": name}
    return {"camera": [{"name": "north", "zone": [{"name": name, "polygon": square}], "rule": [rule], **camera}]}


def test_a_good_configuration_is_applied_and_a_bad_one_rolls_back_by_itself(rig: Rig) -> None:
    manager = rig.manager
    manager.push(1, zone("pier"))
    told = manager.reported("applied", version=1)
    assert told["in_force"] == 1
    assert [z["name"] for z in told["settings"]["camera"][0]["zone"]] == ["pier"]
    manager.push(2, zone("pier", source="v4l2:/dev/video63"))
    told = manager.reported("rolled_back", version=2, seconds=120)
    assert told["reason"] in {"worse", "sense"}
    assert told["in_force"] == 1
    wait_for(lambda: (manager.retained("birth") or {}).get("config") == told["config"], 40, "the one before is back")
    seeing = {"detector"}  # moving blobs serve, and nothing else is amiss
    wait_for(lambda: set((manager.retained("status") or {})["reasons"]) == seeing, 60, "the camera is back")
    for version, settings, reason in (
        (3, {"policy_file": "/tmp/mine.toml"}, "settings"),
        (4, {"fleet": {"trust_file": "/tmp/mine.toml"}}, "settings"),
        (5, {"camera": [{"name": "north", "rule": [{"type": "crowd.density", "zone": "pier", "x": 1}]}]}, "settings"),
    ):
        manager.push(version, settings)
        told = manager.reported("rejected", version=version)
        assert (told["reason"], told["in_force"]) == (reason, 1)
    manager.push(1, zone("quay"))
    assert manager.reported("rejected", version=1)["reason"] == "older_version"


def test_relay_killed_in_a_trial_tries_again_and_then_goes_back(rig: Rig) -> None:
    manager = rig.manager
    manager.push(20, zone("quay"))
    manager.reported("trial", version=20)
    rig.kill("relay")
    told = manager.reported("applied", version=20, seconds=90)
    assert told["in_force"] == 20


def test_from_the_command_line(rig: Rig, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    key, wanted = tmp_path / "room.pem", tmp_path / "wanted.toml"
    pem = KEY.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    key.touch(mode=0o600)
    key.write_bytes(pem)
    wanted.write_text('[[camera]]\nname = "north"\nfps = 4\n')
    cert, cert_key = rig.authority.issue("manager")
    where = ["--host", "127.0.0.1", "--port", str(rig.broker.port), "--ca-file", str(rig.authority.file)]

    def fleet(*arguments: str) -> tuple[int, Any]:
        tls_files = ["--cert-file", str(cert), "--key-file", str(cert_key)]
        command_line = [sys.executable, "-m", "agent", "fleet", *where, *tls_files, *arguments]
        done = subprocess.run(command_line, capture_output=True, text=True, check=False, timeout=120)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    code, listed = fleet("list", "--json")
    assert code == 0
    assert [(row["site"], row["device"]) for row in listed if row["agent"]] == [("old-port", "cam-07")]
    code, answers = fleet("send", "diagnostics", "--device", "cam-07", "--key", str(key), "--json")
    assert (code, answers[0]["state"], answers[0]["diagnostics"]["paused"]) == (0, "succeeded", False)
    code, answers = fleet(
        *("send", "detector.enable", "--type", "person.down", "--device", "cam-07", "--key", str(key), "--json")
    )
    assert (code, answers[0]["state"], answers[0]["reason"]) == (1, "rejected", "not_configured")
    code, changes = fleet("config", "diff", str(wanted), "--device", "cam-07", "--json")
    assert (code, [change["key"] for change in changes["old-port/cam-07"]]) == (1, ["camera.north.fps"])
    code, pushed = fleet("config", "push", str(wanted), "--device", "cam-07", "--key", str(key), "--json")
    assert (code, pushed[0]["state"]) == (0, "applied")
    code, kept = fleet("show", "old-port/cam-07")
    assert (code, kept["config/reported"]["settings"]["camera"][0]["fps"]) == (0, 4.0)


_PUSHES = """
import datetime as dt, os, random, shutil, signal, sys, time
from pathlib import Path
sys.path[:0] = [{tests!r}]
from test_fleet_commands import HERE, KEY, now, zone
from agent.command import desired
from agent.desired import with_wanted
from agent.relay.configuration import Configuration
from agent.settings import load
from agent.trust import TrustFile
folder, draw = Path({folder!r}), random.Random(5)
own = load(Path({config!r}))
trust = TrustFile(own.fleet.trust_file, service=False)
documents = [desired(KEY, HERE, n, 1, now(), zone(f"zone-{{n % 7}}", fps=1 + n % 30)) for n in range(1, 202)]
whole = {{with_wanted(own, zone(f"zone-{{n % 7}}", fps=1 + n % 30)).digest() for n in range(1, 202)}} | {{own.digest()}}

def opened(where):
    return Configuration(where, own, trust, "0a1b2c3d", now)

def relay(document, well):
    configuration = opened(folder)
    if configuration.on_trial:
        configuration.confirm()
        configuration.accept()
    if configuration.take(document, now(), frozenset()):
        configuration.confirm()
        configuration.accept() if well else configuration.roll_back("worse")

began = time.perf_counter()
relay(documents[0], True)
lasts = time.perf_counter() - began
seen = set()
for number, document in enumerate(documents[1:]):
    well, moment = draw.random() < 0.7, 1.5 * lasts * draw.random()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writer, b"x")
        relay(document, well)
        os._exit(0)
    os.read(reader, 1)
    time.sleep(moment)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(reader)
    os.close(writer)
    copy = folder.with_name("copy")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    found = opened(copy)
    assert found.settings.digest() in whole, number
    seen.add(found.reported().state)
print(number, lasts, sorted(seen))
"""


def test_200_pushes_with_kill_9_leave_a_whole_configuration_each_time(
    broker: tuple[Mosquitto, Authority], tmp_path: Path
) -> None:
    """The part of relay that keeps the configuration, forked 200 times and killed at a random moment in it."""
    running, authority = broker
    config = write_device(tmp_path, running.port, authority)
    folder = tmp_path / "journal"
    folder.mkdir()
    program = _PUSHES.format(tests=str(Path(__file__).parent), folder=str(folder), config=str(config))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(state in done.stdout for state in ("trial", "applied", "rolled_back")), f"no such kill: {done.stdout}"


@pytest.mark.timeout(1200)
def test_100_000_fuzzed_commands_are_refused_in_bounded_time(tmp_path: Path) -> None:
    from agent.relay.commands import Commands
    from agent.relay.journal import Journal
    from agent.relay.mqtt import Incoming
    from agent.trust import TrustFile

    class Nobody:
        def __getattr__(self, name: str) -> Callable[..., None]:
            assert name == "tell", f"a fuzzed command was obeyed: {name}"
            return lambda *_: None

    write_device(tmp_path, 1, Authority(tmp_path / "authority"))
    journal = Journal(
        tmp_path / "journal",
        "old-port",
        "cam-07",
        outbox_max_bytes=10**6,
        outbox_max_age_s=3600,
        audit_max_bytes=10**8,
    )
    trust = TrustFile(tmp_path / "trust.toml", service=False)
    commands = Commands(HERE, journal, trust, Nobody(), now, lambda: True)  # type: ignore[arg-type]
    commands.go_on()
    draw = random.Random(11)
    good = [command(KEY, HERE, verb, f"fuzzed-{verb}", now()) for verb in ("announce", "restart", "pause")]
    meant = [json.loads(one) for one in good]
    slowest = 0.0
    for number in range(100_000):
        payload = bytearray(draw.choice(good))
        for _ in range(draw.randint(1, 4)):
            at = draw.randrange(len(payload))
            match draw.randrange(4):
                case 0:
                    payload[at] = draw.randrange(256)
                case 1:
                    payload[at:at] = draw.randbytes(draw.randint(1, 8))
                case 2:
                    del payload[at : at + draw.randint(1, 40)]
                case _:
                    payload[at:at] = draw.choice((b"[" * 900, b'{"a":' * 500, b"9" * 3000, b"\\u0000" * 99, b'"v":1,'))
            if not payload:
                break
        with contextlib.suppress(ValueError, RecursionError):
            if json.loads(payload) in meant:
                continue  # a space or the same byte: it is as it was signed
        began = time.process_time()
        commands.take(
            Incoming(f"{ROOT}/cmd/pause", bytes(payload), False, None, None, number, None)  # type: ignore[arg-type]
        )
        slowest = max(slowest, time.process_time() - began)
    journal.close()
    assert commands.refused.total() > 99_000
    assert slowest < 0.25, "seconds of processor time"
    print(f"slowest {slowest * 1000:.1f} ms; {commands.refused}")  # noqa: T201 - for docs/measured.md
