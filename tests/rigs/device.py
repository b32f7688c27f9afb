"""A device for the rigs: Debian under systemd with `/opt/vigie` as releases, that can be killed and booted again.

The packages that the agent needs are this environment's, bound where the system's Python finds them, so that a release
of a few kilobytes can be installed dozens of times; `test_update.py` installs a whole bundle once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from container import CHECKOUT, Container, layered
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from parts import SQUARE
from whole import broken

from agent.device.slots import Slots, State
from agent.relay.keys import make_key, public_pem, read_private_key
from agent.relay.local import LocalError, ask
from deploy.bundle.recipe import TARGETS, build

PYTHON = f"3.{sys.version_info.minor}"
VIGIE = "/opt/vigie/current/bin/vigie"
PACKAGES = "/opt/rig/packages"
_TREE = ("agent", "deploy", "pyproject.toml", "requirements.txt", "README.md", "LICENSE")
_CONFIGURATION = (
    """
[device]
site = "rig"
name = "cam-07"
[mqtt]
host = "127.0.0.1"
port = {port}
tls = false
backoff_min_s = 0.1
backoff_max_s = 0.5
[pipe]
sense_user = "vigie-sense"
[[camera]]
name = "north"
source = "sim:crowd?people=12&seconds=600&detections=1"
loop = true
"""
    + SQUARE
)
_POLICY = """
[policy.gate]
k = 1
crowd_grain_s = 2
[[policy.detector]]
type = "crowd.gathering"
purpose = "Proof of updates"
legal_basis = "RIG"
body = "The rig"
contact = "The rig"
retention_days = 1
until = {until}
"""


class Maker:
    """Makes releases of this checkout, signed by a key of its own.

    Attributes:
        public: The public key, PEM.
    """

    def __init__(self, folder: Path) -> None:
        """Make a key.

        Args:
            folder: A folder of its own.
        """
        self._folder = folder
        folder.mkdir(parents=True)
        make_key(folder / "release.key")
        self.key: Ed25519PrivateKey = read_private_key(folder / "release.key")
        self.public = folder / "release.pem"
        self.public.write_text(public_pem(self.key.public_key()))

    def tree(self, version: str, *, models: bool = False) -> Path:
        """A copy of this checkout that calls itself a version; without models it watches by motion alone.

        Args:
            version: Of the release.
            models: Whether the models are in it.
        """
        tree = self._folder / f"tree-{version}"
        ignored = shutil.ignore_patterns("__pycache__", ".venv", "*.egg-info")
        for name in _TREE:
            source, place = CHECKOUT / name, tree / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(source, place, ignore=ignored) if source.is_dir() else shutil.copy(source, place)
        if models:
            shutil.copytree(CHECKOUT / "models", tree / "models", ignore=ignored)
        else:
            (tree / "models").mkdir()
            shutil.copy(CHECKOUT / "models" / "registry.toml", tree / "models")
        package = tree / "agent" / "__init__.py"
        text = package.read_text()
        before = text[text.index("__version__") :]
        package.write_text(text.replace(before, f'__version__ = "{version}"\n'))
        return tree

    def bundle(self, tree: Path, *, packages: bool = False) -> Path:
        """The bundle of a tree; without packages a small one."""
        target = dataclasses.replace(TARGETS["x86_64"], python=PYTHON)
        return build(tree, target, self.key, self._folder / "bundles", packages=packages)


class Device:
    """A device that outlives its boots.

    Attributes:
        root: Its file system, as seen from outside.
        inside: The booted container.
    """

    def __init__(self, folder: Path, root: Path, binds: Sequence[str]) -> None:
        """Boot it."""
        self.root = root
        self._folder = folder
        self._binds = binds
        self.inside = self._boot()

    def _boot(self) -> Container:
        booted = Container(self._folder, self.root, self._binds)
        booted.wait()
        return booted

    def kill(self) -> None:
        """Kill -9 its first process, and with it all others."""
        self.inside.kill()

    def boot(self) -> None:
        """Boot it again."""
        self.inside = self._boot()

    def update(self, *words: str, check: bool = True) -> dict[str, Any]:
        """What `vigie update … --json` says."""
        done = self.inside.run(VIGIE, "update", *words, "--json", check=check, seconds=300)
        found: dict[str, Any] = json.loads(done.stdout) if done.stdout else {"error": done.stderr}
        return {**found, "exit_code": done.returncode}

    def state(self) -> State:
        """What `vigie update status` reads, without a process for it."""
        return Slots(self.root / "opt" / "vigie").state()

    def lives(self) -> bool:
        """Whether the agent sees, and reaches the broker."""
        with contextlib.suppress(LocalError):
            said = ask(self.inside.outside("/run/vigie/status.sock"))
            return said.cameras == ["live"] and said.broker is not None
        return False

    def broken(self) -> list[str]:
        """What of the release that runs is not as it was installed."""
        return broken(Slots(self.root / "opt" / "vigie"), str(self.state().running))

    def configure(self, port: int, key: Path) -> None:
        """Write what provisioning writes.

        Args:
            port: Of the broker on loopback.
            key: Public key that signs releases.
        """
        until = dt.datetime.now(dt.timezone.utc).date() + dt.timedelta(days=90)
        self.inside.write("etc/vigie/vigie.toml", _CONFIGURATION.format(port=port))
        self.inside.write("etc/vigie/policy.toml", _POLICY.format(until=until))
        self.inside.write("etc/vigie/release-keys/rig.pem", key.read_text())
        for name in ("ca.pem", "device.pem", "device.key"):
            self.inside.write(f"etc/vigie/keys/{name}", "", 0o600)  # the unit hands them over; this broker asks none


@contextlib.contextmanager
def device(folder: Path, size_mib: int = 512) -> Iterator[Device]:
    """A booted device without the agent.

    Args:
        folder: A folder of its own.
        size_mib: Of its disk, MiB.
    """
    with layered(folder, size_mib) as root:
        found = root / "usr" / "lib" / "python3" / "dist-packages"
        found.mkdir(parents=True, exist_ok=True)
        (found / "rig.pth").write_text(f"{PACKAGES}\n")
        here = Path(sys.prefix) / "lib" / f"python{PYTHON}" / "site-packages"
        made = Device(folder, root, [f"{here}:{PACKAGES}", f"{folder.parent}:/srv/rig"])
        try:
            yield made
        finally:
            with contextlib.suppress(OSError):
                made.inside.stop()
