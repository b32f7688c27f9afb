"""Mains hum is told from everything else that a microphone hears."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.capture.sound import RATE_HZ
from agent.perception.hum import hum

MOMENTS = np.arange(2 * RATE_HZ) / RATE_HZ
NOISE = np.random.default_rng(1).normal(0, 0.01, MOMENTS.size)


@pytest.mark.parametrize("mains", [50.0, 60.0])
def test_hum_is_found_with_its_mains(mains: float) -> None:
    tones = sum(0.03 / k * np.sin(2 * np.pi * k * mains * MOMENTS) for k in (1, 2, 3))
    found, share = hum((NOISE + tones).astype(np.float32))
    assert found == mains
    assert share > 0.9


@pytest.mark.parametrize(
    "sound",
    [NOISE, np.cumsum(NOISE) / 50, 0.3 * np.sin(2 * np.pi * 440 * MOMENTS), np.zeros_like(NOISE)],
    ids=["white", "brown", "tone", "silence"],
)
def test_other_sound_does_not_hum(sound: NDArray[np.float64]) -> None:
    assert hum(sound.astype(np.float32))[1] < 0.5


def test_a_moment_is_too_short_to_tell() -> None:
    assert hum(np.ones(100, np.float32))[1] == 0
