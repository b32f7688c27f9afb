"""Real power cuts during updates: a virtual machine with Debian's cloud kernel, whose qemu is killed.

Its processor is emulated, since KVM is absent where this runs, or is emulated itself and slower: `make rig-power-cut`.

What the guest has handed to its disk is kept by the host, so that this finds a missing fsync(2) and no missing barrier
of a disk with a cache of its own. Faults of the first kind are planted, and must be found.
"""

from __future__ import annotations

import compileall
import os
import queue
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from container import layered, require_container
from device import Maker

from agent.demo.clip import cache_folder

pytestmark = [pytest.mark.rig, pytest.mark.emulated, pytest.mark.timeout(1800)]

CUTS = 10
HERE = Path(__file__).parent
#: Packages that relay and the slots need.
_PACKAGES = (
    *(
        "annotated_types",
        "cffi",
        "_cffi_backend*",
        "cryptography",
        "dotenv",
        "pycparser",
        "pydantic*",
        "typing_extensions*",
    ),
    "typing_inspection",
)
_INIT = """#!/bin/sh
mount -t proc proc /proc
mount -t devtmpfs dev /dev
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
export PYTHONPATH=/rig:/rig/packages PYTHONDONTWRITEBYTECODE=1
exec /usr/bin/python3 -B /rig/power_cut.py </dev/null >/dev/ttyS0 2>&1
"""


