"""How well sounds are named: average precision, and what is found at one false alarm an hour.

Every figure is of sounds that the network did not learn from: fold by fold, recordings of which it had no part
(`agent.evaluate.sounds.folds`), or those that nothing may learn from.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agent.evaluate.sounds import Sound, balanced, patch_labels, samples, targets
from agent.evaluate.yamnet import Head, Yamnet, fit
from agent.perception.logmel import RATE
from agent.perception.tag import CLASSES, STEP, Tagger, patches

#: A class with fewer recordings is reported, but does not count in the mean over classes.
LEAST_RECORDINGS = 10
#: What is heard within ten seconds is one alarm.
_ALARM_PATCHES = 10 * RATE // STEP
_RESAMPLED = 300
_INTERVAL = (5, 95)

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its interval: from the 5th to the 95th percentile when recordings are drawn anew (bootstrap).

    Attributes:
        value: The figure, 0 to 1; NaN where there is nothing to find.
        low: Lower end.
        high: Upper end.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """How well one class is found.

    Attributes:
        recordings: Recordings with this sound.
        precision: Average precision over all sounds, the likeliest patch of each counting.
        found: Share of its sounds found at one false alarm an hour of background.
        threshold: The score that allows that.
        fooled: Share of the hard negatives (`neg_…`) taken for it at that score.
    """

    recordings: int
    precision: Estimate
    found: Estimate
    threshold: float
    fooled: float


@dataclass(frozen=True, slots=True)
class Figures:
    """How well one system names sounds.

    Attributes:
        classes: By name of the class.
        precision: Mean average precision over classes with at least ten recordings.
        background_hours: Of background (`bg_…`) that false alarms are counted on.
    """

    classes: dict[str, ClassFigures]
    precision: Estimate
    background_hours: float


def average_precision(scores: Floats, there: NDArray[np.bool_]) -> float:
    """Mean over the sounds to be found of the precision at each one's score; equal scores count as one.

    Args:
        scores: (N,).
        there: (N,): what is to be found.

    Returns:
        0 to 1, NaN where nothing is to be found.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(there[order])
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    gained = np.diff(hits[ends], prepend=0)
    return float((gained * hits[ends] / (ends + 1)).sum() / hits[-1]) if len(hits) and hits[-1] else float("nan")


def judge(sounds: Sequence[Sound], heard: Sequence[NDArray[np.float32]]) -> Figures:
    """The figures of one system.

    Args:
        sounds: What is tested.
        heard: For each, how likely each class is in each of its patches, (patches, 7).
    """
    truth = targets(sounds)
    best = np.array([scores.max(axis=0) for scores in heard], np.float64)
    names = sorted({sound.recording for sound in sounds})
    places = np.searchsorted(names, [sound.recording for sound in sounds])
    background = np.array([sound.kind.startswith("bg_") for sound in sounds])
    hard = np.array([sound.kind.startswith("neg_") for sound in sounds])
    hours = sum(sound.seconds for sound in sounds if sound.kind.startswith("bg_")) / 3600
    alarms = [
        _alarms(scores) if quiet else np.empty((0, len(CLASSES)))
        for scores, quiet in zip(heard, background, strict=True)
    ]

    def measure(chosen: NDArray[np.intp]) -> tuple[Floats, Floats, Floats]:
        precision = np.array([average_precision(best[chosen, k], truth[chosen, k]) for k in range(len(CLASSES))])
        seconds = sum(sounds[index].seconds for index in chosen if background[index])
        thresholds = _thresholds(np.concatenate([alarms[index] for index in chosen]), seconds / 3600)
        above = best[chosen] > thresholds
        with np.errstate(invalid="ignore"):
            found = (above & truth[chosen]).sum(axis=0) / truth[chosen].sum(axis=0)
        return precision, found, thresholds

    precision, found, thresholds = measure(np.arange(len(sounds)))
    random = np.random.default_rng(1)
    members = [np.flatnonzero(places == place) for place in range(len(names))]
    drawn = [
        measure(np.concatenate([members[place] for place in random.integers(len(names), size=len(names))]))
        for _ in range(_RESAMPLED)
    ]
    recordings = [len(set(places[truth[:, k]])) for k in range(len(CLASSES))]
    counted = [k for k, count in enumerate(recordings) if count >= LEAST_RECORDINGS]
    fooled = (best[hard] > thresholds).mean(axis=0) if hard.any() else np.full(len(CLASSES), np.nan)
    classes = {
        name: ClassFigures(
            recordings[k],
            _estimate(precision[k], [sample[0][k] for sample in drawn]),
            _estimate(found[k], [sample[1][k] for sample in drawn]),
            float(thresholds[k]),
            float(fooled[k]),
        )
        for k, name in enumerate(CLASSES)
    }
    mean = _estimate(_mean(precision[counted]), [_mean(sample[0][counted]) for sample in drawn])
    return Figures(classes, mean, hours)


