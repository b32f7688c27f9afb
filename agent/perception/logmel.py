"""The sound tagger's front end: how loud each of 64 pitch bands is, every 10 ms.

The numbers are those of YAMNet's front end (github.com/tensorflow/models, research/audioset/yamnet/features.py): 25 ms
under a periodic Hann window, the magnitudes of a 512-point Fourier transform, and 64 triangles of equal width in mel
from 125 to 7,500 Hz, mel being 1127 ln(1 + f / 700) (O'Shaughnessy, 1987; HTK). Phase is lost here, before any network:
only the ring buffer of the microphone ever holds sound.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

#: Samples a second.
RATE = 16_000
#: Samples under one window, 25 ms, and from one to the next, 10 ms.
FRAME = 400
HOP = 160
BANDS = 64
#: Frames of one patch, what the tagger sees at once, and its length in samples, 0.975 s.
FRAMES = 96
PATCH = (FRAMES - 1) * HOP + FRAME
_FFT = 512
_LOWEST_HZ = 125.0
_HIGHEST_HZ = 7_500.0
#: Keeps digital silence finite: ln(0.001) is the least value there is.
FLOOR = np.float32(1e-3)


def _mel(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1127.0 * np.log1p(hertz / 700.0))


def _triangles() -> NDArray[np.float32]:
    """(257, 64) float32: the weight of each frequency in each band."""
    frequencies = _mel(np.linspace(0.0, RATE / 2, _FFT // 2 + 1))[:, None]
    lowest, highest = _mel(np.array([_LOWEST_HZ, _HIGHEST_HZ]))
    edges = np.linspace(lowest, highest, BANDS + 2)
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (frequencies - low) / (middle - low), (high - frequencies) / (high - middle)
    return np.asarray(np.maximum(0.0, np.minimum(rising, falling)), np.float32)


_TRIANGLES = _triangles()
_WINDOW = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME) / FRAME)).astype(np.float32)


def mel(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """The magnitude in each band.

    Args:
        samples: (..., S) float32 at 16 kHz, full scale being 1; S at least 400.

    Returns:
        (..., F, 64) float32 with F = 1 + (S - 400) // 160: a `PATCH` gives `FRAMES`.
    """
    frames = sliding_window_view(samples, FRAME, axis=-1)[..., ::HOP, :]
    magnitudes = np.abs(np.fft.rfft(frames * _WINDOW, _FFT)).astype(np.float32)
    return np.asarray(magnitudes @ _TRIANGLES)


def logmel(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """The natural logarithm of `mel`: what networks are given."""
    return np.asarray(np.log(mel(samples) + FLOOR))
