"""Where a sound counts as heard: temperature and thresholds, held against recordings that the network never heard."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.behaviours.sound_events import MANNERS, SoundEvent, SoundParameters, may_begin
from agent.contract import Phase
from agent.perception.hearing import HOP_S, Hearing
from agent.perception.tag import CLASSES

#: What the thresholds are set by: so many false alarms an hour of street sound at most, and so much precision at least.
ALARMS_PER_HOUR, PRECISION = 0.5, 0.8
#: Street sound is cut into pieces so long; what is heard within one is one alarm, as an episode would be.
ALARM_S = 10.0
_ALARM_HOPS = round(ALARM_S / HOP_S)
#: Hops over which the runtime averages each class.
HOPS = tuple(manner.hops for manner in MANNERS.values())
#: No threshold lies outside, however quiet or loud the street was.
_RANGE = (0.05, 0.99)
#: Share of the pieces, the loudest, by which the few that are louder still are foretold.
_TAIL = 0.05
#: Temperatures that are tried, and how close to 0 or 1 a probability may come.
_TEMPERATURES = np.exp(np.linspace(np.log(0.25), np.log(4), 49))
_LEAST = 1e-6
#: A bound that the true rate exceeds with this probability.
_BOUND = 0.05

Floats = NDArray[np.float64]
Scores = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Stream:
    """Windows that follow each other.

    Attributes:
        scores: (N, 7), twice a second, not smoothed.
        sudden: (N,): in which of them something is louder than before.
    """

    scores: Scores
    sudden: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Rate:
    """How often something happened.

    Attributes:
        count: How often it was counted.
        hours: In so long.
    """

    count: int
    hours: float

    @property
    def per_hour(self) -> float:
        """The rate that was seen; NaN where nobody listened."""
        return self.count / self.hours if self.hours else math.nan

    @property
    def at_most(self) -> float:
        """The true rate is above it with a probability of 5 % (exact, Poisson; Garwood, 1936); NaN as above."""
        low, high = 0.0, 10.0 + 3 * self.count
        while high - low > 1e-6:
            mean = (low + high) / 2
            terms = np.cumprod([math.exp(-mean), *(mean / k for k in range(1, self.count + 1))])
            low, high = (mean, high) if terms.sum() > _BOUND else (low, mean)
        return high / self.hours if self.hours else math.nan


@dataclass(frozen=True, slots=True)
class Operating:
    """What decides when a class counts as heard.

    Attributes:
        temperature: The logits are divided by it (Guo et al., ICML 2017).
        thresholds: (7,), probabilities after temperature.
    """

    temperature: float
    thresholds: Floats


def cooled(scores: Scores, temperature: float) -> Scores:
    """Probabilities as they are after temperature scaling."""
    return np.asarray(1 / (1 + np.exp(-_logits(scores) / temperature)), np.float32)


def temperature(scores: Scores, labels: NDArray[np.int8], weights: Floats) -> float:
    """What makes the probabilities fit the labels best (least cross entropy).

    Args:
        scores: (N, 7) probabilities.
        labels: (N, 7): 1 there, 0 not there, -1 unknown.
        weights: How much each of the N counts.
    """
    known = labels >= 0

    def wrong(value: float) -> float:
        right = np.where(labels == 1, cooled(scores, value), 1 - cooled(scores, value))
        return float(-(weights[:, None] * known * np.log(np.maximum(right, _LEAST))).sum())

    return float(min(_TEMPERATURES, key=wrong))


def smoothed(scores: Scores) -> Scores:
    """Each class averaged over as many hops as the runtime averages it, or as there are, (N, 7)."""
    sums = np.concatenate([np.zeros((1, scores.shape[1])), np.cumsum(scores, axis=0, dtype=np.float64)])
    columns = []
    for k, usual in enumerate(HOPS):
        hops = min(usual, len(scores))
        ended = (sums[hops:, k] - sums[:-hops, k]) / hops
        columns.append(np.concatenate([np.full(hops - 1, ended[0]), ended]))
    return np.stack(columns, axis=1).astype(np.float32)


def beginning(stream: Stream) -> Scores:
    """Smoothed scores, 0 where no episode may begin, (N, 7)."""
    return np.where(may_begin(stream.scores, stream.sudden), smoothed(stream.scores), np.float32(0))


def loudest(stream: Stream) -> Scores:
    """The highest score that an episode may begin with in each ten seconds of a stream, (pieces, 7)."""
    scores = beginning(stream)
    return np.asarray(np.maximum.reduceat(scores, np.arange(0, len(scores), _ALARM_HOPS), axis=0))


def thresholds(alarms: Scores, hours: float, best: Floats, there: NDArray[np.bool_]) -> Floats:
    """The lowest thresholds that keep to `ALARMS_PER_HOUR` and `PRECISION`, (7,).

    Where the precision is out of reach, the threshold is that of the false alarms alone.

    Args:
        alarms: What `loudest` gives for all street sound, (pieces, 7).
        hours: How long it is.
        best: Highest score that an episode may begin with in every sound, of street, events and hard negatives, (N, 7).
        there: Which of them are to be found, (N, 7).
    """
    found = np.empty(len(CLASSES))
    for k in range(len(CLASSES)):
        quiet = _quiet(alarms[:, k], hours)
        order = np.argsort(-best[:, k], kind="stable")
        ranked, hits = best[order, k], np.cumsum(there[order, k])
        precise = np.flatnonzero((hits >= PRECISION * np.arange(1, len(order) + 1)) & (hits > 0))
        lowest = float(ranked[precise[-1]]) if len(precise) else 0.0
        found[k] = max(lowest, quiet)
    return np.clip(found, *_RANGE)


def _quiet(alarms: Scores, hours: float) -> float:
    """The probability that street sound reaches `ALARMS_PER_HOUR` times an hour.

    In an hour or two that is the loudest piece or none: a matter of luck. So the loudest twentieth tell how fast the
    pieces grow rarer towards the top, in logits, as if by a constant factor (peaks over threshold; Pickands, 1975).
    Those in which nothing may begin, for nothing is sudden, say nothing about the others.
    """
    if not alarms.any():
        return 0.0
    logits = _logits(alarms[alarms > 0])
    begin = float(np.quantile(logits, 1 - _TAIL))
    tail = logits[logits >= begin]
    grown = begin + float((tail - begin).mean()) * math.log(max(len(tail) / (hours * ALARMS_PER_HOUR), 1.0))
    return 1 / (1 + math.exp(-grown))


def _logits(scores: Scores) -> Floats:
    kept = np.clip(scores.astype(np.float64), _LEAST, 1 - _LEAST)
    return np.asarray(np.log(kept / (1 - kept)))


def alarms(stream: Stream, levels: Floats) -> NDArray[np.intp]:
    """How many episodes of each class begin in a stream, as the runtime would tell them, (7,).

    Args:
        stream: What was heard.
        levels: (7,) thresholds.
    """
    return np.array([len(starts) for starts in episodes(stream, levels)])


def episodes(stream: Stream, levels: Floats) -> Sequence[list[float]]:
    """When episodes of each class begin, seconds from the first hop, through the runtime's own behaviours."""
    heard = [
        SoundEvent(event, SoundParameters.model_validate({}), float(level), doubtful=False)
        for event, level in zip(MANNERS, levels, strict=True)
    ]
    starts: list[list[float]] = [[] for _ in heard]
    for hop, (scores, sudden) in enumerate(zip(stream.scores, stream.sudden.tolist(), strict=True)):
        hearing = Hearing(hop * HOP_S, scores, sudden=sudden)
        for place, event in enumerate(heard):
            starts[place] += [change.time for change in event.update(hearing) if change.phase is Phase.STARTED]
    return starts
