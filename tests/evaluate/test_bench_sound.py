"""The bench of listening: what it reports, with and without librosa."""

from __future__ import annotations

import importlib.util
import json

import pytest
from typer.testing import CliRunner

from agent.cli.app import app
from agent.evaluate.bench_sound import measure, turns
from agent.settings import InferenceSettings


def test_it_measures_a_channel_with_sound_and_without() -> None:
    told: list[int] = []
    result = measure(InferenceSettings(tagger="vigie-sound"), 10, told.append)
    assert sum(told) == turns(10)
    assert result.model == "vigie-sound"
    assert result.seconds == 10
    assert result.quiet_percent > 0
    assert result.busy_percent > 0
    assert result.front_ms > 0


@pytest.mark.skipif(importlib.util.find_spec("librosa") is not None, reason="librosa is installed")
def test_without_librosa_it_says_so() -> None:
    result = measure(InferenceSettings(), 10, lambda _: None)
    assert (result.librosa, result.librosa_ms, result.ratio) == (None, None, None)
    shown = CliRunner().invoke(app, ["bench", "sound", "--seconds", "10"])
    assert "not measured: pip install librosa" in shown.output
    as_json = CliRunner().invoke(app, ["bench", "sound", "--seconds", "10", "--json"])
    assert json.loads(as_json.stdout)["ratio"] is None
