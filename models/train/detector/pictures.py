"""Pictures as a camera on a pole might see them: mosaics, other scales, weather, night, cheap lenses and encoders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from models.train.detector.labels import Picture
from models.train.detector.loss import Targets

_GREY = 114
_MIRRORED = 0.5
#: People lie down in the street, and hardly any picture shows it: some pictures are turned by a quarter.
_TURNED = 0.12
#: The people's pictures were stretched to squares; widths are stretched at random, so that no shape is normal.
_STRETCH = 0.35
#: Longest side of a picture, in sides of the canvas: of one of four, and of one alone.
_ZOOM_OF_FOUR = (0.35, 1.1)
_ZOOM_ALONE = (0.6, 1.5)
#: Less of a box than this in the picture, and nothing is to be learned there.
_VISIBLE = 0.35
_SMALLEST_PX = 4.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How the pictures of one epoch are made.

    Attributes:
        seed: Seed of the training.
        epoch: Number of the epoch.
        size: Width and height, pixels.
        mosaics: Part of the pictures that are joined from four.
    """

    seed: int
    epoch: int
    size: int
    mosaics: float


Sample = tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]


class Augmented(Dataset[Sample]):
    """One epoch: each picture once, changed at random, always the same way for the same plan."""

    def __init__(self, pictures: Sequence[Picture], plan: Plan) -> None:
        self._pictures = pictures
        self._plan = plan

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self._pictures)

    def __getitem__(self, index: int) -> Sample:
        """Image, (size, size, 3) uint8; boxes to learn, (M, 6), and to be unsure about, (K, 5), as in `Picture`."""
        cv2.setNumThreads(0)
        plan = self._plan
        rng = np.random.default_rng([plan.seed, plan.epoch, index])
        size = plan.size
        canvas = np.full((size, size, 3), _GREY, np.uint8)
        if rng.random() < plan.mosaics:
            middle = rng.uniform(0.3, 0.7, 2) * size
            others = rng.integers(len(self._pictures), size=3)
            parts = [
                _place(self._pictures[number], canvas, middle, corner, rng)
                for corner, number in enumerate((index, *others))
            ]
        else:
            parts = [_place(self._pictures[index], canvas, None, 0, rng)]
        boxes = np.concatenate([part[0] for part in parts])
        unsure = np.concatenate([part[1] for part in parts])
        return _develop(canvas, rng), boxes, unsure


