"""A frame, and what every source of frames can do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]


class SourceError(RuntimeError):
    """A source that cannot be opened or has failed; the text says which one, why, and what to do."""


class RestartNeededError(SourceError):
    """A source that only a new process may open again."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture.

    Attributes:
        image: (H, W, 3) uint8, BGR. It lives in memory only and is never written or sent anywhere.
        time: Seconds on the source's own clock: monotonic time of arrival for a live source, presentation time for a
            file in replay.
        index: Number of the frame since the source was opened, from 0; a gap is a drop.
    """

    image: Image
    time: float
    index: int
    _smaller: dict[int, Image] = field(default_factory=dict, init=False, repr=False, compare=False)

    def shrunk(self, widest: int) -> Image:
        """The picture shrunk by a whole number, which is several times cheaper than by a fraction, and once for all.

        Args:
            widest: Its new width at most, pixels.
        """
        return self._by(-(-self.image.shape[1] // widest))

    def _by(self, factor: int) -> Image:
        if factor == 1:
            return self.image
        if factor not in self._smaller:
            # By halves as far as they go: a half costs a third of any other step, and serves others.
            odd = factor // (factor & -factor)
            step = odd if odd > 1 else 2
            larger = self._by(factor // step)
            height, width = (max(1, side // step) for side in larger.shape[:2])
            larger = larger[: step * height, : step * width]
            how = cv2.INTER_LINEAR if step == 2 else cv2.INTER_AREA  # means of four, both; the first is faster
            self._smaller[factor] = np.asarray(cv2.resize(larger, (width, height), interpolation=how), np.uint8)
        return self._smaller[factor]


class FrameSource(Protocol):
    """Where frames come from. Not thread-safe: one thread opens, reads and closes it."""

    @property
    def live(self) -> bool:
        """True when frames come at their own pace and a missed one is gone; False for a file that waits."""

    @property
    def frames_total(self) -> int | None:
        """Number of frames where it is known beforehand (files, scenarios), for progress bars."""

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame, or None when none came within the time.

        Raises:
            EOFError: a file or scenario has come to its end.
            SourceError: the source has failed; close it and open a new one.
        """

    def close(self) -> None:
        """Let go of the device; safe to call twice."""