#: Material that a head on YAMNet's embedding learns from.
_MATERIAL: Mapping[str, tuple[str, ...]] = {
    "YAMNet, head (ship)": ("ship",),
    "YAMNet, head (nc)": ("ship", "noncommercial"),
}


@dataclass(frozen=True, slots=True)
class System:
    """What one system reached.

    Attributes:
        name: Ours by file name, or YAMNet.
        figures: Its figures.
        ms_per_patch: Milliseconds on one core for a patch, front end included.
    """

    name: str
    figures: Figures
    ms_per_patch: float


def compare(
    audio: Path,
    sounds: Sequence[Sound],
    dealt: NDArray[np.intp],
    taggers: Mapping[str, Mapping[int, Tagger]],
    yamnet: Yamnet,
    advance: Callable[[], None],
) -> list[System]:
    """Ours and YAMNet's three ways on the same sounds.

    Args:
        audio: Folder of the sounds.
        sounds: What is tested or learnt from.
        dealt: Fold in which each is tested, (N,); negative: only learnt from.
        taggers: By name, for each fold the network that learnt nothing of it.
        yamnet: The reference.
        advance: Called after each sound.
    """
    tested = np.flatnonzero(dealt >= 0).tolist()
    heard: dict[str, list[NDArray[np.float32]]] = {name: [] for name in (*taggers, "YAMNet, zero-shot")}
    spent = dict.fromkeys(heard, 0.0)
    embeddings, labels = [], []
    for sound, fold in zip(sounds, dealt.tolist(), strict=True):
        pieces = patches(samples(audio / sound.file))
        begin = time.perf_counter()
        scores, embedding = yamnet.hear(pieces)
        spent["YAMNet, zero-shot"] += time.perf_counter() - begin
        embeddings.append(embedding)
        labels.append(patch_labels(sound, pieces))
        if fold >= 0:
            heard["YAMNet, zero-shot"].append(scores)
            for name, folds in taggers.items():
                begin = time.perf_counter()
                heard[name].append(np.concatenate([folds[fold].tag(piece[None]) for piece in pieces]))
                spent[name] += time.perf_counter() - begin
        advance()
    every, some = (sum(map(len, part)) for part in (embeddings, [embeddings[place] for place in tested]))
    judged = [sounds[place] for place in tested]
    systems = [
        System(name, judge(judged, scores), 1e3 * spent[name] / (some if name in taggers else every))
        for name, scores in heard.items()
    ]
    for name, uses in _MATERIAL.items():
        heads = _heads(sounds, dealt, uses, embeddings, labels)
        answers = [heads[int(dealt[place])].read(embeddings[place]) for place in tested]
        systems.append(System(name, judge(judged, answers), systems[len(taggers)].ms_per_patch))
    return systems


def _heads(
    sounds: Sequence[Sound],
    dealt: NDArray[np.intp],
    uses: tuple[str, ...],
    embeddings: Sequence[NDArray[np.float32]],
    labels: Sequence[NDArray[np.int8]],
) -> dict[int, Head]:
    """For each fold, a head that learnt from what may be learnt of the others."""
    places = np.repeat(np.arange(len(sounds)), [len(part) for part in embeddings])
    free = np.array([sound.use in uses for sound in sounds])
    every, known = np.concatenate(embeddings), np.concatenate(labels)
    heads = {}
    for fold in sorted(set(dealt[dealt >= 0].tolist())):
        learnt = np.flatnonzero((free & (dealt != fold))[places])
        heads[fold] = fit(every[learnt], known[learnt], balanced(sounds, places[learnt]))
    return heads


def _alarms(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """The highest score of each ten seconds, (alarms, 7)."""
    starts = np.arange(0, len(scores), _ALARM_PATCHES)
    return np.asarray(np.maximum.reduceat(scores, starts, axis=0))


def _thresholds(alarms: NDArray[np.float32], hours: float) -> Floats:
    """Scores above which there is at most one false alarm an hour, (7,)."""
    allowed = int(hours)
    return (
        np.sort(alarms, axis=0)[::-1][allowed].astype(np.float64)
        if len(alarms) > allowed
        else np.zeros(alarms.shape[1])
    )


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _estimate(value: float, drawn: Sequence[float]) -> Estimate:
    known = [sample for sample in drawn if not np.isnan(sample)]
    low, high = np.percentile(known, _INTERVAL) if known else (np.nan, np.nan)
    return Estimate(float(value), float(low), float(high))
