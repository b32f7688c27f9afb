"""Who was beside a thing when it came, and whether they are gone: owners, by track alone.

The owners of a thing are the tracks that were beside it in the moments in which it came, as in the PETS 2006 rules for
left luggage (Thirde, Li and Ferryman, "Overview of the PETS2006 challenge", 2006). Nothing recognises anybody. A
track that breaks off beside the thing may be continued by one that begins there; whoever walks up to it from elsewhere
is somebody else.

Who is lost while walking away goes on walking as far as anybody knows, and who is lost standing there stays for some
seconds.

Known failures: whoever is beside it by chance when it comes is an owner too, and delays what is said while staying;
an owner whom the detector loses beside the thing counts as gone after some seconds.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from statistics import median

import numpy as np
from numpy.typing import NDArray

from agent.behaviours.zone import Zone
from agent.perception.scene import FloatArray, Scene, StillThing

#: The past is kept so often and so long, seconds: somebody may hide for minutes what he has put down.
_STEP_S, _PAST_S = 0.5, 180.0
#: Who is beside it until so long after a place was last as usual, seconds, has brought what is there.
_AFTER_S = 6.0
#: A track that is lost beside the thing counts as there for so long, seconds, unless it was walking off: at a slow
#: walk at least, heights of the person a second.
_LOST_S, _WALKS = 5.0, 0.4
#: A track that begins so soon after it, seconds, and so near, heights of the person, goes on with it.
_BRIDGE_S, _STEP_ASIDE = 3.0, 0.75
#: Longest time unseen of somebody who is there, seconds.
_UNSEEN_S = 1.0
#: This near to the edge of the picture, somebody is about to leave it, share of its width or height.
_EDGE = 0.02


@dataclass(frozen=True, slots=True)
class Left:
    """A thing, and who was beside it.

    Attributes:
        thing: The thing.
        tall: Height of who stood beside it the longest when it came, pixels.
        above: How far above their feet it ends, in their heights; negative below.
        stayed_s: How long somebody was beside it about when it came, seconds.
        gone_s: Since when nobody of them is near any more, seconds.
    """

    thing: StillThing
    tall: float
    above: float
    stayed_s: float
    gone_s: float


def lies_in(zone: Zone, scene: Scene, thing: StillThing) -> bool:
    """Whether a thing lies in a zone: the middle of its lower edge does."""
    x0, _, x1, y1 = thing.box
    return bool(zone.contains(np.array([[(x0 + x1) / 2 / scene.width, y1 / scene.height]], np.float32))[0])


@dataclass(frozen=True, slots=True)
class _Seen:
    """When and where an owner was last seen; a row as of `Tracks`, but who does not walk stands.

    `stays` tells whether that was near, and not leaving the picture.
    """

    time: float
    stays: bool
    box: FloatArray
    velocity: FloatArray

    @property
    def tall(self) -> float:
        """Height, pixels."""
        return float(self.box[3] - self.box[1])

    def walked(self, time: float) -> FloatArray:
        """(4,): the box at a later time, if nothing has changed."""
        return np.asarray(self.box + (time - self.time) * np.tile(self.velocity, 2), np.float32)

    def goes_on_at(self, other: _Seen) -> bool:
        """Whether it may be the same who is seen there soon after, having stopped or walked on."""
        reach = _STEP_ASIDE * max(self.tall, other.tall)
        ways = (_feet(other.box) - _feet(box) for box in (self.box, self.walked(other.time)))
        return other.time - self.time <= _BRIDGE_S and any(math.hypot(*way) <= reach for way in ways)


@dataclass(frozen=True, slots=True)
class _Moment:
    """Who is there at a time; a row each as of `Tracks`. `inside` tells who does not reach to the picture's edge."""

    time: float
    ids: NDArray[np.int64]
    boxes: FloatArray
    velocities: FloatArray
    inside: NDArray[np.bool_]


@dataclass(slots=True)
class _Owners:
    near_at: float
    tall: float = 0.0
    feet: float = 0.0
    stayed_s: float = 0.0
    seen: dict[int, _Seen] = field(default_factory=dict)


