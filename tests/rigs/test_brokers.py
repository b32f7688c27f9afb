"""The single broker as it is shipped: mosquitto with mutual TLS, its access list, and what survives kill -9."""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from deployed import DeployedMosquitto, Fleet, User, users
from parts import handshake, wait_for

from agent.contract import Event, EventData
from agent.fleet.incident import Incident
from agent.fleet.simulate import Figures, simulate

pytestmark = pytest.mark.rig

ROOT = "vigie/v1/old-port"


@pytest.fixture
def fleet(require: Callable[..., None], tmp_path: Path) -> Fleet:
    """Two devices, a manager and a correlator."""
    require("mosquitto")
    return Fleet(tmp_path, ("device", "cam-07"), ("device", "cam-08"), ("manager", "alice"), ("correlator", "north"))


@contextlib.contextmanager
def running(folder: Path, fleet: Fleet) -> Iterator[DeployedMosquitto]:
    """A running broker."""
    folder.mkdir()
    broker = DeployedMosquitto(folder, fleet)
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


def test_each_may_do_what_is_theirs_and_nothing_else(fleet: Fleet, tmp_path: Path) -> None:
    with running(tmp_path / "broker", fleet) as broker:
        manager = User(fleet.settings(broker.port, "manager.alice"), "m", "vigie/#").ready()
        device = User(fleet.settings(broker.port, "cam-07"), "d", f"{ROOT}/cam-07/#", f"{ROOT}/cam-08/#", "vigie/#")
        correlator = User(fleet.settings(broker.port, "correlator.north"), "c").ready()
        with users(manager, device, correlator):
            device.ready()
            tried = {
                device: ["cam-07/status", "cam-08/status", "_incidents/sound.gunshot", "manager.alice/status"],
                manager: ["cam-07/cmd/pause", "cam-07/config/desired", "cam-07/event/sound.gunshot", "cam-07/status/x"],
                correlator: ["_incidents/crowd.density", "cam-07/event/sound.gunshot", "cam-08/cmd/pause"],
            }
            for user, topics in tried.items():
                for name in topics:
                    user.publish(f"{ROOT}/{name}")
            # MQTT 3.1.1 cannot say that a message was refused: what is allowed comes, in order, and nothing else did.
            device.publish(f"{ROOT}/cam-07/last")
            allowed = ["cam-07/status", "cam-07/cmd/pause", "cam-07/config/desired", "_incidents/crowd.density"]
            wait_for(lambda: f"{ROOT}/cam-07/last" in manager.topics(), 10, "the last message")
            assert manager.topics() == [f"{ROOT}/{name}" for name in (*allowed, "cam-07/last")]
            wait_for(lambda: f"{ROOT}/cam-07/last" in device.topics(), 10, "its own messages")
            assert all(name.startswith(f"{ROOT}/cam-07/") for name in device.topics())


# paho leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_nobody_connects_without_a_certificate_or_with_one_that_was_revoked(fleet: Fleet, tmp_path: Path) -> None:
    fleet.authority.revoke("cam-08")
    fleet.write_lists()
    with running(tmp_path / "broker", fleet) as broker:
        good = User(fleet.settings(broker.port, "cam-07"), "good").ready()
        with users(good):
            for context in (_without_certificate(fleet), _of(fleet, "cam-08")):
                with pytest.raises((ssl.SSLError, ConnectionError)):
                    handshake(broker.port, context)
            old = _of(fleet, "cam-07")
            old.maximum_version = ssl.TLSVersion.TLSv1_2
            handshake(broker.port, old)


def _without_certificate(fleet: Fleet) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=fleet.ca_file)


def _of(fleet: Fleet, user: str) -> ssl.SSLContext:
    settings, context = fleet.settings(1, user), _without_certificate(fleet)
    context.load_cert_chain(str(settings.cert_file), str(settings.key_file))
    return context


def test_what_it_acknowledged_is_there_after_kill_9(fleet: Fleet, tmp_path: Path) -> None:
    with running(tmp_path / "broker", fleet) as broker:
        # A manager who is away has a session, and everything of it is owed to them.
        manager = User(fleet.settings(broker.port, "manager.alice"), "m", f"{ROOT}/+/event/#", keep=True).ready()
        manager.publish(f"{ROOT}/cam-07/config/desired", b'{"version": 3}', retain=True)
        manager.close()
        device = User(fleet.settings(broker.port, "cam-07"), "d").ready()
        with users(device):
            device.publish(f"{ROOT}/cam-07/status", b'{"state": "ready"}', retain=True)
            for number in range(200):
                device.publish(f"{ROOT}/cam-07/event/crowd.gathering", b"%d" % number, wait=False)
            wait_for(lambda: len(device.acknowledged) == 201, 20, "all acknowledged")
            # What the last turn of its loop has acknowledged is written at the beginning of the next one.
            database, acknowledged_at = tmp_path / "broker" / "mosquitto.db", time.time()
            device.publish(f"{ROOT}/cam-07/health")
            wait_for(lambda: database.stat().st_mtime >= acknowledged_at - 1, 10, "it is written")
            device.publish(f"{ROOT}/cam-07/health")
            broker.kill()
        broker.start()
        back = User(
            fleet.settings(broker.port, "manager.alice"),
            "m",
            f"{ROOT}/+/event/#",
            f"{ROOT}/+/status",
            f"{ROOT}/+/config/desired",
            keep=True,
        ).ready()
        with users(back):
            wait_for(lambda: len(back.got) >= 202, 20, "everything that was owed")
            kept = {topic.removeprefix(f"{ROOT}/cam-07/"): payload for topic, payload, retain in back.got if retain}
            assert kept["config/desired"] == b'{"version": 3}'
            assert "status" in kept
            events = [payload for topic, payload, _ in back.got if "/event/" in topic]
            assert sorted(map(int, events)) == list(range(200))