def _place(
    picture: Picture,
    canvas: NDArray[np.uint8],
    middle: NDArray[np.float64] | None,
    corner: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Draw a picture into the whole canvas, or into one quarter around its middle, and move its boxes along."""
    size = canvas.shape[0]
    height, width = picture.image.shape[:2]
    scale = size / max(height, width) * rng.uniform(*(_ZOOM_ALONE if middle is None else _ZOOM_OF_FOUR))
    stretch = np.exp(rng.uniform(-_STRETCH, _STRETCH) / 2)
    turn = rng.choice([1, 3]) if rng.random() < _TURNED else 0
    # Column by column: where the picture's x and y axes point to.
    axes = np.array([[0.0, -1.0], [1.0, 0.0]])
    shape = np.linalg.matrix_power(axes, turn) @ np.diag([-1.0 if rng.random() < _MIRRORED else 1.0, 1.0])
    linear = np.diag([scale * stretch, scale / stretch]) @ shape
    reach = np.abs(linear) @ [width, height]  # extent on the canvas
    if middle is None:
        low, high = np.zeros(2), np.full(2, float(size))
        spare = size - reach
        start = np.where(spare > 0, rng.uniform(0, 1, 2) * spare, spare * rng.uniform(0, 1, 2))
    else:
        right_below = np.array([corner % 2, corner // 2])
        low, high = np.where(right_below, middle, 0.0), np.where(right_below, size, middle)
        start = np.where(right_below, middle, middle - reach)
        # A picture larger than its quarter shows some part of it.
        spare = np.clip(reach - (high - low), 0, None)
        start += np.where(right_below, -1, 1) * spare * rng.uniform(0, 1, 2)
    offset = start - np.minimum(linear @ [width, 0], 0) - np.minimum(linear @ [0, height], 0)
    corners = (int(low[1]), int(high[1]), int(low[0]), int(high[0]))
    window = canvas[corners[0] : corners[1], corners[2] : corners[3]]
    if window.size:
        matrix = np.column_stack([linear, offset - [corners[2], corners[0]]])
        window[:] = cv2.warpAffine(
            picture.image,
            matrix,
            window.shape[1::-1],
            flags=cv2.INTER_AREA if scale < 0.7 else cv2.INTER_LINEAR,
            borderValue=(_GREY, _GREY, _GREY),
        )
    return _move(picture, linear, offset, low, high)


def _move(
    picture: Picture,
    linear: NDArray[np.float64],
    offset: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rows = np.concatenate([picture.boxes, np.pad(picture.unsure, ((0, 0), (0, 1)))])
    a, b = rows[:, :2] @ linear.T + offset, rows[:, 2:4] @ linear.T + offset
    whole = np.hstack([np.minimum(a, b), np.maximum(a, b)])
    seen = np.hstack([np.clip(whole[:, :2], low, high), np.clip(whole[:, 2:], low, high)])
    sides = seen[:, 2:] - seen[:, :2]
    part = sides.prod(1) / np.maximum((whole[:, 2:] - whole[:, :2]).prod(1), 1e-6)
    moved = np.hstack([seen, rows[:, 4:]]).astype(np.float32)
    drawn = np.arange(len(rows)) < len(picture.boxes)
    some = (sides > 1).all(1)
    good = (part >= _VISIBLE) & (sides >= _SMALLEST_PX).all(1)
    return moved[drawn & good], moved[some & ~(drawn & good), :5]


def _develop(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Weather, lens, light, colour, sensor and encoder, in the order in which light meets them."""
    if rng.random() < 0.05:
        image = _rain(image, rng)
    if rng.random() < 0.12:
        image = _blur(image, rng)
    # Exposure, contrast and white balance in one table a plane; now and then it is night.
    night = rng.random() < 0.12
    gain = rng.uniform(0.1, 0.4) if night else np.exp(rng.normal(0, 0.2))
    levels = np.arange(256)[:, None] / 255 * gain * np.exp(rng.normal(0, 0.08, 3))
    curve = np.exp(rng.normal(0, 0.2) + rng.normal(0, 0.05, 3))
    table = 255 * np.clip(levels, 0, 1) ** curve + rng.normal(0, 8)
    seen: cv2.typing.MatLike = cv2.LUT(image, np.clip(table, 0, 255).astype(np.uint8)[None])
    grey = cv2.cvtColor(cv2.cvtColor(seen, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    if rng.random() < 0.12:
        seen = grey
    elif rng.random() < 0.3:
        colour = rng.uniform(0.3, 1.5)
        seen = cv2.addWeighted(seen, colour, grey, 1 - colour, 0)
    if night or rng.random() < 0.1:
        noise = np.empty(seen.shape, np.int16)
        cv2.setRNGSeed(int(rng.integers(2**31)))
        cv2.randn(noise, np.zeros(3), np.full(3, rng.uniform(3, 16)))
        seen = cv2.add(seen, noise, dtype=cv2.CV_8U)
    if rng.random() < 0.15:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 70))]
        decoded = cv2.imdecode(cv2.imencode(".jpg", seen, quality)[1], cv2.IMREAD_COLOR)
        seen = seen if decoded is None else decoded
    return np.asarray(seen, np.uint8)


def _blur(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    kind = rng.integers(3)
    if kind == 0:
        return np.asarray(cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.5, 1.6))), np.uint8)
    if kind == 1:  # moved while the shutter was open
        length = int(rng.integers(3, 8))
        kernel = np.zeros((length, length), np.float32)
        ends = rng.integers(length, size=4).tolist()
        cv2.line(kernel, tuple(ends[:2]), tuple(ends[2:]), 1.0)
        return np.asarray(cv2.filter2D(image, -1, kernel / max(1, kernel.sum())), np.uint8)
    size = image.shape[0]  # a coarser sensor
    coarse = cv2.resize(image, (int(size * rng.uniform(0.4, 0.8)),) * 2, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(coarse, (size, size), interpolation=cv2.INTER_LINEAR), np.uint8)


def _rain(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    streaks = np.zeros_like(image)
    slant, length = rng.uniform(-0.3, 0.3), rng.uniform(6, 18)
    for x, y in rng.uniform(0, image.shape[0], (int(rng.integers(80, 300)), 2)):
        end = (int(x + slant * length), int(y + length))
        cv2.line(streaks, (int(x), int(y)), end, (200, 200, 200), 1, cv2.LINE_AA)
    return np.asarray(cv2.addWeighted(image, 0.9, streaks, float(rng.uniform(0.15, 0.4)), 10), np.uint8)


def collate(samples: Sequence[Sample]) -> tuple[Tensor, Targets]:
    """A batch: pictures, (N, 3, size, size) uint8, channels last in memory, and what is in them."""
    images = torch.from_numpy(np.stack([image for image, _, _ in samples])).permute(0, 3, 1, 2)
    boxes = _padded([boxes for _, boxes, _ in samples], 6)
    unsure = _padded([unsure for _, _, unsure in samples], 5)
    return images, Targets(boxes[..., :4], boxes[..., 4].long(), boxes[..., 5], unsure)


def _padded(rows: Sequence[NDArray[np.float32]], columns: int) -> Tensor:
    padded = torch.full((len(rows), max(map(len, rows)), columns), -1.0)
    for place, of_one in enumerate(rows):
        padded[place, : len(of_one)] = torch.from_numpy(of_one)
    return padded
