"""Sounds that have a name: what the tagger knows, and how its network is read."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agent.inference.backend import Backend, InferenceError
from agent.perception.logmel import BANDS, FRAMES, PATCH, RATE, logmel

#: The classes, in the order of their event types and of every network of ours.
CLASSES = ("gunshot", "explosion", "glass_break", "scream", "crowd_clamour", "siren", "horn")
#: From one patch to the next, samples: patches overlap, so that no impulse is split by all of them.
STEP = RATE // 2


def patches(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """A recording as overlapping patches, one every half second and one at its end.

    Args:
        samples: (S,) float32 at 16 kHz; what is shorter than a patch is followed by silence.

    Returns:
        (N, `PATCH`) float32, N at least 1.
    """
    samples = np.pad(samples, (0, max(0, PATCH - len(samples))))
    last = len(samples) - PATCH
    starts = [*range(0, last, STEP), last]
    return np.stack([samples[start : start + PATCH] for start in starts])


class Tagger:
    """Names what is heard, with a network of the registry."""

    def __init__(self, backend: Backend) -> None:
        """Take a network into use.

        Args:
            backend: The network; closed by whoever opened it.

        Raises:
            InferenceError: it is not a tagger of this kind.
        """
        (given, *_), (answer, *_) = backend.inputs, backend.outputs
        if given.shape[1:] != (1, FRAMES, BANDS) or answer.shape[1:] != (len(CLASSES),):
            raise InferenceError(f"not a sound tagger: its input is {given.shape}, its output {answer.shape}")
        self._backend = backend

    def tag(self, sounds: NDArray[np.float32]) -> NDArray[np.float32]:
        """How likely each class is to be heard in each patch; several may be.

        Args:
            sounds: (N, `PATCH`) float32 at 16 kHz, full scale being 1.

        Returns:
            (N, 7) float32, 0 to 1, in the order of `CLASSES`.

        Raises:
            InferenceError: the runtime failed.
        """
        (logits, *_) = self._backend.run(logmel(sounds)[:, None])
        return np.asarray(1 / (1 + np.exp(-logits)), np.float32)
