"""Going on from a released tagger, whose normalisations have become part of its convolutions."""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from models.train.sound.network import Pupil

#: What a normalisation adds to the variance, in torch.
_EPSILON = 1e-5


class StartError(ValueError):
    """A file that is no released tagger of this architecture."""


def start(pupil: Pupil, released: Path) -> None:
    """Give a pupil the ears of a released tagger: it answers alike, and its normalisations stay as they are.

    Args:
        pupil: On the processor.
        released: FP32 ONNX file as `release` writes it.

    Raises:
        StartError: the file is of another architecture.
    """
    graph = onnx.load(released).graph
    parts = {part.name: torch.tensor(numpy_helper.to_array(part)) for part in graph.initializer}
    folded = [[parts[name] for name in node.input[1:]] for node in graph.node if node.op_type == "Conv"]
    try:
        for layer, (weight, bias) in zip(pupil.tagger.layers.children(), folded, strict=True):
            convolution, norm, _ = layer.children()
            convolution.load_state_dict({"weight": weight})
            _settle(norm, bias)
        for name in ("level", "classify"):
            state = {key.partition(".")[2]: part for key, part in parts.items() if key.startswith(f"{name}.")}
            getattr(pupil.tagger, name).load_state_dict(state, strict=name == "classify")
    except (RuntimeError, ValueError) as error:
        raise StartError(f"{released}: not a tagger of this architecture: {error}") from error
    pupil.settled = True
    pupil.eval()


def keep(pupil: Pupil, layers: int) -> None:
    """Let the first layers learn no more."""
    for layer in list(pupil.tagger.layers.children())[:layers]:
        layer.requires_grad_(False)


def _settle(norm: nn.Module, bias: Tensor) -> None:
    """Make a normalisation add this and do nothing else."""
    ones = torch.ones_like(bias)
    norm.load_state_dict(
        {
            "weight": ones * (1 + _EPSILON) ** 0.5,
            "bias": bias,
            "running_mean": torch.zeros_like(bias),
            "running_var": ones,
            "num_batches_tracked": torch.tensor(0),
        }
    )
