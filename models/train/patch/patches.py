"""Patches as a change detector might cut them: roughly, in any light, from cheap cameras.

The pictures of walls are strongly equalised, and no others are: a network could go by that look alone. So pictures are
equalised at random whatever they show, and equalised ones are softened. Writing is also drawn by machine on walls that
have none, so that the same picture is seen with and without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from agent.evaluate.patches import NEITHER, WRITING, Patch
from agent.perception.patch import CLASSES
from models.train.patch.network import SIZE

_SCRIBBLED = 0.25
_SURFACE = "clean wall"
_LETTERS = "ABCDEFGHIJKLMNOPRSTUVWXYZ0123456789?!"


@dataclass(frozen=True, slots=True)
class Plan:
    """How the patches of one epoch are made.

    Attributes:
        seed: Seed of the training.
        epoch: Number of the epoch.
        count: Patches of each class.
    """

    seed: int
    epoch: int
    count: int


class Augmented(Dataset[tuple[torch.Tensor, int]]):
    """One epoch: as many patches of each class, changed at random, always the same way for the same plan."""

    def __init__(self, patches: Sequence[Patch], plan: Plan) -> None:
        self._by_kind = [[patch for patch in patches if patch.kind == kind] for kind in range(len(CLASSES))]
        # Neither is many things, each as frequent as the others; writing is drawn on what people write on.
        names = sorted({patch.source for patch in self._by_kind[NEITHER]})
        self._others = [[patch for patch in self._by_kind[NEITHER] if patch.source == name] for name in names]
        self._surfaces = [patch for patch in self._by_kind[NEITHER] if patch.source == _SURFACE]
        self._plan = plan

    def __len__(self) -> int:
        """Number of patches."""
        return self._plan.count * len(CLASSES)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """A patch, (3, 64, 64) uint8, and its class."""
        cv2.setNumThreads(0)
        rng = np.random.default_rng([self._plan.seed, self._plan.epoch, index])
        kind = index % len(CLASSES)
        drawn = kind == WRITING and rng.random() < _SCRIBBLED
        if kind == NEITHER:
            shelf = self._others[rng.integers(len(self._others))]
        else:
            shelf = self._surfaces if drawn else self._by_kind[kind]
        image = _cut(shelf[rng.integers(len(shelf))], rng)
        if drawn:
            image = _scribble(image, rng)
        return torch.from_numpy(_develop(image, rng).transpose(2, 0, 1).copy()), kind


def _cut(patch: Patch, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The patch with borders that are a little off, mirrored now and then."""
    height, width = patch.picture.shape[:2]
    x0, y0, x1, y1 = patch.box
    w, h = x1 - x0, y1 - y0
    low, high = (-0.1, 0.25) if (w, h) != (width, height) else (-0.35, 0.0)
    left, top, right, bottom = rng.uniform(low, high, 4) * (w, h, w, h)
    x0, y0 = max(0, int(x0 - left)), max(0, int(y0 - top))
    x1, y1 = min(width, int(x1 + right)), min(height, int(y1 + bottom))
    image = patch.picture[y0 : max(y1, y0 + 8), x0 : max(x1, x0 + 8)]
    if rng.random() < 0.5:
        image = image[:, ::-1]
    return np.asarray(cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_AREA), np.uint8)


def _scribble(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Strokes and letters of one or two colours, sprayed over the patch."""
    paint = image.copy()
    for _ in range(rng.integers(1, 3)):
        colour = tuple(int(value) for value in rng.integers(0, 256, 3))
        thickness = int(rng.integers(1, 4))
        if rng.random() < 0.5:
            word = "".join(rng.choice(list(_LETTERS), rng.integers(2, 6)))
            place = (int(rng.integers(0, SIZE // 3)), int(rng.integers(SIZE // 3, SIZE)))
            cv2.putText(paint, word, place, int(rng.integers(8)), rng.uniform(0.5, 1.3), colour, thickness, cv2.LINE_AA)
        else:
            steps = rng.normal(0, SIZE / 7, (int(rng.integers(6, 16)), 2))
            line = (rng.uniform(0.2, 0.8, 2) * SIZE + np.cumsum(steps, axis=0) % SIZE * 0.7) % SIZE
            smooth = cv2.GaussianBlur(np.repeat(line, 4, axis=0).astype(np.float32), (1, 7), 0)
            cv2.polylines(
                paint,
                [smooth.astype(np.int32)],
                isClosed=False,
                color=colour,
                thickness=thickness,
                lineType=cv2.LINE_AA,
            )
    cover = rng.uniform(0.6, 1.0)
    return np.asarray(cv2.addWeighted(paint, cover, image, 1 - cover, 0), np.uint8)


def _develop(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    seen: cv2.typing.MatLike = image
    look = rng.random()
    if look < 0.35:
        lab = cv2.cvtColor(seen, cv2.COLOR_BGR2LAB)
        lab[..., 0] = cv2.createCLAHE(rng.uniform(1, 6), (4, 4)).apply(lab[..., 0])
        seen = cv2.cvtColor(lab, cv2.COLOR_LAB2BGR)
    elif look < 0.7:
        soft = cv2.GaussianBlur(seen, (0, 0), rng.uniform(1, 6))
        part = rng.uniform(0.3, 0.9)
        seen = cv2.addWeighted(seen, part, soft, 1 - part, 0)
    levels = np.arange(256)[:, None] / 255 * np.exp(rng.normal(-0.1, 0.4)) * np.exp(rng.normal(0, 0.08, 3))
    table = 255 * np.clip(levels, 0, 1) ** np.exp(rng.normal(0, 0.25)) + rng.normal(0, 12)
    seen = cv2.LUT(seen, np.clip(table, 0, 255).astype(np.uint8)[None])
    colour = rng.uniform(0, 1.4)
    grey = cv2.cvtColor(cv2.cvtColor(seen, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    seen = cv2.addWeighted(seen, colour, grey, 1 - colour, 0)
    if rng.random() < 0.3:
        seen = cv2.GaussianBlur(seen, (0, 0), rng.uniform(0.4, 1.5))
    if rng.random() < 0.3:
        noise = np.empty(seen.shape, np.int16)
        cv2.setRNGSeed(int(rng.integers(2**31)))
        cv2.randn(noise, np.zeros(3), np.full(3, rng.uniform(2, 14)))
        seen = cv2.add(seen, noise, dtype=cv2.CV_8U)
    return np.asarray(seen, np.uint8)
