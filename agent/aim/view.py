"""What the page is shown of a camera: strokes of the background, markers of one shape, zones that light up. No pixel.

A document is made once a second at most, and is the same for everybody who asks. All that comes from a person is a
marker on a cell of the grid, the number of people in each zone, and whether a behaviour is content.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from agent.aim.background import CELLS, LOOK_S, Background, Presence
from agent.behaviours.episode import EpisodeChange
from agent.behaviours.zone import Zone
from agent.capture.frame import Frame
from agent.contract import Phase
from agent.perception.hearing import Hearing
from agent.perception.scene import Detections, FloatArray, ObjectClass, Tracks
from agent.perception.tag import CLASSES
from agent.settings import CameraSettings

#: Steps of the level meter, dB, and its range, dBFS; steps of a class bar.
LEVEL_STEP_DB, LEVEL_FLOOR_DBFS = 3, -60
_BAR_STEPS = 10


@dataclass(slots=True)
class Lights:
    """Which behaviours are content now: type and zone of every episode that is open."""

    open: set[tuple[str, str | None]] = field(default_factory=set)

    def follow(self, changes: list[EpisodeChange]) -> None:
        """See what changes."""
        for change in changes:
            key = (change.type.label, change.zone)
            if change.phase is Phase.ENDED:
                self.open.discard(key)
            else:
                self.open.add(key)

    def told(self) -> list[list[str | None]]:
        """As the page gets them."""
        return [list(key) for key in sorted(self.open, key=lambda key: (key[0], key[1] or ""))]


class CameraView:
    """One camera as the page sees it."""

    def __init__(self, camera: CameraSettings) -> None:
        """Nothing is known yet.

        Args:
            camera: Its zones.
        """
        self.lights = Lights()
        self._name = camera.name
        self._presence, self._background = Presence(), Background()
        self._looked_at = -math.inf
        self._size = (0, 0)
        self._markers: list[list[int]] = []
        self._counts: dict[str, int] = {}
        self.draw_zones(camera)

    def draw_zones(self, camera: CameraSettings) -> None:
        """The zones are others now."""
        self._zones = [Zone(zone.name, zone.polygon) for zone in camera.zones]
        self._counts = {}
        self.lights = Lights()

    def see(self, frame: Frame, guesses: Detections, tracks: Tracks) -> None:
        """Take in the next frame.

        Args:
            frame: The frame.
            guesses: What the detector finds in it at its lowest threshold.
            tracks: What is followed.
        """
        height, width = frame.image.shape[:2]
        self._size = (width, height)
        self._mark(tracks, width, height)
        if frame.time - self._looked_at < LOOK_S - 0.02:
            return
        self._looked_at = frame.time
        look = self._presence.look(frame.time, frame.image, np.concatenate([guesses.boxes, tracks.boxes]))
        if self._presence.moved:
            self._background.forget()
        self._background.learn(look)

    def _mark(self, tracks: Tracks, width: int, height: int) -> None:
        """Markers on the grid, and how many people are in each zone."""
        there = tracks.persons()
        vehicles = ~there & (tracks.classes != ObjectClass.PERSON) & (tracks.unseen == 0)
        feet = _feet(tracks.boxes, width, height)
        cell = width / CELLS
        rows = max(1, round(CELLS * height / width))
        marks = []
        for kind, rows_of in ((0, there), (1, vehicles)):
            for x, y in feet[rows_of].tolist():
                column = min(max(int(x * width / cell), 0), CELLS - 1)
                marks.append([kind, column, min(max(int(y * rows), 0), rows - 1)])
        self._markers = sorted(marks)
        self._counts = {str(zone.name): int(zone.contains(feet[there]).sum()) for zone in self._zones}

    def lose(self) -> None:
        """The camera is gone: nobody is known to be anywhere."""
        self._markers, self._counts, self.lights = [], {}, Lights()

    def document(self, state: str) -> dict[str, Any]:
        """What the page is shown.

        Args:
            state: Of the camera, in a word.
        """
        drawing = self._background.drawing
        return {
            "name": self._name,
            "state": state,
            "size": list(self._size),
            "grid": list(drawing.shape[::-1]),
            "drawing": "".join(map(str, drawing.ravel().tolist())),
            "markers": self._markers,
            "persons": self._counts,
            "open": self.lights.told(),
        }


def _feet(boxes: FloatArray, width: int, height: int) -> FloatArray:
    """(N, 2) float32: the middle of each box's lower edge, fractions of width and height."""
    middle = (boxes[:, 0] + boxes[:, 2]) * (0.5 / width)
    return np.stack([middle, boxes[:, 3] / height], axis=1).astype(np.float32)


class SoundView:
    """The microphone as the page sees it: a level in steps of 3 dB, and how likely each sound is in tenths."""

    def __init__(self) -> None:
        self.lights = Lights()
        self._bars = [0] * len(CLASSES)

    def hear(self, hearing: Hearing) -> None:
        """Take in the next hearing."""
        self._bars = [round(_BAR_STEPS * score) for score in hearing.scores.tolist()]

    def document(self, state: str, level_dbfs: float) -> dict[str, Any]:
        """What the page is shown.

        Args:
            state: Of the microphone, in a word.
            level_dbfs: Of the last tenth of a second, of the loudest channel.
        """
        level = max(level_dbfs, float(LEVEL_FLOOR_DBFS))
        return {
            "state": state,
            "level_dbfs": LEVEL_STEP_DB * round(min(level, 0.0) / LEVEL_STEP_DB),
            "bars": dict(zip(CLASSES, self._bars, strict=True)),
            "open": self.lights.told(),
        }


def page_bytes(cameras: list[dict[str, Any]], sound: dict[str, Any] | None, refused: list[str]) -> bytes:
    """The document of one second, as the page gets it."""
    document = {"cameras": cameras, "sound": sound, "refused": refused}
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()
