"""`vigie eval locate`: the figures of simulated streets."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from agent.cli.app import app
from agent.evaluate.locating import Street, evaluate


def test_the_same_seed_gives_the_same_figures() -> None:
    assert evaluate(Street(devices=4), 5, 2) == evaluate(Street(devices=4), 5, 2)


def test_too_few_devices_locate_nothing() -> None:
    result = evaluate(Street(devices=2), 3, 1)
    assert (result.located, result.refused, result.median_error_m) == (0, {"few-devices": 3}, None)


def test_the_command_prints_a_row_for_each_number_of_devices() -> None:
    command = ["eval", "locate", "--devices", "2", "--devices", "5", "--shots", "4", "--json"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["streets"]
    assert [(row["devices"], row["shots"]) for row in rows] == [(2, 4), (5, 4)]
    assert rows[1]["located"] + sum(rows[1]["refused"].values()) == 4
    assert "ellipse" in CliRunner().invoke(app, ["eval", "locate", "--shots", "3"]).output
    failed = CliRunner().invoke(app, ["eval", "locate", "--devices", "2", "--shots", "2", "--check"])
    assert failed.exit_code == 1
