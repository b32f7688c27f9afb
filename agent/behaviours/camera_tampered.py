"""`camera.tampered`: the camera is covered, blinded, turned away or out of focus.

Source: the comparison of the present picture with what the camera has long seen (Ribnick et al., "Real-time detection
of camera tampering", AVSS 2006), on edges in place of brightness, since edges stay where they are when the light
changes: covered, blinded or turned, the camera no longer sees the edges that it knows, and out of focus the fine ones
are gone. What the camera has long seen is learned all the time, slowly, so that after some minutes a new view is the
usual one and the episode ends.
Known failures: a vehicle that stops and fills the picture covers the camera indeed; thick fog is a loss of focus; in
front of a blank wall, or in the dark, there are no edges to miss, and nothing is said.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from agent.behaviours.episode import Episode, EpisodeChange
from agent.behaviours.parameters import Parameters
from agent.behaviours.zone import Zone
from agent.contract import Confidence, EventType
from agent.perception.scene import Scene
from agent.perception.shrink import shrink

#: The picture is looked at so often, seconds, at most so wide, pixels, and its edges at most so wide.
_LOOK_S, _FINE_WIDTH, _COARSE_WIDTH = 0.5, 640, 160
#: Time in which the usual view is learned, seconds: at first, and while something is wrong with it.
_LEARN_S, _RELEARN_S = 30.0, 300.0
#: Looks before anything is said.
_WARM_UP = 10
#: Correlation of the edges with the usual ones, -1 to 1, below which it is another view: a busy street hides half of
#: its edges, another place has none of them.
_OTHER = 0.25
#: Fine edges beside coarse ones, as a share of the usual, below which the picture is out of focus. The strongest edges
#: are compared: the weak ones are the sensor's noise.
_BLURRED, _STRONGEST = 0.5, 0.98
#: Mean strength of edges, grey levels, below which there is nothing to compare.
_BLANK = 1.0

Floats = NDArray[np.float32]


class CameraTamperedParameters(Parameters):
    """Parameters of `camera.tampered`."""

    hold_s: float = Field(5.0, ge=0, le=600, description="How long the view must be another one, seconds.")
    release_s: float = Field(5.0, ge=0, le=3600, description="How long it must be the usual one again, seconds.")


class CameraTampered:
    """A view that is not the usual one."""

    Parameters = CameraTamperedParameters

    def __init__(self, zone: Zone, parameters: CameraTamperedParameters) -> None:
        self._episode = Episode(
            EventType.CAMERA_TAMPERED, zone.name, hold_s=parameters.hold_s, release_s=parameters.release_s
        )
        self._forget()

    def _forget(self) -> None:
        self._usual: Floats | None = None
        self._sharpness = 0.0
        self._looks = 0
        self._time = -math.inf
        self._wrong = False

    def update(self, scene: Scene) -> list[EpisodeChange]:
        """What changes with this scene."""
        if scene.time - self._time >= _LOOK_S:
            self._look(scene)
        return self._episode.update(scene.time, self._wrong, confidence=Confidence.MEDIUM)

    def _look(self, scene: Scene) -> None:
        elapsed, self._time = scene.time - self._time, scene.time
        fine = np.asarray(cv2.cvtColor(shrink(scene.image, _FINE_WIDTH), cv2.COLOR_BGR2GRAY), np.float32)
        coarse = cv2.resize(fine, _fit(fine.shape, _COARSE_WIDTH), interpolation=cv2.INTER_AREA)
        edges = _edges(np.asarray(coarse, np.float32))
        sharpness = _strongest(_edges(fine)[::2, ::2]) / max(_strongest(edges), 1e-3)
        if self._usual is None or self._usual.shape != edges.shape:
            self._usual, self._sharpness, self._looks = edges, sharpness, 0
        self._looks += 1
        known = self._usual.mean() > _BLANK
        other = _correlation(edges, self._usual) < _OTHER
        blurred = edges.mean() > _BLANK and sharpness < _BLURRED * self._sharpness
        self._wrong = bool(known and self._looks > _WARM_UP and (other or blurred))
        part = 1 - math.exp(-min(elapsed, _LEARN_S) / (_RELEARN_S if self._wrong else _LEARN_S))
        part = max(part, 0.0 if self._looks > _WARM_UP else 1 / self._looks)
        self._usual = self._usual + np.float32(part) * (edges - self._usual)
        self._sharpness += part * (sharpness - self._sharpness)

    def close(self, time: float) -> list[EpisodeChange]:
        """End what is open."""
        self._forget()
        return self._episode.close(time)


def _fit(shape: tuple[int, ...], width: int) -> tuple[int, int]:
    return width, max(1, round(shape[0] * width / shape[1]))


def _edges(grey: Floats) -> Floats:
    """Strength of the gradient at each place, grey levels a pixel."""
    across, down = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    return np.asarray(cv2.magnitude(across, down) / 4, np.float32)


def _strongest(edges: Floats) -> float:
    return float(np.quantile(edges, _STRONGEST))


def _correlation(a: Floats, b: Floats) -> float:
    """Pearson's, of two pictures; 0 where one is blank."""
    a, b = a - a.mean(), b - b.mean()
    spread = math.sqrt(float((a * a).sum()) * float((b * b).sum()))
    return float((a * b).sum()) / spread if spread > 0 else 0.0
