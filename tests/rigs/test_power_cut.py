"""Real power cuts during updates: a virtual machine with Debian's cloud kernel, whose qemu is killed.

KVM is absent where this runs, or is emulated itself and slower than qemu, so that a boot takes up to a minute. The
machine is booted once, and saved when it has loaded all and not yet found its disk; after each cut it goes on from
there. What a power cut takes, it has lost: it finds the disk, repairs its file system and looks at what is left.

What the guest has handed to its disk is kept by the host, so that this finds a missing fsync(2) and no missing barrier
of a disk with a cache of its own. Faults of the first kind are planted, and must be found.
"""

from __future__ import annotations

import compileall
import contextlib
import json
import os
import queue
import random
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from container import layered, require_container
from device import Maker

from agent.demo.clip import cache_folder

pytestmark = [pytest.mark.rig, pytest.mark.timeout(900)]

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
export PYTHONPATH=/rig:/rig/packages PYTHONDONTWRITEBYTECODE=1
exec /usr/bin/python3 -B /rig/power_cut.py </dev/ttyS0 >/dev/ttyS0 2>&1
"""
_LINE = "quiet panic=-1 mitigations=off console=ttyS0 rdinit=/rig/init"
#: Of Debian, what nothing here needs.
_NOT_NEEDED = (
    *("usr/share", "var", "usr/sbin", "usr/lib/udev", "usr/lib/systemd", "usr/lib/apt", "usr/lib/python3"),
    *(f"usr/lib/x86_64-linux-gnu/{name}" for name in ("gconv", "perl-base", "systemd", "pulseaudio")),
)
_PROGRAMS = {f"python3.{sys.version_info.minor}", "python3", "dash", "sh", "mount"}


@dataclass(frozen=True)
class Boot:
    """What a machine begins with.

    Attributes:
        kernel: Its kernel.
        files: Its file system, in memory.
        disk: Image of an empty disk.
        state: Where it is saved when it is ready.
    """

    kernel: Path
    files: Path
    disk: Path
    state: Path


class Machine:
    """A virtual machine on a disk of its own."""

    def __init__(self, boot: Boot, disk: Path, *words: str) -> None:
        """Switch it on.

        Args:
            boot: What it begins with.
            disk: Image of its disk.
            words: More for qemu.
        """
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.heard: list[str] = []
        self._read = 0
        self._qemu = subprocess.Popen(
            [
                *("qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "768", "-nodefaults"),
                *("-no-reboot", "-nographic", "-serial", "stdio", "-kernel", str(boot.kernel)),
                *(
                    "-initrd",
                    str(boot.files),
                    "-append",
                    "quiet panic=-1 mitigations=off console=ttyS0 rdinit=/rig/init",
                ),
                *("-drive", f"if=none,id=disk,format=raw,cache=unsafe,file={disk}"),
                *("-device", "virtio-blk-pci,drive=disk", *words),
            ],
            stdin=subprocess.PIPE,
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

    def go(self, *words: str) -> None:
        """Have it find its disk and begin.

        Args:
            words: What `power_cut.py` shall do.
        """
        assert self._qemu.stdin is not None
        seed = os.urandom(32).hex()
        while not any(line.startswith("KEPT") for line in self.heard):  # what comes before it goes on is lost
            self._qemu.stdin.write(f"GO {seed} {' '.join(words)}\n")
            self._qemu.stdin.flush()
            with contextlib.suppress(queue.Empty):
                while True:
                    self.heard.append(self._lines.get(timeout=1))

    def until(self, word: str, seconds: float = 240) -> list[str]:
        """Hear it until it says a line that begins with a word, from where it was heard last; that line's words."""
        while self._read < len(self.heard):
            self._read += 1
            if self.heard[self._read - 1].startswith(word):
                return self.heard[self._read - 1].split()
        deadline = time.monotonic() + seconds
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                pytest.fail(f"no {word} within {seconds} s; the end of what was said:\n" + "\n".join(self.heard[-40:]))
            self.heard.append(line)
            self._read += 1
            if line.startswith(word):
                return line.split()

    def cut(self) -> set[str]:
        """Cut its power; ids of the alarms that it has said to be safe."""
        self._qemu.send_signal(signal.SIGKILL)
        self._qemu.wait(20)
        self._listener.join()
        for end in (self._qemu.stdin, self._qemu.stdout):
            if end is not None:
                with contextlib.suppress(OSError):
                    end.close()
        while not self._lines.empty():
            self.heard.append(self._lines.get())
        # The last line may have been cut off.
        return {line.split()[1] for line in self.heard if line.startswith("ACCEPTED ") and len(line.split()[1]) == 15}

    def kept(self) -> set[str]:
        """Ids of the alarms that its journal still holds."""
        return set(next(line for line in self.heard if line.startswith("KEPT")).split()[1:])

    def save(self, state: Path) -> None:
        """Write its state to a file.

        Args:
            state: The file.
        """
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as control:
            control.connect(str(state.with_suffix(".qmp")))
            with control.makefile("rw") as lines:
                lines.readline()

                def ask(command: str, **arguments: str) -> dict[str, Any]:
                    lines.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
                    lines.flush()
                    while True:
                        answer: dict[str, Any] = json.loads(lines.readline())
                        if "event" not in answer:
                            return answer

                ask("qmp_capabilities")
                ask("migrate", uri=f"exec:cat > {state}")
                while (status := ask("query-migrate")["return"].get("status")) != "completed":
                    assert status in {"setup", "active", "device"}, status
                    time.sleep(0.1)


