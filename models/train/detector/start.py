"""Going on from a released detector, whose normalisation has become part of its convolutions.

A network that was shipped is all that is left of a training once its checkpoints are gone. It gives the same network
back in a form that learns: each normalisation is told what its convolution yields on pictures, and is set such that it
changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from models.train.detector.network import Detector, Shared


class StartError(ValueError):
    """A file that is no released detector of this architecture."""


def start(network: Detector, released: Path, pictures: Iterable[Tensor]) -> None:
    """Give a network the weights of a released one: it answers alike, but for the calibration of its scores.

    Args:
        network: On the processor.
        released: FP32 ONNX file as `release` writes it.
        pictures: (N, 3, H, W) float32, BGR, 0 to 255, each: what the normalisations are set by.

    Raises:
        StartError: the file is of another architecture.
    """
    lines: dict[nn.BatchNorm2d, tuple[Tensor, Tensor]] = {}  # what each normalisation is to do: times, plus
    try:
        folded = _folded(released)
        for name, module in network.named_modules():
            if isinstance(module, Shared):
                weights, biases = zip(*(folded.pop(f"{name}.conv{end}") for end in ("", "_1", "_2")), strict=True)
                sizes = torch.stack([weight.flatten(1).square().sum(1) for weight in weights])  # (levels, width)
                largest = sizes.argmax(0)
                base = torch.stack(weights)[largest, torch.arange(len(largest))]
                module.conv.load_state_dict({"weight": base})
                for norm, weight, bias in zip(module.norms, weights, biases, strict=True):
                    factor = (weight * base).flatten(1).sum(1) / base.flatten(1).square().sum(1)
                    lines[norm] = (factor, bias)  # type: ignore[index]
            elif isinstance(module, nn.Conv2d) and name in folded:
                weight, bias = folded.pop(name)
                if module.bias is not None:
                    module.load_state_dict({"weight": weight, "bias": bias})
                    continue
                module.load_state_dict({"weight": weight})
                parent, _, place = name.rpartition(".")
                lines[network.get_submodule(f"{parent}.{int(place) + 1}")] = (torch.ones(len(bias)), bias)  # type: ignore[index]
    except (KeyError, RuntimeError) as error:
        raise StartError(f"{released}: not a detector of this architecture: {error}") from error
    if folded:
        raise StartError(f"{released}: not a detector of this architecture: it has {', '.join(folded)} too")
    _settle(network, lines, pictures)


def _folded(released: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """Weight and bias of each convolution, by the name of its module; `_1` and `_2` stand for the upper levels."""
    graph = onnx.load(released).graph
    values = {item.name: torch.from_numpy(numpy_helper.to_array(item).copy()) for item in graph.initializer}
    folded = {}
    for node in graph.node:
        if node.op_type != "Conv":
            continue
        path: list[str] = []
        for part in node.name.split("/")[2:-1]:  # "/network/stem/stem.0/stem.0.0/Conv": later parts tell more
            if path and part.startswith(f"{path[-1]}."):
                path[-1] = part
            else:
                path.append(part)
        if not path[-1].startswith("answer_"):  # the same for all levels
            folded[".".join(path)] = (values[node.input[1]], values[node.input[2]])
    return folded


@torch.no_grad()
def _settle(network: Detector, lines: dict[nn.BatchNorm2d, tuple[Tensor, Tensor]], pictures: Iterable[Tensor]) -> None:
    """Set each normalisation such that it does what it is to do, and knows what it gets."""
    sums: dict[nn.Module, list[Tensor]] = {norm: [] for norm in lines}

    def note(norm: nn.Module, given: tuple[Tensor]) -> None:
        x = given[0].transpose(0, 1).flatten(1)
        sums[norm].append(torch.stack([x.mean(1), x.square().mean(1)]))

    for norm, (factor, summand) in lines.items():
        norm.running_mean = torch.zeros_like(summand)
        norm.running_var = torch.full_like(summand, 1 - norm.eps)
        norm.weight.copy_(factor)
        norm.bias.copy_(summand)
    watchers = [norm.register_forward_pre_hook(note) for norm in lines]
    network.eval()
    for batch in pictures:
        network(batch)
    network.train()
    for watcher in watchers:
        watcher.remove()
    for norm, (factor, summand) in lines.items():
        mean, square = torch.stack(sums[norm]).mean(0)
        spread = (square - mean.square()).clamp(min=0)
        norm.running_mean, norm.running_var = mean, spread
        norm.weight.copy_(factor * (spread + norm.eps).sqrt())
        norm.bias.copy_(summand + factor * mean)
