"""`person.down`: somebody went from upright to lying within moments, and stays.

Source: the fall as a fast loss of height followed by lying still (Noury et al., "A proposal for the classification and
evaluation of fall detectors", IRBM 29, 2008). Detectors lose people who lie, so it is a place that is watched: where
the head of a tracked person has fallen by a good part of the body's height within a second and a half, or somebody
upright was lost from sight amid the picture, something low must be seen again some moments later, and nobody upright:
what may be a person, however faintly, or what differs from the background.
Known failures: who lies down or slides off slowly is no fall; who sits down on the ground fast is one; a fall behind
something that hides the ground is missed; straight from above nobody has a height to lose.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from statistics import median

import numpy as np
from pydantic import Field

from agent.behaviours.episode import Episode, EpisodeChange
from agent.behaviours.parameters import Parameters
from agent.behaviours.zone import Zone
from agent.contract import Confidence, EventType
from agent.perception.scene import FloatArray, ObjectClass, Scene

#: A fall from standing takes less than this, from the first loss of balance on; sitting down takes as long, but ends
#: higher.
_FALL_S = 1.5
#: How far the head must fall in that time, body heights: who sits on a chair keeps three quarters.
_DROP = 0.4
#: What is lying: lower than this share of the body's height (who kneels keeps two thirds), and less than so many times
#: as high as wide (who stands is twice or three times as high, even a child beside whom a grown-up was seen before), or
#: wider than high.
_LOW, _SLENDER = 0.55, 1.5
#: What differs from the background may be lying if one side is at least this share of the body's height.
_LONG = 0.4
#: Whose box is narrower than this share of its height is upright; who is not seen for so long is lost, seconds.
_UPRIGHT, _LOST_S = 1 / 1.3, 0.4
#: People differ from the usual height at a place by no more than this factor, their boxes' jitter included.
_USUAL = 1.4
#: What stands: at least this share of the body's height.
_TALL = 0.75
#: How far from where the feet were somebody comes to lie, body heights: to the side, and nearer to the camera or
#: farther from it. A bed or a bench would be higher in the picture.
_REACH, _NEARER, _FARTHER = 1.0, 0.6, 0.15
#: Falls no farther apart than this are one, body heights: who is near to it falls for themselves.
_SAME = 0.3
#: Who gets up stands close to where they stood before, body heights; whoever passes behind or in front does not.
_THERE = 0.6
#: Least score of what lies: detectors have hardly seen anybody lie.
_FAINT = 0.2
#: Looks at something lying that make it believable, unless more show something higher there, and how long one outlives
#: the last look, seconds.
_LOOKS, _REMEMBERED_S = 3, 15.0
#: Share of the looks that must show it where the fall was seen, and where it was not: legs of passers-by are low, and
#: seen now and then.
_SHARE_SEEN, _SHARE = 0.1, 0.3
#: Whatever is low before that is still falling, seconds after the head fell.
_SETTLED_S = 1.0
#: Who is upright at the place for so long, while nothing low is seen, has got up, seconds: a passer-by takes less.
_UP_S = 1.5


@dataclass(slots=True)
class _Fall:
    """Where and when a head fell, and whether that was seen; pixels and seconds."""

    time: float
    x: float
    floor: float
    tall: float
    seen: bool
    ticks: int = 0
    looks: int = 0
    others: int = 0
    low_at: float = 0.0
    up_since: float | None = None


class PersonDownParameters(Parameters):
    """Parameters of `person.down`."""

    hold_s: float = Field(8.0, ge=0.5, le=3600, description="How long somebody must stay down, from the fall, seconds.")
    release_s: float = Field(5.0, ge=0, le=3600, description="How long nobody must be down before it ends, seconds.")


class PersonDown:
    """Somebody who has fallen in a zone."""

    Parameters = PersonDownParameters

    def __init__(self, zone: Zone, parameters: PersonDownParameters) -> None:
        self._zone = zone
        self._hold_s = parameters.hold_s
        #: For each track its latest (time, top, bottom, height, width over height, middle).
        self._ways: dict[int, deque[tuple[float, float, float, float, float, float]]] = {}
        #: For each track how tall it was at most where it is, and its feet then.
        self._tallest: dict[int, tuple[float, float]] = {}
        self._falls: list[_Fall] = []
        self._episode = Episode(EventType.PERSON_DOWN, zone.name, release_s=parameters.release_s)

    def update(self, scene: Scene) -> list[EpisodeChange]:
        """What changes with this scene."""
        tracks = scene.tracks
        self._ways = {track: self._ways.get(track, deque()) for track in tracks.ids.tolist()}
        self._tallest = {track: tallest for track, tallest in self._tallest.items() if track in self._ways}
        inside = self._zone.standing(scene)
        for row in np.flatnonzero(scene.persons & (tracks.unseen == 0) & inside):
            self._follow(int(tracks.ids[row]), scene.time, tracks.boxes[row])
        for row in np.flatnonzero((tracks.unseen > _LOST_S) & (tracks.classes == ObjectClass.PERSON)):
            self._lose(int(tracks.ids[row]), scene)
        self._look(scene)
        self._falls = [fall for fall in self._falls if not self._over(fall, scene.time)]
        down = any(_believed(fall) and scene.time - fall.time >= self._hold_s for fall in self._falls)
        return self._episode.update(scene.time, down, confidence=Confidence.MEDIUM)

    def _follow(self, track: int, time: float, box: FloatArray) -> None:
        """Note a fall if the head of a track has just fallen."""
        x0, top, x1, bottom = box.tolist()
        way = self._ways[track]
        tallest, feet = self._tallest.get(track, (0.0, bottom))
        if bottom - top > tallest or abs(bottom - feet) > _FARTHER * tallest:
            self._tallest[track] = (bottom - top, bottom)
        way.append((time, top, bottom, bottom - top, (x1 - x0) / max(bottom - top, 1.0), (x0 + x1) / 2))
        while time - way[0][0] > 2 * _FALL_S:
            way.popleft()
        highest = None
        for moment in reversed(way):
            if time - moment[0] > _FALL_S:
                break
            if moment[4] < _UPRIGHT and (highest is None or moment[1] <= highest[1]):
                highest = moment
        if highest is None or highest[3] < _TALL * self._tallest[track][0]:
            return  # lies already, or sat
        fallen = top - highest[1]
        # Towards the camera the feet go down in the picture as well, and farther than the head.
        if fallen <= bottom - highest[2]:
            return
        # The usual height: a box around two people, or around half of one, is seen now and then.
        tall = median(moment[3] for moment in way if moment[0] <= highest[0])
        if fallen < _DROP * tall:
            return
        self._note(_Fall(time, (x0 + x1) / 2, highest[2], tall, seen=True))

    def _lose(self, track: int, scene: Scene) -> None:
        """Note that somebody may have fallen who was upright when last seen, in the middle of the picture."""
        way = self._ways[track]
        if not way:
            return
        # Who is lost while falling is no more upright at last.
        latest, tallest = way[-1][0], self._tallest[track][0]
        upright = [m for m in way if latest - m[0] <= _FALL_S and m[4] < _UPRIGHT and m[3] >= _TALL * tallest]
        time, x, lowest = latest, way[-1][5], way[-1][2]
        way.clear()
        if not upright:
            return
        tall, bottom = median(moment[3] for moment in upright), upright[-1][2]
        edge = tall / 2
        whole = edge < x < scene.width - edge and max(bottom, lowest) < scene.height - edge / 2
        # A box where nobody is comes and goes as well, and is seldom as tall as people are there.
        usual = float(scene.scale.at(np.array([bottom / scene.height], np.float32))[0]) * scene.height
        if whole and 1 / _USUAL < tall / usual < _USUAL:
            self._note(_Fall(time, x, bottom, tall, seen=False))

    def _note(self, fall: _Fall) -> None:
        """Watch a place, unless it is watched already."""
        beside, along = (_REACH, _NEARER) if fall.seen else (_SAME, _FARTHER)
        reach, along = beside * fall.tall, along * fall.tall
        if all(abs(other.x - fall.x) > reach or abs(other.floor - fall.floor) > along for other in self._falls):
            self._falls.append(fall)

    def _look(self, scene: Scene) -> None:
        """What is there where somebody fell."""
        found = scene.detections
        maybe = (found.classes == ObjectClass.PERSON) & (found.scores >= _FAINT)
        boxes = found.boxes[maybe]
        for fall in self._falls:
            if scene.time - fall.time < _SETTLED_S:
                continue
            fall.ticks += 1
            low = _lying(_near(boxes, fall), fall) or _lying(_flat(_near(scene.moving, fall), fall), fall)
            beside = np.abs((boxes[:, 0] + boxes[:, 2]) / 2 - fall.x) / fall.tall
            below = (boxes[:, 3] - fall.floor) / fall.tall
            high = _sides(boxes)[1][(beside <= _THERE) & (np.abs(below) <= _FARTHER)]
            if low:
                fall.looks, fall.low_at, fall.up_since = fall.looks + 1, scene.time, None
            elif len(high):
                fall.others += 1
                if (high >= _TALL * fall.tall).any():
                    fall.up_since = scene.time if fall.up_since is None else fall.up_since
            if fall.up_since is not None and scene.time - fall.up_since > _UP_S:
                fall.looks, fall.time = 0, -np.inf

    def _over(self, fall: _Fall, time: float) -> bool:
        """Whether it was no fall, for nothing low was seen until it should have been told, or is over."""
        if fall.looks < _LOOKS:
            return time - fall.time > self._hold_s
        return time - fall.low_at > _REMEMBERED_S

    def close(self, time: float) -> list[EpisodeChange]:
        """End what is open."""
        self._ways.clear()
        self._tallest.clear()
        self._falls.clear()
        return self._episode.close(time)


def _near(boxes: FloatArray, fall: _Fall) -> FloatArray:
    """Those of (N, 4) boxes that end on the ground where somebody who fell may lie."""
    beside = np.abs((boxes[:, 0] + boxes[:, 2]) / 2 - fall.x) / fall.tall
    below = (boxes[:, 3] - fall.floor) / fall.tall
    return boxes[(beside <= _REACH) & (below >= -_FARTHER) & (below <= _NEARER)]


def _lying(boxes: FloatArray, fall: _Fall) -> bool:
    """Whether one of the boxes has the shape of somebody lying."""
    if not len(boxes):
        return False
    wide, high = _sides(boxes)
    return bool((((high <= _LOW * fall.tall) & (high <= _SLENDER * wide)) | (wide >= high)).any())


def _flat(blobs: FloatArray, fall: _Fall) -> FloatArray:
    """The blobs that are as low and as long as a body; people who walk side by side are a wide blob too."""
    if not len(blobs):
        return blobs
    wide, high = _sides(blobs)
    return blobs[(high <= _LOW * fall.tall) & (np.maximum(wide, high) >= _LONG * fall.tall)]


def _sides(boxes: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Widths and heights, pixels."""
    return boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]


def _believed(fall: _Fall) -> bool:
    """Whether enough looks show something low; more are wanted where nobody was seen to fall."""
    share = _SHARE_SEEN if fall.seen else _SHARE
    return fall.looks >= max(_LOOKS, share * fall.ticks, fall.others)
