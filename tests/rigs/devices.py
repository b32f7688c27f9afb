"""A site for the rigs: machines under a real systemd with nothing of ours on them, reached by real SSH over a bridge.

Each is a container with a network namespace of its own, an address on the bridge, and what a JetPack image has: Python,
an SSH server, a user who may become root. None of them has a route beyond the bridge, so whatever asks for a package
index fails. The packages that the agent needs are where the system's Python finds them, so that small bundles do for
roll-outs; a whole one brings its own. A container may not set the clock: chrony follows its servers without turning it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from container import Container, layered, root_filesystem
from device import PACKAGES, PYTHON
from parts import wait_for

#: Programs of this machine that the rig runs, besides those of a container.
NEEDS = ("ip", "ssh", "ssh-keygen", "chroot")
_PACKAGES = (
    *("openssh-server", "sudo", "libpam-systemd", "iproute2", "ca-certificates"),
    *("python3-apt", "python3-venv", "chrony", "mosquitto"),
)
_USER = "integrator"
_NETWORK = "[Match]\nName=host0\n[Network]\nAddress={address}/24\n"


class Machine(Container):
    """One machine of the site.

    Attributes:
        name: What the site calls it.
        address: On the bridge.
    """

    def __init__(self, folder: Path, root: Path, name: str, address: str, bridge: str, binds: Sequence[str]) -> None:
        """Boot it."""
        self.name, self.address = name, address
        options = ["--private-network", f"--network-bridge={bridge}"]
        here = Path(sys.prefix) / "lib" / f"python{PYTHON}" / "site-packages"
        super().__init__(folder, root, [f"{here}:{PACKAGES}", *binds], f"{bridge}-{name}", options)


class Site:
    """A bridge with machines on it.

    Attributes:
        folder: Keys, known hosts and the machines' layers.
        address: Of this machine on the bridge.
    """

    def __init__(self, folder: Path) -> None:
        """Make the keys of the integrator; nothing runs yet."""
        self.folder = folder
        self.bridge = f"vs{os.getpid()}"
        self._net = f"10.213.{os.getpid() % 256}"
        self.address = f"{self._net}.1"
        self.key_file, self.known_hosts = folder / "id_ed25519", folder / "known_hosts"
        self.machines: dict[str, Machine] = {}
        _make_key(self.key_file)
        self.known_hosts.touch()

    @contextlib.contextmanager
    def open(
        self, names: Sequence[str], size_mib: int, files: Mapping[str, Mapping[str, str]], binds: Sequence[str]
    ) -> Iterator[None]:
        """Boot machines of these names.

        Args:
            names: The site's names for them.
            size_mib: What each can write, MiB.
            files: Of each, what it has besides: path and text.
            binds: What all see, `outside:inside`, read-only.
        """
        addresses = {name: f"{self._net}.{number}" for number, name in enumerate(names, 10)}
        hosts = "127.0.0.1 localhost\n" + "".join(f"{address} {name}\n" for name, address in addresses.items())
        with contextlib.ExitStack() as stack:
            _ip("link", "add", self.bridge, "type", "bridge")
            stack.callback(_ip, "link", "del", self.bridge)
            _ip("address", "add", f"{self.address}/24", "dev", self.bridge)
            _ip("link", "set", self.bridge, "up")
            for name, address in addresses.items():
                folder = self.folder / name
                root = stack.enter_context(layered(folder, size_mib, root_filesystem(_PACKAGES)))
                self._prepare(root, name, address, hosts)
                for path, text in files.get(name, {}).items():
                    (root / path).write_text(text)
                machine = Machine(folder, root, name, address, self.bridge, binds)
                stack.callback(machine.stop)
                self.machines[name] = machine
            for machine in self.machines.values():
                machine.wait()
                wait_for(lambda m=machine: self._answers(m), 120, f"{machine.name} answers over SSH")  # type: ignore[misc]
            yield

    def _prepare(self, root: Path, name: str, address: str, hosts: str) -> None:
        """Make a machine of the common file system what a freshly flashed one is."""
        subprocess.run(["chroot", str(root), "useradd", "-m", "-s", "/bin/bash", _USER], check=True)
        (root / "etc" / "sudoers.d" / _USER).write_text(f"{_USER} ALL=(ALL) NOPASSWD: ALL\n")
        own = root / "home" / _USER / ".ssh"
        own.mkdir()
        shutil.copy(self.key_file.with_suffix(".pub"), own / "authorized_keys")
        for path in (root / "etc" / "ssh").glob("ssh_host_*"):
            path.unlink()
        host_key = root / "etc" / "ssh" / "ssh_host_ed25519_key"
        _make_key(host_key)
        with self.known_hosts.open("a") as file:
            file.write(f"{address} {host_key.with_suffix('.pub').read_text()}")
        (root / "etc" / "hosts").write_text(hosts)
        (root / "usr" / "lib" / "python3" / "dist-packages" / "rig.pth").write_text(f"{PACKAGES}\n")
        (root / "etc" / "hostname").write_text(f"{name}\n")
        (root / "etc" / "machine-id").write_text(f"{uuid.uuid4().hex}\n")
        system = root / "etc" / "systemd"
        (system / "network" / "10-host0.network").write_text(_NETWORK.format(address=address))
        (system / "system" / "multi-user.target.wants" / "systemd-networkd.service").symlink_to(
            "/lib/systemd/system/systemd-networkd.service"
        )
        # Nobody here may set the clock; it is followed all the same.
        folder = system / "system" / "chrony.service.d"
        folder.mkdir()
        (folder / "container.conf").write_text("[Unit]\nConditionCapability=\n")
        (root / "etc" / "default" / "chrony").write_text('DAEMON_OPTS="-F 1 -x"\n')
        (system / "system" / "multi-user.target.wants" / "mosquitto.service").unlink()

    def _answers(self, machine: Machine) -> bool:
        return self.ssh(machine.name, "true").returncode == 0

    def ssh(self, name: str, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command on a machine as the integrator."""
        options = [f"UserKnownHostsFile={self.known_hosts}", "BatchMode=yes", "ConnectTimeout=10"]
        return subprocess.run(
            [
                *("ssh", "-F", "/dev/null", "-i", str(self.key_file), *(f"-o{option}" for option in options)),
                *(f"{_USER}@{self.machines[name].address}", command),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def inventory_of(self, name: str) -> dict[str, str]:
        """What Ansible needs to reach a machine."""
        return {
            "ansible_host": self.machines[name].address,
            "ansible_user": _USER,
            "ansible_ssh_private_key_file": str(self.key_file),
            "ansible_ssh_common_args": f"-F /dev/null -o UserKnownHostsFile={self.known_hosts}",
        }


def _make_key(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