class Company:
    """Follows the owners of still things."""

    def __init__(
        self, classes: NDArray[np.bool_], *, beside: float, near: float, lower: float, before_s: float
    ) -> None:
        """Set up.

        Args:
            classes: Who may own a thing, by `ObjectClass`.
            beside: How far from a thing its owners are when it comes, heights of their boxes.
            near: How far they may go and still be with it, heights of their boxes.
            lower: Which part of a box is measured from, 0 to 1, from below: the feet for things on the ground, all of
                it for things on a wall.
            before_s: Who was beside it so long before the place was last as usual, seconds, has brought it too: what
                is hardly to be told from the place at first is noticed late.
        """
        self._classes = classes
        self._beside, self._near, self._lower, self._before_s = beside, near, lower, before_s
        self._past: deque[_Moment] = deque()
        self._known: set[int] = set()
        self._owners: dict[int, _Owners] = {}

    def update(self, scene: Scene) -> list[Left]:
        """The things that somebody brought."""
        tracks = scene.tracks
        known, self._known = self._known, set(tracks.ids.tolist())
        due = not self._past or scene.time - self._past[-1].time >= _STEP_S
        if not due and not scene.still:
            self._owners = {}
            return []
        here = self._classes[tracks.classes] & (tracks.unseen <= _UNSEEN_S)
        boxes, velocities = tracks.boxes[here], tracks.velocities[here]
        # Who reaches to the picture's edge and is seen no more has left.
        low, high = boxes[:, :2] / (scene.width, scene.height), boxes[:, 2:] / (scene.width, scene.height)
        inside = np.asarray((low > _EDGE).all(axis=1) & (high < 1 - _EDGE).all(axis=1))
        walks = np.hypot(*velocities.T) >= _WALKS * (boxes[:, 3] - boxes[:, 1])
        now = _Moment(scene.time, tracks.ids[here], boxes, velocities * walks[:, None], inside)
        if due:
            self._past.append(now)
            while scene.time - self._past[0].time > _PAST_S:
                self._past.popleft()
        self._owners = {thing.number: self._owners.get(thing.number) or self._brought(thing) for thing in scene.still}
        found = []
        for thing in scene.still:
            owners = self._owners[thing.number]
            self._follow(owners, thing, now, known)
            if owners.stayed_s > 0:
                above = (owners.feet - thing.box[3]) / owners.tall
                found.append(Left(thing, owners.tall, above, owners.stayed_s, scene.time - owners.near_at))
        return found

    def _brought(self, thing: StillThing) -> _Owners:
        """Who was beside it when it came, and what has become of them since."""
        owners = _Owners(thing.since)
        beside: dict[int, list[_Seen]] = {}
        known: set[int] = set()
        for moment in self._past:
            self._follow(owners, thing, moment, known)
            known.update(moment.ids.tolist())
            if thing.since - self._before_s <= moment.time <= thing.since + _AFTER_S:
                near = self._distances(thing, moment.boxes) <= self._beside
                owners.stayed_s += _STEP_S * bool(near.any())
                for row in np.flatnonzero(near).tolist():
                    one = int(moment.ids[row])
                    owners.seen[one] = _Seen(moment.time, True, moment.boxes[row], moment.velocities[row])
                    beside.setdefault(one, []).append(owners.seen[one])
        if beside:
            # Whoever stood there, rather than those who only passed.
            longest = max(beside.values(), key=lambda seen: (sum(not one.velocity.any() for one in seen), len(seen)))
            owners.tall = max(last.tall for last in longest)
            owners.feet = median(float(last.box[3]) for last in longest)
        return owners

    def _follow(self, owners: _Owners, thing: StillThing, moment: _Moment, known: set[int]) -> None:
        """Who of the owners is near at a moment; `known` are the tracks that were there before."""
        near = (self._distances(thing, moment.boxes) <= self._near).tolist()
        time, ids, seen = moment.time, moment.ids.tolist(), owners.seen
        lost = {i for i, last in seen.items() if last.stays and i not in ids and time - last.time <= _LOST_S}
        for row, (i, stays, whole) in enumerate(zip(ids, near, moment.inside.tolist(), strict=True)):
            if i not in seen and (i in known or not lost):
                continue
            now = _Seen(time, stays and whole, moment.boxes[row], moment.velocities[row])
            if i not in seen:
                before = next((j for j in lost if seen[j].goes_on_at(now)), None)
                if before is None:
                    continue
                lost.remove(before)
                del seen[before]
            seen[i] = now
            if stays:
                owners.near_at = time
        if lost and (self._distances(thing, np.stack([seen[i].walked(time) for i in lost])) <= self._near).any():
            owners.near_at = time

    def _distances(self, thing: StillThing, boxes: FloatArray) -> FloatArray:
        """(N,) float32: how far each box is from a thing, in its own heights; 0 where they touch."""
        x0, y0, x1, y1 = thing.box
        tall = np.maximum(boxes[:, 3] - boxes[:, 1], 1)
        top = boxes[:, 3] - self._lower * tall
        across = np.maximum(np.maximum(boxes[:, 0] - x1, x0 - boxes[:, 2]), 0)
        along = np.maximum(np.maximum(top - y1, y0 - boxes[:, 3]), 0)
        return np.asarray(np.hypot(across, along) / tall, np.float32)

    def clear(self) -> None:
        """Forget everybody."""
        self._past.clear()
        self._known.clear()
        self._owners.clear()


def _feet(box: FloatArray) -> FloatArray:
    """(2,): the middle of a box's lower edge."""
    return np.array([(box[0] + box[2]) / 2, box[3]], np.float32)
