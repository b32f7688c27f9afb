"""Bangs that are no shots and of which there is no recording: imitated, for learning and for tests.

A burst bag is one pulse of a few milliseconds and the hiss of its tear; a dropped plank rings in the modes of a free
bar (1 : 2.76 : 5.40 : 8.93; Rayleigh, 1894) each time that it bounces; a backfire is the low note of an exhaust pipe
struck by hot gas, rough and seldom alone. They stand for the real ones as well as such a sentence does.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from agent.perception.logmel import RATE

Samples = NDArray[np.float64]
#: Seconds of each.
_SECONDS = 1.2
_TIME = np.arange(int(_SECONDS * RATE)) / RATE
_FREE_BAR = (1.0, 2.76, 5.40, 8.93)


def _later(sound: Samples, seconds: float) -> Samples:
    """The same, begun later."""
    start = int(seconds * RATE)
    return np.concatenate([np.zeros(start), sound[: len(sound) - start]])


def _hiss(random: np.random.Generator, decay_s: float, highest_hz: float) -> Samples:
    """Noise that dies away, without what is far above a frequency."""
    spectrum = np.fft.rfft(random.standard_normal(len(_TIME)))
    spectrum /= 1 + (np.fft.rfftfreq(len(_TIME), 1 / RATE) / highest_hz) ** 2
    return np.asarray(np.fft.irfft(spectrum, len(_TIME)) * np.exp(-_TIME / decay_s))


def _burst_bag(random: np.random.Generator) -> Samples:
    length = random.uniform(0.0008, 0.004)
    pulse = np.where(length > _TIME, 1 - 2 * _TIME / length, 0)
    return pulse + random.uniform(0.1, 0.6) * _hiss(random, random.uniform(0.004, 0.03), random.uniform(2e3, 7e3))


def _plank(random: np.random.Generator) -> Samples:
    lowest, decay = np.exp(random.uniform(np.log(90), np.log(700))), random.uniform(0.015, 0.09)
    knock = 0.3 * _hiss(random, 0.004, 5e3)
    for mode in _FREE_BAR:
        if lowest * mode < RATE / 2:
            fall = np.exp(-_TIME / decay * mode**0.5)
            knock += random.uniform(0.2, 1) / mode**0.5 * fall * np.sin(2 * np.pi * lowest * mode * _TIME)
    sound, wait, at, strength = np.zeros(len(_TIME)), random.uniform(0.08, 0.3), 0.0, 1.0
    for _ in range(random.integers(1, 6)):
        sound += strength * _later(knock, at)
        at, wait, strength = at + wait, wait * random.uniform(0.5, 0.8), strength * random.uniform(0.3, 0.8)
        if at > _SECONDS:
            break
    return sound


def _backfire(random: np.random.Generator) -> Samples:
    sound = np.zeros(len(_TIME))
    for _ in range(random.integers(1, 5)):
        note, decay = random.uniform(60, 220), random.uniform(0.02, 0.08)
        bang = np.exp(-_TIME / decay) * np.sin(2 * np.pi * note * _TIME)
        bang += random.uniform(0.5, 1.5) * _hiss(random, decay / 2, random.uniform(500, 2500))
        sound += random.uniform(0.3, 1) * _later(np.tanh(random.uniform(1, 4) * bang), random.uniform(0, 0.6))
    engine = sum(np.sin(2 * np.pi * n * random.uniform(25, 28) * _TIME) / n for n in range(1, 12))
    return np.asarray(sound + random.uniform(0, 0.1) * engine)


IMITATED: dict[str, Callable[[np.random.Generator], Samples]] = {
    "burst_bag": _burst_bag,
    "plank": _plank,
    "backfire": _backfire,
}


def imitate(kind: str, random: np.random.Generator) -> NDArray[np.float32]:
    """One of `IMITATED` after a tenth of a second of silence, (S,) float32 with its peak at 0.7."""
    sound = np.pad(IMITATED[kind](random), (RATE // 10, 0))
    return np.asarray(sound * (0.7 / np.abs(sound).max()), np.float32)
