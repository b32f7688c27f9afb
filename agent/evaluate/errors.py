"""How a detector errs: what `agent.simulate.errors` needs, fitted on detections and ground truth.

A detection and a person are a pair at an intersection over union of one half. Misses are a probit of size and of what
hides somebody (maximum likelihood, by scoring); how they last comes from pairs of looks at the same person some time
apart: the correlation of the hidden moods that makes their misses as likely as they are (Pearson's tetrachoric
correlation, each look with its own threshold). How boxes wander is the correlation of their errors in the same pairs.
Detections where nobody is are joined over time where they overlap; only where the camera stands still, since elsewhere
many of them are people whom the ground truth leaves out.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.evaluate.tracking import MotSequence
from agent.simulate.errors import DetectorErrors, Wandering

Floats = NDArray[np.float64]

#: Height of the pictures of MOT15, pixels; their archive does not say.
_HEIGHTS = {"ADL-Rundle-6": 1080, "ETH-Bahnhof": 480, "KITTI-13": 375, "PETS09-S2L1": 576, "TUD-Campus": 480}
#: Whose camera stands still.
_STILL = frozenset({"ADL-Rundle-6", "PETS09-S2L1", "TUD-Campus"})
#: Intersection over union of a pair, and above which a detection is not where nobody is.
_PAIR, _SOMEBODY = 0.5, 0.3
#: A false box goes on where it overlaps the last one so much, within so many seconds.
_GOES_ON, _GAP_S = 0.4, 1.0
#: Who moves by more than this from the first look to the last, box heights, is no thing.
_WALKS_ON = 0.25
#: Times apart of two looks, seconds, and the range of lasting times that are tried.
_LAGS_S = (0.14, 0.3, 0.5, 1.0, 2.0, 4.0)
_SHORT_S, _LONG_S = (0.1, 0.2, 0.3, 0.5, 0.8), (2.0, 4.0, 8.0, 16.0)


@dataclass(frozen=True, slots=True)
class _Look:
    """At one person in one frame."""

    time: float
    smaller: float
    hidden: float
    error: Floats | None  # centre x y, width, height, box heights; None: missed


def fit(sequences: Sequence[MotSequence], done: Callable[[], None] = lambda: None) -> DetectorErrors:
    """Fit the errors of a detector.

    Args:
        sequences: Detections with ground truth.
        done: Called after each sequence.
    """
    people: list[list[_Look]] = []
    scores, false_scores = list[float](), list[float]()
    person_s = still_s = seen = spans = 0.0
    far, beside = list[float](), list[float]()
    places = list[int]()
    for sequence in sequences:
        looks, hits, falses = _pairs(sequence)
        people += looks
        scores += hits
        if sequence.name in _STILL:
            alone, close = _chains(sequence, falses)
            false_scores += [score for chain in alone for _, _, score in chain]
            person_s += sum(len(ids) for ids in sequence.truth_ids) / sequence.fps
            beside += [_span(chain, sequence.fps) for chain in close]
            still_s += len(sequence.detections) / sequence.fps
            far += [_span(chain, sequence.fps) for chain in alone]
            seen += sum(len(chain) / sequence.fps for chain in alone)
            spans += sum(_span(chain, sequence.fps) for chain in alone)
            places.append(_places(alone))
        done()
    every = [look for looks in people for look in looks]
    miss = _probit(
        np.array([[1.0, look.smaller, look.hidden] for look in every]),
        np.array([look.error is None for look in every], np.float64),
    )
    errors = np.array([look.error for look in every if look.error is not None])
    spread = errors.std(axis=0)
    return DetectorErrors(
        miss=(float(miss[0]), float(miss[1]), float(miss[2])),
        mood=_lasting([_mood_correlation(people, miss, lag) for lag in _LAGS_S]),
        jitter=(float(spread[0]), float(spread[1]), float(spread[2]), float(spread[3])),
        sway=_lasting([_error_correlation(people, spread, lag) for lag in _LAGS_S]),
        false_per_s=len(far) / max(still_s, 1e-9),
        false_s=float(np.mean(far)) if far else 0.0,
        false_seen=seen / max(spans, 1e-9),
        places=max(places, default=0),
        ghosts_per_s=len(beside) / max(person_s, 1e-9),
        ghost_s=float(np.mean(beside)) if beside else 0.0,
        score=_beta(scores),
        false_score=_beta(false_scores),
    )


_Found = tuple[int, Floats, float]


def _overlap(a: Floats, b: Floats) -> Floats:
    """(N, M) intersections, square pixels."""
    low, high = np.maximum(a[:, None, :2], b[:, :2]), np.minimum(a[:, None, 2:], b[:, 2:])
    return np.asarray(np.clip(high - low, 0, None).prod(axis=2))


def _areas(boxes: Floats) -> Floats:
    return np.asarray((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))


def _iou(a: Floats, b: Floats) -> Floats:
    shared = _overlap(a, b)
    return np.asarray(shared / (_areas(a)[:, None] + _areas(b) - shared + 1e-9))


def _pairs(sequence: MotSequence) -> tuple[list[list[_Look]], list[float], list[_Found]]:
    """The looks at each person, the scores of those found, and what was found where nobody is."""
    looks: defaultdict[int, list[_Look]] = defaultdict(list)
    scores, falses = list[float](), list[_Found]()
    tall = _HEIGHTS.get(sequence.name) or max(float(boxes[:, 3].max(initial=1)) for boxes in sequence.truth_boxes)
    for frame, (found, ids, truth) in enumerate(
        zip(sequence.detections, sequence.truth_ids, sequence.truth_boxes, strict=True)
    ):
        boxes = found.boxes.astype(np.float64)
        near = _iou(truth, boxes)
        pair: dict[int, int] = {}
        for i, j in zip(*np.unravel_index(np.argsort(-near, axis=None), near.shape), strict=True):
            if near[i, j] >= _PAIR and i not in pair and j not in pair.values():
                pair[int(i)] = int(j)
        nearer = truth[:, None, 3] < truth[:, 3]
        hidden = (_overlap(truth, truth) * nearer).max(axis=1, initial=0) / np.maximum(_areas(truth), 1)
        for i, number in enumerate(ids.tolist()):
            height = max(float(truth[i, 3] - truth[i, 1]), 1.0)
            error = None
            if i in pair:
                off = (boxes[pair[i]] - truth[i]) / height
                error = np.array([(off[0] + off[2]) / 2, (off[1] + off[3]) / 2, off[2] - off[0], off[3] - off[1]])
                scores.append(float(found.scores[pair[i]]))
            smaller = math.log2(0.2 * tall / height)
            looks[number].append(_Look(frame / sequence.fps, smaller, float(hidden[i]), error))
        lone = np.flatnonzero(near.max(axis=0, initial=0) < _SOMEBODY)
        falses += [(frame, boxes[j], float(found.scores[j])) for j in lone.tolist()]
    return list(looks.values()), scores, falses


def _chains(sequence: MotSequence, falses: Sequence[_Found]) -> tuple[list[list[_Found]], list[list[_Found]]]:
    """False boxes joined over time: those in the open, and those beside somebody or on part of them."""
    chains: list[list[_Found]] = []
    for found in falses:
        frame, box, _ = found
        going = (chain for chain in reversed(chains) if 0 < frame - chain[-1][0] <= _GAP_S * sequence.fps)
        chain = next((chain for chain in going if _iou(chain[-1][1][None], box[None])[0, 0] > _GOES_ON), None)
        if chain is None:
            chains.append([found])
        else:
            chain.append(found)
    alone, beside = list[list[_Found]](), list[list[_Found]]()
    for chain in chains:
        if _somebody(sequence, chain):
            continue
        gaps = [_gap(box, sequence.truth_boxes[frame]) for frame, box, _ in chain]
        (alone if np.median(gaps) >= 0.5 else beside).append(chain)
    return alone, beside


def _somebody(sequence: MotSequence, chain: Sequence[_Found]) -> bool:
    """Whether a false box is somebody whom the ground truth leaves out: it walks on, or is a part of somebody's way."""
    (_, first, _), (_, last, _) = chain[0], chain[-1]
    if float(np.hypot(*(last[:2] + last[2:] - first[:2] - first[2:]))) / 2 > _WALKS_ON * (first[3] - first[1]):
        return True
    for end, way in ((0, -1), (-1, 1)):
        frame, box, _ = chain[end]
        for step in range(1, round(_GAP_S * sequence.fps) + 1):
            other = frame + way * step
            if 0 <= other < len(sequence.truth_boxes):
                truth = sequence.truth_boxes[other]
                if len(truth) and float(_iou(box[None], truth).max()) >= _SOMEBODY:
                    return True
    return False