def test_a_shot_that_three_devices_hear_becomes_an_incident(require: Callable[..., None], tmp_path: Path) -> None:
    require("mosquitto")
    names = ["cam-1", "cam-2", "cam-3"]
    fleet = Fleet(tmp_path, ("manager", "alice"), ("correlator", "north"), *(("device", name) for name in names))
    town = tmp_path / "map.toml"
    places = ((43.2951, 5.3742), (43.2960, 5.3742), (43.2955, 5.3755))
    town.write_text(
        "".join(
            f'[[device]]\nname = "{name}"\nsite = "old-port"\nlatitude = {north}\nlongitude = {east}\n'
            for name, (north, east) in zip(names, places, strict=True)
        )
    )
    with running(tmp_path / "broker", fleet) as broker:
        settings = fleet.settings(broker.port, "correlator.north")
        manager = User(fleet.settings(broker.port, "manager.alice"), "m", "vigie/v1/+/_incidents/#").ready()
        devices = [User(fleet.settings(broker.port, name), name).ready() for name in names]
        options = {"host": settings.host, "port": settings.port, "ca-file": settings.ca_file}
        options |= {"cert-file": settings.cert_file, "key-file": settings.key_file}
        arguments = [f"--{name}={value}" for name, value in options.items()]
        command = [sys.executable, "-m", "agent", "fleet", *arguments, "correlate", "--map", str(town)]
        process = subprocess.Popen(command)
        numbers = itertools.count(1)
        tell_at = [0.0]

        def told() -> bool:
            # It does not say when it listens; a shot that it missed is followed by another.
            if time.monotonic() >= tell_at[0]:
                tell_at[0] = time.monotonic() + 10
                for device, name in zip(devices, names, strict=True):
                    device.publish(f"{ROOT}/{name}/event/sound.gunshot", _shot(name, next(numbers)))
            return bool(manager.got)

        try:
            with users(manager, *devices):
                wait_for(told, 60, "an incident")
                topic, payload, retained = manager.got[0]
        finally:
            process.terminate()
            process.wait(20)
        incident = Incident.model_validate_json(payload)
        assert (topic, retained) == (incident.topic, False)
        assert incident.data.devices == tuple(names)
        assert process.returncode == 0


def _shot(name: str, number: int) -> bytes:
    now = dt.datetime.now(dt.timezone.utc)
    event = Event(
        id=f"0a1b2c3d-{number:06}",
        source=f"/vigie/old-port/{name}",
        type="vigie.sound.gunshot.v1",
        time=f"{now:%Y-%m-%dT%H:%M:%SZ}",
        data=EventData(
            episode="9b1e",
            phase="started",
            confidence="high",
            onset=f"{now:%Y-%m-%dT%H:%M:%S}.{now.microsecond // 100:04}Z",
            onset_error="2ms",
            clock="synced",
            basis="RIG",
        ),
    )
    return event.to_json()


def simulated(folder: Path, during: Callable[[DeployedMosquitto, float], None], seconds: float) -> Figures:
    """What a simulated fleet of twenty gives on a broker that something is done to."""
    names = [f"sim-{number + 1:05}" for number in range(20)]
    fleet = Fleet(folder, ("manager", "alice"), *(("device", name) for name in names))
    with running(folder / "broker", fleet) as broker:
        return simulate(
            [fleet.settings(broker.port, "manager.alice")],
            len(names),
            100,
            seconds,
            device_brokers=lambda name: [fleet.settings(broker.port, name)],
            during=lambda passed: during(broker, passed),
        )


def test_a_simulated_fleet_loses_nothing(require: Callable[..., None], tmp_path: Path) -> None:
    require("mosquitto")
    figures = simulated(tmp_path, lambda _broker, _passed: None, 3)
    assert figures.connected == 20
    assert figures.made >= 200
    assert figures.acknowledged == figures.made
    assert figures.lost == 0


def test_a_simulated_fleet_comes_back_when_the_broker_does(require: Callable[..., None], tmp_path: Path) -> None:
    require("mosquitto")
    killed: list[float] = []

    def kill(broker: DeployedMosquitto, passed: float) -> None:
        if passed > 2 and not killed:
            killed.append(passed)
            broker.kill()
            broker.start()

    figures = simulated(tmp_path, kill, 5)
    assert figures.reconnects >= 20
    assert figures.observer_reconnects == 1
    assert figures.acknowledged == figures.made
    # What it acknowledged in its last turn is lost (docs/broker.md): that is no whole second.
    assert figures.lost < 100
