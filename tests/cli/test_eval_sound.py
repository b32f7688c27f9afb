import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from agent.cli.app import app
from agent.evaluate import sound, street
from agent.perception.logmel import RATE
from agent.perception.tag import CLASSES

COLUMNS = "file,label,kind,recording,split,use,licence,seconds,source"


@pytest.fixture
def audio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four streets and four bangs, for tests alone."""
    monkeypatch.setattr(street, "_IMITATIONS", 1)
    monkeypatch.setattr(sound, "_RESAMPLED", 5)
    random = np.random.default_rng(1)
    rows = [COLUMNS]
    for place in range(4):
        for label, kind in (("background", "bg_street"), ("gunshot", "gunshot")):
            samples = random.standard_normal(2 * RATE) * 0.01
            if label == "gunshot":
                samples[RATE : RATE + 800] += random.standard_normal(800) * 0.3
            name = f"{kind}-{place}.wav"
            soundfile.write(tmp_path / name, samples.astype(np.float32), RATE)
            rows.append(f"{name},{label},{kind},{name},test,evaluate,none,2.0,made here")
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["eval", "sound", *arguments])
    return result.exit_code, result.output


def test_figures_come_as_json(audio: Path) -> None:
    code, output = run("--audio", str(audio), "--model", "vigie-sound", "--alone", "--continuous", "--json")
    assert code == 0, output
    answer = json.loads(output)
    figures = answer["systems"]["vigie-sound"]
    assert set(figures["classes"]) == set(CLASSES)
    assert figures["classes"]["gunshot"]["recordings"] == 4
    assert figures["classes"]["siren"]["recall"]["value"] is None
    assert 0 <= figures["thresholds"]["gunshot"] <= 1
    walked = answer["street"]["vigie-sound"]
    assert walked["false_alarms"]["gunshot"]["hours"] == pytest.approx(8 / 3600)
    assert sum(one["of"] for one in walked["heard"]["gunshot"]) == 4 * 5


def test_a_table_ends_with_the_lines_of_the_registry(audio: Path) -> None:
    code, output = run("--audio", str(audio), "--model", "vigie-sound", "--alone")
    assert code == 0, output
    assert "thresholds = { gunshot = " in output
    assert "experimental = [" in output


@pytest.mark.parametrize("wrong", [("--unheard", "ship"), ("--model", "nobody")])
def test_nothing_to_test_is_an_error(audio: Path, wrong: tuple[str, str]) -> None:
    code, output = run("--audio", str(audio), "--alone", *wrong)
    assert code == 2
    assert "nothing to test" in output
