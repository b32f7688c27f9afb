"""Three nodes of RabbitMQ as they are shipped: one is killed, and nothing that was acknowledged is lost."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cluster import Node, rabbitmq
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from deployed import Fleet, User, users
from parts import wait_for

from agent.command import desired
from agent.contract import Birth, Status
from agent.fleet.bridges.bridge import running
from agent.fleet.keep import Keeper, listing
from agent.fleet.simulate import simulate

pytestmark = [pytest.mark.rig, pytest.mark.alone, pytest.mark.timeout(400)]

SIMULATED = [f"sim-{number + 1:05}" for number in range(45)]
ROOT = "vigie/v1/old-port"
BOOT = "0a1b2c3d"


@pytest.fixture(scope="module")
def fleet(require: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """Certificates for all."""
    require("rabbitmq-server")
    devices = [("device", name) for name in ("cam-07", "cam-08", *SIMULATED)]
    folder = tmp_path_factory.mktemp("fleet")
    return Fleet(folder, ("manager", "alice"), ("keeper", "north"), *devices)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def nodes(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Node]]:
    """The cluster: it takes half a minute to come up, and so is shared."""
    with rabbitmq(tmp_path_factory.mktemp("cluster"), fleet.files) as found:
        yield found


def test_each_may_do_what_is_theirs_and_nothing_else(fleet: Fleet, nodes: list[Node]) -> None:
    manager = User(fleet.settings(nodes[0].port, "manager.alice"), "m", "vigie/#").ready()
    device = User(fleet.settings(nodes[1].port, "cam-07"), "d", f"{ROOT}/cam-07/#").ready()
    with users(manager, device):
        device.publish(f"{ROOT}/cam-07/event/crowd.gathering")
        # RabbitMQ ends the connection of whoever publishes what they may not.
        device.publish(f"{ROOT}/cam-08/status", wait=False)
        wait_for(lambda: not device.client.is_connected(), 10, "the device is thrown out")
        again = User(fleet.settings(nodes[2].port, "cam-07"), "d").ready()
        with users(again):
            again.publish(f"{ROOT}/cam-07/last")
            wait_for(lambda: f"{ROOT}/cam-07/last" in manager.topics(), 10, "the last message")
        # RabbitMQ makes a level of what follows a dot; `said.read` knows that.
        assert manager.topics() == [f"{ROOT}/cam-07/event/crowd/gathering", f"{ROOT}/cam-07/last"]
        nosy = User(fleet.settings(nodes[2].port, "cam-07"), "n", "vigie/v1/+/+/status")
        with users(nosy):
            wait_for(lambda: nosy.granted == [False] or not nosy.client.is_connected(), 10, "refused to listen")


def test_a_node_is_killed_and_nothing_acknowledged_is_lost(fleet: Fleet, nodes: list[Node], tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    document = desired(key, "old-port/cam-07", 1, 0, dt.datetime.now(dt.timezone.utc), {})
    topic = f"{ROOT}/cam-07/config/desired"
    with (
        contextlib.closing(Keeper(tmp_path / "kept.sqlite")) as keeper,
        running(fleet.settings(nodes[2].port, "keeper.north"), keeper, "keep"),
    ):
        manager = User(fleet.settings(nodes[0].port, "manager.alice"), "m").ready()
        device = User(fleet.settings(nodes[0].port, "cam-07"), "d", topic).ready()
        with users(manager, device):

            def is_kept() -> bool:
                # The keeper subscribes on another node, and nobody says when that has come about.
                manager.publish(topic, document, retain=True)
                device.publish(f"{ROOT}/cam-07/status", _status("ready"), retain=True)
                row = _row(tmp_path)
                return row.get("state") == "ready" and row.get("desired") == 1

            wait_for(is_kept, 20, "the keeper has it")
            wait_for(lambda: device.got, 10, "what is desired")

        killed: list[Node] = []

        def during(seconds: float) -> None:
            if seconds > 4 and not killed:
                killed.append(nodes[0])
                nodes[0].kill()

        figures = simulate(
            [fleet.settings(node.port, "manager.alice") for node in nodes],
            len(SIMULATED),
            45,
            12,
            device_brokers=lambda name: [fleet.settings(node.port, name) for node in nodes],
            during=during,
        )
        assert killed
        assert figures.connected == len(SIMULATED)
        assert figures.reconnects >= len(SIMULATED) // 3, "those of the killed node are back"
        assert figures.acknowledged == figures.made
        assert figures.lost == 0

        # What was retained on the lost node is gone with it: the broker alone does not bring it back.
        device = User(fleet.settings(nodes[1].port, "cam-07"), "d", topic).ready()
        with users(device):
            device.publish(f"{ROOT}/cam-07/health")
            assert device.got == []
            # As relay does on each connection; the keeper answers.
            device.publish(f"{ROOT}/cam-07/birth", _birth(), retain=True)
            wait_for(lambda: device.got, 10, "what is desired, again")
            assert device.got[0][:2] == (topic, document)
            device.publish(f"{ROOT}/cam-07/status", _status("degraded"), retain=True)
            wait_for(lambda: _row(tmp_path).get("state") == "degraded", 10, "the listing goes on")
            assert _row(tmp_path)["desired"] == 1


def _row(folder: Path) -> dict[str, object]:
    return next((row for row in listing(folder / "kept.sqlite") if row["device"] == "cam-07"), {})


def _status(state: str) -> bytes:
    return Status.model_validate({"state": state, "boot": BOOT}).model_dump_json().encode()


def _birth() -> bytes:
    birth = Birth(boot=BOOT, agent="0.1.0", contract=1, k=5, detectors=(), config="0" * 64, policy="0" * 64)
    return birth.model_dump_json().encode()
