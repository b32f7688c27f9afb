"""`vigie decommission`: the end of a device."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Annotated

import typer

from agent.cli.common import AsJson, ConfigFile, fail, start_log
from agent.settings import DEFAULT_CONFIG, Settings, SettingsError, load

_LISTED_S, _STOPPED_S = 10, 60


def decommission(
    keys: Annotated[Path, typer.Option("--keys", help="Folder of the device's keys.")] = Path("/etc/vigie/keys"),
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    wait_s: Annotated[float, typer.Option(min=1, max=600, help="How long the broker is tried, seconds.")] = 30,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Stop the agent for good: a last signed word to the broker, then keys, journal and configuration are erased.

    Without a connection it is done all the same, and says what the broker does not know. Revoke the certificate
    afterwards (`vigie fleet pki revoke`). Exit code 1 if something could not be erased, 3 if the broker was not told.
    """
    from agent.relay.certificate import Certificates
    from agent.relay.decommission import Told, belongings, last_word
    from agent.relay.journal import JournalBusyError

    file = config or Path(os.environ.get("VIGIE_CONFIG") or DEFAULT_CONFIG)
    try:
        settings = load(config) if file.exists() or config else None
    except SettingsError as error:
        fail(str(error), 2)
    own = settings or Settings()
    if not yes:
        name = own.device.name
        typed = typer.prompt(f"This erases keys, journal and configuration of {name} for good. Type its name to go on")
        if typed != name:
            fail("nothing was done", 2)
    start_log()
    _stop_services()
    try:
        told = Told("there is no configuration")
        if settings is not None:
            told = last_word(settings, Certificates(keys, own.device.name), wait_s)
    except JournalBusyError as error:
        fail(f"nothing was erased: {error}; stop the agent first", 3)
    erased: list[str] = []
    kept: list[str] = []
    for path in belongings(own, file, keys):
        problem = _erased(path)
        (erased if problem is None else kept).append(problem or str(path))
    if as_json:
        said = {"told": told.reason is None, "reason": told.reason, "undelivered": told.undelivered}
        typer.echo(json.dumps({**said, "erased": erased, "kept": kept}))
    else:
        typer.echo("\n".join(f"erased {path}" for path in erased))
    if kept:
        fail("\n".join(f"not erased: {problem}" for problem in kept), 1)
    if told.reason is not None:
        waited = f"; {told.undelivered} events were not delivered" if told.undelivered else ""
        fail(f"erased, but the broker was not told: {told.reason}{waited}: tell the manager", 3)


def _erased(path: Path) -> str | None:
    """Why a file could not be erased; None when it is gone."""
    from agent.durable import erase_file

    try:
        erase_file(path)
    except OSError as error:
        return f"{path}: {error.strerror}"
    return None


def _stop_services() -> None:
    """Stop the agent's units, and have none start with the machine again; nothing where systemd does not run."""
    systemctl = shutil.which("systemctl")
    if systemctl is None or not Path("/run/systemd/system").is_dir():
        return
    listed = subprocess.run(
        [systemctl, "list-unit-files", "--no-legend", "--state=enabled", "vigie*"],
        capture_output=True,
        text=True,
        check=False,
        timeout=_LISTED_S,
    )
    enabled = [line.split()[0] for line in listed.stdout.splitlines() if line.strip()]
    if enabled:
        subprocess.run([systemctl, "disable", *enabled], capture_output=True, check=False, timeout=_STOPPED_S)
    # Each by its name, since a target is down before what it has stopped is.
    subprocess.run([systemctl, "stop", "vigie*"], capture_output=True, check=False, timeout=_STOPPED_S)
