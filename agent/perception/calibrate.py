"""What a site's microphone hears usually: statistics of its level, and nothing else."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from agent.capture.sound import RATE_HZ, Block
from agent.perception.hearing import BACKGROUND_SHARE, NO_SOUND_DBFS

_FULL_SCALE = 0.999


@dataclass(frozen=True, slots=True)
class Levels:
    """Levels over a time, of the loudest channel; None for digital silence.

    Attributes:
        seconds: Of sound.
        channels: That were listened to.
        floor_dbfs: What a fifth of all moments stays below, dBFS.
        median_dbfs: What half of them stays below, dBFS.
        peak_dbfs: Of a single sample, dBFS.
        clipped_percent: Share of blocks with a sample at full scale.
        gaps: How often sound was lost.
    """

    seconds: float
    channels: int
    floor_dbfs: float | None
    median_dbfs: float | None
    peak_dbfs: float | None
    clipped_percent: float
    gaps: int


class Calibration:
    """Gathers levels block by block; of the sound itself it keeps nothing."""

    def __init__(self) -> None:
        self._powers: list[float] = []
        self._samples = self._channels = self._clipped = self._gaps = 0
        self._peak = 0.0

    def add(self, block: Block) -> None:
        """Learn from a block."""
        samples = block.samples
        if not samples.size:
            return
        peak = float(np.abs(samples).max())
        self._powers.append(float(np.einsum("cn,cn->c", samples, samples).max()) / samples.shape[1])
        self._samples += samples.shape[1]
        self._channels = len(samples)
        self._clipped += peak >= _FULL_SCALE
        self._gaps += block.gap
        self._peak = max(self._peak, peak)

    def levels(self) -> Levels:
        """What was learned."""
        floor, middle = np.quantile(self._powers, [BACKGROUND_SHARE, 0.5]).tolist() if self._powers else (0.0, 0.0)
        return Levels(
            seconds=self._samples / RATE_HZ,
            channels=self._channels,
            floor_dbfs=_dbfs(floor),
            median_dbfs=_dbfs(middle),
            peak_dbfs=_dbfs(self._peak**2),
            clipped_percent=100 * self._clipped / max(1, len(self._powers)),
            gaps=self._gaps,
        )


def _dbfs(power: float) -> float | None:
    level = 10 * math.log10(power) if power > 0 else -math.inf
    return round(level, 1) if level >= NO_SOUND_DBFS else None
