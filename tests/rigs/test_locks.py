"""The package index has a wheel of every locked package for a device: uv resolves the locks for aarch64."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from container import CHECKOUT

from agent.demo.clip import cache_folder
from deploy.bundle.recipe import TARGETS, Target, requirements

pytestmark = [pytest.mark.rig, pytest.mark.timeout(300)]

_UV = "0.13.9"


@pytest.fixture(scope="module")
def uv(require: Callable[..., None]) -> str:
    """The program, fetched by pip where this machine has none."""
    found = shutil.which("uv")
    if found:
        return found
    require("venv")
    folder = cache_folder() / "rigs" / f"uv-{_UV}"
    program = folder / "bin" / "uv"
    if not program.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(folder / "bin" / "pip"), "install", "-q", f"uv=={_UV}"], check=True)
    return str(program)


@pytest.mark.parametrize("lock", ["its own", "requirements.txt"])
@pytest.mark.parametrize("target", [TARGETS["jetpack6"], TARGETS["jetpack7"]], ids=lambda target: target.name)
def test_every_locked_package_has_a_wheel_for_the_device(uv: str, target: Target, lock: str, tmp_path: Path) -> None:
    entries = requirements(CHECKOUT / (target.lock if lock == "its own" else lock), target)
    pins = sorted(entry.partition(" ")[0] for entry in entries)
    assert len(pins) > 20
    (tmp_path / "pins.in").write_text("\n".join(pins))
    command = [uv, "pip", "compile", "--quiet", "--no-deps", "--only-binary", ":all:", "--no-annotate", "--no-header"]
    done = subprocess.run(
        [
            *command,
            *("--python-version", target.python, "--python-platform", f"{target.machine}-manylinux_2_{target.glibc}"),
            str(tmp_path / "pins.in"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(re.findall(r"^[\w.-]+==\S+", done.stdout, re.MULTILINE)) == pins
