"""Scores that mean something: 0.8 is to be right in eight cases of ten.

The logits of the trained network are stretched and shifted (Platt, 1999) so that its scores tell how often it is right
on held-back pictures. The order of detections within a class stays, so average precision does too; what changes is that
the thresholds of tracker and behaviours fit whatever network serves.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from agent.evaluate.detection import GROUPS, Labelled, claims, find, folder, read
from agent.perception.detect import ModelDetector
from agent.perception.scene import Detections, ObjectClass
from models.train.detector.network import CLASSES

_OVERLAP = 0.5
#: Sets whose labels know every object of these classes.
_PERSONS, _VEHICLES = (ObjectClass.PERSON,), GROUPS["motor vehicle"]


def calibrate(detector: ModelDetector, data: Path) -> tuple[Tensor, Tensor]:
    """How to stretch and shift the logits of each class.

    Args:
        detector: The network as trained, with a low score.
        data: The shared data.

    Returns:
        Factors and summands, (classes,) each. Bicycles, of which no set knows all, go with motor vehicles.
    """
    streets = folder(data / "street")["highway_id"]
    people = [path for of_set in folder(data / "person" / "val").values() for path in of_set]
    roads = find({"": detector}, map(read, streets))[""].found
    found = {_PERSONS: [*find({"": detector}, map(read, people))[""].found, *roads], _VEHICLES: roads}
    of_persons, of_vehicles = (_fit(pairs, kinds) for kinds, pairs in found.items())
    rows = [of_persons if name == "person" else of_vehicles for name in CLASSES]
    return torch.stack([row[0] for row in rows]), torch.stack([row[1] for row in rows])


def _fit(found: Sequence[tuple[Labelled, Detections]], kinds: Sequence[ObjectClass]) -> Tensor:
    """(2,): factor and summand that make hits likeliest."""
    scores, hits = (torch.from_numpy(part) for part in claims(found, kinds, _OVERLAP))
    logits, wanted = scores.double().logit(), hits.double()
    line = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([line], max_iter=100, line_search_fn="strong_wolfe")

    def wrong() -> Tensor:
        optimiser.zero_grad()
        cost = functional.binary_cross_entropy_with_logits(line[0] * logits + line[1], wanted)
        cost.backward()  # type: ignore[no-untyped-call]
        return cost

    optimiser.step(wrong)  # type: ignore[no-untyped-call]
    return line.detach().float()