def _gap(box: Floats, truth: Floats) -> float:
    """Between a box and the nearest person, heights of the box."""
    across = np.maximum(np.maximum(truth[:, 0] - box[2], box[0] - truth[:, 2]), 0)
    along = np.maximum(np.maximum(truth[:, 1] - box[3], box[1] - truth[:, 3]), 0)
    return float(np.hypot(across, along).min(initial=math.inf)) / max(float(box[3] - box[1]), 1.0)


def _span(chain: Sequence[_Found], fps: float) -> float:
    return (chain[-1][0] - chain[0][0] + 1) / fps


def _places(chains: Sequence[Sequence[_Found]]) -> int:
    known: list[Floats] = []
    for chain in chains:
        box = np.median([box for _, box, _ in chain], axis=0)[None]
        if all(_iou(box, other)[0, 0] <= _GOES_ON for other in known):
            known.append(box)
    return len(known)


def _normal(x: Floats) -> Floats:
    """Distribution function of the normal distribution."""
    return np.asarray(0.5 * np.vectorize(math.erfc, otypes=[float])(-x / math.sqrt(2)))


def _probit(features: Floats, missed: Floats) -> Floats:
    """Coefficients of a probit, by Fisher's scoring."""
    weights = np.zeros(features.shape[1])
    for _ in range(25):
        line = features @ weights
        likely = np.clip(_normal(line), 1e-6, 1 - 1e-6)
        density = np.exp(-(line**2) / 2) / math.sqrt(2 * math.pi)
        information = density**2 / (likely * (1 - likely))
        score = features.T @ (density * (missed - likely) / (likely * (1 - likely)))
        weights = weights + np.linalg.solve(
            features.T @ (features * information[:, None]) + np.eye(len(weights)), score
        )
    return weights


