"""`vigie doctor`: what is wrong with this device, and what to do."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli.common import AsJson, ConfigFile, fail

if TYPE_CHECKING:
    from rich.table import Table

    from agent.device.doctor.check import Check

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}
#: Exit code by the worst that was found.
_CODES = {"ok": 0, "fail": 1, "warn": 4}
#: In a file or a pipe no line is broken or cut, columns.
_WHOLE = 1000


def doctor(
    config: ConfigFile = None,
    only: Annotated[
        str | None, typer.Option(help="Only these subjects, such as `camera,mic`.  [default: all]", show_default=False)
    ] = None,
    within: Annotated[float, typer.Option(min=1, max=300, help="When it must be over, seconds.")] = 9,
    as_json: AsJson = False,
) -> None:
    """Look at the whole device for ten seconds at most, and say of each part whether it is well, and what to do if not.

    What the running agent holds is asked of it, so that no camera is taken from it; what nobody holds is opened for a
    moment. No picture and no sound is kept. Without root some files cannot be read, which is said.

    Exit code: 0 all is well; 4 there are warnings; 1 something does not work; 2 a subject that is none.
    """
    from agent.device.doctor.examine import ALIASES, SUBJECTS, examine, load_settings, patient, worst
    from agent.settings import Settings, did_you_mean

    begun = time.monotonic()
    wanted = [ALIASES.get(name.strip(), name.strip()) for name in only.split(",")] if only else list(SUBJECTS)
    for name in wanted:
        if name not in SUBJECTS:
            fail(f"--only {name}: is no subject{did_you_mean(name, [*SUBJECTS, *ALIASES])}: {', '.join(SUBJECTS)}", 2)
    settings = load_settings(config)
    if isinstance(settings, Settings):
        checks = examine(patient(settings), wanted, within)
    else:  # the machine can be looked at all the same
        machine = {"hardware", "disk", "units", "clock", "updates"} & set(wanted)
        checks = [*settings, *examine(patient(Settings()), machine, within)]
    seconds = time.monotonic() - begun
    level = worst(checks)
    if as_json:
        rows = [
            {"subject": c.subject, "line": c.line, "level": c.level.label, "what": c.what, "fix": c.fix} for c in checks
        ]
        typer.echo(json.dumps({"worst": level.label, "seconds": round(seconds, 2), "checks": rows}, indent=2))
    else:
        _print(checks, seconds)
    end(_CODES[level.label])


def end(code: int) -> None:
    """Leave; a check that hangs in a driver is a thread that nobody can end, and must not keep the shell waiting."""
    import threading

    if any(thread.name.startswith("doctor:") for thread in threading.enumerate()):
        sys.stdout.flush()
        os._exit(code)
    raise typer.Exit(code)


def _print(checks: Sequence[Check], seconds: float) -> None:
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _WHOLE
    console.print(_screen(checks))
    counts = {label: sum(check.level.label == label for check in checks) for label in ("fail", "warn")}
    told = ", ".join(f"{number} {label}" for label, number in counts.items() if number) or "all is well"
    console.print(f"{told}; {seconds:.1f} s")


def _screen(checks: Sequence[Check]) -> Table:
    """One line for all that is well of a subject, and one with its fix below it for each thing that is not."""
    from rich.table import Column, Table
    from rich.text import Text

    table = Table.grid(Column(width=4), Column(no_wrap=True), padding=(0, 1, 0, 0))
    for subject in dict.fromkeys(check.subject for check in checks):
        its = [check for check in checks if check.subject == subject]
        well = [check for check in its if check.level.label == "ok"]
        if well:
            said = "; ".join(f"{c.line}: {c.what}" if subject == "camera" and c.line else c.what for c in well)
            table.add_row(Text("ok", _STYLES["ok"]), subject, Text(said, no_wrap=True, overflow="ellipsis"))
        for check in its:
            label = check.level.label
            if label != "ok":
                part = f"{check.line}: " if check.line and check.line not in check.what else ""
                table.add_row(Text(label, _STYLES[label]), Text(subject, "bold"), part + check.what)
                table.add_row("", "", Text(f"→ {check.fix}", "italic"))
    return table
