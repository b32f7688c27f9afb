"""Which tracks are persons who are there, and how sure a detection is: what several behaviours ask of a scene."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agent.contract import Confidence
from agent.perception.scene import FloatArray, ObjectClass, Tracks

#: A walker is half a second behind another; who is out of sight for longer may as well have left.
COAST_S = 0.5


def persons(tracks: Tracks) -> NDArray[np.bool_]:
    """Which tracks are persons who are there now: (N,) bool."""
    return np.asarray((tracks.classes == ObjectClass.PERSON) & (tracks.unseen <= COAST_S))


def confidence_in(scores: FloatArray) -> Confidence:
    """The confidence of what rests on these detections: their mean score in steps.

    `CONFIRMED` is for what a second kind of sensor has confirmed; a detector alone never reaches it.
    """
    mean = float(scores.mean()) if len(scores) else 0.0
    if mean >= 0.7:
        return Confidence.HIGH
    return Confidence.MEDIUM if mean >= 0.4 else Confidence.LOW
