"""What lies, stands, drives and is written: bags, heaps, furniture, vehicles, tags, holes, posters, as small pictures.

Refuse bags are cut from photographs where a folder of them is given, and drawn where none is; everything else is
drawn. A picture is (H, W, 4) uint8: BGR, and what of it is there.
"""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

#: Photographs that are read at most of each kind.
_PHOTOGRAPHS = 40
#: Longest side of what is cut from them, pixels.
_LONGEST = 96


class Things:
    """Draws things."""

    def __init__(self, data: Path | None) -> None:
        """Read photographs.

        Args:
            data: Folder with `bags/` (pictures with boxes in YOLO text); None, or where they are not: drawn.
        """
        self._bags = _bags(data / "bags") if data else []

    @property
    def real(self) -> bool:
        """Whether there are photographs."""
        return bool(self._bags)

    def bag(self, rng: np.random.Generator) -> Image:
        """A bag, a case or a box that somebody carries."""
        wide, high = int(rng.integers(40, 64)), int(rng.integers(32, 64))
        sprite = _blank(wide, high)
        colour = _colour(rng, 15, 160)
        if rng.random() < 0.5:
            cv2.rectangle(sprite, (2, high // 5), (wide - 3, high - 2), colour, -1)
        else:
            cv2.ellipse(
                sprite, (wide // 2, round(0.58 * high)), (wide // 2 - 2, round(0.4 * high)), 0, 0, 360, colour, -1
            )
        cv2.ellipse(sprite, (wide // 2, high // 4), (wide // 5, high // 5), 0, 180, 360, colour, 3)
        return _grained(sprite, rng)

    def refuse(self, rng: np.random.Generator) -> Image:
        """A refuse bag, or some of them."""
        if self._bags and rng.random() < 0.7:
            return self._bags[int(rng.integers(len(self._bags)))]
        wide, high = 90, int(rng.integers(50, 80))
        sprite = _blank(wide, high)
        for _ in range(int(rng.integers(1, 6))):
            x, y = int(rng.integers(18, wide - 18)), int(rng.integers(high // 2, high - 14))
            axes = (int(rng.integers(12, 18)), int(rng.integers(10, 14)))
            cv2.ellipse(sprite, (x, y), axes, float(rng.uniform(-20, 20)), 0, 360, _colour(rng, 10, 230), -1)
        cv2.ellipse(sprite, (wide // 2, high - 14), (wide // 3, 12), 0, 0, 360, _colour(rng, 10, 120), -1)
        return _grained(sprite, rng)

    def furniture(self, rng: np.random.Generator) -> Image:
        """A chair, a table, a sign on legs."""
        wide, high = int(rng.integers(40, 80)), int(rng.integers(50, 90))
        sprite, colour = _blank(wide, high), _colour(rng, 20, 200)
        seat = int(rng.integers(high // 4, high // 2))
        cv2.rectangle(sprite, (2, seat), (wide - 3, seat + 8), colour, -1)
        for x in (4, wide - 5):
            cv2.line(sprite, (x, seat), (x, high - 1), colour, 4)
        if rng.random() < 0.6:
            cv2.rectangle(sprite, (2, 1), (wide - 3, seat), _colour(rng, 20, 200), -1)
        return _grained(sprite, rng)

    def vehicle(self, rng: np.random.Generator) -> Image:
        """A car, van, cart or forklift from the side."""
        wide, high = 120, int(rng.integers(45, 75))
        sprite, colour = _blank(wide, high), _colour(rng, 20, 230)
        roof = int(rng.integers(10, 30))
        body = np.array(
            [(2, high // 2), (roof, 2), (wide - roof, 2), (wide - 3, high // 2), (wide - 3, high - 8), (2, high - 8)]
        )
        cv2.fillPoly(sprite, [body], colour)
        cv2.rectangle(sprite, (roof, 6), (wide - roof, high // 2 - 2), (60, 50, 45, 255), -1)
        for x in (24, wide - 26):
            cv2.circle(sprite, (x, high - 9), 9, (25, 25, 25, 255), -1)
        return _grained(sprite, rng)

    def tag(self, rng: np.random.Generator) -> Image:
        """Writing on a wall."""
        wide, high = 96, 48
        sprite, colour = _blank(wide, high), _colour(rng, 0, 90)
        if rng.random() < 0.3:
            colour = _colour(rng, 170, 255)
        thick = int(rng.integers(3, 7))
        x = 6.0
        while x < wide - 12:
            letter = rng.uniform((0, 4), (14, high - 4), (4, 2)) + np.array([x, 0])
            _curve(sprite, letter, colour, thick)
            x += rng.uniform(9, 16)
        if rng.random() < 0.5:
            _curve(sprite, rng.uniform((0, high // 2), (wide, high), (4, 2)), colour, thick)
        return sprite

    def hole(self, rng: np.random.Generator) -> Image:
        """Broken glass or a broken board: a dark hole with cracks around it."""
        side = 80
        sprite = _blank(side, side)
        dark, crack = _colour(rng, 0, 40), _colour(rng, 190, 250)
        angles = np.sort(rng.uniform(0, 2 * math.pi, int(rng.integers(7, 13))))
        radii = rng.uniform(8, 22, len(angles))
        middle = np.array([side / 2, side / 2])
        spikes = middle + np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii[:, None]
        for angle in angles:
            end = middle + np.array([math.cos(angle), math.sin(angle)]) * rng.uniform(25, 39)
            cv2.line(sprite, tuple(np.round(middle).astype(int)), tuple(np.round(end).astype(int)), crack, 2)
        cv2.fillPoly(sprite, [np.round(spikes).astype(np.int32)], dark)
        return sprite

    def poster(self, rng: np.random.Generator) -> Image:
        """A sheet with a picture and lines on it."""
        wide, high = int(rng.integers(40, 70)), int(rng.integers(50, 90))
        sprite = np.full((high, wide, 4), _colour(rng, 150, 255), np.uint8)
        cv2.rectangle(sprite, (5, 5), (wide - 6, high // 2), _colour(rng, 20, 220), -1)
        for y in range(high // 2 + 6, high - 4, 6):
            cv2.line(sprite, (6, y), (int(rng.integers(wide // 2, wide - 5)), y), (60, 60, 60, 255), 2)
        return sprite

    def cover(self, rng: np.random.Generator, width: int, height: int) -> Image:
        """What lies right before a lens: dark, blurred, hardly a pattern; (height, width, 3)."""
        colour = np.array(_colour(rng, 5, 130)[:3], np.float32)
        grain = cv2.resize(
            rng.normal(0, 10, (3, 4, 3)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC
        )
        return np.asarray(np.clip(colour + grain, 0, 255), np.uint8)


def _blank(wide: int, high: int) -> Image:
    return np.zeros((high, wide, 4), np.uint8)


def _colour(rng: np.random.Generator, low: float, high: float) -> tuple[int, int, int, int]:
    grey = rng.uniform(low, high)
    blue, green, red = (int(np.clip(grey + rng.normal(0, 20), 0, 255)) for _ in range(3))
    return blue, green, red, 255


def _grained(sprite: Image, rng: np.random.Generator) -> Image:
    """With folds and light from above."""
    height, width = sprite.shape[:2]
    folds = cv2.resize(rng.normal(0, 22, (6, 6)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    light = np.linspace(18, -18, height, dtype=np.float32)[:, None]
    colours = np.clip(sprite[..., :3] + (folds + light)[..., None], 0, 255).astype(np.uint8)
    return np.concatenate([colours, sprite[..., 3:]], axis=2)


def _curve(sprite: Image, points: NDArray[np.float64], colour: tuple[int, int, int, int], thick: int) -> None:
    """A cubic Bezier curve."""
    t = np.linspace(0, 1, 14)[:, None]
    a, b, c, d = points
    line = (1 - t) ** 3 * a + 3 * t * (1 - t) ** 2 * b + 3 * t**2 * (1 - t) * c + t**3 * d
    cv2.polylines(sprite, [np.round(line).astype(np.int32)], False, colour, thick, cv2.LINE_AA)


def _bags(folder: Path) -> list[Image]:
    """Refuse bags cut from photographs, without their corners."""
    found = list[Image]()
    for path in sorted(folder.glob("*.txt")):
        lines = path.read_text(encoding="utf-8").strip().splitlines()
        if len(lines) != 1 or len(found) >= _PHOTOGRAPHS:
            continue  # of one bag alone the box is tight
        image = cv2.imread(str(path.with_suffix(".jpg")))
        if image is None:
            continue
        _, x, y, wide, high = (float(part) for part in lines[0].split()[:5])
        height, width = image.shape[:2]
        x0, y0 = max(0, int((x - wide / 2) * width)), max(0, int((y - high / 2) * height))
        cut = np.asarray(image, np.uint8)[y0 : int((y + high / 2) * height), x0 : int((x + wide / 2) * width)]
        if min(cut.shape[:2]) >= 24:
            found.append(_cut_out(cut))
    return found


def _cut_out(cut: NDArray[np.uint8]) -> Image:
    scale = min(1.0, _LONGEST / max(cut.shape[:2]))
    size = (max(2, round(cut.shape[1] * scale)), max(2, round(cut.shape[0] * scale)))
    sized = np.asarray(cv2.resize(cut, size, interpolation=cv2.INTER_AREA), np.uint8)
    mask = np.zeros(sized.shape[:2], np.uint8)
    cv2.ellipse(
        mask, (size[0] // 2, round(0.52 * size[1])), (round(0.48 * size[0]), round(0.48 * size[1])), 0, 0, 360, 255, -1
    )
    return np.dstack([sized, mask])