class Machine:
    """A virtual machine on a disk of its own."""

    def __init__(self, kernel: Path, disk: Path, *words: str) -> None:
        """Switch it on.

        Args:
            kernel: What it boots.
            disk: Image of its disk.
            words: What `power_cut.py` shall do.
        """
        # KVM is absent where this runs, or emulated itself and slower than this; mitigations would double the time.
        calm = "quiet panic=-1 mitigations=off nokaslr apparmor=0 audit=0"
        line = f"{calm} root=/dev/nvme0n1 rw init=/rig/init console=ttyS0 {' '.join(words)}"
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.heard: list[str] = []
        self._qemu = subprocess.Popen(
            [
                *("qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "768"),
                *("-nodefaults", "-no-reboot", "-nographic", "-serial", "stdio", "-kernel", str(kernel)),
                *("-append", line, "-drive", f"if=none,id=disk,format=raw,cache=unsafe,file={disk}"),
                *("-device", "nvme,drive=disk,serial=rig"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def _listen(self) -> None:
        assert self._qemu.stdout is not None
        for line in self._qemu.stdout:
            self._lines.put(line.strip())

    def until(self, word: str, seconds: float = 400) -> list[str]:
        """Hear it until it says a line that begins with a word; that line's words."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                pytest.fail(f"no {word} within {seconds} s; the end of what was said:\n" + "\n".join(self.heard[-40:]))
            self.heard.append(line)
            if line.startswith(word):
                return line.split()

    def cut(self) -> set[str]:
        """Cut its power; ids of the alarms that it has said to be safe."""
        self._qemu.send_signal(signal.SIGKILL)
        self._qemu.wait(20)
        self._listener.join()
        if self._qemu.stdout is not None:
            self._qemu.stdout.close()
        while not self._lines.empty():
            self.heard.append(self._lines.get())
        # The last line may have been cut off.
        return {line.split()[1] for line in self.heard if line.startswith("ACCEPTED ") and len(line.split()[1]) == 15}

    def kept(self) -> set[str]:
        """Ids of the alarms that its journal still holds."""
        return set(self.until("KEPT")[1:])


@pytest.fixture(scope="module")
def kernel(require: Callable[..., None]) -> Path:
    """Debian's kernel for virtual machines, which has the drivers of disk and file system built in."""
    require("qemu-system-x86_64", "mke2fs", "apt-get", "dpkg")
    require_container()
    named = subprocess.run(
        ["apt-cache", "depends", "linux-image-cloud-amd64"], capture_output=True, text=True, check=True
    ).stdout
    package = next(line.split()[-1] for line in named.splitlines() if "Depends: linux-image" in line)
    folder = cache_folder() / "rigs" / package
    if not folder.exists():
        part = folder.with_name(f"{package}-{os.getpid()}")
        part.mkdir(parents=True)
        subprocess.run(["apt-get", "-qq", "download", package], cwd=part, check=True, stderr=subprocess.DEVNULL)
        subprocess.run(["dpkg", "-x", str(next(part.glob("*.deb"))), str(part / "x")], check=True)
        shutil.move(next((part / "x" / "boot").glob("vmlinuz-*")), part / "vmlinuz")
        shutil.rmtree(part / "x")
        part.rename(folder)
    return folder / "vmlinuz"


@pytest.fixture(scope="module")
def disk(kernel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk with Debian, this checkout and three releases."""
    folder = tmp_path_factory.mktemp("disk")
    maker = Maker(folder / "release")
    bundles = [maker.bundle(maker.tree(version)) for version in ("1.0.0", "1.0.1", "1.0.2")]
    image = folder / "disk.img"
    with layered(folder / "root", 256) as root:
        rig = root / "rig"
        (rig / "bundles").mkdir(parents=True)
        for bundle in bundles:
            shutil.copy(bundle, rig / "bundles")
        for file in (maker.public, HERE / "power_cut.py", HERE / "whole.py"):
            shutil.copy(file, rig)
        shutil.copytree(HERE.parents[1] / "agent", rig / "agent", ignore=shutil.ignore_patterns("__pycache__"))
        compileall.compile_dir(rig / "agent", quiet=1, stripdir=str(root))
        here = Path(sys.prefix) / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
        for package in (found for pattern in _PACKAGES for found in here.glob(pattern)):
            place = rig / "packages" / package.name
            shutil.copytree(package, place) if package.is_dir() else shutil.copy(package, place.parent)
        (rig / "init").write_text(_INIT)
        (rig / "init").chmod(0o755)
        subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", str(root), str(image), "1G"], check=True)
    return image


@pytest.fixture
def switched_on(kernel: Path, disk: Path, tmp_path: Path) -> Iterator[Callable[..., Machine]]:
    """Switches a machine on, again and again, on the same disk."""
    own = tmp_path / "disk.img"
    shutil.copy(disk, own)
    machines: list[Machine] = []

    def on(*words: str) -> Machine:
        machines.append(Machine(kernel, own, *words))
        return machines[-1]

    yield on
    for machine in machines:
        machine.cut()


def test_whenever_the_power_goes_a_whole_release_runs_after_it_and_no_accepted_alarm_is_missing(
    switched_on: Callable[..., Machine],
) -> None:
    chance = random.Random(20261128)
    machine = switched_on()
    accepted = machine.kept()
    for _ in range(2):  # the first release, and an update that tells how long one takes
        machine.until("BEGINS")
        begun = time.monotonic()
        machine.until("ENDS")
    took = time.monotonic() - begun
    for number in range(CUTS):
        if number % 3 == 1:
            machine.until("ACCEPTED")
        machine.until("BEGINS")
        moment = took * (number + chance.random()) / CUTS
        time.sleep(moment)
        accepted |= machine.cut()
        machine = switched_on(*(["rig.alarms"] if number % 3 == 0 else []))
        missing = accepted - machine.kept()
        what = f"cut {number}, {moment:.2f} s into an update that takes {took:.2f} s"
        assert not missing, what
        assert machine.until("RUNS")[2:] == ["whole"], what
    assert len(accepted) > CUTS


def test_a_release_that_is_not_made_safe_before_it_is_switched_to_is_found(
    switched_on: Callable[..., Machine],
) -> None:
    machine = switched_on("rig.tree")
    machine.until("SWITCHED")
    machine.cut()
    assert switched_on().until("RUNS")[2:] != ["whole"]


def test_an_alarm_that_is_not_made_safe_before_it_is_accepted_is_found(switched_on: Callable[..., Machine]) -> None:
    machine = switched_on("rig.alarms", "rig.journal")
    for _ in range(20):
        machine.until("ACCEPTED")
    accepted = machine.cut()
    assert accepted - switched_on().kept()
