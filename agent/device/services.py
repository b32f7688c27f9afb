"""What of the agent systemd runs, and from where: the units of a release, linked so that a switch carries them along.

A unit in `/etc/systemd/system` is a symbolic link to `/opt/vigie/current/units/…`, so that the same rename(2) that
switches the release switches its units. Those of the trial itself (`vigie-update-*`) are linked through
`/opt/vigie/committed`: a release on trial has no say in how it is judged. A file of that name which is no such link is
an administrator's own, and stays.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from agent.durable import replace_link, sync_folder

TARGET = "vigie.target"
#: Units whose failure is that of the agent.
PARTS = ("vigie-relay.service", "vigie-sense.service")
JUDGE = "vigie-update-trial.service"
_OWN = "vigie-update-"
_KINDS = (".service", ".socket", ".target", ".timer", ".path")
_PATIENCE_S = 180.0


class ServiceError(OSError):
    """What systemd refused; the text is its own."""


class Services:
    """The agent's units on this machine."""

    def __init__(self, root: Path, file_system: Path = Path("/")) -> None:
        """Nothing is changed yet.

        Args:
            root: Where the releases are, as units name it.
            file_system: Whose `/etc` the units are linked in.
        """
        self._root = root
        self._etc = file_system / "etc"
        self._units = self._etc / "systemd" / "system"
        self._here = file_system == Path("/") and Path("/run/systemd/system").is_dir()

    def link(self, units: Path) -> list[str]:
        """Link what a release has, before it is switched to.

        Args:
            units: Its folder of units.

        Returns:
            Files that are an administrator's own, and stay.
        """
        self._follow()
        own = []
        for file in sorted(units.rglob("*")):
            if file.is_dir():
                continue
            name = file.relative_to(units)
            place = self._place(name)
            if place is None:
                continue
            through = "committed" if file.name.startswith(_OWN) else "current"
            if not self._link(place, f"{self._root}/{through}/units/{name}"):
                own.append(str(place))
            elif file.name.startswith(_OWN):
                wants = self._units / "multi-user.target.wants" / file.name
                self._link(wants, f"{self._root}/{through}/units/{name}")
        return own

    def _follow(self) -> None:
        """Have what was enabled follow `current`: `systemctl enable` resolves our links, down to one release."""
        for link in (*self._units.glob("vigie*"), *self._units.glob("*.wants/vigie*")):
            target = str(link.readlink()) if link.is_symlink() else ""
            if target.startswith(f"{self._root}/releases/"):
                unit = target.removeprefix(f"{self._root}/releases/").partition("/")[2]
                replace_link(link, f"{self._root}/current/{unit}")

    def _place(self, name: Path) -> Path | None:
        """Where a file of `deploy/systemd` goes; None for what is for people."""
        if name.name.endswith(".sysusers.conf"):
            return self._etc / "sysusers.d" / name.name.replace(".sysusers", "")
        if name.name.endswith(".tmpfiles.conf"):
            return self._etc / "tmpfiles.d" / name.name.replace(".tmpfiles", "")
        return self._units / name if len(name.parts) == 1 and name.suffix in _KINDS else None

    def _link(self, place: Path, target: str) -> bool:
        if place.is_symlink():
            old = str(place.readlink())
            if old == target:
                return True
            if not old.startswith(f"{self._root}/"):
                return False
        elif place.exists():
            return False
        place.parent.mkdir(parents=True, exist_ok=True)
        replace_link(place, target)
        return True

    def forget(self) -> None:
        """Remove links to units that no release has any more."""
        for folder in (
            self._units,
            self._units / "multi-user.target.wants",
            self._units / f"{TARGET}.wants",
            self._etc / "sysusers.d",
            self._etc / "tmpfiles.d",
        ):
            gone = [
                link
                for link in folder.glob("vigie*")
                if link.is_symlink() and str(link.readlink()).startswith(f"{self._root}/") and not link.exists()
            ]
            for link in gone:
                link.unlink()
            if gone:
                sync_folder(folder)

    def adopt(self) -> None:
        """Have systemd know the units, users and folders of the release that `current` names."""
        if not self._here:
            return
        _run("systemd-sysusers", check=False)
        _run("systemctl", "daemon-reload")
        _run("systemd-tmpfiles", "--create", "--prefix=/run/vigie", "--prefix=/etc/vigie", check=False)

    def reload(self) -> None:
        """Have systemd read the units again, as at a boot, where users and folders come by themselves."""
        if self._here:
            _run("systemctl", "daemon-reload")

    def restart(self, *also: str) -> None:
        """Start the agent, or start it anew, whatever became of it before; it is not waited for.

        Args:
            also: Units that start with it, in the same breath.
        """
        if self._here:
            _run("systemctl", "reset-failed", "vigie*", check=False)
            _run("systemctl", "restart", "--no-block", TARGET, *also)

    def dismiss(self) -> None:
        """Stop the judge."""
        if self._here:
            _run("systemctl", "stop", JUDGE)

    def parts(self) -> tuple[tuple[str, ...], str | None]:
        """What changes whenever a part is started anew; and a part that systemd has given up, and how it ended."""
        if not self._here:
            return (), None
        said = _run("systemctl", "show", "--property=Id,ActiveState,Result,NRestarts,MainPID", *PARTS)
        parts = [dict(line.partition("=")[::2] for line in part.splitlines()) for part in said.split("\n\n")]
        failed = [f"{part['Id']} failed ({part['Result']})" for part in parts if part.get("ActiveState") == "failed"]
        return tuple(part[name] for part in parts for name in ("NRestarts", "MainPID")), next(iter(failed), None)


def _run(*command: str, check: bool = True) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_PATIENCE_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServiceError(f"{' '.join(command)}: {error}") from error
    if check and done.returncode:
        raise ServiceError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout
