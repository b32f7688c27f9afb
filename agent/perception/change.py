"""What has come and stayed: lasting change, in a small picture, a few times a second.

Two pictures are kept, after the dual foregrounds of Porikli, Ivanov and Haga ("Robust abandoned object detection using
dual foregrounds", EURASIP J. Adv. Signal Process. 2008): `long`, what has been there for minutes, and `short`, what
most of the last seconds agree on (majority vote by Boyer and Moore, 1981, one counter a pixel), so that whoever walks
by is in neither. Where the two differ, something has changed and stayed. Each such place is followed as a thing, and
from a larger picture it is told why it differs (`agent.perception.difference`): light, the ground where something was
taken away and what was moved a little are learned at once, and what is new is given to behaviours.

Frames are brought to the brightness of `long` by a line through what looks as usual, in each colour; brightness that
differs over wide areas is taken off as well; neither picture is believed nearer than a pixel, for cameras that tremble.
A thing in which the detector finds a person or vehicle now and then, or which settles anew and looks otherwise, as
somebody does who shifts on a chair, has to be quiet from then on; whoever passes before it changes nothing.

Known failures: things of less than about a sixtieth of the picture's width, and those of the ground's own colour; who
is never found by the detector and sits like a stone; what comes while its place is covered all the time.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.capture.frame import Frame, Image
from agent.inference.backend import InferenceError
from agent.perception.difference import Cause, Difference, compare, explained, reach
from agent.perception.patch import PatchChecker
from agent.perception.scene import Detections, FloatArray, StillThing, Tracks

Floats = NDArray[np.float32]
Floats64 = NDArray[np.float64]
Bools = NDArray[np.bool_]

#: The picture is looked at so often, seconds; shrunk to at most this width, pixels, and to this one to tell causes.
_LOOK_S, _WIDTH, _FINE_WIDTH = 0.39, 200, 640
#: Votes that a place has at most: what came has outvoted what was there after as many looks.
_VOTES = np.uint8(8)
#: Votes that what is new needs.
_SETTLED = 4
#: Grey levels, in some colour, beyond which a place differs; and in mean deviations of what is usual there, for leaves
#: and water.
_DIFFERS, _DEVIATIONS = 14, 3.0
#: Votes that a look gives, and three more, by what it differs from: neither picture, `short`, `long`, both.
_OFFSET, _GIVEN = np.uint8(3), np.array([4, 0, 4, 2], np.uint8)
#: In how many seconds what stays the same is learned: the sun moves, and so do its shadows.
_LEARN_S = 30.0
#: A line of brightness is drawn through the means of patches of so many pixels; through how many at least, how unlike
#: at least (standard deviation, grey levels), and how steep at most.
_PATCH, _ENOUGH, _FLAT, _MOST_GAIN = 6, 20, 5.0, 3.0
#: In how many seconds what is known takes on the brightness of the present, as evening falls.
_DARKENS_S = 300.0
#: The larger picture is learned so often, seconds.
_FINE_S = 4.0
#: Nothing is said before, seconds.
_WARM_UP_S = 8.0
#: Least and largest share of the picture that a thing fills; more than the last of it at once is another view.
_LEAST, _LARGEST, _OTHER_VIEW = 0.0003, 0.15, 0.4
#: Share of the picture that the box of a thing fills at most.
_LARGEST_BOX = 0.2
#: What is this near belongs together, pixels of the small picture: letters to a word.
_TOGETHER = np.ones((5, 5), np.uint8)
_PIXEL = np.ones((3, 3), np.uint8)
#: Detections of at least this score may stand before a thing; of at least this one, they are the thing.
_MAYBE, _IS = 0.15, 0.3
#: A detection is the thing when they share so much (intersection over union), and when less of the thing than the other
#: looks otherwise than in the last seconds: who passes before it is somebody else.
_IS_IT, _PASSES = 0.4, 0.3
#: Share of a thing that looks otherwise than before once it has settled again, so that it lives.
_LIVES = 0.15
#: A thing is looked at closely once nothing has moved in it for so long, and then this often, seconds.
_CALM_S, _AGAIN_S = 2.0, 5.0
#: A thing that nobody stands before is forgotten when it is not seen for so long, and else after the other, seconds.
_LOST_S, _HIDDEN_S = 6.0, 120.0
#: Share of it that somebody stands before, so that it cannot be looked at closely, and cannot be judged.
_PASSES_BY, _HIDES = 0.1, 0.3
#: So long after they have gone, it has settled again, seconds: all votes are turned, and then cast.
_BACK_S = 5.0
#: What has stayed for so long belongs to the place, seconds.
_BELONGS_S = 3600.0
#: Things that are followed at most; memory is bounded.
_THINGS = 64
#: Looks after which light and what is gone are learned; what was moved is at once, since two places agree on it.
_SURE = 2
#: Share of a thing that a shift explains, so that it was there already and was moved. It is looked for so long after it
#: has come to rest, seconds: later, the place where it was has been learned.
_MOVED, _MOVED_S = 0.6, 20.0


@dataclass(slots=True)
class _Thing:
    """A place that differs; boxes are x0 y0 x1 y1, pixels of the small picture."""

    number: int
    box: NDArray[np.intp]
    mask: Bools
    area: int
    since: float
    seen: float
    bare: float
    quiet_since: float
    hidden: float = -math.inf
    #: What it looked like when it was last taken to be quiet: where, which places of it, and the picture there.
    face: tuple[tuple[slice, slice], Bools, Floats] | None = None
    #: When somebody last stood before a part of it.
    passed: float = -math.inf
    compared: float = -math.inf
    #: What is new there, and its box as seen in the larger picture, widths of the picture.
    difference: Difference | None = None
    extent: Floats64 | None = None
    likely: tuple[float, float, float] | None = None
    harmless: int = 0


class ChangeModel:
    """The lasting changes of one camera's picture. One for each camera; not thread-safe."""

    def __init__(self, checker: PatchChecker | None = None) -> None:
        """Set up.

        Args:
            checker: Tells what a changed place shows; None: nobody does.
        """
        self._checker = checker
        self._numbers = itertools.count(1)
        self._time = -math.inf
        self._shape: tuple[int, ...] = ()
        self._told: tuple[StillThing, ...] = ()

    def update(self, frame: Frame, tracks: Tracks, detections: Detections) -> tuple[StillThing, ...]:
        """What has come and stayed, as of the last look.

        Args:
            frame: The next one; time never goes back.
            tracks: Confirmed tracks.
            detections: What the detector found, the faint too.
        """
        time, image = frame.time, frame.image
        if time - self._time < _LOOK_S:
            return self._told
        elapsed, self._time = min(time - self._time, 2 * _LOOK_S), time
        if image.shape != self._shape:
            self._learn_anew(frame)
        small = self._steadied(frame.shrunk(_WIDTH))
        bodies, scores = _bodies(tracks, detections)
        bodies = bodies * np.float32(small.shape[1] / image.shape[1])
        limit = self._limit()
        moving = self._vote(time, small, limit)
        surely, changed = self._changed(limit)
        if surely.mean() > _OTHER_VIEW:
            self._learn_anew(frame)
            return self._told
        covered = _painted(bodies, changed.shape)
        self._learn(elapsed, covered)
        if time - self._fine_at >= _FINE_S:
            self._learn_fine(frame, changed | moving | covered)
        if self._things:
            self._see(frame)
        if time - self._began < _WARM_UP_S:
            self._long[:] = self._short
            return self._told
        self._follow(time, surely, changed, covered)
        for thing in self._things:
            self._watch(time, thing, moving, covered, bodies, scores)
        for thing in self._things:
            calm = time - max(thing.quiet_since, thing.passed) >= _CALM_S
            if calm and time - thing.compared >= _AGAIN_S and time == thing.seen:
                self._compare(time, thing, image)
        self._let_go(time)
        self._told = tuple(told for thing in self._things if (told := _tell(thing, *image.shape[:2])))
        return self._told

    # Pixels ----------------------------------------------------------------------------------------------------------

    def _learn_anew(self, frame: Frame) -> None:
        time, small = frame.time, frame.shrunk(_WIDTH)
        self._shape, self._began = frame.image.shape, time
        self._long = small.astype(np.float32)
        self._short = self._long.copy()
        self._votes: NDArray[np.uint8] = np.zeros(small.shape[:2], np.uint8)
        self._usual_at = np.full(small.shape[:2], time, np.float64)
        self._deviation = np.full(small.shape[:2], 2.0, np.float32)
        self._fine, self._fine_at = frame.shrunk(_FINE_WIDTH).astype(np.float32), -math.inf
        self._recent, self._recent_at = self._fine.copy(), -math.inf
        self._line = np.array([[1.0, 0.0]] * 3)
        self._things: list[_Thing] = []
        self._told = ()

    def _steadied(self, small: Image) -> Image:
        """The picture as bright as what is usual, though the camera or the sun has changed: a line in each colour."""
        size = (max(1, small.shape[1] // _PATCH), max(1, small.shape[0] // _PATCH))
        # Means of patches: noise would make every line too flat, and what is learned duller each time.
        now, usual = (
            cv2.resize(picture, size, interpolation=cv2.INTER_AREA).reshape(-1, 3).T.astype(np.float32)
            for picture in (small, self._long)
        )
        for colour, (x, y) in enumerate(zip(now, usual, strict=True)):
            exposed = (x > 3) & (x < 252)
            gain, offset = self._line[colour]
            for within in (40.0, 15.0):
                like = exposed & (np.abs(gain * x + offset - y) < within)
                if np.count_nonzero(like) < 0.3 * len(x):  # the old line tells nothing any more: begin with the medians
                    gain, offset = _gain(float(np.median(x)), float(np.median(y))), 0.0
                    like = exposed & (np.abs(gain * x + offset - y) < 2 * within)
                seen, known = (cv2.meanStdDev(side, mask=like.view(np.uint8)) for side in (x, y))
                if np.count_nonzero(like) < _ENOUGH or (spread := float(seen[1][0, 0])) < _FLAT:
                    continue
                # The reduced major axis, since both sides err (Kermack and Haldane, Biometrika 37, 1950).
                gain = _gain(spread, float(known[1][0, 0]))
                offset = float(known[0][0, 0]) - gain * float(seen[0][0, 0])
            self._line[colour] = gain, offset
        return self._corrected(small)

    def _corrected(self, picture: Image) -> Image:
        table = np.arange(256)[:, None] * self._line[:, 0] + self._line[:, 1]
        return np.asarray(cv2.LUT(picture, np.clip(table + 0.5, 0, 255).astype(np.uint8)[:, None]), np.uint8)

    def _limit(self) -> NDArray[np.uint8]:
        """(h, w): grey levels beyond which a place differs."""
        return np.asarray(np.maximum(_DIFFERS, _DEVIATIONS * self._deviation).astype(np.uint8))

    def _vote(self, time: float, small: Image, limit: NDArray[np.uint8]) -> Bools:
        """Take the picture into `short`; where it is something else than that."""
        differs, other = _beyond(small, self._short) > limit, _beyond(small, self._long) > limit
        self._usual_at[~other] = time
        # What is usual is believed at once: nobody needs to prove that somebody has walked on.
        votes = self._votes + _GIVEN.take(differs + 2 * other)
        new = votes < _OFFSET
        votes[new] = _OFFSET + 1
        self._votes = np.minimum(votes - _OFFSET, _VOTES)
        self._short[new] = small[new]
        cv2.accumulateWeighted(small, self._short, 0.25, (~differs).view(np.uint8))
        off = np.minimum(_widest(cv2.absdiff(small, _bytes(self._long))), np.uint8(2 * _DIFFERS))
        cv2.accumulateWeighted(off, self._deviation, 0.01, (~(differs | other)).view(np.uint8))
        return differs

    def _changed(self, limit: NDArray[np.uint8]) -> tuple[Bools, Bools]:
        """(h, w): where what stays is not what used to be, for certain and perhaps."""
        settled = self._votes >= _SETTLED
        wide = (_odd(self._votes.shape[1] / 5),) * 2
        long, short = _bytes(self._long), _bytes(self._short)
        grey_long, grey_short = (cv2.cvtColor(p, cv2.COLOR_BGR2GRAY) for p in (long, short))
        like = (cv2.absdiff(grey_short, grey_long) < 3 * _DIFFERS).view(np.uint8)
        before, now = (cv2.blur(cv2.multiply(p, like), wide) for p in (grey_long, grey_short))
        gain = (now.astype(np.float32) + 4) / (before.astype(np.float32) + 4)
        beyond = _beyond(short, np.asarray(cv2.multiply(self._long, cv2.merge([gain] * 3)), np.float32))
        return settled & (beyond > limit), settled & (beyond > limit // 2)

    def _learn(self, elapsed: float, covered: Bools) -> None:
        """Take what stays into `long`, where neither things nor people are; wide changes are learned like that too."""
        place = (self._votes >= _SETTLED) & ~covered
        for thing in self._things:
            place[thing.mask] = False
        part = 1 - math.exp(-elapsed / _LEARN_S)
        cv2.accumulateWeighted(self._short, self._long, part, place.view(np.uint8))

    def _darken(self, elapsed: float) -> None:
        """Bring all that is known a little nearer to the present brightness, and the line nearer to none."""
        if np.allclose(self._line, [1, 0], rtol=0, atol=0.01):
            return
        rest = math.exp(-elapsed / _DARKENS_S)
        gain, offset = self._line.T.copy()
        self._line = np.stack([gain**rest, offset * rest], axis=1)
        factor = (self._line[:, 0] / gain).astype(np.float32)
        shift = (self._line[:, 1] - factor * offset).astype(np.float32)
        faces = [thing.face[2] for thing in self._things if thing.face]
        for picture in (self._long, self._short, self._fine, self._recent, *faces):
            lines = picture.reshape(len(picture), -1)  # numpy is ten times slower along three colours
            np.multiply(lines, np.tile(factor, picture.shape[1]), out=lines)
            np.add(lines, np.tile(shift, picture.shape[1]), out=lines)

    def _see(self, frame: Frame) -> None:
        """Take the frame into the mean of the last few, in which noise and rain are weaker."""
        time, fine = frame.time, self._corrected(frame.shrunk(_FINE_WIDTH))
        if time - self._recent_at > 3 * _LOOK_S:
            self._recent = fine.astype(np.float32)
        self._recent_at = time
        cv2.accumulateWeighted(fine, self._recent, 0.4)

    def _learn_fine(self, frame: Frame, unusual: Bools) -> None:
        """Take the frame into the larger picture, where nothing is unusual."""
        elapsed = min(frame.time - self._fine_at, 2 * _FINE_S)
        self._fine_at = frame.time
        self._darken(elapsed)
        fine = self._corrected(frame.shrunk(_FINE_WIDTH))
        doubtful = cv2.dilate(unusual.astype(np.uint8), _TOGETHER) > 0
        for thing in self._things:
            doubtful |= thing.mask
        height, width = fine.shape[:2]
        usual = cv2.resize((~doubtful).astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
        part = 1 - math.exp(-elapsed / _LEARN_S) if frame.time - self._began > _WARM_UP_S else 0.5
        cv2.accumulateWeighted(fine, self._fine, part, usual)

    # Things ----------------------------------------------------------------------------------------------------------

    def _follow(self, time: float, surely: Bools, changed: Bools, covered: Bools) -> None:
        """Join what has changed to things that are known, or make new ones."""
        joined = cv2.morphologyEx(changed.astype(np.uint8), cv2.MORPH_CLOSE, _TOGETHER)
        count, labels, stats, _ = cv2.connectedComponentsWithStats(joined)
        sizes = [(int(stats[label, cv2.CC_STAT_AREA]), label) for label in range(1, count)]
        for size, label in sorted(sizes, reverse=True):
            if not _LEAST * changed.size <= size <= _LARGEST * changed.size:
                continue
            x, y, wide, high = stats[label, :4].tolist()
            mask = np.zeros(changed.shape, bool)
            mask[y : y + high, x : x + wide] = labels[y : y + high, x : x + wide] == label
            if (mask & surely).sum() < _LEAST / 2 * changed.size:
                continue
            known = [(int((thing.mask & mask).sum()), thing) for thing in self._things]
            shared, thing = max(known, key=lambda pair: pair[0], default=(0, None))
            if thing is None or shared < 0.3 * min(size, thing.area):
                if len(self._things) >= _THINGS or (covered & mask).sum() > 0.5 * size:
                    continue
                since = float(np.median(self._usual_at[mask & surely]))
                thing = _Thing(next(self._numbers), np.zeros(4, np.intp), mask, size, since, time, time, time)
                self._things.append(thing)
            elif (covered & thing.mask).sum() > _HIDES * thing.area:
                continue
            elif thing.seen == time:  # it has fallen into pieces, of which this is a smaller one
                thing.mask |= mask
            else:
                if shared < 0.6 * max(size, thing.area):
                    thing.compared, thing.harmless, thing.face = -math.inf, 0, None  # it has become another
                thing.mask = mask
            thing.seen = thing.bare = time
            thing.area = int(thing.mask.sum())
            rows, columns = np.flatnonzero(thing.mask.any(axis=1)), np.flatnonzero(thing.mask.any(axis=0))
            thing.box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])

    def _watch(
        self, time: float, thing: _Thing, moving: Bools, covered: Bools, bodies: FloatArray, scores: FloatArray
    ) -> None:
        """Whether it is somebody: found by the detector, or shifting now and then."""
        x0, y0, x1, y1 = thing.box.tolist()
        area = (x1 - x0) * (y1 - y0)
        sides = np.minimum(bodies[:, 2:], [x1, y1]) - np.maximum(bodies[:, :2], [x0, y0])
        shared = np.clip(sides, 0, None).prod(axis=1)
        whole = (bodies[:, 2:] - bodies[:, :2]).prod(axis=1)
        found = (scores >= _IS) & (shared >= _IS_IT * (area + whole - shared))
        if found.any() and moving[thing.mask].mean() < _PASSES:
            thing.quiet_since = time
        hides = (covered & thing.mask).sum() / thing.area
        if hides > _PASSES_BY:
            thing.passed = time
        if hides > _HIDES:
            thing.hidden = time
            if time - thing.bare < _HIDDEN_S:
                thing.seen = time
            return
        if time - thing.hidden < _BACK_S or thing.seen < time:
            return
        if thing.face is not None:
            window, places, face = thing.face
            settled = places & (self._votes[window] >= _SETTLED)
            if settled.sum() < 0.8 * places.sum():
                return
            if (_beyond(_bytes(self._short[window]), face)[settled] > _DIFFERS).mean() <= _LIVES:
                return
            thing.quiet_since = time
        window = np.s_[y0:y1, x0:x1]
        thing.face = window, thing.mask[window].copy(), self._short[window].copy()

    def _compare(self, time: float, thing: _Thing, image: Image) -> None:
        """Look at it closely: what is new is so until looks in a row say otherwise."""
        thing.compared = time
        height, width = self._fine.shape[:2]
        scale = width / thing.mask.shape[1]
        x0, y0, x1, y1 = thing.box.tolist()
        margin = max(4, (x1 - x0 + y1 - y0) // 3)
        x0, y0, x1, y1 = max(0, x0 - margin), max(0, y0 - margin), x1 + margin, y1 + margin
        mask = cv2.dilate(thing.mask[y0:y1, x0:x1].astype(np.uint8), _PIXEL)
        left, top = round(x0 * scale), round(y0 * scale)
        right, bottom = min(width, round(x1 * scale)), min(height, round(y1 * scale))
        before = _bytes(self._fine[top:bottom, left:right])
        where = np.asarray(cv2.resize(mask, (right - left, bottom - top), interpolation=cv2.INTER_NEAREST), np.uint8)
        after = _lit_alike(before, _bytes(self._recent[top:bottom, left:right]), where)
        difference = compare(before, after, where)
        extent = (np.array(difference.box) + np.array([left, top, left, top])) / width
        if difference.cause is not Cause.NEW:
            thing.harmless += 1
            return
        if time - thing.quiet_since <= _MOVED_S and self._moved(extent):
            thing.harmless = _SURE
            return
        thing.harmless, thing.difference, thing.extent = 0, difference, extent
        if self._checker is not None and thing.likely is None:
            thing.likely = self._shows(extent, image)

    def _moved(self, extent: Floats64) -> bool:
        """Whether what is there stood close by before, in the pictures that nobody is in who passes."""
        x0, y0, x1, y1 = (round(value * self._votes.shape[1]) for value in extent.tolist())
        x1, y1 = max(x1, x0 + 1), max(y1, y0 + 1)
        far = reach((x0, y0, x1, y1))
        left, top = max(0, x0 - far), max(0, y0 - far)
        before, after = (_bytes(p[top : y1 + far, left : x1 + far]) for p in (self._long, self._short))
        return explained(before, after, (x0 - left, y0 - top, x1 - left, y1 - top)) >= _MOVED

    def _shows(self, extent: Floats64, image: Image) -> tuple[float, float, float] | None:
        assert self._checker is not None  # noqa: S101 - whoever asks has seen it
        x0, y0, x1, y1 = (round(value * image.shape[1]) for value in extent.tolist())
        try:
            (likely,) = self._checker.check([image[y0:y1, x0:x1]]).tolist()
        except InferenceError:
            return None
        return (likely[0], likely[1], likely[2])

    def _let_go(self, time: float) -> None:
        kept = []
        for thing in self._things:
            learned = thing.harmless >= _SURE or time - thing.since >= _BELONGS_S
            if learned:
                self._learn_place(thing)
            elif time - thing.seen < _LOST_S:
                kept.append(thing)
        self._things = kept

    def _learn_place(self, thing: _Thing) -> None:
        """Take a place as it is now; until the larger picture has learned it, the small one stands in for it there."""
        self._long[thing.mask] = self._short[thing.mask]
        height, width = self._fine.shape[:2]
        where = cv2.resize(thing.mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0
        self._fine[where] = cv2.resize(self._short, (width, height), interpolation=cv2.INTER_LINEAR)[where]


def _bodies(tracks: Tracks, detections: Detections) -> tuple[FloatArray, FloatArray]:
    """Boxes and scores of whoever may stand before something."""
    here = tracks.unseen <= 1
    maybe = detections.scores >= _MAYBE
    return (
        np.concatenate([tracks.boxes[here], detections.boxes[maybe]]),
        np.concatenate([np.zeros(int(here.sum()), np.float32), detections.scores[maybe]]),
    )


def _painted(boxes: FloatArray, shape: tuple[int, ...]) -> Bools:
    """(h, w): what lies in any of the boxes, or a pixel beside it."""
    mask = np.zeros(shape, bool)
    for x0, y0, x1, y1 in boxes.tolist():
        mask[max(0, int(y0) - 1) : max(0, int(y1) + 2), max(0, int(x0) - 1) : max(0, int(x1) + 2)] = True
    return mask


def _gain(now: float, usual: float) -> float:
    """From one brightness to another, within reason: a picture may be black."""
    return min(max(usual / max(now, 1.0), 1 / _MOST_GAIN), _MOST_GAIN)


def _beyond(picture: Image, usual: Floats) -> NDArray[np.uint8]:
    """(h, w): by how much a picture differs, in some colour, from all that another has within a pixel; grey levels."""
    known = _bytes(usual)
    above, below = cv2.subtract(picture, cv2.dilate(known, _PIXEL)), cv2.subtract(cv2.erode(known, _PIXEL), picture)
    return _widest(cv2.max(above, below))


def _widest(difference: Any) -> NDArray[np.uint8]:
    """(h, w): the largest of the three colours' differences."""
    blue, green, red = cv2.split(difference)
    return np.asarray(cv2.max(cv2.max(blue, green), red), np.uint8)


def _bytes(picture: Floats) -> Image:
    return np.asarray(cv2.convertScaleAbs(picture), np.uint8)


def _odd(width: float) -> int:
    return 2 * int(width / 2) + 1


def _lit_alike(before: Image, after: Image, where: NDArray[np.uint8]) -> Image:
    """`after` as bright as `before` around the place."""
    around = where == 0
    if around.sum() < 20:
        return after
    gain = np.median(before[around], axis=0) / np.maximum(np.median(after[around], axis=0), 1)
    return _bytes(after.astype(np.float32) * np.clip(gain, 0.5, 2.0).astype(np.float32))


def _tell(thing: _Thing, height: int, width: int) -> StillThing | None:
    """What is known of a thing, if it is something new."""
    if thing.difference is None or thing.extent is None:
        return None
    x0, y0, x1, y1 = (thing.extent * width).tolist()
    if (x1 - x0) * (y1 - y0) > _LARGEST_BOX * width * height:
        return None
    left, top, right, bottom = thing.difference.box
    return StillThing(
        number=thing.number,
        box=(x0, y0, x1, y1),
        since=thing.since,
        area=thing.difference.area / ((right - left) * (bottom - top)),
        quiet_since=thing.quiet_since,
        stroke=thing.difference.stroke,
        fill=thing.difference.fill,
        likely=thing.likely,
    )
