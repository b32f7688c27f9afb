"""Updates on a device under a real systemd: releases that prove themselves, releases that do not, and 30 crashes.

Moments of the crashes are spread over a whole update, from its verification to the removal of what it replaced.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from container import CHECKOUT, NEEDS, layered, require_container
from device import VIGIE, Device, Maker, device
from parts import Subscriber, audited, mosquitto, subscriber, wait_for
from whole import broken

from agent.device.slots import Slots

pytestmark = [pytest.mark.rig, pytest.mark.long, pytest.mark.timeout(600)]

CRASHES = 30
BUNDLES = "/srv/rig/release/bundles"
#: Of the trials here: systemd's and the judge's own seconds are enough to see a release that does not start.
QUICK = ("--within-s", "60", "--hold-s", "3")
FAST = ("--within-s", "60", "--hold-s", "1")


@dataclass
class Rig:
    """A device with release 0.1.0, and what is around it.

    Attributes:
        maker: Makes releases.
        device: The device.
        reader: Gets what it sends.
    """

    maker: Maker
    device: Device
    reader: Subscriber

    def bundle(self, version: str, change: Callable[[Path], None] = lambda _tree: None) -> str:
        """A bundle of this checkout, changed; as the device sees it."""
        tree = self.maker.tree(version)
        change(tree)
        return f"{BUNDLES}/{self.maker.bundle(tree).name}"

    def births(self) -> list[str]:
        """Versions of the agent, as it said them at each connection."""
        return [said["agent"] for topic, said in list(self.reader.messages) if topic.endswith("/birth")]


@pytest.fixture(scope="module")
def rig(require: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    require(*NEEDS, "mosquitto")
    require_container()
    folder = tmp_path_factory.mktemp("rig")
    maker = Maker(folder / "release")
    first = maker.bundle(maker.tree("0.1.0"))
    with (
        mosquitto(folder / "broker") as broker,
        subscriber(broker.port) as reader,
        device(folder / "device") as made,
    ):
        made.configure(broker.port, maker.public)
        script = maker.tree("0.1.0-script") / "deploy" / "bundle" / "install.py"
        made.inside.write("root/install.py", script.read_text())
        key = "/etc/vigie/release-keys/rig.pem"
        made.inside.run("python3", "/root/install.py", f"{BUNDLES}/{first.name}", "--key", key, seconds=300)
        made.inside.run("systemctl", "enable", "--now", "vigie.target")
        found = Rig(maker, made, reader)
        wait_for(made.lives, 60, "the first release lives")
        yield found
        print(made.inside.run("journalctl", "-q", "--no-pager", "-n", "300", "-u", "vigie*").stdout)  # noqa: T201


def crashing(tree: Path) -> None:
    """A release whose sense ends as soon as it starts."""
    _prepend(tree / "agent" / "sense.py", "raise SystemExit(3)")


def mute(tree: Path) -> None:
    """A release whose relay answers nobody on the local socket."""
    path = tree / "agent" / "relay" / "local.py"
    path.write_text(path.read_text().replace("client.send(", "(lambda _: None)("))


def hanging(tree: Path) -> None:
    """A release whose sense gives systemd's watchdog no sign of life once it is ready."""
    path = tree / "agent" / "notify.py"
    path.write_text(
        path.read_text().replace("    address =", '    if state == "WATCHDOG=1":\n        return\n    address =', 1)
    )
    unit = tree / "deploy" / "systemd" / "vigie-sense.service"
    unit.write_text(unit.read_text().replace("WatchdogSec=30", "WatchdogSec=3"))


def _prepend(path: Path, line: str) -> None:
    head, future, rest = path.read_text().partition("from __future__ import annotations\n")
    path.write_text(f"{head}{future}{line}\n{rest}")


def test_the_same_tree_gives_the_same_bytes(rig: Rig) -> None:
    tree = rig.maker.tree("0.0.1")
    first = rig.maker.bundle(tree).read_bytes()
    assert rig.maker.bundle(tree).read_bytes() == first


