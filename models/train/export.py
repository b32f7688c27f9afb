"""From torch to ONNX: opset 17, any batch, in FP32 and in FP16, both checked against torch."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import Tensor, nn

OPSET = 17
#: Largest difference from torch, as a part of the largest output: rounding, no more.
_TOLERANCE = 1e-3
_TOLERANCE_FP16 = 2e-2


class ExportError(RuntimeError):
    """The exported network does not answer as the trained one does."""


class _Half(nn.Module):
    """A network whose weights and arithmetic are FP16, between an input and outputs that stay FP32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.half()

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        out = self.network(x.half())
        return out.float() if isinstance(out, Tensor) else tuple(part.float() for part in out)


def export(
    network: nn.Module,
    example: Tensor,
    path: Path,
    *,
    input_name: str,
    output_names: Sequence[str],
    fp16: Path | None = None,
) -> None:
    """Write a network as ONNX.

    Args:
        network: In evaluation mode, on the processor, FP32.
        example: An input as it comes in use, (batch, …) float32; its first axis becomes free.
        path: File of the FP32 network.
        input_name: Name of the input.
        output_names: Names of the outputs.
        fp16: File of the network in FP16, for TensorRT's strongly typed mode; its input and outputs stay FP32.

    Raises:
        ExportError: onnxruntime's answer differs from torch's, for the example or for a batch of two.
    """
    _write(network, example, path, input_name, output_names)
    _compare(network, example, path, _TOLERANCE)
    if fp16 is not None:
        _write(_Half(copy.deepcopy(network)).eval(), example, fp16, input_name, output_names)
        _compare(network, example, fp16, _TOLERANCE_FP16)


def _write(network: nn.Module, example: Tensor, path: Path, input_name: str, output_names: Sequence[str]) -> None:
    content = io.BytesIO()
    with warnings.catch_warnings():
        # This exporter is the one that writes opset 17 as it is, without converting from a later one.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (example,),
            content,  # type: ignore[arg-type]
            opset_version=OPSET,
            dynamo=False,
            input_names=[input_name],
            output_names=list(output_names),
            dynamic_axes={name: {0: "batch"} for name in (input_name, *output_names)},
        )
    model = onnx.load_from_string(content.getvalue())
    with torch.no_grad():
        answer = network(example)
    for declared, part in zip(model.graph.output, [answer] if isinstance(answer, Tensor) else answer, strict=True):
        # Only the batch is free; the exporter does not see through a reshape.
        for dimension, size in list(zip(declared.type.tensor_type.shape.dim, part.shape, strict=True))[1:]:
            dimension.dim_value = size
    onnx.checker.check_model(model, full_check=True)
    # What the exporter says of itself would change the hash with its version.
    model.producer_name, model.producer_version = "vigie", ""
    path.write_bytes(model.SerializeToString(deterministic=True))


def _compare(network: nn.Module, example: Tensor, path: Path, tolerance: float) -> None:
    session = ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    for batch in (example, torch.cat([example, example.flip(-1)])):
        with torch.no_grad():
            answer = network(batch)
        expected = [answer] if isinstance(answer, Tensor) else answer
        found = session.run(None, {session.get_inputs()[0].name: batch.numpy()})
        for name, want, have in zip((item.name for item in session.get_outputs()), expected, found, strict=True):
            largest = float(want.abs().max())
            difference = float(np.abs(want.numpy() - np.asarray(have)).max())
            if have.shape != tuple(want.shape) or not difference <= tolerance * max(1.0, largest):
                raise ExportError(f"{path.name}: {name} differs from torch by {difference:.3g} of {largest:.3g}")
