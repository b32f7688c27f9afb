"""`vigie fleet conform`: whether a live device keeps the published contract."""

from __future__ import annotations

import contextlib
import json
import queue
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli.common import AsJson, fail
from agent.cli.fleet_common import broker

if TYPE_CHECKING:
    from agent.fleet.conform import Check, Conformance
    from agent.fleet.listen import Listening
    from agent.fleet.said import Device


def conform(
    context: typer.Context,
    device: Annotated[str, typer.Argument(help="SITE/DEVICE.")],
    seconds: Annotated[float, typer.Option(min=1, help="How long to watch; health comes every 300 s.")] = 30,
    quick: Annotated[bool, typer.Option(help="Stop as soon as everything that is always retained has come.")] = False,
    schemas: Annotated[
        Path | None,
        typer.Option(help="Folder with `asyncapi.json` and `schemas/` to check by.  [default: those of this version]"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Watch a device on the broker and check all that it says by the AsyncAPI document and the JSON Schemas.

    Exit code 1 if something does not keep them. What did not come in that time is told as not checked.
    """
    from agent.fleet.client import FleetError
    from agent.fleet.conform import Conformance, DocumentError
    from agent.fleet.listen import listening

    meant = _device(device)
    try:
        documents = _documents(schemas)
        with listening(broker(context), Conformance(meant, documents).topics) as heard:
            conformance = Conformance(meant, documents, flags=heard.flags)
            for _ in _watched(heard, conformance, seconds):
                if quick and conformance.complete:
                    break
    except DocumentError as error:
        fail(str(error), 2)
    except FleetError as error:
        fail(str(error), 3)
    checks = conformance.checks()
    ok = all(check.ok is not False for check in checks)
    if as_json:
        typer.echo(
            json.dumps({"device": str(meant), "ok": ok, "checks": [asdict(check) for check in checks]}, indent=2)
        )
    else:
        _show(checks, str(meant))
    raise typer.Exit(0 if ok else 1)


def _device(text: str) -> Device:
    from agent.contract import ContractError
    from agent.fleet.said import device_of

    site, _, name = text.partition("/")
    try:
        return device_of(site, name)
    except ContractError:
        fail(f"{text}: is no device; write SITE/DEVICE", 2)


def _documents(folder: Path | None) -> dict[str, str]:
    if folder is None:
        from agent.documents import documents

        return documents()
    try:
        paths = [folder / "asyncapi.json", *sorted((folder / "schemas").glob("*.json"))]
        return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in paths}
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{folder}: the documents cannot be read: {error}", 2)


def _watched(heard: Listening, conformance: Conformance, seconds: float) -> Iterator[None]:
    """Take messages for so long, with a bar on a terminal; one turn for each message."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    end = time.monotonic() + seconds
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("watching", total=seconds)
        while (left := end - time.monotonic()) > 0:
            progress.update(bar, completed=seconds - left)
            with contextlib.suppress(queue.Empty):
                conformance.take(heard.messages.get(timeout=min(left, 0.5)))
                yield


def _show(checks: list[Check], device: str) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    table = Table("check", Column("looked at", justify="right"), "result", title=f"Conformance of {device}")
    for check in checks:
        result = {True: "ok", False: "FAILED", None: "not checked: nothing came that could tell"}[check.ok]
        more = (f"and {check.more} more",) if check.more else ()
        table.add_row(check.name, str(check.looked_at), "\n".join((result, *check.faults, *more)))
    Console().print(table)
