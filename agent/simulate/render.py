"""Simple pictures of a world: a still background with a grain, shaded figures whose legs swing, a sensor's noise."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.simulate.world import Truth, View

Image = NDArray[np.uint8]

#: Standard deviation of the sensor's noise, of 255.
_NOISE = 3.0
#: Pictures of noise that take turns, each shifted at random: enough that no two frames are the same.
_NOISES = 4
#: Steps a second of a walking person.
_STEPS_HZ = 1.8


class Painter:
    """Paints one camera's view."""

    def __init__(self, view: View, seed: int) -> None:
        """Set up.

        Args:
            view: The camera.
            seed: Seed of the background and of the noise.
        """
        rng = np.random.default_rng(seed)
        self._view = view
        self._seed = seed
        size = (view.height, view.width)
        grain = cv2.GaussianBlur(rng.normal(0, 40, (*size, 3)).astype(np.float32), (0, 0), 4)
        slope = np.linspace(150, 100, view.height, dtype=np.float32)[:, None, None]
        self._background = np.clip(slope + grain, 0, 255).astype(np.uint8)
        self._noises = [rng.normal(0, _NOISE, (*size, 3)).astype(np.int16) for _ in range(_NOISES)]

    def paint(self, truth: Truth, time: float) -> Image:
        """The picture at this time, seconds from the beginning: (H, W, 3) uint8, BGR."""
        picture = self._background.copy()
        for number, box in zip(truth.ids.tolist(), truth.whole.tolist(), strict=True):
            _figure(picture, number, box, time)
        rng = np.random.default_rng([self._seed, round(1000 * time)])
        noise = self._noises[int(rng.integers(_NOISES))]
        shift = int(rng.integers(self._view.width))
        noisy = picture.astype(np.int16)
        noisy[:, shift:] += noise[:, : self._view.width - shift]
        noisy[:, :shift] += noise[:, self._view.width - shift :]
        return np.asarray(np.clip(noisy, 0, 255), np.uint8)


def _figure(picture: Image, number: int, box: list[float], time: float) -> None:
    """A person: shadow, legs, body, head, in colours that the number gives."""
    x0, y0, x1, y1 = box
    tall, wide, middle = y1 - y0, x1 - x0, (x0 + x1) / 2
    dress = [(number * 67) % 120 + 20, (number * 29) % 120 + 20, (number * 97) % 120 + 20]
    swing = 0.25 * wide * np.sin(2 * np.pi * _STEPS_HZ * time + number)

    def at(x: float, y: float) -> tuple[int, int]:
        return round(middle + x), round(y0 + y * tall)

    cv2.ellipse(picture, at(0, 1.0), (round(0.6 * wide), max(1, round(0.03 * tall))), 0, 0, 360, (70, 75, 75), -1)
    for side in (swing, -swing):
        cv2.line(picture, at(0, 0.5), at(side, 0.98), (45, 40, 40), max(1, round(0.22 * wide)))
    cv2.ellipse(picture, at(0, 0.37), (max(1, round(0.33 * wide)), round(0.22 * tall)), 0, 0, 360, dress, -1)
    cv2.circle(picture, at(0, 0.08), max(1, round(0.075 * tall)), (105, 130, 170), -1)
