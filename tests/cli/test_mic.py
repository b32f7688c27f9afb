"""`vigie test mic`: levels, and what calibration writes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from agent.capture.sound import Block
from agent.cli.app import app
from agent.perception.calibrate import Calibration
from agent.settings import load

runner = CliRunner()


def recording(folder: Path, level_dbfs: float) -> Path:
    path = folder / "yard.wav"
    soundfile.write(path, np.random.default_rng(1).normal(0, 10 ** (level_dbfs / 20), 16_000), 16_000)
    return path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "vigie.toml"
    path.write_text(f'[microphone]\nsource = "file:{recording(tmp_path, -52)}"\n')
    return path


def test_the_levels_are_shown(config: Path) -> None:
    result = runner.invoke(app, ["test", "mic", "-c", str(config), "--json"])
    assert result.exit_code == 0, result.output
    levels = json.loads(result.stdout)
    assert levels["floor_dbfs"] == pytest.approx(-52, abs=0.5)
    assert levels["gain_db"] == pytest.approx(12, abs=0.5)
    assert (levels["channels"], levels["clipped_percent"], levels["gaps"]) == (1, 0, 0)
    assert not (config.parent / "vigie.toml.d").exists()
    assert "background" in runner.invoke(app, ["test", "mic", "-c", str(config)]).output


def test_calibration_writes_levels_and_nothing_else_when_it_is_told_to(config: Path) -> None:
    drop_in = config.parent / "vigie.toml.d" / "microphone.toml"
    asked = runner.invoke(app, ["test", "mic", "-c", str(config), "--calibrate"], input="n\n")
    assert asked.exit_code == 1
    assert not drop_in.exists()
    result = runner.invoke(app, ["test", "mic", "-c", str(config), "--calibrate", "--yes"])
    assert result.exit_code == 0, result.output
    keys = [line.partition(" = ")[0] for line in drop_in.read_text().splitlines()]
    assert keys == ["[microphone]", "floor_dbfs", "gain_db"]
    microphone = load(config).microphone
    assert microphone.floor_dbfs == pytest.approx(-52, abs=0.5)
    assert microphone.gain_db == pytest.approx(12, abs=0.5)
    assert microphone.source is not None, "the drop-in adds to the configuration"


def test_a_mute_microphone_cannot_be_calibrated(config: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "mute.wav", np.zeros(16_000), 16_000)
    command = ["test", "mic", "-c", str(config), "--source", f"file:{tmp_path}/mute.wav", "--calibrate", "--yes"]
    result = runner.invoke(app, command)
    assert result.exit_code == 1
    assert "digital silence" in result.stderr
    assert not (config.parent / "vigie.toml.d").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [([], 2, "name one with --source"), (["--source", "file:/nowhere.wav"], 3, "cannot be read")],
)
def test_a_microphone_that_is_not_there_is_named(tmp_path: Path, arguments: list[str], code: int, said: str) -> None:
    (tmp_path / "empty.toml").write_text("")
    result = runner.invoke(app, ["test", "mic", "-c", str(tmp_path / "empty.toml"), *arguments])
    assert result.exit_code == code
    assert said in result.stderr


def test_clipping_and_gaps_are_counted() -> None:
    calibration = Calibration()
    calibration.add(Block(np.full((1, 1600), 0.1, np.float32), 0.1))
    calibration.add(Block(np.ones((1, 1600), np.float32), 0.3, gap=True))
    levels = calibration.levels()
    assert (levels.clipped_percent, levels.gaps, levels.peak_dbfs) == (50, 1, 0)
