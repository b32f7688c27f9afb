"""The cells of optical flow as places where people may be: whoever fills a cell has their feet half a body below it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.behaviours.zone import Zone
from agent.perception.scene import FloatArray, Flow, Scene


@dataclass(frozen=True, slots=True)
class Cells:
    """Where the cells are.

    Attributes:
        centres: (rows, columns, 2) float32, pixels of the source frame.
        feet: (rows, columns, 2) float32: of somebody whose middle is there, fractions of width and height.
        tall: (rows, 1) float32: height of such a person, pixels.
    """

    centres: FloatArray
    feet: FloatArray
    tall: FloatArray

    def within(self, zone: Zone, scene: Scene) -> NDArray[np.bool_]:
        """In which of them people are in the zone, (rows, columns)."""
        inside = scene.once(("cells", zone.key), lambda: zone.contains(self.feet.reshape(-1, 2)))
        return inside.reshape(self.feet.shape[:2])


def cells(scene: Scene, flow: Flow) -> Cells:
    """The cells of this scene's flow."""
    return scene.once("cells", lambda: _cells(scene, flow))


def _cells(scene: Scene, flow: Flow) -> Cells:
    centres = flow.centres()
    level = centres[:, :1, 1] / np.float32(scene.height)
    below = level + scene.scale.at(level) / 2
    feet = np.empty_like(centres)
    feet[..., 0] = centres[..., 0] / scene.width
    feet[..., 1] = below
    return Cells(centres, feet, np.asarray(scene.scale.at(below) * np.float32(scene.height), np.float32))
