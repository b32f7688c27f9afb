"""`vigie version`."""

from __future__ import annotations

import json
import platform

import typer

from agent import __version__
from agent.cli.common import AsJson
from agent.contract import CONTRACT_VERSION


def version(as_json: AsJson = False) -> None:
    """Print the versions of the agent, of its contract and of Python."""
    facts = {"vigie": __version__, "contract": CONTRACT_VERSION, "python": platform.python_version()}
    if as_json:
        typer.echo(json.dumps(facts))
    else:
        typer.echo(f"vigie {__version__} (contract {CONTRACT_VERSION}, Python {platform.python_version()})")
