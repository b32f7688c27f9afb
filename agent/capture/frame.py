"""A frame, and what every source of frames can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


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

    image: NDArray[np.uint8]
    time: float
    index: int


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
