"""Releases beside each other on one disk, and which of them runs: `/opt/vigie`.

```
releases/0.4.0/   a release: its own virtual environment, units/, sbom.cdx.json, and manifest.json when it is whole
releases/0.3.2/
current           -> releases/0.4.0   what runs: every unit of the agent is started from here
committed         -> releases/0.3.2   what proved itself: judge and boot counter run from here
previous          -> releases/0.3.1   what was committed before
trial.json        boots so far, and by what the release on trial is judged; there only during a trial
last.json         how the last trial ended
lock              held while anything is changed
```

**A release is on trial exactly while `current` and `committed` differ.** The trial begins when `current` is switched
and ends when `committed` follows it or `current` comes back: each is one rename(2) of a symbolic link, so that whatever
moment the power goes at, `current` names a whole release. A release is whole when it holds `manifest.json`, which is
written last, once everything else of it is on the disk; what is not whole is removed by the next installation.

| from | to | by |
|---|---|---|
| nothing | settled | the first release: there is nothing to come back to, so that it is committed at once |
| settled | trial | `install`; `rollback` (to `previous`, by the same way) |
| trial | settled, the new one | the judge, when the release has been ready for long enough; `commit` |
| trial | settled, the old one | the judge, when it has not; `rollback`; the boot counter, at the fourth boot |

`committed` and `previous` are kept, and while a trial runs the release on trial; nothing else is.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from agent.canonical import JsonError, canonical, parse
from agent.device.bundle import MANIFEST, BundleError, Manifest, read_manifest_text
from agent.durable import replace_file, replace_link, sync_folder, sync_tree

ROOT = Path("/opt/vigie")
#: Boots that a release on trial may take to prove itself; with one more the old one comes back.
BOOTS = 3
#: Room that an installation leaves on the disk for everybody else, bytes.
RESERVE = 128 << 20

Phase = Literal["none", "settled", "trial"]
Ending = Literal["installed", "committed", "failed", "rolled_back", "interrupted", "on_trial", "there_already"]

_MOST_STATE = 1 << 16


class SlotError(ValueError):
    """What cannot be done with the releases as they are; the text says why and what to do."""


class DiskFullError(SlotError):
    """A release that does not fit the disk."""


@dataclass(frozen=True, slots=True)
class Before:
    """How the agent was before a trial: the new release need not be better than that.

    Attributes:
        state: Of `Status`, `unknown` when it did not run.
        reasons: Of `Status`.
        broker: Whether it was connected.
    """

    state: str = "unknown"
    reasons: tuple[str, ...] = ()
    broker: bool = False


@dataclass(frozen=True, slots=True)
class Trial:
    """A trial under way.

    Attributes:
        version: Of the release on trial.
        within_s: Time after a start in which it must have proved itself, seconds.
        hold_s: Time for which it must be ready without a break, seconds.
        by_hand: Whether somebody has to say `commit` in that time too.
        before: How the agent was.
        back: Whether it is the way back to an earlier release that somebody asked for.
        boots: Ids of the boots that it has begun in.
    """

    version: str
    within_s: float
    hold_s: float
    by_hand: bool
    before: Before
    back: bool = False
    boots: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Last:
    """How the last change ended.

    Attributes:
        version: What was tried.
        result: How it ended.
        reason: In words.
    """

    version: str
    result: Ending
    reason: str


@dataclass(frozen=True, slots=True)
class State:
    """What is where.

    Attributes:
        phase: Whether a trial runs.
        running: Version that `current` names.
        committed: Version that `committed` names.
        previous: Version that `previous` names.
        whole: Versions of all releases that are whole.
        trial: The trial that runs, if one does.
        last: How the last one ended, if there was one.
    """

    phase: Phase
    running: str | None
    committed: str | None
    previous: str | None
    whole: tuple[str, ...]
    trial: Trial | None
    last: Last | None


class Slots:
    """The releases below a folder."""

    def __init__(self, root: Path = ROOT) -> None:
        """Nothing is read or made yet.

        Args:
            root: The folder.
        """
        self.root = root
        self.releases = root / "releases"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep everybody else from changing anything.

        Raises:
            SlotError: somebody does.
        """
        self.root.mkdir(mode=0o755, parents=True, exist_ok=True)
        self.releases.mkdir(mode=0o755, exist_ok=True)
        with (self.root / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise SlotError("another update is under way: vigie update status") from None
            yield

    def folder(self, version: str) -> Path:
        """Where a release lies."""
        return self.releases / version

    def state(self) -> State:
        """What is where, as the disk says it."""
        running, committed, previous = (self._linked(name) for name in ("current", "committed", "previous"))
        phase: Phase = "none" if running is None else "settled" if running == committed else "trial"
        whole = [folder.name for folder in self.releases.glob("*") if (folder / MANIFEST).is_file()]
        trial = self._trial() if phase == "trial" else None
        return State(phase, running, committed, previous, tuple(sorted(whole)), trial, self._last())

    def manifest(self, version: str) -> Manifest:
        """Of a release.

        Raises:
            SlotError: it is not whole.
        """
        try:
            return read_manifest_text((self.folder(version) / MANIFEST).read_bytes())
        except (OSError, BundleError) as error:
            raise SlotError(f"{self.folder(version)}: is no whole release: {error}") from error

    def make_room(self, manifest: Manifest) -> Path:
        """An empty folder for a release, once what nobody needs is gone and the disk has room.

        Raises:
            SlotError: it cannot be installed now.
            DiskFullError: it does not fit.
        """
        self.demand_settled()
        needed = manifest.installed_bytes + manifest.packed_bytes + RESERVE
        free = shutil.disk_usage(self.releases).free + self._spare_bytes()
        if needed > free:
            raise DiskFullError(
                f"{self.releases}: release {manifest.version} needs {needed >> 20} MiB, of which {RESERVE >> 20} stay "
                f"free, and there are {free >> 20} MiB: make room, nothing has been changed"
            )
        self.prune()
        folder = self.folder(manifest.version)
        if folder.exists():
            raise SlotError(f"release {manifest.version} is here already: vigie update rollback, or a new version")
        folder.mkdir(mode=0o755)
        return folder

    def demand_settled(self) -> None:
        """Refuse while a trial runs.

        Raises:
            SlotError: one does, or the agent was installed in another way.
        """
        state = self.state()
        if state.phase == "trial":
            raise SlotError(f"release {state.running} is on trial: vigie update status, commit or rollback first")

    def complete(self, manifest: Manifest) -> None:
        """Make a release safe on the disk, and then whole."""
        folder = self.folder(manifest.version)
        sync_tree(folder)
        replace_file(folder / MANIFEST, manifest.text(), 0o644)
        sync_folder(self.releases)

    def begin_first(self, version: str) -> None:
        """Let the first release run: `committed` comes first, so that no boot finds a trial without a way back."""
        self.manifest(version)
        replace_link(self.root / "committed", f"releases/{version}")
        replace_link(self.root / "current", f"releases/{version}")
        self._note(Last(version, "installed", "the first release"))

    def begin(self, trial: Trial) -> None:
        """Let a release run on trial from its next start on.

        Raises:
            SlotError: a trial runs, or the release is not whole.
        """
        self.demand_settled()
        self.manifest(trial.version)
        self._write("trial.json", trial)
        replace_link(self.root / "current", f"releases/{trial.version}")

    def commit(self, reason: str) -> Last:
        """Keep the release on trial.

        Raises:
            SlotError: none is.
        """
        state = self._on_trial()
        if state.committed is not None:
            replace_link(self.root / "previous", f"releases/{state.committed}")
        replace_link(self.root / "committed", f"releases/{state.running}")
        return self._end(Last(str(state.running), "committed", reason))

    def fall_back(self, result: Ending, reason: str) -> Last:
        """Let the committed release run from its next start on.

        Raises:
            SlotError: nothing is on trial.
        """
        state = self._on_trial()
        replace_link(self.root / "current", f"releases/{state.committed}")
        return self._end(Last(str(state.running), result, reason))

    def boot(self, boot_id: str) -> Last | None:
        """Count a boot, before anything of the agent starts.

        Args:
            boot_id: Names the boot (`%b` of systemd.unit(5)).

        Returns:
            How a trial has ended, if it has.
        """
        state = self.state()
        if state.phase != "trial":
            return self._after_interruption(state)
        trial = state.trial
        if trial is None:
            return self.fall_back("failed", "nobody knows by what it was to be judged")
        if boot_id in trial.boots:
            return None
        if len(trial.boots) >= BOOTS:
            return self.fall_back("failed", f"it did not prove itself in {BOOTS} boots")
        self._write("trial.json", replace(trial, boots=(*trial.boots, boot_id)))
        return None

    def prune(self) -> None:
        """Remove every release that is neither running nor committed nor the one before."""
        for folder in self._spare():
            (folder / MANIFEST).unlink(missing_ok=True)  # from here on it is not whole, however far the rest gets
            shutil.rmtree(folder)

    def _spare(self) -> list[Path]:
        state = self.state()
        kept = {state.running, state.committed, state.previous}
        return [folder for folder in self.releases.glob("*") if folder.name not in kept]

    def _spare_bytes(self) -> int:
        """Room that `prune` would give; what is linked more than once is not counted."""
        files = (file for folder in self._spare() for file in folder.rglob("*") if not file.is_symlink())
        found = (file.stat() for file in files if file.is_file())
        return sum(status.st_blocks * 512 for status in found if status.st_nlink == 1)

    def _after_interruption(self, state: State) -> Last | None:
        """Say how a trial ended whose end was cut off, or that one never began."""
        trial = self._trial()
        if trial is None:
            (self.root / "trial.json").unlink(missing_ok=True)
            return None
        if trial.version == state.committed:
            return self._end(Last(trial.version, "committed", "the power went as it was committed"))
        return self._end(Last(trial.version, "interrupted", "the power went as its trial began or ended"))

    def _on_trial(self) -> State:
        state = self.state()
        if state.phase != "trial":
            raise SlotError("no release is on trial: vigie update status")
        return state

    def _end(self, last: Last) -> Last:
        self._note(last)
        (self.root / "trial.json").unlink(missing_ok=True)
        sync_folder(self.root)
        return last

    def _note(self, last: Last) -> None:
        self._write("last.json", last)

    def _linked(self, name: str) -> str | None:
        """The version that a link names.

        Raises:
            SlotError: there is something else in its place.
        """
        link = self.root / name
        try:
            target = link.readlink()
        except FileNotFoundError:
            return None
        except OSError:
            raise SlotError(
                f"{link}: is no link to a release; the agent was installed in another way: move it away first"
            ) from None
        return target.name

    def _write(self, name: str, value: Trial | Last) -> None:
        replace_file(self.root / name, canonical(asdict(value)), 0o644)

    def _trial(self) -> Trial | None:
        try:
            table = self._read("trial.json")
            before = table["before"]
            return Trial(
                **{
                    **table,
                    "before": Before(**{**before, "reasons": tuple(before["reasons"])}),
                    "boots": tuple(table["boots"]),
                }
            )
        except (OSError, JsonError, KeyError, TypeError):
            return None

    def _last(self) -> Last | None:
        try:
            return Last(**self._read("last.json"))
        except (OSError, JsonError, TypeError):
            return None

    def _read(self, name: str) -> dict[str, Any]:
        return parse((self.root / name).read_bytes(), _MOST_STATE)


def described(state: State) -> dict[str, Any]:
    """A state as JSON has it."""
    table: dict[str, Any] = json.loads(canonical(asdict(state)))
    return table
