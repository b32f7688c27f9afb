"""YAMNet beside our tagger: as it comes, and with a head that learns our classes from its embedding.

The network is that of github.com/tensorflow/models, research/audioset/yamnet, Apache-2.0, trained on AudioSet (Gemmeke
et al., ICASSP 2017). It is never shipped: what is here needs its file and its class map.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from agent.evaluate.sounds import SoundsError
from agent.perception.tag import CLASSES

_MODEL, _NAMES = "yamnet_rebuilt.onnx", "yamnet_class_map.csv"
#: Which of its 521 names mean a class of ours.
_MEANT = {
    "gunshot": ("Gunshot, gunfire", "Machine gun"),
    "explosion": ("Explosion", "Boom"),
    "glass_break": ("Glass", "Shatter"),
    "scream": ("Screaming",),
    "crowd_clamour": ("Crowd", "Cheering", "Shout", "Yell", "Chant"),
    "siren": (
        "Siren",
        "Civil defense siren",
        "Police car (siren)",
        "Ambulance (siren)",
        "Fire engine, fire truck (siren)",
    ),
    "horn": ("Vehicle horn, car horn, honking", "Air horn, truck horn"),
}
#: A head learns this long, in batches of this size, from this rate down to nothing.
_STEPS, _BATCH, _RATE = 600, 256, 1e-3

Floats = NDArray[np.float32]


class Yamnet:
    """YAMNet on one core.

    Attributes:
        meant: For each of `CLASSES`, the numbers of the names that mean it.
    """

    def __init__(self, folder: Path) -> None:
        """Load it.

        Args:
            folder: Where the network and its class map are.

        Raises:
            SoundsError: they are not there.
        """
        try:
            content = (folder / _MODEL).read_bytes()
            with (folder / _NAMES).open(encoding="utf-8", newline="") as lines:
                names = [row["display_name"] for row in csv.DictReader(lines)]
        except OSError as error:
            raise SoundsError(f"YAMNet: {error.filename}: {error.strerror}") from error
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self.meant = [[names.index(name) for name in _MEANT[label]] for label in CLASSES]

    def hear(self, sounds: Floats) -> tuple[Floats, Floats]:
        """Patches one by one, which suits a small cache best.

        Args:
            sounds: (N, 15600) float32 at 16 kHz.

        Returns:
            Scores of our classes, (N, 7), the likeliest name that means each; the embedding, (N, 1024).
        """
        answers = [self._session.run(["scores", "embedding"], {"waveform": sound[None]}) for sound in sounds]
        scores = np.concatenate([answer[0] for answer in answers])
        return (
            np.stack([scores[:, meant].max(axis=1) for meant in self.meant], axis=1),
            np.concatenate([answer[1] for answer in answers]),
        )


@dataclass(frozen=True, slots=True)
class Head:
    """Logistic regression on the embedding.

    Attributes:
        weight: (1024, 7).
        bias: (7,).
    """

    weight: Floats
    bias: Floats

    def read(self, embedding: Floats) -> Floats:
        """(N, 1024) to probabilities, (N, 7)."""
        return np.asarray(1 / (1 + np.exp(-(embedding @ self.weight + self.bias))), np.float32)


def fit(embedding: Floats, labels: NDArray[np.int8], weights: NDArray[np.float64]) -> Head:
    """Learn the classes (Adam; Kingma and Ba, 2015).

    Args:
        embedding: (N, 1024) float32 or float16.
        labels: (N, 7): 1 there, 0 not there, -1 unknown.
        weights: How often each patch is drawn, (N,), in any unit.
    """
    random = np.random.default_rng(1)
    cumulative = (weights / weights.sum()).cumsum()
    # Weights, and below them the bias.
    head = np.zeros((embedding.shape[1] + 1, labels.shape[1]), np.float32)
    head[-1] = -2
    mean, square = np.zeros_like(head), np.zeros_like(head)
    for step in range(1, _STEPS + 1):
        chosen = np.minimum(np.searchsorted(cumulative, random.random(_BATCH)), len(weights) - 1)
        seen, wanted = embedding[chosen].astype(np.float32), labels[chosen]
        wrong = (Head(head[:-1], head[-1]).read(seen) - wanted) * (wanted >= 0) / _BATCH
        slope = np.vstack([seen.T @ wrong, wrong.sum(axis=0)])
        mean += 0.1 * (slope - mean)
        square += 0.001 * (slope * slope - square)
        rate = _RATE * (1 - (step - 1) / _STEPS)
        head -= rate * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
    return Head(head[:-1], head[-1])
