"""What has been done to a protected surface: a lasting change on it after somebody stood in front of it.

The zone is the surface as the picture shows it. Source: graffiti as a change that stays on the wall once whoever was
there has gone (Angiati, Gera, Piva and Regazzoni, "A novel method for graffiti detection using change detection
algorithm", AVSS 2005). A change counts when it lies on the surface, has stayed in whatever light there was, and
does not have the straight, full shape of a poster.
"""

from __future__ import annotations

import numpy as np

from agent.behaviours.company import Company
from agent.behaviours.parameters import class_table
from agent.behaviours.zone import Zone
from agent.perception.scene import Scene, StillThing

#: How far from the change somebody stands who can reach it, and how far off is away from it, body heights.
_BESIDE, _NEAR = 0.3, 0.5
#: Share of the change that must lie on the surface: what stands before a wall stands on the ground.
_ON = 0.9
#: A poster fills the rectangle around it, and is as thick as that: of drawn posters 95 % and more, of writing and holes
#: less than 5 % (convex outline over rectangle; thickest part over diagonal).
_FULL, _THICK = 0.92, 0.35
#: What reaches down to the feet of those who stood there stands on the ground before the surface, body heights;
#: boxes of people end a quarter of a height too low at times.
_ABOVE = 0.3


class SurfaceWatch:
    """The lasting changes on one surface."""

    def __init__(self, zone: Zone, stand_s: float, dwell_s: float) -> None:
        """Set up.

        Args:
            zone: The surface.
            stand_s: How long somebody must have stood there when it came, seconds.
            dwell_s: How long it must have stayed without them, seconds.
        """
        self._zone = zone
        self._stand_s, self._dwell_s = stand_s, dwell_s
        self._company = Company(class_table(["person"]), beside=_BESIDE, near=_NEAR, lower=1.0, before_s=20)

    def update(self, scene: Scene) -> list[StillThing]:
        """What has been done to the surface by now, posters apart."""
        return [
            left.thing
            for left in self._company.update(scene)
            if left.stayed_s >= self._stand_s
            and min(left.gone_s, scene.time - left.thing.quiet_since) >= self._dwell_s
            and not (left.thing.fill >= _FULL and left.thing.stroke >= _THICK)
            and left.above >= _ABOVE
            and self._on(scene, left.thing)
        ]

    def _on(self, scene: Scene, thing: StillThing) -> bool:
        x0, y0, x1, y1 = thing.box
        x, y = np.meshgrid(np.linspace(x0, x1, 7)[1:-1] / scene.width, np.linspace(y0, y1, 7)[1:-1] / scene.height)
        inside = self._zone.contains(np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32))
        return bool(inside.mean() >= _ON)

    def clear(self) -> None:
        """Forget everything."""
        self._company.clear()
