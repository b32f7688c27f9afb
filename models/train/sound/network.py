"""The sound tagger: plain convolutions, and what is read from them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: Values of YAMNet's embedding, and names that it reads from it.
EMBEDDING, NAMES = 1024, 521
#: Channels and stride of each layer; plain convolutions are trained twice as fast on a CPU as depthwise ones.
_LAYERS = ((16, 2), (32, 2), (64, 2), (96, 1), (160, 2), (256, 1))
#: Mean and deviation of log-mel in streets, roughly.
_MEAN, _DEVIATION = -2.0, 2.5


def _layer(before: int, after: int, stride: int, size: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, size, stride, size // 2, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)
    )


class Tagger(nn.Module):
    """Log-mel patches to classes.

    Attributes:
        classify: From features to the classes.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        layers, before = [], 1
        for place, (after, stride) in enumerate(_LAYERS):
            layers.append(_layer(before, after, stride, 3 if place else 5))
            before = after
        self.layers = nn.Sequential(*layers)
        # Without it the readers hardly learn: means and maxima differ in size.
        self.level = nn.BatchNorm1d(2 * before)
        self.classify = nn.Linear(2 * before, classes)

    def features(self, logmel: Tensor) -> Tensor:
        """(N, 1, 96, 64) float32 to (N, 512): mean and maximum of each channel."""
        maps = self.layers((logmel - _MEAN) / _DEVIATION)
        levelled: Tensor = self.level(torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], 1))
        return levelled

    def forward(self, logmel: Tensor) -> Tensor:
        """(N, 1, 96, 64) float32 to logits, (N, classes)."""
        logits: Tensor = self.classify(self.features(logmel))
        return logits


class Pupil(nn.Module):
    """A tagger while it learns: with what YAMNet would make of its features.

    Attributes:
        tagger: What is shipped.
        embed: To the square root of YAMNet's embedding, which is zero or more, and mostly small.
        name: To the logits of YAMNet's names.
        settled: Whether normalisations stay as they are while it learns.
    """

    settled = False

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.tagger = Tagger(classes)
        features = self.tagger.classify.in_features
        self.embed = nn.Linear(features, EMBEDDING)
        self.name = nn.Linear(features, NAMES)
        with torch.no_grad():
            for reader in (self.embed, self.name):
                reader.weight.mul_(0.1)

    def train(self, mode: bool = True) -> Pupil:
        """As any module, but that a settled one never counts anew."""
        super().train(mode and not self.settled)
        return self
