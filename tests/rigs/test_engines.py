"""TensorRT engines under a real systemd: built at provisioning, missed after an upgrade, rebuilt while sense sees on.

TensorRT is the stand-in of tests/fake_jetson, laid out in the container as apt would; an upgrade is another version of
it and another L4T. What a real TensorRT takes in time and memory it cannot show, and this container enforces no
MemoryMax.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from container import NEEDS, Container, container, require_container
from parts import wait_for

pytestmark = [pytest.mark.rig, pytest.mark.timeout(900)]

SENSE, ENGINES = "vigie-sense.service", "vigie-engines.service"
FAKES = Path(__file__).parents[1] / "fake_jetson"
PACKAGES = "opt/jetpack"
CONFIGURATION = """
[device]
site = "rig"
name = "cam-07"
[mqtt]
host = "127.0.0.1"
tls = false
[pipe]
sense_user = "vigie-sense"
[inference]
detector = "vigie-detector"
[[camera]]
name = "north"
source = "sim:crowd?people=2&seconds=600&detections=1"
"""


@dataclass
class Jetson:
    """A container that takes itself for a Jetson."""

    inside: Container

    def install(self, l4t: str, tensorrt: str) -> None:
        """Have this L4T and this TensorRT."""
        release, _, revision = l4t.partition(".")
        self.inside.write("etc/nv_tegra_release", f"# R{release} (release), REVISION: {revision}, GCID: 1\n")
        for file in FAKES.rglob("*.py"):
            text = file.read_text().replace('__version__ = "10.3.0"', f'__version__ = "{tensorrt}"')
            self.inside.write(f"{PACKAGES}/{file.relative_to(FAKES)}", text)

    def detector(self) -> str:
        done = self.inside.run("/opt/vigie/current/bin/vigie", "status", "--json", check=False)
        found: dict[str, Any] = json.loads(done.stdout) if done.stdout else {}
        return f"{found.get('detector')} {' '.join(found['status']['reasons'])}" if found else ""

    def engines(self) -> set[str]:
        listed = self.inside.run("find", "/var/cache/vigie/engines", "-name", "*.engine", check=False)
        return set(listed.stdout.split())


@pytest.fixture(scope="module")
def jetson(require: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jetson]:
    require(*NEEDS)
    require_container()
    with container(tmp_path_factory.mktemp("engines")) as inside:
        inside.write("etc/vigie/vigie.toml", CONFIGURATION)
        inside.write("etc/vigie/policy.toml", "[policy.gate]\nk = 5\n")
        for name in ("ca.pem", "device.pem", "device.key"):
            inside.write(f"etc/vigie/keys/{name}", "", 0o600)
        for unit in (SENSE, ENGINES):
            inside.write(
                f"etc/systemd/system/{unit}.d/jetpack.conf", f"[Service]\nEnvironment=PYTHONPATH=/{PACKAGES}\n"
            )
        made = Jetson(inside)
        made.install("36.4.3", "10.3.0")
        inside.run("systemctl", "daemon-reload")
        yield made
        print(inside.run("journalctl", "-q", "--no-pager", "-n", "80", "-u", "vigie*").stdout)  # noqa: T201


def test_engines_are_built_at_provisioning_with_the_agent_stopped(jetson: Jetson) -> None:
    jetson.inside.run("systemctl", "start", ENGINES)
    assert jetson.engines()
    owner = jetson.inside.run("stat", "-c", "%U %a", *jetson.engines()).stdout.splitlines()
    assert set(owner) == {"vigie-engines 644"}
    jetson.inside.run("systemctl", "start", "vigie.target")
    wait_for(lambda: jetson.detector().startswith("model"), 60, "sense runs on its engines")
    assert jetson.inside.show(ENGINES, "ActiveState") == ["inactive"], "sense asks for nothing"


def test_after_an_upgrade_sense_sees_on_by_itself_until_the_engines_are_there(jetson: Jetson) -> None:
    before = jetson.engines()
    jetson.install("39.2", "10.16.0")
    jetson.inside.run("systemctl", "restart", SENSE)
    pid = jetson.inside.show(SENSE, "MainPID")
    wait_for(lambda: jetson.detector() == "unaccelerated detector", 60, "the processor serves, and it is said")
    wait_for(lambda: jetson.detector().startswith("model"), 60, "the engines have come")
    assert not jetson.engines() & before, "those of the JetPack before are gone"
    assert jetson.inside.show(ENGINES, "Result", "NRestarts") == ["success", "0"]
    assert jetson.inside.show(SENSE, "MainPID", "NRestarts") == [*pid, "0"], "it was never away"


def test_a_build_that_cannot_succeed_leaves_a_camera_that_sees(jetson: Jetson) -> None:
    jetson.install("39.3", "10.17.0")
    broken = f"{PACKAGES}/tensorrt.py"
    text = (FAKES / "tensorrt.py").read_text().replace('__version__ = "10.3.0"', '__version__ = "10.17.0"')
    jetson.inside.write(broken, text.replace("    def build_serialized_network(self, ", "    def no_longer(self, "))
    jetson.inside.run("systemctl", "restart", SENSE)
    wait_for(lambda: jetson.inside.show(ENGINES, "Result")[0] != "success", 60, "the build fails")
    wait_for(lambda: jetson.detector() == "unaccelerated detector", 60, "the processor serves")
    assert jetson.inside.show(SENSE, "ActiveState", "NRestarts") == ["active", "0"]
