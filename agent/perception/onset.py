"""When an impulse begins, to a fraction of a millisecond.

A rise of power over what was there just before finds it; then the moment is the one at which noise and impulse part
best: the Akaike criterion of two stretches of Gaussian noise, each of its own variance (Maeda, 1985, as seismologists
pick arrivals). The sound is whitened first by what predicts its quieter half (the autoregressive model of Sleeman and
van Eck, "Robust automatic P-phase picking", Physics of the Earth and Planetary Interiors 113, 1999): of a street little
is left then, and all of what nobody could foresee.

Known failure: a front that rises slowly out of the noise is seen late, by what lay below it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.perception.logmel import RATE

#: What an onset needs around it, samples: 50 ms before and after.
AROUND = RATE // 20
#: Power is looked at in steps of 1 ms; a rise is 3 ms beside the 30 ms before them.
_STEP = RATE // 1000
_AFTER, _BEFORE = 3, 30
#: Least rise of an onset, dB: white noise alone hardly ever rises by half as much.
LEAST_RISE_DB = 6.5
#: The stretch in which the moment is sought, samples before and after the steepest rise.
_LEAD, _TAIL = 25 * _STEP, 6 * _STEP
#: No front takes longer, samples.
_FRONT = 10 * _STEP
#: Fewest samples of a stretch whose variance means something.
_LEAST = 8
#: What is foreseen is foreseen from so many samples; and so much white noise, as a share of the power, is taken to be
#: there beside, so that a lone tone is not all that counts.
_ORDER, _DOUBT = _STEP, 0.01
_LAGS = np.abs(np.subtract.outer(np.arange(_ORDER), np.arange(_ORDER)))
_WINDOW = np.hanning(AROUND)
#: What is fainter than -80 dBFS is no background to rise from: power of a step.
_LEAST_POWER = _STEP * 1e-8
_TINY = 1e-12


@dataclass(frozen=True, slots=True)
class Onset:
    """Where an impulse begins.

    Attributes:
        place: Sample of its begin.
        rise_db: How far the power rises there.
        front: How long it takes to half of its height, samples; what begins softly begins under the noise.
    """

    place: int
    rise_db: float
    front: int


def find_onset(samples: NDArray[np.float32]) -> Onset | None:
    """The steepest onset in a stretch of sound, apart from `AROUND` at both its ends; None where nothing rises.

    Args:
        samples: (S,) float32 at 16 kHz.
    """
    white = np.convolve(samples, _surprise(samples), "valid")
    steps = len(white) // _STEP
    power = np.square(white[: steps * _STEP]).reshape(steps, _STEP).sum(axis=1, dtype=np.float64)
    total = np.concatenate([[0.0], np.cumsum(power)])
    places = np.arange(AROUND // _STEP, steps - AROUND // _STEP + 1)
    before = (total[places] - total[places - _BEFORE]) / _BEFORE
    after = (total[places + _AFTER] - total[places]) / _AFTER
    rises = (after + _LEAST_POWER) / (before + _LEAST_POWER)
    steepest = int(rises.argmax())
    rise_db = 10 * float(np.log10(rises[steepest]))
    if rise_db < LEAST_RISE_DB:
        return None
    middle = int(places[steepest]) * _STEP
    begin = max(0, middle - _LEAD)
    place = begin + _part(white[begin : middle + _TAIL])
    height = np.abs(white[place : place + _FRONT])
    return Onset(place + _ORDER, rise_db, int(np.argmax(height >= height.max() / 2)))


def _surprise(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """(_ORDER + 1,) float32: the filter that leaves of the quieter half what could not be foreseen."""
    blocks = samples[: len(samples) // AROUND * AROUND].reshape(-1, AROUND)
    quieter = np.argsort(np.square(blocks).sum(axis=1))[: max(1, len(blocks) // 2)]
    spectrum = np.fft.rfft(blocks[quieter] * _WINDOW, 2 * AROUND)
    likeness = np.fft.irfft(np.square(np.abs(spectrum)).sum(axis=0))[: _ORDER + 1]
    likeness[0] = likeness[0] * (1 + _DOUBT) + _TINY
    foreseen = np.linalg.solve(likeness[_LAGS], likeness[1:])
    return np.concatenate([[1.0], -foreseen]).astype(np.float32)


def _part(white: NDArray[np.float32]) -> int:
    """Where two stretches of noise part best."""
    energy = np.cumsum(np.square(white, dtype=np.float64))
    count = len(white)
    first = np.arange(_LEAST, count - _LEAST)
    left, right = energy[first - 1], energy[-1] - energy[first - 1]
    criterion = first * np.log(left / first + _TINY) + (count - first) * np.log(right / (count - first) + _TINY)
    return int(first[criterion.argmin()])
