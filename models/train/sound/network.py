"""The sound tagger: plain convolutions, the embedding that YAMNet would give, and the classes read from it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: Values of YAMNet's embedding.
EMBEDDING = 1024
#: Channels and stride of each layer; plain convolutions are trained twice as fast on a CPU as depthwise ones.
_LAYERS = ((16, 2), (32, 2), (64, 1), (96, 2), (96, 1), (128, 2), (160, 1))
#: Mean and deviation of log-mel in streets, roughly.
_MEAN, _DEVIATION = -2.0, 2.5


def _layer(before: int, after: int, stride: int, size: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, size, stride, size // 2, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)
    )


class Tagger(nn.Module):
    """Log-mel patches to classes, by way of YAMNet's embedding.

    Attributes:
        embed: From pooled features to the embedding.
        classify: From the embedding to the classes.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        layers, before = [], 1
        for place, (after, stride) in enumerate(_LAYERS):
            layers.append(_layer(before, after, stride, 3 if place else 5))
            before = after
        self.layers = nn.Sequential(*layers)
        self.embed = nn.Linear(2 * before, EMBEDDING)
        self.classify = nn.Linear(EMBEDDING, classes)

    def embedding(self, logmel: Tensor) -> Tensor:
        """(N, 1, 96, 64) float32 to (N, 1024), zero or more."""
        features = self.layers((logmel - _MEAN) / _DEVIATION)
        pooled = torch.cat([features.mean((2, 3)), features.amax((2, 3))], 1)
        return self.embed(pooled).relu()

    def forward(self, logmel: Tensor) -> Tensor:
        """(N, 1, 96, 64) float32 to logits, (N, classes)."""
        logits: Tensor = self.classify(self.embedding(logmel))
        return logits
