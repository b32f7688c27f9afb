"""`vigie update`: releases on this device, as signed bundles that prove themselves before they stay.

`install` verifies a bundle, installs it beside the running release, switches to it on trial and waits for the verdict
of `vigie-update-trial.service` (agent.device.judge), which does not need this command to go on. What `status --json`
prints is `agent.device.slots.State`:

    {"phase": "none|settled|trial", "running": "0.4.0", "committed": "0.3.2", "previous": "0.3.1",
     "whole": ["0.3.1", "0.3.2", "0.4.0"],
     "trial": {"version", "within_s", "hold_s", "by_hand", "back", "before": {"state", "reasons", "broker"},
               "boots": ["<boot id>"]} or null,
     "last": {"version", "result": "installed|committed|failed|rolled_back|interrupted", "reason"} or null}

and what `install`, `commit` and `rollback` print with `--json` is such a `last` (result `on_trial` with `--no-wait`,
and `there_already` where that release runs). Exit codes: 0 done; 1 the bundle may not be used, or the release did not
prove itself and the old one is back; 2 wrong usage, or not possible as things are; 3 something outside failed, such as
a full disk. With any code but 0 the release that ran before runs on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli.common import AsJson, ConfigFile, fail, start_log
from agent.settings import DEFAULT_CONFIG

if TYPE_CHECKING:
    from rich.progress import Progress

    from agent.device.bundle import Manifest
    from agent.device.judge import Look
    from agent.device.services import Services
    from agent.device.slots import Last, Slots

app = typer.Typer(no_args_is_help=True, help="Install a release on trial, keep it or go back.")

BundleFile = Annotated[Path, typer.Argument(help="The bundle.", show_default=False)]
KeyPlace = Annotated[
    Path | None,
    typer.Option(
        "--key", help="Public key that must have signed, or a folder of such.  [default: /etc/vigie/release-keys]"
    ),
]
#: Anywhere else than on a device, nothing is started, and units are linked below it.
Root = Annotated[Path, typer.Option(help="Where the releases are.", hidden=True)]
Within = Annotated[
    float, typer.Option("--within-s", min=10, max=7200, help="Time in which it must have proved itself, seconds.")
]
Hold = Annotated[
    float, typer.Option("--hold-s", min=0, max=3600, help="Time for which it must be ready without a break, seconds.")
]
_ROOT = Path("/opt/vigie")
_WITHIN_S, _HOLD_S = 600.0, 60.0
#: Longest that the agent takes to start or to be given up (TimeoutStartSec of its units), with a margin, seconds.
_START_S = 300.0


class _Here:
    """The running agent of this machine."""

    def __init__(self, services: Services, socket: Path | None) -> None:
        self._socket = socket
        self._services = services
        self.reload, self.restart, self.forget = services.reload, services.restart, services.forget

    def look(self) -> Look:
        """How it is, by its local socket and by systemd."""
        from agent.device.judge import Look, understood
        from agent.relay.local import LocalError, hear

        starts, failed = self._services.parts()
        if self._socket is None:
            return Look("unknown", starts=starts, failed=failed, why="its configuration cannot be read")
        try:
            return understood(hear(self._socket), starts, failed)
        except LocalError as error:
            return Look("unknown", starts=starts, failed=failed, why=f"it does not answer: {error.strerror}")


@app.command()
def verify(bundle: BundleFile, key: KeyPlace = None, as_json: AsJson = False) -> None:
    """Check a bundle's signature and every byte of it. Exit code 1 if it may not be used."""
    with _ends(), _progress(as_json) as progress:
        manifest = _verified(bundle, key, progress)
    if as_json:
        typer.echo(json.dumps({name: getattr(manifest, name) for name in _FACTS}))
    else:
        typer.echo(
            f"{bundle}: vigie {manifest.version} for {manifest.target} (Python {manifest.python}), signed by key "
            f"{manifest.key_id}; takes {manifest.installed_bytes / 1e6:.0f} MB"
        )


