"""Which cells answer for which object, and how wrong they are.

Assignment is task-aligned (TOOD, Feng et al., 2021, arXiv:2108.07755): the cells that already classify and place an
object best are its own. Classes are learned by binary cross-entropy towards that alignment, boxes by generalised
intersection over union (Rezatofighi et al., 2019, arXiv:1902.09630).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional

from models.train.detector.network import CLASSES, STRIDES

_CANDIDATES = 10
_CLASS_POWER = 0.5
_OVERLAP_POWER = 6.0
#: A box smaller than its cell would have no cell inside it; cells up to this many strides from its centre may answer.
_REACH = 1.0
_CLASS_WEIGHT = 0.5
_BOX_WEIGHT = 7.5
_SMALL = 1e-7


@dataclass(frozen=True, slots=True)
class Targets:
    """What is in a batch of pictures, padded to the most crowded one.

    Attributes:
        boxes: (N, M, 4) float32, x0 y0 x1 y1 in pixels of the input.
        classes: (N, M) int64; -1 is padding.
        trust: (N, M) float32: how likely the box is right.
        unsure: (N, K, 5) float32: boxes in which nothing is to be learned about a class, and the class, -1 is padding.
    """

    boxes: Tensor
    classes: Tensor
    trust: Tensor
    unsure: Tensor

    def to(self, device: torch.device) -> Targets:
        """The same on another device."""
        return Targets(*(getattr(self, field.name).to(device) for field in fields(self)))


def cells(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Upper left corner, (cells, 2) in cells, and stride, (cells, 1) in pixels, of every cell, in output order."""
    corners, strides = [], []
    for stride in STRIDES:
        y, x = torch.meshgrid(torch.arange(height // stride), torch.arange(width // stride), indexing="ij")
        corners.append(torch.stack([x, y], -1).reshape(-1, 2))
        strides.append(torch.full((len(corners[-1]), 1), stride))
    return torch.cat(corners).float(), torch.cat(strides).float()


def decode(raw: Tensor, corners: Tensor, strides: Tensor) -> Tensor:
    """Boxes of raw predictions, (N, cells, 4): x0 y0 x1 y1 in pixels of the input."""
    centres = (raw[..., :2] + corners) * strides
    halves = raw[..., 2:4].clamp(max=8).exp() * (strides / 2)
    return torch.cat([centres - halves, centres + halves], -1)


def overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection over union of boxes, broadcast over all but the last axis, and its generalised form."""
    sides = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0)
    inside = sides.prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - inside
    iou = inside / (union + _SMALL)
    hull = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).prod(-1)
    return iou, iou - (hull - union) / (hull + _SMALL)


@torch.no_grad()
def assign(scores: Tensor, boxes: Tensor, centres: Tensor, strides: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
    """The object each cell answers for.

    Args:
        scores: (N, cells, classes), 0 to 1.
        boxes: (N, cells, 4), pixels.
        centres: (cells, 2), pixels.
        strides: (cells, 1), pixels.
        targets: What is there.

    Returns:
        Place of the object among the targets, (N, cells) int64, -1 for none; how well aligned the cell is with it,
        (N, cells), 0 to 1.
    """
    picture, which = (targets.classes >= 0).nonzero(as_tuple=True)  # (R,): the real objects
    truth, kinds = targets.boxes[picture, which][:, None], targets.classes[picture, which]  # (R, 1, 4), (R,)
    middle = (truth[..., :2] + truth[..., 2:]) / 2
    near = ((centres - middle).abs() < _REACH * strides).all(-1)
    inside = (centres > truth[..., :2]).all(-1) & (centres < truth[..., 2:]).all(-1)
    allowed = inside | near  # (R, cells)
    iou, _ = overlap(truth, boxes[picture])
    alignment = scores[picture, :, kinds] ** _CLASS_POWER * iou**_OVERLAP_POWER * allowed
    # Among equals (all zero at the very start) the cells nearest to the middle come first.
    nearness = 1e-9 / (1 + ((centres - middle) / strides).square().sum(-1))
    values, cell = (alignment + nearness * allowed).topk(_CANDIDATES, -1)  # (R, candidates)
    chosen = values > 0
    alignment, iou = (part.gather(1, cell) * chosen for part in (alignment, iou))
    # Each object's best cell is asked for as much as that cell can give.
    quality = alignment / (alignment.amax(-1, keepdim=True) + _SMALL) * iou.amax(-1, keepdim=True)
    # A cell that two objects want goes to the one it covers better, if both are as likely to be there.
    claim = (iou * targets.trust[picture, which][:, None] + _SMALL) * chosen
    cells_each = scores.shape[1]
    where = picture[:, None] * cells_each + cell
    strongest = claim.new_zeros(len(scores) * cells_each).scatter_reduce(0, where.flatten(), claim.flatten(), "amax")
    won = chosen & (claim == strongest[where])
    place = torch.full_like(strongest, -1, dtype=torch.long)
    place[where[won]] = which[:, None].expand_as(where)[won]
    aligned = torch.zeros_like(strongest)
    aligned[where[won]] = quality[won]
    return place.view(-1, cells_each), aligned.view(-1, cells_each)


def loss(raw: Tensor, targets: Targets, corners: Tensor, strides: Tensor) -> tuple[Tensor, dict[str, float]]:
    """How wrong a batch of raw predictions is.

    Args:
        raw: (N, cells, 4 + classes) float32.
        targets: What is there.
        corners: (cells, 2), in cells.
        strides: (cells, 1), pixels.

    Returns:
        The loss, and its parts for the log.
    """
    boxes = decode(raw, corners, strides)
    logits = raw[..., 4:]
    centres = (corners + 0.5) * strides
    place, quality = assign(logits.detach().sigmoid(), boxes.detach(), centres, strides, targets)
    taken = place >= 0
    index = place.clamp(min=0)
    rows = torch.arange(len(raw))[:, None]
    if taken.any():
        quality = quality * targets.trust[rows, index]
    wanted = torch.zeros_like(logits)
    if taken.any():
        kinds = targets.classes[rows, index]
        wanted = functional.one_hot(kinds.clamp(min=0), len(CLASSES)) * (quality * taken)[..., None]
    wrong = functional.binary_cross_entropy_with_logits(logits, wanted.to(logits.dtype), reduction="none")
    wrong = wrong * (_sure(targets.unsure, centres) | (wanted > 0))
    total = quality.sum().clamp(min=1)
    of_class = wrong.sum() / total
    of_box = raw.sum() * 0
    if taken.any():
        _, generalised = overlap(boxes[taken], targets.boxes[rows, index][taken])
        of_box = ((1 - generalised) * quality[taken]).sum() / total
    whole = _CLASS_WEIGHT * of_class + _BOX_WEIGHT * of_box
    return whole, {"class": of_class.item(), "box": of_box.item()}


def _sure(unsure: Tensor, centres: Tensor) -> Tensor:
    """(N, cells, classes) bool: where something is to be learned about a class."""
    inside = (centres > unsure[:, :, None, :2]).all(-1) & (centres < unsure[:, :, None, 2:4]).all(-1)  # (N, K, cells)
    kinds = unsure[..., 4].long()
    doubted = torch.stack([(inside & (kinds == kind)[..., None]).any(1) for kind in range(len(CLASSES))], -1)
    return ~doubted
