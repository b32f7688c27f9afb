"""Installing a release beside the one that runs: everything up to the moment at which it could be switched to.

The virtual environment sees the system's packages (TensorRT of JetPack is one), is made by the Python of the system, and
is filled from the bundle alone by the pip of the bundle: no index is asked, no dependency is looked for, no code of a
package runs.
"""

from __future__ import annotations

import contextlib
import platform
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from agent.device.bundle import BundleError, Manifest, Told, unpack
from agent.device.l4t import L4t, l4t
from agent.device.slots import Slots

#: L4T releases of a target (developer.nvidia.com, JetPack archive).
_L4T = {"jetpack6": {36}, "jetpack7": {38, 39}}
_PATIENCE_S = 1800.0

#: Told which step begins.
Step = Callable[[str], None]


class InstallError(OSError):
    """A release that could not be installed; the one that runs is as it was."""


def interpreter(manifest: Manifest, machine: str, device: L4t | None) -> Path:
    """The Python of the system that a release is for.

    Args:
        manifest: Of the release.
        machine: This machine's, as `uname -m` says it.
        device: The L4T that it runs, if it is a Jetson.

    Raises:
        BundleError: the release is for another machine.
    """
    if manifest.machine != machine:
        raise BundleError(f"the bundle is for {manifest.machine} ({manifest.target}), this machine is {machine}")
    fit = _L4T.get(manifest.target)
    if device is not None and (fit is None or device.release not in fit):
        raise BundleError(f"the bundle is for {manifest.target}, this device runs L4T {device}")
    found = shutil.which(f"python{manifest.python}", path="/usr/bin:/usr/local/bin")
    if found is None:
        raise BundleError(f"the bundle is for Python {manifest.python}, and there is no /usr/bin/python{manifest.python}")
    return Path(found)


def install(path: Path, manifest: Manifest, slots: Slots, step: Step, told: Told) -> Path:
    """Install a verified bundle; the folder of the release, which is whole.

    Args:
        path: The bundle.
        manifest: As verified.
        slots: Where to; locked.
        step: Told which step begins.
        told: Told how many bytes are unpacked.

    Raises:
        BundleError: it is for another machine, or not what was verified.
        SlotError: it cannot be installed as things are; DiskFullError: it does not fit.
        InstallError: it cannot be installed.
        OSError: something cannot be written.
    """
    python = interpreter(manifest, platform.machine(), l4t())
    step("making room")
    folder = slots.make_room(manifest)
    step("unpacking")
    unpack(path, manifest, folder, told)
    step("installing packages")
    # Isolated (-I): neither the environment nor the folder that this was started in decides what is installed.
    _run(str(python), "-I", "-m", "venv", "--system-site-packages", "--without-pip", "--symlinks", str(folder))
    wheels = sorted((folder / "wheels").glob("*.whl"))
    pip = next((wheel for wheel in wheels if wheel.name.startswith("pip-")), None)
    if pip is None:
        raise InstallError(f"{path}: has no pip")
    packages = [str(wheel) for wheel in wheels if wheel != pip]
    _run(
        *(str(folder / "bin" / "python3"), "-I", str(pip / "pip"), "--isolated", "--disable-pip-version-check"),
        *("--no-cache-dir", "--quiet", "install", "--no-index", "--no-deps", "--ignore-installed", *packages),
    )
    shutil.rmtree(folder / "wheels")
    step("trying its commands")
    said = _run(str(folder / "bin" / "vigie"), "version", "--json")
    if f'"vigie": "{manifest.version}"' not in said:
        raise InstallError(f"{path}: calls itself {manifest.version} and says {said.strip()}")
    step("writing it to the disk")
    slots.complete(manifest)
    return folder


def objections(new: Path, old: Path, config: Path) -> str | None:
    """What a release finds wrong with this device's configuration that the running one is content with.

    Args:
        new: Folder of the release.
        old: Folder of the running one.
        config: The configuration.
    """
    if not config.exists():
        return None
    check = ("config", "check", "--config", str(config))
    try:
        _run(str(new / "bin" / "vigie"), *check)
    except InstallError as error:
        with contextlib.suppress(InstallError):
            _run(str(old / "bin" / "vigie"), *check)
            return str(error)
    return None


def _run(*command: str) -> str:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=_PATIENCE_S,
            cwd="/",
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InstallError(f"{command[0]}: {error}") from error
    if done.returncode:
        raise InstallError(f"{' '.join(command[:5])}: {(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout
