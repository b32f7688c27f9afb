"""Weights between those of two networks: averages over a training, and ways back to where it began."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def blend(network: nn.Module, other: nn.Module, share: float) -> None:
    """Give a network a share of the other's weights, 0 to 1, and what remains of its own."""
    for mean, value in zip(network.state_dict().values(), other.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, share)
        else:
            mean.copy_(value)
