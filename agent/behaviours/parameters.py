"""What the parameters of all behaviours have in common: closed tables, and names for classes of objects."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from agent.perception.scene import CLASS_GROUPS, ObjectClass

#: What a rule may call the objects it is about: the keys of `CLASS_GROUPS`.
ClassName = Literal["person", "bicycle", "motorcycle", "car", "bus", "truck", "vehicle"]


class Parameters(BaseModel):
    """Parameters of one behaviour; an unknown key is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def class_table(names: Iterable[ClassName]) -> NDArray[np.bool_]:
    """Which classes are behind these names: (len(ObjectClass),) bool, to be indexed by `Tracks.classes`."""
    table = np.zeros(len(ObjectClass), np.bool_)
    table[[number for name in names for number in CLASS_GROUPS[name]]] = True
    return table
