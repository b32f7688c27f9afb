"""Relay and sense as two services: sense in a network namespace of its own, where there is nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from parts import mosquitto, start_vigie, subscriber, wait_for

from agent.demo.configuration import write_configuration
from agent.sense import reaches_outside
from tests.conftest import lacking

pytestmark = [pytest.mark.rig, pytest.mark.timeout(180)]


@pytest.fixture(autouse=True)
def _root(require: Callable[..., None]) -> None:
    require("mosquitto", "unshare")
    if os.geteuid() != 0:
        lacking("a network namespace and a policy that belongs to root need root")


def start_sense_alone(config: Path) -> subprocess.Popen[bytes]:
    """Sense as its unit starts it: PrivateNetwork=yes is a network namespace without a route."""
    return subprocess.Popen(["unshare", "--net", sys.executable, "-m", "agent", "sense", "--config", str(config)])


def test_the_two_services_find_each_other_again_and_events_flow(tmp_path: Path) -> None:
    with mosquitto(tmp_path / "broker") as broker, subscriber(broker.port) as reader:
        source = "sim:crowd?people=12&seconds=600&detections=1"
        config = write_configuration(tmp_path, source, None, {"host": "127.0.0.1", "port": broker.port, "tls": False})
        relay = start_vigie("relay", config)
        wait_for((tmp_path / "pipe.sock").exists, 20, "relay listens")
        sense = start_sense_alone(config)
        try:
            wait_for(reader.events, 60, "a first event")
            relay.kill()
            relay.wait(10)
            assert sense.poll() is None, "sense outlives its relay"
            seen = len(reader.events())
            relay = start_vigie("relay", config)
            wait_for(lambda: len(reader.events()) > seen, 90, "events through the new relay")
        finally:
            for process in (sense, relay):
                process.terminate()
                process.wait(20)


def test_sense_as_a_service_refuses_to_run_where_it_could_reach_the_outside(tmp_path: Path) -> None:
    if not reaches_outside():
        pytest.skip("this machine has no route to the outside, so there is nothing to refuse")
    config = write_configuration(tmp_path, "sim:empty", None, {"host": "127.0.0.1", "tls": False})
    done = subprocess.run(
        [sys.executable, "-m", "agent", "sense", "--config", str(config)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert "PrivateNetwork=yes" in done.stderr


def test_a_policy_that_others_can_write_is_refused_by_both(tmp_path: Path) -> None:
    config = write_configuration(tmp_path, "sim:empty", None, {"host": "127.0.0.1", "tls": False})
    (tmp_path / "policy.toml").chmod(0o666)
    for command in ("relay", "sense"):
        done = subprocess.run(
            [sys.executable, "-m", "agent", command, "--config", str(config)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 2
        assert "must belong to root" in done.stderr
