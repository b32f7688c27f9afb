"""A nano detector of our own: a small convolutional backbone, a pyramid of three scales, one head for all of them.

Anchor-free, one prediction a cell, as in FCOS (Tian et al., 2019, arXiv:1904.01355) and YOLOX (Ge et al., 2021,
arXiv:2107.08430), whose output format it keeps. The blocks are cross-stage partial ones (Wang et al., 2020,
arXiv:1911.11929) of plain 3 x 3 convolutions: for the same arithmetic, processors and TensorRT run these faster than
depthwise ones. The pyramid goes down and up again (PANet, Liu et al., 2018, arXiv:1803.01534).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

#: Classes, in the order of the output.
CLASSES = ("person", "bicycle", "motorcycle", "car", "bus", "truck")
#: Pixels of the input that a cell of each scale stands for.
STRIDES = (8, 16, 32)
#: How likely a cell is to hold an object before anything is learned (Lin et al., 2017, arXiv:1708.02002, 4.1).
_PRIOR = 0.002


def conv(given: int, made: int, size: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(given, made, size, stride, size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(made, eps=1e-3, momentum=0.03),
        nn.ReLU(inplace=True),
    )


class Residual(nn.Module):
    """Two 3 x 3 convolutions beside a way around them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(width, width), conv(width, width))

    def forward(self, x: Tensor) -> Tensor:
        """(N, width, H, W) to the same."""
        out: Tensor = x + self.body(x)
        return out


class Partial(nn.Module):
    """A cross-stage partial block: half of the channels go through residual blocks, half around them."""

    def __init__(self, given: int, made: int, depth: int) -> None:
        super().__init__()
        self.ways = conv(given, made, 1)
        self.body = nn.Sequential(*(Residual(made // 2) for _ in range(depth)))
        self.join = conv(made, made, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, given, H, W) to (N, made, H, W)."""
        around, through = self.ways(x).chunk(2, 1)
        out: Tensor = self.join(torch.cat([around, self.body(through)], 1))
        return out


class Pooled(nn.Module):
    """Looks further: poolings in a row, joined (spatial pyramid pooling, He et al., 2014, arXiv:1406.4729)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.narrow = conv(width, width // 2, 1)
        self.join = conv(width * 2, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, width, H, W) to the same."""
        levels = [self.narrow(x)]
        for _ in range(3):
            levels.append(functional.max_pool2d(levels[-1], 5, 1, 2))
        out: Tensor = self.join(torch.cat(levels, 1))
        return out


class Shared(nn.Module):
    """A convolution that all pyramid levels share, with a normalisation of its own for each; ReLU."""

    def __init__(self, width: int, size: int, groups: int, levels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, size, padding=size // 2, groups=groups, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width, eps=1e-3, momentum=0.03) for _ in range(levels))

    def forward(self, x: Tensor, level: int) -> Tensor:
        """(N, width, H, W) to the same."""
        return functional.relu(self.norms[level](self.conv(x)), inplace=True)


class Branch(nn.Module):
    """Two shared convolutions, one over places and one over channels, and an answer for each cell."""

    def __init__(self, width: int, made: int, levels: int) -> None:
        super().__init__()
        self.places = Shared(width, 5, width, levels)
        self.channels = Shared(width, 1, 1, levels)
        self.answer = nn.Conv2d(width, made, 1)

    def forward(self, x: Tensor, level: int) -> Tensor:
        """(N, width, H, W) to (N, made, H, W)."""
        out: Tensor = self.answer(self.channels(self.places(x, level), level))
        return out


class Head(nn.Module):
    """A box and class logits for each cell of each pyramid level.

    The levels share their convolutions, but not their normalisation: what is usual differs between them (RTMDet, Lyu et
    al., 2022, arXiv:2212.07784, section 3.3).
    """

    def __init__(self, width: int, classes: int, levels: int) -> None:
        super().__init__()
        self.boxes = Branch(width, 4, levels)
        self.classes = Branch(width, classes, levels)
        nn.init.constant_(self.classes.answer.bias, torch.logit(torch.tensor(_PRIOR)).item())  # type: ignore[arg-type]

    def forward(self, x: Tensor, level: int) -> Tensor:
        """(N, width, H, W) to (N, H x W, 4 + classes)."""
        both = torch.cat([self.boxes(x, level), self.classes(x, level)], 1)
        return both.flatten(2).transpose(1, 2)


class Detector(nn.Module):
    """The network: pictures to raw predictions."""

    def __init__(self, widths: tuple[int, ...] = (12, 24, 48, 96, 176), neck: int = 56) -> None:
        super().__init__()
        stem, quarter, *levels = widths
        self.stem = nn.Sequential(conv(3, stem, stride=2), conv(stem, quarter, stride=2), Partial(quarter, quarter, 1))
        self.stages = nn.ModuleList()
        given = quarter
        for width, depth in zip(levels, (1, 2, 1), strict=True):
            self.stages.append(nn.Sequential(conv(given, width, stride=2), Partial(width, width, depth)))
            given = width
        self.look_around = Pooled(given)
        self.sideways = nn.ModuleList(conv(width, neck, 1) for width in levels)
        self.down = nn.ModuleList(Partial(2 * neck, neck, 1) for _ in levels[1:])
        self.shrink = nn.ModuleList(conv(neck, neck, stride=2) for _ in levels[1:])
        self.up = nn.ModuleList(Partial(2 * neck, neck, 1) for _ in levels[1:])
        self.head = Head(neck, len(CLASSES), len(levels))

    def forward(self, pictures: Tensor) -> Tensor:
        """Raw predictions.

        Args:
            pictures: (N, 3, H, W) float32, BGR, 0 to 255; H and W multiples of 32.

        Returns:
            (N, cells, 4 + classes) float32, the cells of stride 8 first, row by row: x and y in cells from the cell's
            corner, the logarithm of width and height in cells, then a logit for each class.
        """
        x = self.stem(pictures / 255 - 0.5)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        features[-1] = self.look_around(x)
        fine, middle, coarse = (side(feature) for side, feature in zip(self.sideways, features, strict=True))
        middle = self.down[0](torch.cat([middle, _twice(coarse)], 1))
        fine = self.down[1](torch.cat([fine, _twice(middle)], 1))
        middle = self.up[0](torch.cat([middle, self.shrink[0](fine)], 1))
        coarse = self.up[1](torch.cat([coarse, self.shrink[1](middle)], 1))
        return torch.cat([self.head(x, level) for level, x in enumerate((fine, middle, coarse))], 1)


def _twice(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")
