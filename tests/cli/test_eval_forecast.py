from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent.cli.app import app

RUNNER = CliRunner()


def test_a_series_of_counts_is_judged(tmp_path: Path) -> None:
    counts = tmp_path / "counts.csv"
    rows = [f"{second},{second / 30:.0f}" for second in range(0, 1200, 5)]
    counts.write_text("\n".join(["time_s,count", *rows]))
    result = RUNNER.invoke(app, ["eval", "forecast", "--counts", str(counts), "--limit", "20", "--json"])
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert figures["crossings"] == 1
    assert 0 <= figures["brier"] < 0.25
    assert "Brier score" in RUNNER.invoke(app, ["eval", "forecast", "--counts", str(counts), "--limit", "20"]).stdout


def test_a_scenario_is_counted_and_judged() -> None:
    clip = "sim:gathering?people=12&seconds=240&detections=1"
    command = ["eval", "forecast", "--clip", clip, "--limit", "10", "--horizon-s", "20", "--json"]
    result = RUNNER.invoke(app, command, env={"VIGIE_INFERENCE__DETECTOR": "motion"})
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["forecasts"] > 0


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a,b\n1,2", "needs the columns"),
        ("time_s,count\n1,x", "line 2"),
        ("time_s,count\n5,1\n5,2", "must grow"),
        ("time_s,count\n1,1", "too short"),
    ],
)
def test_counts_that_cannot_be_used_are_refused_in_words(tmp_path: Path, text: str, problem: str) -> None:
    counts = tmp_path / "counts.csv"
    counts.write_text(text)
    result = RUNNER.invoke(app, ["eval", "forecast", "--counts", str(counts), "--limit", "20"])
    assert result.exit_code == 2
    assert problem in result.output
    assert RUNNER.invoke(app, ["eval", "forecast", "--limit", "20"]).exit_code == 2
