"""Pictures of real places without anybody in them, for simulated cameras: medians over the frames of clips.

They are made when they are needed and kept in memory alone. Without clips, a slope with a grain takes their place.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

#: Frames that a median is taken over: whoever is at a place in less than half of them is gone.
_FRAMES = 21
#: Medians are kept at this width, pixels.
_WIDTH = 640
#: Part of a place that a camera sees, and how bright it is, from and to.
_PART, _BRIGHT = (0.6, 1.0), (0.6, 1.15)
_SUFFIXES = frozenset({".mp4", ".avi", ".mkv", ".webm"})


class Backgrounds:
    """The places there are."""

    def __init__(self, clips: Path | None) -> None:
        """Take the medians.

        Args:
            clips: Folder of clips; None, or one that is not there: no real places.
        """
        found = sorted(path for path in clips.iterdir() if path.suffix in _SUFFIXES) if clips and clips.is_dir() else []
        self._places = [median for path in found if (median := _median(path)) is not None]

    @property
    def real(self) -> int:
        """Number of real places; 0: pictures are made up."""
        return len(self._places)

    def draw(self, rng: np.random.Generator, width: int, height: int) -> Image:
        """A part of some place, perhaps mirrored, at some brightness: (height, width, 3) uint8, BGR."""
        if not self._places:
            return made_up(rng, width, height)
        place = self._places[int(rng.integers(len(self._places)))]
        tall, wide = place.shape[:2]
        part = rng.uniform(*_PART)
        high, across = int(part * tall), min(wide, int(part * tall * width / height))
        top, left = int(rng.integers(tall - high + 1)), int(rng.integers(wide - across + 1))
        cut = place[top : top + high, left : left + across]
        if rng.integers(2):
            cut = cut[:, ::-1]
        sized = cv2.resize(cut, (width, height), interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.convertScaleAbs(sized, alpha=rng.uniform(*_BRIGHT)), np.uint8)


def made_up(rng: np.random.Generator, width: int, height: int) -> Image:
    """A slope with a grain and gravel: (height, width, 3) uint8, BGR."""
    grain = cv2.GaussianBlur(rng.normal(0, 40, (height, width, 3)).astype(np.float32), (0, 0), 4)
    gravel = cv2.GaussianBlur(rng.normal(0, 25, (height, width)).astype(np.float32), (0, 0), 1)
    slope = np.linspace(150, 100, height, dtype=np.float32)[:, None, None]
    return np.asarray(np.clip(slope + grain + gravel[..., None], 0, 255), np.uint8)


def _median(path: Path) -> Image | None:
    """Over frames spread evenly over a clip; None where it cannot be read."""
    frames: list[Image] = []
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            length = container.duration or 0  # microseconds
            for number in range(_FRAMES):
                container.seek(int(length * (number + 0.5) / _FRAMES))
                frame = next(container.decode(stream), None)
                if frame is not None:
                    frames.append(_shrunk(frame.to_ndarray(format="bgr24")))
    except (av.FFmpegError, IndexError, StopIteration):
        return None
    return _middle(frames) if frames else None


def _shrunk(image: Image) -> Image:
    height, width = image.shape[:2]
    size = (_WIDTH, round(height * _WIDTH / width))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _middle(frames: Sequence[Image]) -> Image:
    return np.asarray(np.median(np.stack(frames), axis=0), np.uint8)
