"""How long each object has stayed in a zone, though its track may break: continuity of a place, not of a person.

A tracker loses people who turn, sit down or pass behind something, and gives them a new number when they are seen
again. Nothing here recognises anybody. Instead a stay belongs to a place: an object that appears where a stay was
broken off moments before continues that stay. Whoever steps into the place of somebody who has just vanished is
therefore taken for the same; `bridge_s` keeps that rare. Who is seen to come in from outside is somebody else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.perception.moving import moves
from agent.perception.scene import COAST_S, FloatArray, Scene, Tracks

#: Who has been so far from where they were first seen has walked, heights of the box: ten times a box's jitter, and
#: half of that where the picture moves as well.
_WALKED, _WALKED_SEEN = 0.5, 0.25
#: How far from where it was lost an object may reappear, in heights of its box: a step or two.
_REACH = 1.0
#: Who has walked there is the same if a step towards the camera is half as long in the picture, as of a camera that
#: looks down at 30°, and their box differs in height by four times a box's jitter at most.
_DEPTH, _TALLER = 2.0, 1.5
#: Who walks when lost, or is seen outside, is not there any more after so long; and who walks when seen continues
#: what was broken off so shortly before at most, seconds. Slower is standing or strolling, body heights per second, if
#: it lasts: the box of somebody who leaves the picture may stop at its edge, or give way to a false one.
_GONE_S, _WALK_S, _STROLL, _STOPPED_S = 2.0, 1.0, 0.5, 1.0


@dataclass(slots=True)
class _Stay:
    since: float
    first: tuple[float, float]
    seen: float = 0.0
    x: float = 0.0
    y: float = 0.0
    height: float = 0.0
    walked: bool = False
    stands: bool = True
    strode: float = -math.inf


class Stays:
    """The stays in one zone, by track number; a stay is forgotten when it was broken off for longer than `bridge_s`."""

    def __init__(self, bridge_s: float) -> None:
        self._bridge_s = bridge_s
        self._stays: dict[int, _Stay] = {}
        #: Tracks that there were in the last scene, and those that have been seen outside.
        self._known: set[int] = set()
        self._outside: set[int] = set()

    def update(self, scene: Scene, inside: NDArray[np.bool_]) -> FloatArray:
        """The seconds that each track has stayed, (N,) float32; 0 where it is not in the zone or not seen now.

        Args:
            scene: The tick.
            inside: (N,) bool, which tracks are in the zone.
        """
        tracks = scene.tracks
        seen = tracks.unseen == 0
        outside = set(tracks.ids[seen & ~inside].tolist())
        self._outside = (self._outside | outside) & set(tracks.ids.tolist())
        for track in outside & self._stays.keys():
            self._stays[track].stands = False
        self._stays = {i: stay for i, stay in self._stays.items() if scene.time - stay.seen <= self._bridged(stay)}
        here_now = set(tracks.ids[inside & seen].tolist())
        lost = {i: stay for i, stay in self._stays.items() if i not in here_now and scene.time - stay.seen > COAST_S}
        moving = scene.once("moves", lambda: moves(tracks.boxes, scene.moving)).tolist()
        ids, boxes, velocities, ages = scene.once("plain", lambda: _plain(scene.tracks))
        seconds = np.zeros(len(tracks), np.float32)
        for row in np.flatnonzero(inside & seen).tolist():
            track, (x0, y0, x1, y1), (across, down) = ids[row], boxes[row], velocities[row]
            x, y = (x0 + x1) / 2, (y0 + y1) / 2
            stay = self._stays.get(track)
            if stay is None:
                # A tracker takes some looks to be sure of somebody, who has been there since the first of them.
                age = 0.0 if track in self._known else ages[row]
                first = (x - age * across, y - age * down) if moving[row] else (x, y)
                stay = self._stays[track] = _Stay(scene.time - age, first)
            stay.seen, stay.x, stay.y, stay.height = scene.time, x, y1, y1 - y0
            if math.hypot(across, down) >= _STROLL * stay.height:
                stay.strode = scene.time
            stay.stands = scene.time - stay.strode > _STOPPED_S
            if lost and track not in self._outside:
                self._continue(lost, stay)
            if not stay.walked:
                least = _WALKED_SEEN if moving[row] else _WALKED
                stay.walked = math.dist((x, y), stay.first) > least * max(stay.height, 1.0)
            seconds[row] = scene.time - stay.since
        self._known = set(ids)
        return seconds

    def _bridged(self, stay: _Stay) -> float:
        """How long a stay outlives the last sight of it, seconds."""
        return self._bridge_s if stay.stands else min(self._bridge_s, _GONE_S)

    def known(self, scene: Scene) -> NDArray[np.bool_]:
        """Which tracks have a stay, (N,) bool."""
        return np.array([track in self._stays for track in scene.tracks.ids.tolist()], np.bool_)

    def walked(self, scene: Scene) -> NDArray[np.bool_]:
        """Which tracks have been seen to walk since their stay began, (N,) bool; what never has is a thing.

        Detectors take signs, bins and reflections for persons, now and then or for good. Those stay where they are.
        """
        stays = [self._stays.get(track) for track in scene.tracks.ids.tolist()]
        return np.array([stay is not None and stay.walked for stay in stays], np.bool_)

    def _continue(self, lost: dict[int, _Stay], here: _Stay) -> None:
        """Let somebody who appeared there have the nearest of the lost stays, if that is longer than their own.

        Whose it was keeps it: a tracker that took a false box for them finds them again.
        """
        new = here.seen - here.since <= _WALK_S
        if not (here.stands or new):
            return
        longest = math.inf if here.stands else _WALK_S
        distances = {
            track: _distance(stay, here)
            for track, stay in lost.items()
            if stay.since < here.since and here.seen - stay.seen <= longest
        }
        nearest = min(distances, key=distances.__getitem__, default=None)
        if nearest is not None and distances[nearest] <= _REACH:
            theirs = lost.pop(nearest)
            here.since = theirs.since
            if _alike(theirs, here):
                here.first, here.walked = theirs.first, theirs.walked

    def clear(self) -> None:
        """Forget all stays."""
        self._stays.clear()
        self._known.clear()
        self._outside.clear()


def _plain(tracks: Tracks) -> tuple[list[Any], ...]:
    """Numbers, boxes, velocities and ages as lists: what is done one by one is several times faster so."""
    return tuple(of.tolist() for of in (tracks.ids, tracks.boxes, tracks.velocities, tracks.ages))


def _distance(a: _Stay, b: _Stay) -> float:
    """Between two places, in heights of the larger box."""
    return math.hypot(a.x - b.x, a.y - b.y) / max(a.height, b.height, 1.0)


def _alike(a: _Stay, b: _Stay) -> bool:
    """Whether these can be one person at one place: a false box beside somebody is hardly ever of their size."""
    smaller, larger = sorted((max(a.height, 1.0), max(b.height, 1.0)))
    return larger <= _TALLER * smaller and math.hypot(a.x - b.x, _DEPTH * (a.y - b.y)) <= _REACH * larger
