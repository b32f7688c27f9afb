"""How sure a detection is."""

from __future__ import annotations

from agent.contract import Confidence
from agent.perception.scene import FloatArray


def confidence_in(scores: FloatArray) -> Confidence:
    """The confidence of what rests on these detections: their mean score in steps.

    `CONFIRMED` is for what a second kind of sensor has confirmed; a detector alone never reaches it.
    """
    mean = float(scores.mean()) if len(scores) else 0.0
    if mean >= 0.7:
        return Confidence.HIGH
    return Confidence.MEDIUM if mean >= 0.4 else Confidence.LOW