def test_a_whole_bundle_needs_nothing_of_the_system_but_python(rig: Rig, tmp_path: Path) -> None:
    whole = rig.maker.bundle(rig.maker.tree("0.0.2", models=True), packages=True)
    with layered(tmp_path, 1200) as root:
        for file in (whole, rig.maker.public, CHECKOUT / "deploy" / "bundle" / "install.py"):
            shutil.copy(file, root / "root")
        install = ("python3", "/root/install.py", f"/root/{whole.name}", "--key", "/root/release.pem")
        release = "/opt/vigie/current"
        for command in (
            install,
            (f"{release}/bin/vigie", "models", "verify", "vigie-detector"),
            (f"{release}/bin/python3", "-c", "import agent.sense, agent.relay.process, cv2, av, onnxruntime, numpy"),
        ):
            done = subprocess.run(["chroot", str(root), *command], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
        assert broken(Slots(root / "opt" / "vigie"), "0.0.2") == []


def test_a_good_release_proves_itself_and_the_old_one_stays_beside_it(rig: Rig) -> None:
    bundle = rig.bundle("0.2.0")
    said = rig.device.update("install", bundle, *QUICK)
    assert (said["result"], said["exit_code"]) == ("committed", 0)
    state = rig.device.update("status")
    assert [state[name] for name in ("phase", "running", "committed", "previous")] == [
        *("settled", "0.2.0", "0.2.0", "0.1.0"),
    ]
    assert rig.device.lives()
    again = rig.device.update("install", bundle, *QUICK)
    assert again["result"] == "there_already"


def test_nobody_notices_a_release_that_cannot_be_trusted(rig: Rig) -> None:
    inside = rig.device.inside
    before = inside.show("vigie-relay.service", "MainPID") + inside.show("vigie-sense.service", "MainPID")
    stranger = Maker(rig.maker.public.parent / "stranger")
    forged = stranger.bundle(stranger.tree("0.9.0"))
    bundles = rig.maker.public.parent / "bundles"
    content = bytearray(next(bundles.glob("vigie-0.2.0-*")).read_bytes())
    content[len(content) // 2] ^= 1
    (bundles / "changed.bundle").write_bytes(content)
    shutil.copy(forged, bundles / "forged.bundle")
    for name in ("forged", "changed"):
        for verb in (("verify",), ("install",)):
            said = rig.device.update(*verb, f"{BUNDLES}/{name}.bundle", check=False)
            assert said["exit_code"] == 1, said
    assert inside.show("vigie-relay.service", "MainPID") + inside.show("vigie-sense.service", "MainPID") == before
    assert inside.run("ls", "/opt/vigie/releases").stdout.split() == ["0.1.0", "0.2.0"]


def test_a_release_too_big_for_the_disk_is_refused_beforehand(rig: Rig) -> None:
    ballast = shutil.disk_usage(rig.device.root).free - (100 << 20)
    rig.device.inside.run("fallocate", "-l", str(ballast), "/opt/vigie/ballast")
    try:
        said = rig.device.update("install", rig.bundle("0.3.0"), *QUICK, check=False)
        assert said["exit_code"] == 3
        assert "nothing has been changed" in said["error"]
    finally:
        rig.device.inside.run("rm", "/opt/vigie/ballast")
    assert rig.device.update("status")["running"] == "0.2.0"
    assert rig.device.lives()


@pytest.mark.parametrize(("version", "fault"), [("0.4.0", crashing), ("0.4.1", mute), ("0.4.2", hanging)])
def test_a_release_that_does_not_prove_itself_is_taken_back(
    rig: Rig, version: str, fault: Callable[[Path], None]
) -> None:
    said = rig.device.update("install", rig.bundle(version, fault), "--within-s", "20", "--hold-s", "5", check=False)
    assert (said["result"], said["exit_code"]) == ("failed", 1), said
    state = rig.device.update("status")
    assert [state[name] for name in ("phase", "running", "previous")] == ["settled", "0.2.0", "0.1.0"]
    assert state["last"]["version"] == version
    wait_for(rig.device.lives, 60, "the old release lives again")


def test_a_release_that_is_rebooted_again_and_again_is_taken_back_by_the_boot_counter(rig: Rig) -> None:
    rig.device.update("install", rig.bundle("0.5.0"), "--within-s", "7200", "--hold-s", "3600", "--no-wait")
    for _ in range(4):
        assert rig.device.update("status")["running"] == "0.5.0"
        rig.device.kill()
        rig.device.boot()
    state = rig.device.update("status")
    assert (state["phase"], state["running"]) == ("settled", "0.2.0")
    assert "3 boots" in state["last"]["reason"]
    wait_for(rig.device.lives, 60, "the old release lives again")


def test_going_back_is_a_trial_as_well(rig: Rig) -> None:
    said = rig.device.update("rollback", *QUICK)
    assert (said["version"], said["result"]) == ("0.1.0", "committed")
    state = rig.device.update("status")
    assert (state["running"], state["previous"]) == ("0.1.0", "0.2.0")
    rig.device.update("rollback", *QUICK)
    assert rig.device.update("status")["running"] == "0.2.0"


def test_whenever_it_crashes_a_whole_release_runs_after_the_boot_and_no_accepted_event_is_missing(rig: Rig) -> None:
    chance = random.Random(20261128)
    one = rig.device
    bundles = {version: rig.bundle(version) for version in ("1.0.0", "1.0.1", "1.0.2")}
    took = _seconds_of_an_update(one, bundles["1.0.0"])
    seen = set()
    for number in range(CRASHES):
        state = one.state()
        old, new = str(state.running), next(v for v in bundles if v not in {state.running, state.previous})
        moment = 1.3 * took * (number + chance.random()) / CRASHES  # no two take the same time
        births = len(rig.births())
        update = one.inside.start(VIGIE, "update", "install", bundles[new], *FAST)
        time.sleep(moment)
        one.kill()
        update.wait(10)
        left = one.state()
        one.boot()
        what = f"crash {number}, {moment:.1f} s into an update of {took:.1f} s from {old} to {new}: {left}"
        assert one.state().running in {old, new}, what
        assert one.broken() == [], what
        wait_for(one.lives, 60, what)
        wait_for(lambda births=births: len(rig.births()) > births, 10, what)  # type: ignore[misc]
        running = str(one.state().running)
        assert rig.births()[-1] == running, what
        seen.add((left.phase, "new" if left.running == new else "old"))
        if one.state().phase == "trial":
            one.inside.run(VIGIE, "update", chance.choice(["commit", "rollback"]), check=False)
            wait_for(lambda: one.state().phase == "settled", 60, what)
    assert seen == {("settled", "old"), ("trial", "new"), ("settled", "new")}, (
        "the crashes came at all sorts of moments"
    )
    _nothing_is_missing(rig)


def _seconds_of_an_update(one: Device, bundle: str) -> float:
    begun = time.monotonic()
    assert one.update("install", bundle, *FAST)["result"] == "committed"
    return time.monotonic() - begun


def _nothing_is_missing(rig: Rig) -> None:
    """Every event that relay has released has reached the subscriber."""
    wait_for(rig.device.lives, 60, "the agent lives")
    journal = rig.device.root / "var" / "lib" / "vigie"
    released = audited(journal, "released")
    assert len(released) >= CRASHES // 2
    wait_for(lambda: released <= rig.reader.ids(), 60, "all that was released is delivered")