@pytest.fixture(scope="module")
def boot(require: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Boot:
    """A machine with Debian, this checkout and three releases, saved when it is ready."""
    require("qemu-system-x86_64", "mke2fs", "apt-get", "dpkg", "gzip")
    require_container()
    folder = tmp_path_factory.mktemp("boot")
    package = _kernel_package()
    maker = Maker(folder / "release")
    bundles = [maker.bundle(maker.tree(version)) for version in ("1.0.0", "1.0.1", "1.0.2")]
    made = Boot(package / "vmlinuz", folder / "files.cpio", folder / "empty.img", folder / "state")
    with layered(folder / "root", 256) as root:
        rig = root / "rig"
        for name in ("bundles", "modules", "packages"):
            (rig / name).mkdir(parents=True)
        for bundle in bundles:
            shutil.copy(bundle, rig / "bundles")
        for module in package.glob("*.ko"):
            shutil.copy(module, rig / "modules")
        for file in (maker.public, HERE / "power_cut.py", HERE / "whole.py"):
            shutil.copy(file, rig)
        shutil.copytree(HERE.parents[1] / "agent", rig / "agent", ignore=shutil.ignore_patterns("__pycache__"))
        compileall.compile_dir(rig / "agent", quiet=1, stripdir=str(root))
        here = Path(sys.prefix) / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
        for found in (found for pattern in _PACKAGES for found in here.glob(pattern)):
            place = rig / "packages" / found.name
            shutil.copytree(found, place) if found.is_dir() else shutil.copy(found, place.parent)
        (rig / "init").write_text(_INIT)
        (rig / "init").chmod(0o755)
        made.files.write_bytes(b"".join(archived(root)))
    subprocess.run(["mke2fs", "-q", "-t", "ext4", str(made.disk), "512M"], check=True, stdout=subprocess.DEVNULL)
    machine = Machine(made, made.disk, "-qmp", f"unix:{made.state.with_suffix('.qmp')},server=on,wait=off")
    try:
        machine.until("READY", 600)
        machine.save(made.state)
    finally:
        machine.cut()
    return made


def _kernel_package() -> Path:
    """Folder with Debian's kernel for virtual machines and its modules, fetched from apt's mirror at the first call."""
    named = subprocess.run(
        ["apt-cache", "depends", "linux-image-cloud-amd64"], capture_output=True, text=True, check=True
    ).stdout
    package = next(line.split()[-1] for line in named.splitlines() if "Depends: linux-image" in line)
    folder = cache_folder() / "rigs" / f"kernel-{package}"
    if not folder.exists():
        part = folder.with_name(f"{package}-{os.getpid()}")
        part.mkdir(parents=True)
        subprocess.run(["apt-get", "-qq", "download", package], cwd=part, check=True, stderr=subprocess.DEVNULL)
        subprocess.run(["dpkg", "-x", str(next(part.glob("*.deb"))), str(part / "x")], check=True)
        shutil.move(next((part / "x" / "boot").glob("vmlinuz-*")), part / "vmlinuz")
        for module in (part / "x").rglob("virtio*.ko"):
            shutil.move(module, part)
        shutil.rmtree(part / "x")
        part.rename(folder)
    return folder


def archived(root: Path) -> Iterator[bytes]:
    """A folder as the kernel unpacks it at its start: cpio in the format newc (initramfs buffer format of Linux).

    Args:
        root: The folder.
    """
    left_out = {root / path for path in _NOT_NEEDED}

    def entry(number: int, name: str, mode: int, content: bytes) -> bytes:
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name.encode()) + 1, 0)
        head = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
        return head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)

    number = 0
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if Path(folder) / name not in left_out]
        if Path(folder) == root / "usr" / "bin":
            files[:] = [name for name in files if name in _PROGRAMS]
        for name in [*folders, *files]:
            path = Path(folder) / name
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                content = os.fsencode(path.readlink())
            elif stat.S_ISREG(mode):
                content = path.read_bytes()
            elif stat.S_ISDIR(mode):
                content = b""
            else:
                continue
            number += 1
            yield entry(number, str(path.relative_to(root)), mode, content)
    yield entry(0, "TRAILER!!!", 0, b"")


