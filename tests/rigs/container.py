"""A machine for the rigs: Debian under a real systemd, in systemd-nspawn, with the agent installed as on a device.

Its file system is made once by debootstrap, from the mirror that this machine's apt uses, and kept in the cache folder
under a name that depends on what is in it. Each boot writes to a layer in memory that is thrown away. It shares the
network of this machine, so that relay reaches a broker on loopback; what sense may reach is what is tested.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from parts import wait_for

from agent.demo.clip import cache_folder
from tests.conftest import lacking

CHECKOUT = Path(__file__).parents[2]
UNITS = CHECKOUT / "deploy" / "systemd"
#: Programs of this machine that the rig runs, by Debian package.
NEEDS = ("systemd-nspawn", "debootstrap", "nsenter", "mount")
_PACKAGES = ("systemd", "systemd-sysv", "dbus", "python3", "procps", "libportaudio2", "libpulse0", "libssl3", "openssl")
_PYTHON = f"python3.{sys.version_info.minor}"
_VENV = "opt/vigie/current"
_VIGIE = f"""#!/{_VENV}/bin/python3
from agent.cli import main

main()
"""


def _release() -> str:
    """This machine's release, such as `bookworm`."""
    lines = Path("/etc/os-release").read_text().splitlines()
    return next(line.partition("=")[2] for line in lines if line.startswith("VERSION_CODENAME="))


def _mirror(release: str) -> str:
    """Where this machine's apt gets the release from."""
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(SITE) $(RELEASE) $(COMPONENT)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [line.split() for line in listed.stdout.splitlines()]
    return next(row[0] for row in rows if row[1:] == [release, "main"])


def unfit() -> str | None:
    """Why this machine cannot have such a container; None if it can."""
    if os.geteuid() != 0:
        return "a container needs root"
    try:
        _mirror(_release())
    except (OSError, StopIteration, subprocess.CalledProcessError):
        return "debootstrap needs a machine whose apt knows a mirror of its own release"
    return None


def require_container() -> None:
    """Skip the test, or fail it where VIGIE_REQUIRE_RIGS=1, when this machine cannot have a container."""
    reason = unfit()
    if reason:
        lacking(reason)


def root_filesystem(more: Sequence[str] = ()) -> Path:
    """The folder with the containers' file system, made at the first call; takes minutes then.

    Args:
        more: Debian packages besides those of every rig.
    """
    return debian("", (*_PACKAGES, *more))