@app.command()
def install(
    bundle: BundleFile,
    key: KeyPlace = None,
    within_s: Within = _WITHIN_S,
    hold_s: Hold = _HOLD_S,
    by_hand: Annotated[
        bool, typer.Option("--by-hand", help="Somebody must also say `vigie update commit` within the time.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the verdict.")] = True,
    config: ConfigFile = None,
    root: Root = _ROOT,
    as_json: AsJson = False,
) -> None:
    """Verify a bundle, install it, and switch to it on trial; the old release comes back unless it proves itself.

    The first release on a device is committed at once, and nothing is started: there is nothing to come back to.
    """
    from agent.device import install as installing
    from agent.device.slots import Last, Slots, Trial

    _demand_root(root)
    slots, services = Slots(root), _services(root)
    here = _Here(services, _socket(config))
    with _ends(), _progress(as_json) as progress:
        manifest = _verified(bundle, key, progress)
        with slots.locked():
            state = slots.state()
            if state.running == manifest.version and state.phase == "settled":
                if slots.manifest(manifest.version) != manifest:
                    fail(f"{bundle}: calls itself {manifest.version}, as what runs does, and is not the same", 1)
                _say(Last(manifest.version, "there_already", "it runs"), as_json=as_json)
                return
            first = state.phase == "none"
            if first and manifest.version in state.whole and slots.manifest(manifest.version) == manifest:
                folder = slots.folder(manifest.version)
            else:
                task = progress.add_task("", total=None)
                folder = installing.install(
                    bundle,
                    manifest,
                    slots,
                    lambda step: progress.update(task, description=step),
                    lambda done, total: progress.update(task, completed=done, total=total),
                )
            if state.running is not None:
                wrong = installing.objections(folder, slots.folder(state.running), _config(config))
                if wrong:
                    slots.prune()
                    fail(f"release {manifest.version} cannot run with this device's configuration: {wrong}", 1)
            for own in services.link(folder / "units"):
                typer.echo(f"vigie: {own}: is this device's own, and stays as it is", err=True)
            if first:
                slots.begin_first(manifest.version)
                services.adopt()
                _say(Last(manifest.version, "installed", "the first release"), as_json=as_json)
                return
            slots.begin(Trial(manifest.version, within_s, hold_s, by_hand, here.look().before()))
            _start(services)
    _verdict(slots, manifest.version, within_s if wait else None, as_json=as_json)


@app.command()
def status(root: Root = _ROOT, as_json: AsJson = False) -> None:
    """Print which release runs, whether it is on trial, and how the last trial ended."""
    from agent.device.slots import Slots, described

    with _ends():
        state = Slots(root).state()
    if as_json:
        typer.echo(json.dumps(described(state)))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("what", "release", title="vigie update")
    trial, last = state.trial, state.last
    table.add_row("runs", (state.running or "none") + (", on trial" if state.phase == "trial" else ""))
    table.add_row("committed", state.committed or "none")
    table.add_row("before it", state.previous or "none")
    if trial is not None:
        by_hand = ", and vigie update commit" if trial.by_hand else ""
        table.add_row("must be ready", f"for {trial.hold_s:.0f} s within {trial.within_s:.0f} s{by_hand}")
        table.add_row("boots on trial", str(len(trial.boots)))
    if last is not None:
        table.add_row("last", f"{last.version}: {last.result.replace('_', ' ')}: {last.reason}")
    Console().print(table)


@app.command()
def commit(
    force: Annotated[bool, typer.Option("--force", help="Also if it is not ready.")] = False,
    config: ConfigFile = None,
    root: Root = _ROOT,
    as_json: AsJson = False,
) -> None:
    """Keep the release on trial now. Exit code 1 if it is not ready: its trial goes on."""
    from agent.device.judge import lacking, tidy
    from agent.device.slots import Slots

    _demand_root(root)
    slots, services = Slots(root), _services(root)
    here = _Here(services, _socket(config))
    with _ends(), slots.locked():
        trial = slots.state().trial
        missing = lacking(here.look(), trial.before) if trial is not None and not force else None
        if missing:
            fail(f"release {trial.version if trial else ''} is not ready: {missing}; its trial goes on", 1)
        last = slots.commit("somebody said so" + (", though it was not ready" if force else ""))
        services.reload()
        services.dismiss()
        tidy(slots, here)
    _say(last, as_json=as_json)


@app.command()
def rollback(
    within_s: Within = _WITHIN_S,
    hold_s: Hold = _HOLD_S,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the verdict.")] = True,
    config: ConfigFile = None,
    root: Root = _ROOT,
    as_json: AsJson = False,
) -> None:
    """End a trial at once; without one, go back to the release before, which is on trial like any other."""
    from agent.device.judge import tidy
    from agent.device.slots import Slots, Trial

    _demand_root(root)
    slots, services = Slots(root), _services(root)
    here = _Here(services, _socket(config))
    with _ends(), slots.locked():
        state = slots.state()
        if state.phase == "trial":
            services.dismiss()
            last = slots.fall_back("rolled_back", "somebody said so")
            services.reload()
            services.restart()
            tidy(slots, here)
            _say(last, as_json=as_json)
            return
        if state.previous is None or state.previous == state.running:
            fail("there is no release before this one", 2)
        services.link(slots.folder(state.previous) / "units")
        slots.begin(Trial(state.previous, within_s, hold_s, by_hand=False, before=here.look().before(), back=True))
        _start(services)
    _verdict(slots, state.previous, within_s if wait else None, as_json=as_json)


