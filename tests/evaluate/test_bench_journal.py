"""The journal's benchmark: it measures what it says, and leaves nothing behind."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from agent.cli.bench import app


def test_it_drains_whole_windows_and_tells_the_ratio(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["journal", "--events", "200", "--folder", str(tmp_path), "--json"])
    found = json.loads(result.stdout)
    assert found["events"] == 192
    assert found["ratio"] == found["drained_per_s"] / found["bare_per_s"] > 0
    assert min(found["cpu_us"], found["single_ms"], found["released_per_s"]) > 0
    assert list(tmp_path.iterdir()) == []
    assert "ratio" in CliRunner().invoke(app, ["journal", "--events", "64", "--folder", str(tmp_path)]).stdout


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["journal", "--folder", str(tmp_path / "none")])
    assert result.exit_code == 3
    assert "cannot be written: No such file or directory" in result.output
