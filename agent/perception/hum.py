"""Whether a microphone hums: how much of its sound is the mains.

Mains hum is narrow lines at 50 or 60 Hz and their multiples, of a ground loop or a cable beside a power line. Of what
lies below 1 kHz, the share within 1.5 Hz of those lines is compared with the share that noise would have there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agent.capture.sound import RATE_HZ

#: Mains of the world, Hz; lines that are looked at; how far a line may be off, Hz; where it is listened, Hz.
MAINS_HZ = (50.0, 60.0)
_LINES, _OFF_HZ, _UP_TO_HZ = 10, 1.5, 1000.0
_LEAST_S = 1.0


def hum(samples: NDArray[np.float32]) -> tuple[float, float]:
    """The mains whose lines are strongest, Hz, and the share of the sound below 1 kHz that they are, 0 to 1.

    Args:
        samples: (S,) float32 at 16 kHz, a second or longer.
    """
    if len(samples) < _LEAST_S * RATE_HZ:
        return MAINS_HZ[0], 0.0
    power = np.square(np.abs(np.fft.rfft(samples * np.hanning(len(samples)))))
    frequency = np.fft.rfftfreq(len(samples), 1 / RATE_HZ)
    low = (frequency > 20) & (frequency < _UP_TO_HZ)
    total = float(power[low].sum())
    if total <= 0:
        return MAINS_HZ[0], 0.0
    shares = []
    for mains in MAINS_HZ:
        places = mains * np.arange(1, _LINES + 1)
        near = np.abs(frequency[:, None] - places).min(axis=1) < _OFF_HZ
        shares.append(float(power[low & near].sum()) / total)
    best = int(np.argmax(shares))
    return MAINS_HZ[best], shares[best]
