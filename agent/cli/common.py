"""What every command shares: how the configuration is named, how errors end, how logs look."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from agent.settings import Settings, SettingsError, load

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="Configuration file.  [default: $VIGIE_CONFIG or /etc/vigie/vigie.toml]"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def examples(said: dict[str, str]) -> str:
    """What stands below a command's help and in the manual page: a command line, and what it is for.

    Args:
        said: What each is for, by the command line.
    """
    return "\n".join(f"- `{line}`: {purpose}" for line, purpose in said.items())


def say(text: str) -> None:
    """Print a line for people: broken between words where the terminal is too narrow, whole in a file or a pipe."""
    if sys.stdout.isatty():
        from rich.console import Console

        Console(highlight=False, markup=False).print(text)
    else:
        typer.echo(text)


def fail(message: str, code: int) -> NoReturn:
    """Say on standard error what went wrong and end with an exit code of agent.cli.app."""
    for line in message.splitlines():
        typer.echo(f"vigie: {line}", err=True)
    raise typer.Exit(code)


def loaded(config: Path | None) -> Settings:
    """The settings; ends with exit code 2 and one line a problem when they cannot be used."""
    try:
        return load(config)
    except SettingsError as error:
        fail(str(error), 2)


def start_log(settings: Settings | None = None) -> None:
    """Log to standard error, one event a line, for journald or a terminal; `info` where there are no settings."""
    logging.basicConfig(
        stream=sys.stderr,
        level=settings.log_level.upper() if settings else "INFO",
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
