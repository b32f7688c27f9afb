"""The manual page in deploy/ is the one that the commands make."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from agent.cli.app import app

PAGE = Path(__file__).parents[2] / "deploy" / "man" / "vigie.1"


def test_the_page_is_that_of_the_commands() -> None:
    made = CliRunner().invoke(app, ["man"])
    assert made.exit_code == 0
    assert PAGE.read_text(encoding="utf-8") == made.stdout, "vigie man > deploy/man/vigie.1"


def test_every_line_is_text_or_a_macro_of_man() -> None:
    macros = {".TH", ".SH", ".SS", ".B", ".TP", ".PP", ".br"}
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    assert {line.split()[0] for line in lines if line.startswith(".")} == macros
    assert not any(line.startswith("'") for line in lines)
    assert ".SS vigie doctor" in lines
    assert ".SS vigie fleet pki init" in lines or any(line.startswith(".SS vigie fleet") for line in lines)
