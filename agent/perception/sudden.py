"""Whether a sound stands out: of the background, and of the loudest that was heard just before.

What goes on, as a jackhammer, an engine or music, may sound like shots to a network, again and again. What is sudden is
louder in a part of the bands than all that was heard in the ten seconds before. What began in the last two of them is
left out, so that the second shot of a burst is as sudden as the first.

Known failures: a shot that is fainter than what else banged within ten seconds; whatever comes in the first second.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from agent.perception.logmel import BANDS, FLOOR

Floats = NDArray[np.float32]

#: Something stands out where an eighth of the bands is 6 dB above another level for 50 ms.
_STANDS_OUT, _BANDS_OUT, _FRAMES = math.log(2), BANDS // 8, 5
#: A background may be so much fainter than the faintest that a network tells apart.
_FAINTEST = FLOOR / np.float32(10)
#: With how many windows one is compared, how many before it overlap with it, and how many more may be of its burst.
_BEFORE, _OVERLAP, _BURST = 20, 1, 4
_KEPT = _BEFORE + _OVERLAP + _BURST


def loudness(mels: Floats) -> Floats:
    """The logarithm of a mel spectrogram, as far down as a background goes."""
    return np.asarray(np.log(mels + _FAINTEST))


def levels(loud: Floats) -> Floats:
    """(..., F // 5, 64): means over 50 ms of (..., F, 64), a `loudness`."""
    whole = loud.shape[-2] // _FRAMES
    return np.asarray(loud[..., : whole * _FRAMES, :].reshape(*loud.shape[:-2], whole, _FRAMES, BANDS).mean(axis=-2))


def stands_out(loud: Floats, usual: Floats) -> bool:
    """Whether something is above what is usual: (..., 64) both."""
    return bool((((loud - usual) > _STANDS_OUT).sum(axis=-1) >= _BANDS_OUT).any())


class Sudden:
    """How loud it has been of late, band by band."""

    def __init__(self, *, amid: bool) -> None:
        """Nothing is known.

        Args:
            amid: The first sound is amid others that nobody heard; else silence was before it.
        """
        self._amid = amid
        self._past: Floats | None = None

    def hear(self, window: Floats) -> bool:
        """Whether something sudden is in the next window, in any channel.

        Args:
            window: (..., 96, 64) float32, its `loudness`; half of it overlaps with the one before.
        """
        loud = levels(window).max(axis=-2)
        past = np.empty((0, *loud.shape), np.float32) if self._past is None else self._past
        self._past = np.concatenate([past[1 - _KEPT :], loud[None]])
        before = past[: -_OVERLAP - _BURST]
        if not len(before):
            before = past[:-_OVERLAP]
        return stands_out(loud, before.max(axis=0)) if len(before) else not self._amid