@app.command(hidden=True)
def boot(
    boot_id: Annotated[str, typer.Argument(help="Names this boot.", show_default=False)], root: Root = _ROOT
) -> None:
    """Count a boot of a release on trial; for vigie-update-boot.service."""
    from agent.device.slots import Slots

    slots = Slots(root)
    with _ends(), slots.locked():
        before = slots.state().running
        last = slots.boot(boot_id)
        if slots.state().running != before:
            _services(root).reload()
    if last is not None:
        typer.echo(f"event=trial_ended version={last.version} result={last.result} reason={last.reason!r}")


@app.command(hidden=True)
def trial(config: ConfigFile = None, root: Root = _ROOT) -> None:
    """Judge the release on trial; for vigie-update-trial.service."""
    from agent.device.judge import judge
    from agent.device.slots import Slots

    start_log()
    with _ends():
        judge(Slots(root), _Here(_services(root), _socket(config)), lambda _word, _share: None)


_FACTS = ("version", "target", "machine", "python", "key_id", "installed_bytes", "packed_bytes")


def _services(root: Path) -> Services:
    from agent.device.services import Services

    return Services(root, Path("/") if root == _ROOT else root)


def _verified(bundle: Path, key: Path | None, progress: Progress) -> Manifest:
    from agent.device.bundle import KEYS, read_keys, verify

    task = progress.add_task("verifying", total=None)

    def told(done: int, total: int) -> None:
        progress.update(task, completed=done, total=total)

    return verify(bundle, read_keys(key or KEYS), told)


def _start(services: Services) -> None:
    """Start the release that was just switched to, and its judge."""
    from agent.device.services import JUDGE

    services.adopt()
    services.restart(JUDGE)


def _verdict(slots: Slots, version: str, within_s: float | None, *, as_json: bool) -> None:
    """Wait for how a trial ends; None: do not."""
    import time

    from agent.device.slots import Last

    if within_s is None:
        _say(Last(version, "on_trial", "vigie update status says how it ends"), as_json=as_json)
        return
    with _progress(as_json) as progress:
        progress.add_task(f"release {version} is on trial", total=None)
        # The judge begins when the agent has started, for which systemd has a patience of its own.
        latest = time.monotonic() + within_s + _START_S
        while (state := slots.state()).phase == "trial":
            if time.monotonic() > latest:
                fail("the judge gives no verdict: journalctl -u vigie-update-trial", 3)
            time.sleep(1)
    if state.last is None:
        fail("nobody knows how the trial ended: vigie update status", 3)
    _say(state.last, as_json=as_json)
    if state.running != version:
        raise typer.Exit(1)


def _say(last: Last, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(asdict(last)))
    else:
        typer.echo(f"release {last.version}: {last.result.replace('_', ' ')}: {last.reason}")


def _socket(config: Path | None) -> Path | None:
    """Where relay answers; None where no configuration can be read."""
    from agent.settings import SettingsError, load

    try:
        return load(config).pipe.status_socket
    except SettingsError:
        return None


def _config(config: Path | None) -> Path:
    return config or Path(os.environ.get("VIGIE_CONFIG") or DEFAULT_CONFIG)


def _demand_root(root: Path) -> None:
    if os.geteuid() != 0 and root == _ROOT:
        fail("releases belong to root: sudo vigie update …", 2)


@contextmanager
def _ends() -> Iterator[None]:
    """Ends the command when something cannot be done."""
    from agent.device.bundle import BundleError
    from agent.device.slots import DiskFullError, SlotError

    try:
        yield
    except BundleError as error:
        fail(str(error), 1)
    except DiskFullError as error:
        fail(str(error), 3)
    except SlotError as error:
        fail(str(error), 2)
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), 3)


def _progress(quiet: bool) -> Progress:
    """Steps, bytes and time, on a terminal."""
    from rich import progress
    from rich.console import Console

    console = Console(stderr=True)
    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.TaskProgressColumn(),
        progress.TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=quiet or not console.is_terminal,
    )
