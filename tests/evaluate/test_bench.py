from __future__ import annotations

import json
import os
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from agent.cli.bench import app
from agent.evaluate.bench import TURN, BenchError, measure
from agent.settings import InferenceSettings

CLIP = Path("clips/pets2009_s2l1.mp4")


@pytest.fixture
def models(data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VIGIE_DATA", str(data))
    return data


def test_both_loops_are_measured_on_the_same_frames(models: Path) -> None:
    turns: list[int] = []
    result = measure(models / CLIP, InferenceSettings(), TURN, turns.append)
    assert turns == [TURN]
    assert (result.model, result.width, result.height, result.frames) == ("vigie-detector", 768, 576, TURN)
    assert 0 < result.persons < 20
    assert result.bare.cpu_ms > 0
    assert result.inference.cpu_ms > 0
    assert result.agent.cpu_ms == pytest.approx(result.inference.cpu_ms + result.rest.cpu_ms)
    assert result.ratio == pytest.approx(result.bare.cpu_ms / result.agent.cpu_ms)


def test_the_process_has_its_cores_back_afterwards(models: Path) -> None:
    before = os.sched_getaffinity(0), cv2.getNumThreads()
    measure(models / CLIP, InferenceSettings(), TURN)
    assert (os.sched_getaffinity(0), cv2.getNumThreads()) == before


def test_a_clip_that_ends_before_the_first_turn_is_refused(models: Path, tmp_path: Path) -> None:
    clip = tmp_path / "short.mp4"
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height = 64, 48
        for _ in range(TURN):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="bgr24")))
        container.mux(stream.encode())
    with pytest.raises(BenchError, match="too short: it takes 40 frames"):
        measure(clip, InferenceSettings(), TURN)


def test_without_a_model_there_is_nothing_to_compare_with(tmp_path: Path) -> None:
    (tmp_path / "registry.toml").touch()
    with pytest.raises(BenchError, match="no model serves"):
        measure(tmp_path / "any.mp4", InferenceSettings(models=tmp_path), TURN)


def test_the_command_prints_json(models: Path) -> None:
    result = CliRunner().invoke(app, ["pipeline", "--clip", str(models / CLIP), "--frames", str(TURN), "--json"])
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert (figures["clip"], figures["frames"], figures["threads"]) == (CLIP.name, TURN, 1)
    assert {"bare", "agent", "inference", "rest", "ratio", "wall_ratio"} <= figures.keys()


def test_the_command_ends_with_3_when_the_clip_is_missing(models: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["pipeline", "--clip", str(tmp_path / "gone.mp4")])
    assert result.exit_code == 3
    assert "gone.mp4" in result.stderr
