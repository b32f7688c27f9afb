"""`vigie contract`: the contract as documents."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agent.cli.common import fail

app = typer.Typer(help="What crosses the pipe and what leaves the device, as documents.", no_args_is_help=True)


@app.callback()
def _contract() -> None:
    """Keep `vigie contract COMMAND` a group."""


@app.command()
def export(
    out: Annotated[Path, typer.Option(help="Folder to write to; what is there under the same names is replaced.")],
) -> None:
    """Write the JSON Schemas, the AsyncAPI document and the byte layout of an observation."""
    from agent.documents import documents

    for name, text in documents().items():
        path = out / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            fail(f"{path}: cannot be written: {error.strerror}", 3)
        typer.echo(path)
