from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from agent.inference.backend import Array, InferenceError, TensorSpec
from agent.inference.onnx import OnnxBackend

Network = Callable[..., bytes]
INT32 = 6
MODELS = Path(__file__).parents[2] / "models"


def test_a_network_says_what_it_takes_and_gives(network: Network) -> None:
    backend = OnnxBackend(network("Abs", ("batch", 4)), 1)
    assert backend.inputs == (TensorSpec("x", (None, 4), np.dtype(np.float32)),)
    assert backend.outputs == (TensorSpec("y", (None, 4), np.dtype(np.float32)),)


def test_a_batch_goes_through(network: Network) -> None:
    backend = OnnxBackend(network("Abs", ("batch", 4)), 1)
    batch = np.array([[-1, 2, -3, 4], [0, 0, -5, 6]], np.float32)
    (output,) = backend.run(batch)
    np.testing.assert_array_equal(output, np.abs(batch))


@pytest.mark.parametrize("batch", [np.zeros((2, 4), np.float32), np.zeros((1, 4), np.float64), np.zeros(4, np.float32)])
def test_a_batch_that_does_not_fit_is_an_error_of_ours(network: Network, batch: Array) -> None:
    with pytest.raises(InferenceError, match="onnxruntime: "):
        OnnxBackend(network("Abs", (1, 4)), 1).run(batch)


@pytest.mark.parametrize("content", [b"", b"no network at all" * 9])
def test_what_is_no_onnx_is_an_error_of_ours(content: bytes) -> None:
    with pytest.raises(InferenceError, match="onnxruntime cannot load the model"):
        OnnxBackend(content, 1)


def test_an_unknown_operator_is_an_error_of_ours(network: Network) -> None:
    with pytest.raises(InferenceError, match="onnxruntime cannot load the model"):
        OnnxBackend(network("Clairvoyance", (1, 4)), 1)


def test_an_input_of_an_unknown_type_is_refused_by_name(network: Network) -> None:
    with pytest.raises(InferenceError, match="x is a tensor"):
        OnnxBackend(network("Abs", (1, 4), INT32), 1)


def test_a_truncated_model_is_an_error_of_ours(data: Path) -> None:
    content = (data / "models/yolox_nano.onnx").read_bytes()
    with pytest.raises(InferenceError, match="onnxruntime cannot load the model"):
        OnnxBackend(content[: len(content) // 2], 1)


def test_errors_are_raised_and_not_printed(network: Network, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InferenceError):
        OnnxBackend(b"no network at all", 1)
    with pytest.raises(InferenceError):
        OnnxBackend(network("Abs", (1, 4)), 1).run(np.zeros((3, 3), np.float32))
    assert capfd.readouterr() == ("", "")


def test_a_closed_backend_can_be_closed_again_and_does_not_run(network: Network) -> None:
    backend = OnnxBackend(network("Abs", (1, 4)), 1)
    backend.close()
    backend.close()
    with pytest.raises(InferenceError, match="closed"):
        backend.run(np.zeros((1, 4), np.float32))


def test_the_network_runs_without_telemetry(tmp_path: Path) -> None:
    program = (
        "from agent.inference.onnx import ort; ort.InferenceSession("
        f"{str(MODELS / 'vigie-patch.onnx')!r}, providers=['CPUExecutionProvider'])"
    )
    environment = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    assert list(tmp_path.rglob("*")) == [], "no id of the machine, no store of what it did"
