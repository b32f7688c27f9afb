"""The `vigie` command: one file a command group. Modules here import what they need when a command runs."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from agent.cli.app import app

    app()
