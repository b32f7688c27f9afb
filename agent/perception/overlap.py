"""How much boxes have in common."""

from __future__ import annotations

import numpy as np

from agent.perception.scene import FloatArray


def shared_areas(a: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Area that each of (M, 4) boxes shares with each of (N, 4), (M, N), and the areas of both, (M,) and (N,).

    Args:
        a: x0 y0 x1 y1, float32, pixels.
        b: The same.
    """
    sides = np.minimum(a[:, None, 2:], b[:, 2:])
    sides -= np.maximum(a[:, None, :2], b[:, :2])
    np.maximum(sides, 0, out=sides)
    # Products of columns: numpy takes twice as long along an axis of two.
    areas, sizes = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) for boxes in (a, b))
    return sides[..., 0] * sides[..., 1], areas, sizes


def overlaps(a: FloatArray, b: FloatArray) -> FloatArray:
    """(M, N): intersection over union of (M, 4) and (N, 4) boxes, as of `shared_areas`."""
    shared, areas, sizes = shared_areas(a, b)
    return np.asarray(shared / (areas[:, None] + sizes - shared + np.float32(1e-6)), np.float32)