def debian(architecture: str, packages: Sequence[str]) -> Path:
    """The folder with a Debian of this machine's release, made at the first call; takes minutes then.

    Args:
        architecture: Debian's name for it; empty for this machine's.
        packages: What is in it beside the least.
    """
    release = _release()
    name = hashlib.sha256(json.dumps([release, packages, *architecture.split()]).encode()).hexdigest()[:12]
    folder = cache_folder() / "rigs"
    folder.mkdir(parents=True, exist_ok=True)
    root = folder / f"root-{name}"
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if root.exists():
            return root
        unfinished = folder / f"unfinished-{name}"
        shutil.rmtree(unfinished, ignore_errors=True)
        subprocess.run(
            [
                *("debootstrap", "--variant=minbase", f"--include={','.join(packages)}"),
                *((f"--arch={architecture}",) if architecture else ()),
                *(release, str(unfinished), _mirror(release)),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        shutil.rmtree(unfinished / "var" / "cache" / "apt", ignore_errors=True)
        unfinished.rename(root)
    return root


class Container:
    """A booted container.

    Attributes:
        root: Its file system, as seen from outside.
    """

    def __init__(
        self, folder: Path, root: Path, binds: Sequence[str], name: str | None = None, options: Sequence[str] = ()
    ) -> None:
        """Boot it.

        Args:
            folder: A folder of its own for its layer and its console.
            root: Its file system.
            binds: `outside:inside`, read-only.
            name: Of the machine, where there are several.
            options: More options of systemd-nspawn.
        """
        self.root = root
        self._console = (folder / "console.log").open("wb")
        self.process = subprocess.Popen(
            [
                *("systemd-nspawn", "-q", "-b", "-D", str(root), "-M", name or f"vigie-rig-{os.getpid()}"),
                *("--register=no", "--keep-unit", "--console=pipe", "--capability=CAP_NET_ADMIN"),
                *(f"--bind-ro={bind}" for bind in binds),
                *options,
            ],
            stdin=subprocess.DEVNULL,
            stdout=self._console,
            stderr=self._console,
            env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
        )
        self._leader = ""
        self._probes = 0

    def wait(self) -> None:
        """Wait until everything that starts by itself has started."""
        self._leader = wait_for(self._first_process, 15, "the container has a first process")
        wait_for(self._running, 60, "the container is up")

    def _first_process(self) -> str | None:
        """Process id of the container's systemd; the first children of nspawn only prepare it."""
        with contextlib.suppress(FileNotFoundError):
            for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
                if Path(f"/proc/{pid}/comm").read_text() == "systemd\n":
                    return pid
        return None

    def _running(self) -> bool:
        return self.run("systemctl", "is-system-running", check=False).stdout in {"running\n", "degraded\n"}

    def run(
        self, *command: str, check: bool = True, stdin: str | None = None, seconds: float = 90
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside, as root and outside of any unit."""
        done = subprocess.run(
            ["nsenter", "-t", self._leader, "-a", "--", *command],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)}: {done.returncode}: {done.stdout}{done.stderr}")
        return done

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a command inside, as root and outside of any unit, and leave it alone."""
        return subprocess.Popen(
            ["nsenter", "-t", self._leader, "-a", "--", *command],
            stdin=subprocess.DEVNULL,
            stdout=self._console,
            stderr=self._console,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        )

    def show(self, unit: str, *properties: str) -> list[str]:
        """Properties of a unit."""
        return [self.run("systemctl", "show", "-P", name, unit).stdout.strip() for name in properties]

    def journal(self, unit: str, *more: str) -> str:
        """What a unit, and systemd about it, has logged."""
        return self.run("journalctl", "-q", "--no-pager", "-o", "cat", "-u", unit, *more).stdout

    def inside(self, unit: str, program: str) -> str:
        """Run a Python program under a copy of a unit, in the unit's own namespaces; what it prints.

        Args:
            unit: Name of the service, without its suffix.
            program: Source text.
        """
        self._probes += 1
        probe = f"{unit}-probe-{self._probes}"
        lines = []
        for line in self.run("systemctl", "cat", f"{unit}.service").stdout.splitlines():
            key = line.partition("=")[0]
            if key == "ExecStart":
                lines.append(f"ExecStart=/usr/bin/{_PYTHON} /run/{probe}.py")
            elif key == "Type":
                lines.append("Type=oneshot")
            elif key not in _NOT_FOR_A_PROBE:
                lines.append(line)
        lines += ["[Unit]", f"JoinsNamespaceOf={unit}.service"]
        self.write(f"run/{probe}.py", program)
        self.write(f"run/systemd/system/{probe}.service", "\n".join(lines) + "\n")
        self.run("systemctl", "daemon-reload")
        done = self.run("systemctl", "start", f"{probe}.service", check=False)
        assert done.returncode == 0, self.journal(f"{probe}.service")
        return self.journal(f"{probe}.service", "-t", _PYTHON)

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file inside."""
        self.run(
            "sh",
            "-c",
            'mkdir -p "$(dirname "$1")" && cat > "$1" && chmod "$2" "$1"',
            "sh",
            f"/{path}",
            f"{mode:o}",
            stdin=text,
        )

    def outside(self, path: str) -> Path:
        """A path inside, its memory file systems included, as this machine can open it."""
        return Path(f"/proc/{self._leader}/root{path}")

    def kill(self) -> None:
        """Kill -9 its first process, and with it all others: a crash."""
        os.kill(int(self._leader), signal.SIGKILL)
        self.process.wait(20)
        self._console.close()

    def stop(self) -> None:
        """Power off, the hard way if need be."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        self._console.close()


_NOT_FOR_A_PROBE = {
    *("NotifyAccess", "WatchdogSec", "Restart", "RestartSec", "RestartPreventExitStatus", "TimeoutStartSec"),
    *("PartOf", "WantedBy", "Wants", "After", "Before"),
}


def _install(root: Path) -> list[str]:
    """Lay out the agent as on a device; what has to be bound there."""
    venv = root / _VENV
    packages = venv / "lib" / _PYTHON / "site-packages"
    packages.mkdir(parents=True)
    (venv / "bin").mkdir()
    (venv / "bin" / "python3").symlink_to(f"/usr/bin/{_PYTHON}")
    (venv / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n")
    (packages / "vigie.pth").write_text("/opt/vigie/src\n/opt/vigie/packages\n")
    (venv / "bin" / "vigie").write_text(_VIGIE)
    (venv / "bin" / "vigie").chmod(0o755)
    for name, folder in (("vigie.sysusers.conf", "sysusers.d"), ("vigie.tmpfiles.conf", "tmpfiles.d")):
        (root / "etc" / folder).mkdir(parents=True, exist_ok=True)
        shutil.copy(UNITS / name, root / "etc" / folder / name.replace("vigie.", "vigie-", 1).removeprefix("vigie-"))
    for unit in (file for kind in ("service", "socket", "target", "timer") for file in UNITS.glob(f"*.{kind}")):
        shutil.copy(unit, root / "etc" / "systemd" / "system")
    # Audio through the sound server of this machine: the plugin and its configuration, which weigh 300 MB as a package.
    sound = [str(path) for path in (*Path("/usr/lib").glob("*/alsa-lib"), Path("/etc/alsa"), Path("/usr/share/alsa"))]
    return [
        f"{Path(sys.prefix) / 'lib' / _PYTHON / 'site-packages'}:/opt/vigie/packages",
        f"{CHECKOUT / 'agent'}:/opt/vigie/src/agent",
        f"{CHECKOUT / 'models'}:/opt/vigie/src/models",
        *(f"{path}:{path}" for path in sound if Path(path).exists()),
    ]


@contextlib.contextmanager
def container(folder: Path, binds: Sequence[str] = ()) -> Iterator[Container]:
    """A booted container with the agent installed and not started.

    Args:
        folder: A folder of its own.
        binds: What else it sees, `outside:inside`, read-only.
    """
    with layered(folder, 256) as root:
        booted = Container(folder, root, [*_install(root), *binds])
        try:
            booted.wait()
            yield booted
        finally:
            booted.stop()


@contextlib.contextmanager
def layered(folder: Path, size_mib: int, base: Path | None = None) -> Iterator[Path]:
    """A file system under a layer in memory that is thrown away.

    Args:
        folder: A folder of its own.
        size_mib: Most that can be written, MiB.
        base: What is under it; None for that of the containers.
    """
    base = base or root_filesystem()
    layer, root = folder / "layer", folder / "root"
    layer.mkdir(parents=True)
    root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"mode=755,size={size_mib}m", "rig", str(layer)], check=True)
    try:
        for name in ("upper", "work"):
            (layer / name).mkdir()
        options = f"lowerdir={base},upperdir={layer}/upper,workdir={layer}/work"
        subprocess.run(["mount", "-t", "overlay", "-o", options, "rig", str(root)], check=True)
        try:
            yield root
        finally:
            _unmount(root)
    finally:
        _unmount(layer)


def _unmount(folder: Path) -> None:
    for _ in range(20):
        if subprocess.run(["umount", str(folder)], check=False, stderr=subprocess.DEVNULL).returncode == 0:
            return
        time.sleep(0.2)
    subprocess.run(["umount", "-l", str(folder)], check=False)
