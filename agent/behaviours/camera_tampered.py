"""`camera.tampered`: the camera is covered, blinded, turned away or out of focus.

Source: the comparison of the present picture with what the camera has long seen (Ribnick et al., "Real-time detection
of camera tampering", AVSS 2006), on edges in place of brightness, since edges stay where they are when the light
changes: covered, blinded or turned, the camera no longer sees the edges that it knows, and out of focus or veiled they
are weak. How strong they are is told by regression on the usual ones, which noise does not follow, relative to the
brightness, which the light changes as much (Weber's contrast). The parts of the picture vote, so that one strong edge
that is left does not speak for all; where people and vehicles are seen, nothing is compared.
What the camera has long seen is learned all the time, slowly, so that after some minutes a new view is the usual one
and the episode ends.
Known failures: a vehicle that stops and fills the picture covers the camera indeed; thick fog is a loss of focus; the
switch of a camera from colour to infrared may be another view; in front of a blank wall, or in the dark, there are no
edges to miss, and nothing is said.
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
from agent.capture.frame import Frame
from agent.contract import Confidence, EventType
from agent.perception.scene import Scene

#: The picture is looked at so often, seconds, at most so wide, pixels.
_LOOK_S, _WIDTH = 0.5, 640
#: Places across the picture: the strongest edge of each counts, so that a picture that shakes by less is the same.
_PLACES = 80
#: Parts of the picture across and down, each of which votes.
_PARTS = 4
#: Time in which the usual view is learned, seconds: at first, and while something is wrong with it.
_LEARN_S, _RELEARN_S = 30.0, 300.0
#: Looks that agree with what was learned before anything is said: one that never did was learned from who passed by.
_WARM_UP = 20
#: A part votes when so much of it is not hidden by who is seen, and its edges differ by so much, grey levels.
_OPEN, _EDGY = 0.3, 1.5
#: So many parts must vote, or the whole is judged alone; and so many of them have lost their edges: what hides half of
#: the picture is in front of it.
_VOTES, _MOST = 4, 0.7
#: A part has lost its edges when less than half of their contrast is left, or when they are elsewhere.
_FAINT, _ELSEWHERE = 0.5, 0.2
#: The picture as a whole must agree, if less clearly.
_FAINTER, _OTHER = 0.75, 0.25
#: A box of more than this share of the picture hides nothing: it is what covers the camera.
_LARGE = 0.5

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
        self._agreed = 0
        self._time = -math.inf
        self._wrong = False

    def update(self, scene: Scene) -> list[EpisodeChange]:
        """What changes with this scene."""
        if scene.time - self._time >= _LOOK_S:
            self._look(scene)
        return self._episode.update(scene.time, self._wrong, confidence=Confidence.MEDIUM)

    def _look(self, scene: Scene) -> None:
        elapsed, self._time = scene.time - self._time, scene.time
        view = _view(scene.frame)
        free = _open(scene, view.shape[1:])
        if self._usual is None or self._usual.shape != view.shape:
            self._usual, self._seen, self._agreed = view, np.zeros_like(free), 0
        another = _another(view, self._usual, free)
        self._agreed += not another
        self._wrong = another and self._agreed > _WARM_UP
        self._seen += free
        part = 1 - math.exp(-min(elapsed, _LEARN_S) / (_RELEARN_S if self._wrong else _LEARN_S))
        early = (self._seen > 0) & (self._seen <= _WARM_UP)
        parts = free * np.maximum(np.float32(part), early / np.maximum(self._seen, 1))
        self._usual = self._usual + parts * (view - self._usual)

    def close(self, time: float) -> list[EpisodeChange]:
        """End what is open."""
        self._forget()
        return self._episode.close(time)


def _view(frame: Frame) -> Floats:
    """(2, rows, columns) float32: strength of the strongest edge of each place and its brightness, grey levels."""
    grey = np.asarray(cv2.cvtColor(frame.shrunk(_WIDTH), cv2.COLOR_BGR2GRAY), np.float32)
    across, down = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    edges = np.asarray(cv2.magnitude(across, down), np.float32) / 4
    side = max(1, grey.shape[1] // _PLACES)
    rows, columns = (max(1, length // side // _PARTS) * _PARTS for length in grey.shape)
    strongest = cv2.dilate(edges, np.ones((side, side), np.uint8))
    return np.stack(
        [
            np.asarray(cv2.resize(strongest, (columns, rows), interpolation=cv2.INTER_NEAREST), np.float32),
            np.asarray(cv2.resize(grey, (columns, rows), interpolation=cv2.INTER_AREA), np.float32),
        ]
    )


def _open(scene: Scene, shape: tuple[int, ...]) -> Floats:
    """(rows, columns) float32: 0 where somebody is seen, else 1."""
    height, width = scene.height, scene.width
    rows, columns = shape
    free = np.ones((rows, columns), np.float32)
    boxes = np.concatenate([scene.tracks.boxes, scene.detections.boxes]) / (width, height, width, height)
    small = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) < _LARGE
    for x0, y0, x1, y1 in (boxes[small].clip(0, 1) * (columns, rows, columns, rows)).tolist():
        free[int(y0) : math.ceil(y1), int(x0) : math.ceil(x1)] = 0
    return free


def _another(view: Floats, usual: Floats, free: Floats) -> bool:
    """Whether most parts of a view have lost their usual edges, and the whole has lost many."""
    parts = [_parts(picture) for picture in (*view, *usual, free)]
    left, likeness, spread = _compare(*parts)
    votes = (parts[-1].mean(axis=1) > _OPEN) & (spread > _EDGY)
    lost = votes & ((left < _FAINT) | (likeness < _ELSEWHERE))
    left, likeness, spread = _compare(*(part.reshape(1, -1) for part in parts))
    if votes.sum() < _VOTES:
        return bool(spread[0] > _EDGY and left[0] < _FAINT)
    return bool(lost.sum() >= _MOST * votes.sum() and (left[0] < _FAINTER or likeness[0] < _OTHER))


def _parts(picture: Floats) -> Floats:
    """(parts, places of one) float32."""
    rows, columns = picture.shape
    split = picture.reshape(_PARTS, rows // _PARTS, _PARTS, columns // _PARTS)
    return np.asarray(split.swapaxes(1, 2).reshape(_PARTS * _PARTS, -1), np.float32)


def _compare(
    edges: Floats, light: Floats, usual_edges: Floats, usual_light: Floats, free: Floats
) -> tuple[Floats, Floats, Floats]:
    """Contrast that is left of the usual edges, their correlation and the usual ones' spread, of each row."""
    total = free.sum(axis=1) + 1e-6

    def mean(values: Floats) -> Floats:
        return np.asarray((free * values).sum(axis=1) / total, np.float32)

    now, before = edges - mean(edges)[:, None], usual_edges - mean(usual_edges)[:, None]
    both, variance = mean(now * before), mean(before * before)
    slope = both / (variance + 1e-6)
    left = slope * mean(usual_light) / np.maximum(mean(light), 1)
    likeness = both / np.sqrt(mean(now * now) * variance + 1e-6)
    return np.asarray(left, np.float32), np.asarray(likeness, np.float32), np.asarray(np.sqrt(variance), np.float32)
