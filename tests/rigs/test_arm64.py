"""The release of an aarch64 device, in Debian for arm64 under qemu-user: `make rig-arm64`, a quarter of an hour.

It shows that every wheel loads and one inference gives what it gives here; it says nothing about speed, GPU or JetPack.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from container import CHECKOUT, debian, layered, require_container
from device import Maker

from deploy.bundle.recipe import TARGETS, build

pytestmark = [pytest.mark.rig, pytest.mark.emulated, pytest.mark.timeout(3600)]

_BINFMT = Path("/proc/sys/fs/binfmt_misc")
_QEMU = Path("/usr/lib/binfmt.d/qemu-aarch64.conf")
_INFERENCE = """
import hashlib, numpy as np, sys
from agent.inference.onnx import OnnxBackend
backend = OnnxBackend(open(sys.argv[1], "rb").read(), 1)
picture = np.random.default_rng(1).random((1, *backend.inputs[0].shape[1:]), np.float32)
print(*(f"{float(np.abs(out).sum()):.3e}" for out in backend.run(picture)))
"""


@pytest.fixture(scope="module")
def emulated(require: Callable[..., None]) -> Iterator[None]:
    """Programs for aarch64 run on this machine, for as long as this takes."""
    require("debootstrap", "qemu-aarch64-static", "mount")
    require_container()
    if not (_BINFMT / "register").exists():
        subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", str(_BINFMT)], check=True)
    if (_BINFMT / "qemu-aarch64").exists():
        yield
        return
    (_BINFMT / "register").write_text(_QEMU.read_text().strip())
    try:
        yield
    finally:
        (_BINFMT / "qemu-aarch64").write_text("-1")


@pytest.fixture(scope="module")
def device(emulated: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Debian for arm64 on which `install.py` has installed the release for it."""
    folder = tmp_path_factory.mktemp("arm64")
    maker = Maker(folder / "release")
    here = dataclasses.replace(
        TARGETS["jetpack7"], python=f"3.{sys.version_info.minor}", glibc=36, lock=TARGETS["x86_64"].lock
    )
    bundle = build(maker.tree("0.1.0", models=True), here, maker.key, folder / "bundles")
    base = debian("arm64", ("python3", "openssl", "libportaudio2"))
    with layered(folder / "device", 3000, base) as root:
        for file in (bundle, maker.public, CHECKOUT / "deploy" / "bundle" / "install.py"):
            shutil.copy(file, root / "root")
        subprocess.run(["mount", "-t", "proc", "proc", str(root / "proc")], check=True)
        try:
            _inside(root, "python3", "/root/install.py", f"/root/{bundle.name}", "--key", "/root/release.pem")
            yield root
        finally:
            subprocess.run(["umount", "-l", str(root / "proc")], check=True)


def _inside(root: Path, *command: str) -> str:
    done = subprocess.run(
        ["chroot", str(root), *command],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_says_its_version(device: Path) -> None:
    said = json.loads(_inside(device, "/opt/vigie/current/bin/vigie", "version", "--json"))
    assert said["vigie"] == "0.1.0"
    assert _inside(device, "uname", "-m") == "aarch64\n"


def test_the_doctor_examines_it(device: Path) -> None:
    done = subprocess.run(
        ["chroot", str(device), "/opt/vigie/current/bin/vigie", "doctor", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert json.loads(done.stdout), done.stderr


def test_one_inference_gives_what_it_gives_here(device: Path) -> None:
    model = "/opt/vigie/current/share/vigie/models/vigie-detector.onnx"
    there = _inside(device, "/opt/vigie/current/bin/python3", "-c", _INFERENCE, model)
    here = subprocess.run(
        [sys.executable, "-c", _INFERENCE, str(device) + model],
        capture_output=True,
        text=True,
        check=True,
        cwd=CHECKOUT,
    ).stdout
    for one, other in zip(there.split(), here.split(), strict=True):
        assert float(one) == pytest.approx(float(other), rel=0.01)
