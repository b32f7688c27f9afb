"""`vigie audit …`: what can leave this device, what has left it, and what can be made of it."""

from __future__ import annotations

import typer

from agent.cli import audit_attack, audit_capacity

app = typer.Typer(help="What can leave, what has left, and what can be made of it.", no_args_is_help=True)
app.command()(audit_capacity.capacity)
app.command()(audit_attack.attack)
