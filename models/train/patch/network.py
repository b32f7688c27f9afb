"""A small network that names a patch: plain convolutions, each halving the picture, and a mean over what is left."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from agent.perception.patch import CLASSES

SIZE = 64


def conv(given: int, made: int, stride: int) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU."""
    return nn.Sequential(nn.Conv2d(given, made, 3, stride, 1, bias=False), nn.BatchNorm2d(made), nn.ReLU(inplace=True))


class Checker(nn.Module):
    """The network: patches to a logit for each class."""

    def __init__(self, widths: tuple[int, ...] = (16, 32, 48, 64)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        given = 3
        for width in widths:
            layers += [conv(given, width, 2), conv(width, width, 1)]
            given = width
        self.body = nn.Sequential(*layers)
        self.drop = nn.Dropout(0.2)
        self.answer = nn.Linear(2 * given, len(CLASSES))

    def forward(self, patches: Tensor) -> Tensor:
        """(N, 3, 64, 64) float32, BGR, 0 to 255, to (N, classes) logits."""
        x = self.body(patches / 255 - 0.5)
        # What is everywhere, and what is somewhere.
        features = torch.cat([x.mean((2, 3)), functional.adaptive_max_pool2d(x, 1).flatten(1)], 1)
        out: Tensor = self.answer(self.drop(features))
        return out
