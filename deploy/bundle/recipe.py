"""How a bundle is built: the agent's wheel, the locked wheels of a target, pip, units and bill, in one signed tar.

Twice the same bytes: wheels are locked by their SHA-256, the agent's is built with fixed times, nothing else has a time,
an owner or an order of its own, and Ed25519 signs without chance. Locked wheels are fetched once and kept in the cache
folder (`$VIGIE_CACHE`, else `~/.cache/vigie`).
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement

from agent.demo.clip import cache_folder
from agent.device.bundle import MANIFEST, SIGNATURE, Manifest, Member, key_id
from agent.inference.registry import Registry
from deploy.bundle.sbom import bill, metadata

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

HERE = Path(__file__).parent
#: 1980-01-01, the first moment that a wheel can name.
_EPOCH = "315532800"
#: What a device's disk gives out at once, bytes.
_BLOCK = 4096


@dataclass(frozen=True, slots=True)
class Target:
    """What a bundle is for.

    Attributes:
        name: Such as `jetpack6`.
        machine: As `uname -m` says it.
        python: Its Python.
        glibc: Second number of its C library, 2.x.
        lock: File of the locked packages.
    """

    name: str
    machine: str
    python: str
    glibc: int
    lock: str

    @property
    def platforms(self) -> Iterator[str]:
        """Platforms whose wheels it can load (PEP 600), the newest first."""
        oldest = 5 if self.machine == "x86_64" else 17
        yield from (f"manylinux_2_{number}_{self.machine}" for number in range(self.glibc, oldest - 1, -1))
        yield f"manylinux2014_{self.machine}"
        if self.machine == "x86_64":
            yield from ("manylinux2010_x86_64", "manylinux1_x86_64")


TARGETS = {
    target.name: target
    for target in (
        Target("jetpack6", "aarch64", "3.10", 35, "requirements-jetpack6.txt"),
        Target("jetpack7", "aarch64", "3.12", 39, "requirements-jetpack7.txt"),
        Target("x86_64", "x86_64", f"3.{sys.version_info.minor}", 35, "requirements.txt"),
    )
}


class RecipeError(RuntimeError):
    """A bundle that could not be built."""


def build(
    source: Path,
    target: Target,
    key: Ed25519PrivateKey,
    out: Path,
    told: Callable[[str], None] = lambda _step: None,
    *,
    packages: bool = True,
) -> Path:
    """Build a bundle; its path.

    Args:
        source: The tree to build from: `agent`, `models`, `deploy`, `pyproject.toml` and what that names.
        target: What it is for.
        key: Signs it.
        out: Folder for it.
        told: Told each step.
        packages: Whether the packages that the agent needs go in. Without them it runs only where the system has them,
            which suits a rig that installs dozens of releases.
    """
    told("building the agent's wheel")
    with tempfile.TemporaryDirectory() as folder:
        wheels = [_agent(source, Path(folder))]
        told(f"fetching packages for {target.name}")
        wheels += _locked(HERE / "pip.txt", target)
        if packages:
            wheels += _locked(source / target.lock, target)
        wheels.sort(key=lambda wheel: wheel.name)
        version = metadata(next(wheel for wheel in wheels if wheel.name.startswith("vigie-")))["Version"]
        told("signing")
        registry = Registry(source / "models")
        shipped = [model for model in registry.models if (source / "models" / model.file).is_file()]
        units = source / "deploy" / "systemd"
        contents = {
            "install.py": (HERE / "install.py").read_bytes(),
            "sbom.cdx.json": bill(version, target.name, wheels, shipped),
            **{f"units/{file.relative_to(units)}": file.read_bytes() for file in _files(units)},
            **{f"wheels/{wheel.name}": wheel.read_bytes() for wheel in wheels},
        }
        room = sum(_room(wheel) for wheel in wheels if not wheel.name.startswith("pip-"))
        return _pack(version, target, key, out, contents, room)


def _agent(source: Path, folder: Path) -> Path:
    """Build the agent's wheel, with fixed times."""
    _run(
        *(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)),
        cwd=source,
        env={**os.environ, "SOURCE_DATE_EPOCH": _EPOCH},
    )
    return next(folder.glob("vigie-*.whl"))


def requirements(lock: Path, target: Target) -> list[str]:
    """Entries of a lock file, with their hashes, that a target needs.

    Args:
        lock: The file.
        target: Whose Python and machine the markers are about.
    """
    about = {
        "python_version": target.python,
        "python_full_version": f"{target.python}.0",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
        "platform_machine": target.machine,
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    found = []
    for entry in lock.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
        words, *hashes = re.split(r"\s+--hash=", entry.strip())
        if not words or words.startswith("#"):
            continue
        needed = Requirement(words)
        if needed.marker is None or needed.marker.evaluate({**about}):
            found.append(" ".join([f"{needed.name}{needed.specifier}", *(f"--hash={one}" for one in hashes)]))
    return found


def _locked(lock: Path, target: Target) -> list[Path]:
    """Wheels of a lock file for a target, from the cache or fetched into it whole."""
    entries = requirements(lock, target)
    name = hashlib.sha256("\n".join([*entries, target.python, *target.platforms]).encode()).hexdigest()[:16]
    folder = cache_folder() / "wheels" / name
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as unfinished:
            listed, wheels = Path(unfinished) / "lock.txt", Path(unfinished) / "wheels"
            listed.write_text("\n".join(entries) + "\n", encoding="utf-8")
            _run(
                *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
                *("--no-deps", "--only-binary", ":all:", "--require-hashes", "--python-version", target.python),
                *(word for platform in target.platforms for word in ("--platform", platform)),
                *("--dest", str(wheels), "--requirement", str(listed)),
            )
            if len(list(wheels.iterdir())) != len(entries):
                raise RecipeError(f"{lock}: {len(entries)} packages, and not as many wheels")
            if not folder.exists():
                shutil.move(wheels, folder)
    return sorted(folder.iterdir())


def _files(folder: Path) -> Iterator[Path]:
    """All files of a folder that are for a device."""
    return (file for file in sorted(folder.rglob("*")) if file.is_file() and file.suffix != ".md")


def _room(wheel: Path) -> int:
    """What a wheel takes once installed, and its modules compiled, bytes."""
    with zipfile.ZipFile(wheel) as archive:
        sizes = [(info.file_size, info.filename.endswith(".py")) for info in archive.infolist()]
    return sum(-(-size // _BLOCK) * _BLOCK * (2 if module else 1) for size, module in sizes)


def _pack(
    version: str, target: Target, key: Ed25519PrivateKey, out: Path, contents: dict[str, bytes], room: int
) -> Path:
    members = tuple(
        Member(path, len(content), hashlib.sha256(content).hexdigest()) for path, content in sorted(contents.items())
    )
    signer = key_id(key.public_key().public_bytes_raw())
    manifest = Manifest(version, target.name, target.machine, target.python, signer, room, members)
    text = manifest.text()
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"vigie-{version}-{target.name}-python{target.python}.bundle"
    part = path.with_name(f"{path.name}.part")
    with tarfile.open(part, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in [(MANIFEST, text), (SIGNATURE, key.sign(text)), *sorted(contents.items())]:
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o644
            tar.addfile(info, io.BytesIO(content))
    part.replace(path)
    return path


def _run(*command: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=env)
    if done.returncode:
        raise RecipeError(f"{' '.join(command[:6])}: {(done.stderr or done.stdout).strip()[-2000:]}")