@pytest.fixture
def switched_on(boot: Boot, tmp_path: Path) -> Iterator[Callable[..., Machine]]:
    """Switches a machine on, again and again, on the same disk."""
    disk = tmp_path / "disk.img"
    shutil.copy(boot.disk, disk)
    machines: list[Machine] = []

    def on(*words: str) -> Machine:
        machines.append(Machine(boot, disk, "-incoming", f"exec:cat {boot.state}"))
        machines[-1].go(*words)
        return machines[-1]

    try:
        yield on
    finally:
        for machine in machines:
            machine.cut()


def test_whenever_the_power_goes_a_whole_release_runs_after_it_and_no_accepted_alarm_is_missing(
    switched_on: Callable[..., Machine],
) -> None:
    chance = random.Random(20261128)
    machine = switched_on()
    for _ in range(2):  # the first release, and an update that tells how long one takes
        machine.until("BEGINS")
        begun = time.monotonic()
        machine.until("ENDS")
    took = time.monotonic() - begun
    accepted: set[str] = set()
    for number in range(CUTS):
        machine.until("BEGINS")
        moment = took * (number + chance.random()) / CUTS
        time.sleep(moment)
        accepted |= machine.cut()
        machine = switched_on()
        what = f"cut {number}, {moment:.2f} s into an update that takes {took:.2f} s"
        assert not accepted - machine.kept(), what
        assert machine.until("RUNS")[2:] == ["whole"], what
    assert len(accepted) > 10 * CUTS


def test_a_release_that_is_not_made_safe_before_it_is_switched_to_is_found(
    switched_on: Callable[..., Machine],
) -> None:
    machine = switched_on("tree")
    machine.until("SWITCHED")
    machine.cut()
    assert switched_on().until("RUNS")[2:] != ["whole"]


def test_an_alarm_that_is_not_made_safe_before_it_is_accepted_is_found(switched_on: Callable[..., Machine]) -> None:
    machine = switched_on("journal")
    for _ in range(20):
        machine.until("ACCEPTED")
    assert machine.cut() - switched_on().kept()
