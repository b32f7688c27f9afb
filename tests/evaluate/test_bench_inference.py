from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent.cli.bench import app
from agent.evaluate.bench_inference import TURN, InferenceBench, Skipped, measure
from agent.inference.backend import OPENERS, Backend, InferenceError

#: The ONNX model y = |x|, with x of (batch, 4) float32; and the same with a batch of 1 only.
ANY_BATCH = (
    b'\x08\x08:F\n\x0b\n\x01x\x12\x01y"\x03Abs\x12\x03oneZ\x18\n\x01x\x12\x13\n\x11\x08\x01\x12\r\n\x07\x12\x05batch\n'
    b"\x02\x08\x04b\x18\n\x01y\x12\x13\n\x11\x08\x01\x12\r\n\x07\x12\x05batch\n\x02\x08\x04B\x04\n\x00\x10\x11"
)
BATCH_OF_1 = (
    b'\x08\x08:<\n\x0b\n\x01x\x12\x01y"\x03Abs\x12\x03oneZ\x13\n\x01x\x12\x0e\n\x0c\x08\x01\x12\x08\n\x02\x08\x01\n'
    b"\x02\x08\x04b\x13\n\x01y\x12\x0e\n\x0c\x08\x01\x12\x08\n\x02\x08\x01\n\x02\x08\x04B\x04\n\x00\x10\x11"
)


def onnxruntime_only(model: bytes, batches: list[int]) -> tuple[list[InferenceBench], list[Skipped]]:
    return measure(model, batches, 1, TURN, openers={"onnxruntime": OPENERS["onnxruntime"]})


def absent(model: bytes, threads: int) -> Backend:
    raise InferenceError("no such runtime here")


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "abs.onnx").write_bytes(ANY_BATCH)
    (tmp_path / "registry.toml").write_text(
        f"""
        [[model]]
        name = "abs"
        version = "1"
        task = "detect"
        decoder = "yolox"
        classes = {{ person = 0 }}
        input = {{ width = 4, height = 4, colour = "bgr", white = 255, letterbox = 114 }}
        file = "abs.onnx"
        sha256 = "{hashlib.sha256(ANY_BATCH).hexdigest()}"
        source = "this test"
        licence = "Apache-2.0"
        """
    )
    monkeypatch.setenv("VIGIE_INFERENCE__MODELS", str(tmp_path))
    return tmp_path


def test_each_batch_size_is_measured_beside_the_bare_loop() -> None:
    results, skipped = onnxruntime_only(ANY_BATCH, [1, 3])
    assert skipped == []
    assert [(one.backend, one.batch, one.calls) for one in results] == [
        ("onnxruntime", 1, TURN),
        ("onnxruntime", 3, TURN),
    ]
    for one in results:
        assert one.ratio > 0
        for speed in (one.served, one.bare):
            assert 0 < speed.p50_ms <= speed.p95_ms <= speed.p99_ms
            assert speed.inferences_per_s > 0
            assert speed.memory_mib > 1  # the runtime library alone is more


def test_a_size_that_the_model_does_not_take_is_skipped_and_said() -> None:
    results, skipped = onnxruntime_only(BATCH_OF_1, [1, 2])
    assert [one.batch for one in results] == [1]
    assert skipped == [Skipped("onnxruntime", 2, "the model takes batches of 1 only")]


def test_a_backend_that_does_not_serve_is_skipped_and_said() -> None:
    steps: list[int] = []
    results, skipped = measure(ANY_BATCH, [1, 2], 1, TURN, steps.append, {"other": absent})
    assert results == []
    assert skipped == [Skipped("other", None, "no such runtime here")]
    assert sum(steps) == 2


def test_calls_are_rounded_up_to_whole_turns() -> None:
    (one,), _ = measure(ANY_BATCH, [1], 1, TURN + 1, openers={"onnxruntime": OPENERS["onnxruntime"]})
    assert one.calls == 2 * TURN


def test_the_command_prints_json(registry: Path) -> None:
    result = CliRunner().invoke(app, ["inference", "--batch", "2", "--calls", "10", "--threads", "1", "--json"])
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert (figures["model"], figures["threads"]) == ("abs", 1)
    (one,) = [one for one in figures["results"] if one["backend"] == "onnxruntime"]
    assert one["batch"] == 2
    assert (
        one["served"].keys() == one["bare"].keys() == {"inferences_per_s", "p50_ms", "p95_ms", "p99_ms", "memory_mib"}
    )


def test_the_command_prints_a_table_with_units(registry: Path) -> None:
    result = CliRunner().invoke(app, ["inference", "--batch", "1", "--calls", "10"])
    assert result.exit_code == 0, result.output
    for word in ("inferences/s", "p50 ms", "p95 ms", "p99 ms", "MiB", "ratio", "onnxruntime", "bare loop"):
        assert word in result.stdout


@pytest.mark.parametrize("batch", ["", "0", "1,x", "-1"])
def test_batch_sizes_that_are_none_are_refused(batch: str, registry: Path) -> None:
    result = CliRunner().invoke(app, ["inference", "--batch", batch])
    assert result.exit_code == 2
    assert "such as 1,2,4" in result.stderr


def test_a_model_that_nobody_knows_ends_with_3(registry: Path) -> None:
    result = CliRunner().invoke(app, ["inference", "--model", "ab"])
    assert result.exit_code == 3
    assert "did you mean 'abs'?" in result.stderr