def _apart(people: Sequence[Sequence[_Look]], lag: float) -> list[tuple[_Look, _Look]]:
    """Pairs of looks at the same person so long apart, a tenth more or less."""
    pairs = []
    for looks in people:
        times = np.array([look.time for look in looks])
        then = np.searchsorted(times, times + lag)
        for first, second in enumerate(then.tolist()):
            near = [k for k in (second - 1, second) if first < k < len(looks)]
            near = [k for k in near if abs(times[k] - times[first] - lag) < 0.1 * lag]
            if near:
                pairs.append((looks[first], looks[min(near, key=lambda k: abs(times[k] - times[first] - lag))]))
    return pairs


def _mood_correlation(people: Sequence[Sequence[_Look]], miss: Floats, lag: float) -> float:
    """Correlation of the moods at two looks: that which makes as many double misses as there are."""
    pairs = _apart(people, lag)
    if not pairs:
        return 0.0
    limits = [np.array([miss @ (1.0, look.smaller, look.hidden) for look in side]) for side in zip(*pairs, strict=True)]
    both = float(np.mean([a.error is None and b.error is None for a, b in pairs]))
    nodes = np.linspace(-5, 5, 41)
    density = np.exp(-(nodes**2) / 2)
    density /= density.sum()

    def expected(rho: float) -> float:
        # Given the part that both share, each is missed or not by itself.
        shared = math.sqrt(rho) * nodes
        alone = math.sqrt(1 - rho)
        first, second = (_quick_normal((limit[:, None] - shared) / alone) for limit in limits)
        return float((first * second * density).sum(axis=1).mean())

    low, high = 0.0, 0.99
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if expected(middle) < both else (low, middle)
    return low


def _quick_normal(x: Floats) -> Floats:
    """The same to three places (Bowling et al., 2009), for many numbers."""
    return np.asarray(1 / (1 + np.exp(-np.clip(0.07056 * x**3 + 1.5976 * x, -50, 50))))


def _error_correlation(people: Sequence[Sequence[_Look]], spread: Floats, lag: float) -> float:
    pairs = [(a.error, b.error) for a, b in _apart(people, lag) if a.error is not None and b.error is not None]
    if not pairs:
        return 0.0
    first, second = (np.array(side) / spread for side in zip(*pairs, strict=True))
    return float((first * second).mean())


def _lasting(correlations: Sequence[float]) -> Wandering:
    """Two parts that last whose sum comes closest to correlations at `_LAGS_S`."""
    lags, wanted = np.array(_LAGS_S), np.array(correlations)
    best, closest = Wandering((0.0, 0.0), (_SHORT_S[0], _LONG_S[0])), math.inf
    for short in _SHORT_S:
        for long in _LONG_S:
            parts = np.stack([np.exp(-lags / short), np.exp(-lags / long)], axis=1)
            shares = np.clip(np.linalg.lstsq(parts, wanted, rcond=None)[0], 0, 1)
            shares = shares / max(1.0, float(shares.sum()))
            off = float(((parts @ shares - wanted) ** 2).sum())
            if off < closest:
                best, closest = Wandering((float(shares[0]), float(shares[1])), (short, long)), off
    return best


def _beta(scores: Sequence[float]) -> tuple[float, float]:
    """Beta distribution of what is above one half, by its moments."""
    above = np.clip(2 * np.array(scores) - 1, 1e-3, 1 - 1e-3)
    mean, variance = float(above.mean()), max(float(above.var()), 1e-4)
    total = max(mean * (1 - mean) / variance - 1, 0.5)
    return mean * total, (1 - mean) * total
