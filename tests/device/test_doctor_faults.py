"""Faults that need no real part to be planted: files of the kernel and of the device, and what a program says.

Together with tests/rigs/test_doctor.py these are the twenty-five of the table in docs/technician.md.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import shutil
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract import EventData, EventType
from agent.demo.configuration import write_configuration
from agent.device import clock
from agent.device.doctor.camera import direct
from agent.device.doctor.check import Check, Level, Patient
from agent.device.doctor.examine import SUBJECTS, examine, load_settings, worst
from agent.device.doctor.units import examine as look_at_units
from agent.inference import backend
from agent.relay.gate import Release
from agent.relay.journal import DATABASE, Journal
from agent.settings import Settings

FAKES = Path(__file__).parents[1] / "fake_jetson"
NVPMODEL = """
< POWER_MODEL ID=0 NAME=MAXN >
CPU_ONLINE CORE_0 1
< POWER_MODEL ID=1 NAME=10W >
< POWER_MODEL ID=2 NAME=15W >
< POWER_MODEL ID=3 NAME=25W >
< PM_CONFIG DEFAULT=2 >
"""
#: As `systemctl show` writes one unit.
UNIT = (
    "Id={name}.service\nLoadState={load}\nActiveState={active}\nSubState=running\nResult={result}\n"
    "ExecMainStatus={code}\nNRestarts=0\nUnitFileState=enabled"
)


@dataclass
class Bench:
    """A device in a folder: its configuration, and a root of the file system with what a Jetson has there."""

    folder: Path
    root: Path
    answers: dict[str, str]
    now: dt.datetime | None = None

    @property
    def config(self) -> Path:
        return self.folder / "vigie.toml"

    def put(self, path: str, content: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)

    def change(self, file: str, old: str, new: str) -> None:
        path = self.folder / file
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    def examine(self, *subjects: str) -> list[Check]:
        settings = load_settings(self.config)
        if not isinstance(settings, Settings):
            return settings
        case = Patient(settings, root=self.root, command=self.command)
        if self.now is not None:
            now = self.now
            case = replace(case, wall=lambda: now)
        return examine(case, subjects or SUBJECTS, limit_s=60)  # whatever else this machine does

    def command(self, words: Sequence[str]) -> str | None:
        return self.answers.get(words[0])

    @contextlib.contextmanager
    def journal(self) -> Iterator[Journal]:
        settings = load_settings(self.config)
        assert isinstance(settings, Settings)
        limits = {"outbox_max_bytes": 2**20, "outbox_max_age_s": 1e9, "audit_max_bytes": 2**20}
        made = Journal(settings.journal.folder, "demo", "camera-1", **limits)  # type: ignore[arg-type]
        try:
            yield made
        finally:
            made.close()


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(clock, "chrony", lambda _port: None)  # this machine's own is no part of the test
    folder, root = tmp_path / "device", tmp_path / "root"
    folder.mkdir()
    mqtt: dict[str, object] = {"host": "127.0.0.1", "port": 1, "tls": False}
    write_configuration(folder, "sim:walkers", None, mqtt)
    made = Bench(folder, root, {})
    made.change("vigie.toml", 'name = "square-cam"', 'name = "square-cam"\nfps = 1')  # which a busy machine keeps
    year = dt.datetime.now(dt.timezone.utc).date() + dt.timedelta(days=365)
    policy = (folder / "policy.toml").read_text()
    tomorrow = dt.datetime.now(dt.timezone.utc).date() + dt.timedelta(days=1)
    (folder / "policy.toml").write_text(policy.replace(str(tomorrow), str(year)))
    made.put("etc/nv_tegra_release", "# R36 (release), REVISION: 4.3, GCID: 1\n")
    made.put("proc/device-tree/model", "NVIDIA Jetson Orin NX Engineering Reference Developer Kit\0")
    made.put("proc/meminfo", "MemTotal: 16000000 kB\nMemAvailable: 9000000 kB\n")
    made.put("etc/nvpmodel.conf", NVPMODEL)
    made.put("var/lib/nvpmodel/status", "pmode:0003\n")
    made.put("sys/class/thermal/thermal_zone0/temp", "51500\n")
    for number, (kind, state) in enumerate([("pwm-fan", 3), ("cpu-throttle-alert", 0), ("gpu-throttle-alert", 0)]):
        made.put(f"sys/class/thermal/cooling_device{number}/type", f"{kind}\n")
        made.put(f"sys/class/thermal/cooling_device{number}/cur_state", f"{state}\n")
    made.put("sys/class/hwmon/hwmon3/oc1_event_cnt", "0\n")
    made.put("sys/block/mmcblk0/device/life_time", "0x01 0x02\n")
    made.put("sys/block/mmcblk0/device/pre_eol_info", "0x01\n")
    (root / "run" / "systemd" / "system").mkdir(parents=True)
    made.answers["systemctl"] = units()
    with made.journal():
        pass
    return made


def units(**changes: str) -> str:
    sound = {"load": "loaded", "active": "active", "result": "success", "code": "0"}
    relay = UNIT.format(name="vigie-relay", **sound)
    sense = UNIT.format(name="vigie-sense", **{**sound, **changes})
    engines = UNIT.format(name="vigie-engines", **{**sound, "active": "inactive"})
    return f"{relay}\n\n{sense}\n\n{engines}\n"


def the(checks: list[Check], subject: str, level: Level) -> Check:
    """The one finding that is not well."""
    found = [check for check in checks if check.level is not Level.OK]
    assert len(found) == 1, found
    assert (found[0].subject, found[0].level) == (subject, level)
    assert found[0].fix
    return found[0]


def test_a_healthy_device_has_nothing_to_say_against_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = [name for name in SUBJECTS if name not in {"agent", "broker", "models"}]  # see the rigs for those
    checks = bench.examine(*quiet)
    assert worst(checks) is Level.OK, [check for check in checks if check.level is not Level.OK]
    assert {check.subject for check in checks} == set(quiet)
    board = next(check for check in checks if check.subject == "hardware")
    assert "Orin NX" in board.what
    assert "JetPack 6.1 or 6.2" in board.what


def throttled(bench: Bench) -> None:
    bench.put("sys/class/thermal/cooling_device2/cur_state", "1\n")


def low_power(bench: Bench) -> None:
    bench.put("var/lib/nvpmodel/status", "pmode:0001\n")


def unsynchronised(bench: Bench) -> None:
    bench.now = dt.datetime(1970, 1, 1, 0, 3, tzinfo=dt.timezone.utc)


def unanswered(bench: Bench) -> None:
    bench.config.write_text(bench.config.read_text().replace("[mqtt]", "[clock]\nrequired = true\n[mqtt]", 1))


def on_trial(bench: Bench) -> None:
    for name, version in (("current", "0.4.0"), ("committed", "0.3.2")):
        (bench.root / "opt" / "vigie").mkdir(parents=True, exist_ok=True)
        (bench.root / "opt" / "vigie" / name).symlink_to(f"releases/{version}")


def backlog(bench: Bench) -> None:
    data = EventData.model_validate(
        {
            "episode": "9b1e",
            "phase": "started",
            "confidence": "high",
            "clock": "synced",
            "basis": "B",
        }
    )
    bench.now = dt.datetime.now(dt.timezone.utc) + dt.timedelta(hours=3)
    with bench.journal() as journal:
        journal.release([Release(EventType.CROWD_GATHERING, data, "2026-11-23T12:00:00Z", alarm=False)] * 30)


def broken_chain(bench: Bench) -> None:
    with contextlib.closing(sqlite3.connect(bench.folder / "journal" / DATABASE)) as database:
        database.execute("UPDATE audit SET body = 'another' WHERE seq = 1")
        database.commit()


def policy_expired(bench: Bench) -> None:
    bench.now = dt.datetime.now(dt.timezone.utc) + dt.timedelta(days=400)


def zone_outside(bench: Bench) -> None:
    bench.change("vigie.toml", "[0.38, 1.0]", "[1.38, 1.0]")


def unit_failed(bench: Bench) -> None:
    bench.answers["systemctl"] = units(active="failed", result="exit-code", code="2")


def unreadable(bench: Bench) -> None:
    bench.config.unlink()
    bench.config.mkdir()  # root reads every file, but no folder


def over_current(bench: Bench) -> None:
    bench.put("sys/class/hwmon/hwmon3/oc1_event_cnt", "4\n")


def hot(bench: Bench) -> None:
    bench.put("sys/class/thermal/thermal_zone0/temp", "97000\n")


def worn(bench: Bench) -> None:
    bench.put("sys/block/mmcblk0/device/life_time", "0x0a 0x02\n")


@pytest.mark.parametrize(
    ("plant", "subject", "level", "what", "fix"),
    [
        (throttled, "hardware", Level.FAIL, "gpu-throttle-alert", "fan"),
        (low_power, "hardware", Level.WARN, "10W, below the board's own 15W", "sudo nvpmodel -m 2"),
        (unsynchronised, "clock", Level.FAIL, "1970-01-01", "chronyc"),
        (unanswered, "clock", Level.FAIL, "nobody answers for the clock", "chrony"),
        (on_trial, "updates", Level.WARN, "release 0.4.0 is on trial", "vigie update status"),
        (backlog, "outbox", Level.WARN, "30 events wait, the oldest for 3 h", "line broker"),
        (broken_chain, "audit", Level.FAIL, "broken", "vigie audit export"),
        (policy_expired, "policy", Level.FAIL, "ended on", "vigie policy check"),
        (zone_outside, "config", Level.FAIL, "polygon", "outside the frame"),
        (unit_failed, "units", Level.FAIL, "vigie-sense", "vigie config check"),
        (unreadable, "config", Level.FAIL, "cannot be read", "sudo chmod 644"),
        (over_current, "hardware", Level.WARN, "4 times", "power supply"),
        (hot, "hardware", Level.FAIL, "97 °C", "shade"),
        (worn, "disk", Level.FAIL, "100 % of its life", "another"),
    ],
)
def test_a_planted_fault_has_its_line_and_its_fix(
    bench: Bench, plant: Callable[[Bench], None], subject: str, level: Level, what: str, fix: str
) -> None:
    plant(bench)
    found = [check for check in bench.examine(subject) if check.level is not Level.OK]
    assert {check.subject for check in found} == {subject}
    assert max(check.level for check in found) is level
    assert what in found[0].what or what == found[0].line, found
    assert fix in found[0].fix


def test_a_name_that_no_server_knows_is_told(bench: Bench) -> None:
    bench.change("vigie.toml", '"127.0.0.1"', '"broker.invalid"')
    bench.change("vigie.toml", "tls = false", "tls = true")
    begun = time.monotonic()
    found = the(bench.examine("broker"), "broker", Level.FAIL)
    assert time.monotonic() - begun < 5
    assert found.line == "DNS"
    assert "broker.invalid" in found.what
    assert "name server" in found.fix


def test_a_network_whose_file_was_changed_is_told(bench: Bench, tmp_path: Path) -> None:
    models = tmp_path / "models"
    shutil.copytree(Path(__file__).parents[2] / "models", models, ignore=shutil.ignore_patterns("train", "eval"))
    text = bench.config.read_text()
    bench.config.write_text(text.replace("[mqtt]", f'[inference]\nmodels = "{models}"\n[mqtt]', 1))
    with (models / "vigie-detector.onnx").open("ab") as file:
        file.write(b"x")
    bench.root = Path("/")  # no Jetson: without engines
    found = [check for check in bench.examine("models") if check.level is Level.FAIL]
    assert found[0].line == "vigie-detector"
    assert "not the registered file" in found[0].what
    assert found[0].fix


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(FAKES))
    import tensorrt

    yield tensorrt
    for name in ("tensorrt", "pycuda", "pycuda.driver", "agent.inference.tensorrt", "agent.inference.build"):
        sys.modules.pop(name, None)


def test_an_engine_of_another_tensorrt_is_told(
    bench: Bench, trt: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agent.inference.engines import EngineCache, construct, target
    from agent.inference.registry import DetectorModel, Registry

    monkeypatch.setattr(backend, "ENGINES", tmp_path / "engines")
    registry = Registry()
    model = registry.of(DetectorModel)[0]
    trt.use("10.3.0")
    construct(
        EngineCache(tmp_path / "engines"), registry, model, target(), "fp16", 1 << 20, lambda *_: None, again=False
    )
    assert worst(bench.examine("models")) is Level.OK
    trt.use("10.16.1")
    found = [check for check in bench.examine("models") if check.line == "engine"]
    assert found[0].level is Level.FAIL
    assert "another TensorRT" in found[0].what
    assert "vigie-engines" in found[0].fix


def test_a_check_that_breaks_or_hangs_hides_no_other(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from agent.device.doctor import disk, hardware

    def breaks(_: Patient) -> list[Any]:
        raise RuntimeError("the driver is odd")

    def hangs(_: Patient) -> list[Any]:
        time.sleep(3)
        return []

    monkeypatch.setattr(disk, "examine", breaks)
    monkeypatch.setattr(hardware, "examine", hangs)
    settings = load_settings(bench.config)
    assert isinstance(settings, Settings)
    found = examine(Patient(settings, root=bench.root), ["disk", "hardware", "policy"], limit_s=1.0)
    told = {check.subject: check for check in found}
    assert "the driver is odd" in told["disk"].what
    assert "no answer within 1 s" in told["hardware"].what
    assert told["policy"].level is Level.OK


def test_a_camera_behind_a_socket_of_sense_is_called_by_its_own_address(bench: Bench) -> None:
    bench.put("etc/vigie/camera-1.env", "# quay\nCAMERA=10.20.30.40:554\n")
    assert direct("rtsp://user:p@ss@127.0.0.1:8551/live?x=1", bench.root) == "rtsp://user:p@ss@10.20.30.40:554/live?x=1"
    for source in ("rtsp://127.0.0.1:8552/live", "rtsp://127.0.0.1:554/live", "rtsp://10.0.0.1:8551/live", "csi://0"):
        assert direct(source, bench.root) == source, "no such socket, or none at all"


@given(said=st.text())
def test_no_answer_of_systemctl_breaks_it(tmp_path_factory: pytest.TempPathFactory, said: str) -> None:
    root = tmp_path_factory.getbasetemp()
    (root / "run" / "systemd" / "system").mkdir(parents=True, exist_ok=True)
    list(look_at_units(Patient(Settings(), root=root, command=lambda _: said)))


def test_every_fault_has_a_fix(bench: Bench) -> None:
    for plant in (throttled, low_power, worn, hot, over_current, unit_failed):
        plant(bench)
    assert all(check.fix for check in bench.examine() if check.level is not Level.OK)
