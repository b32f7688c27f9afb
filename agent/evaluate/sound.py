"""How well sounds are named: by clip, and by alarms in an hour of street.

Every figure is of sounds that the network did not learn from: fold by fold, recordings of which it had no part
(`agent.evaluate.sounds.folds`), or those that nothing may learn from. Thresholds are set on the other folds.

A clip counts by its likeliest moment. Clips of events are found among each other and among street sound, what a
microphone hears for hours (`Sound.street`); hard negatives (`Sound.hard`), single sounds cut out of their place, stand
beside: no street is as dense with them. Average precision is the network's own. All else is of the rule too that a bang
must be sudden (`agent.behaviours.sound_events`): street goes on, and a clip of anything else begins in silence.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agent.evaluate.operating import (
    PRECISION,
    Floats,
    Operating,
    Rate,
    Scores,
    Stream,
    alarms,
    beginning,
    cooled,
    loudest,
    smoothed,
    temperature,
    thresholds,
)
from agent.evaluate.sounds import Sound, SoundsError, balanced, patch_labels, samples, targets
from agent.evaluate.yamnet import Head, Yamnet, fit
from agent.perception.logmel import mel
from agent.perception.sudden import Sudden, loudness
from agent.perception.tag import CLASSES, Tagger, patches

#: A class with fewer recordings is reported, but does not count in the mean over classes.
LEAST_RECORDINGS = 10
#: A precision of fewer clips than these that were told says nothing.
_TOLD = 5
_RESAMPLED = 300
_INTERVAL = (5, 95)


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
        average_precision: Over events and street sound.
        average_precision_hard: The same with hard negatives among the sounds.
        found: Share of its clips found at one false alarm an hour of street sound; that threshold is read off the same
            recordings.
        precision: Of what is heard at the thresholds set on the other folds, share that is right.
        recall: Share of its clips heard at these.
        f1: Harmonic mean of both.
        false_alarms: Episodes in street sound at these, each hour heard once.
        fooled: Share of the hard negatives heard as this class at these.
    """

    recordings: int
    average_precision: Estimate
    average_precision_hard: Estimate
    found: Estimate
    precision: Estimate
    recall: Estimate
    f1: Estimate
    false_alarms: Rate
    fooled: float


@dataclass(frozen=True, slots=True)
class Figures:
    """How well one system names sounds.

    Attributes:
        classes: By name of the class.
        average_precision: Mean over classes with at least ten recordings.
        average_precision_hard: The same with hard negatives among the sounds.
        fooled: For each kind of hard negative, share of its clips heard as any class.
        temperature: Of all folds together: what the registry should say.
        thresholds: The same, by class.
        experimental: Classes whose precision is below 0.8 at the thresholds of the other folds, or is of too few clips.
    """

    classes: dict[str, ClassFigures]
    average_precision: Estimate
    average_precision_hard: Estimate
    fooled: dict[str, float]
    temperature: float
    thresholds: dict[str, float]
    experimental: tuple[str, ...]


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


class Evidence:
    """What one system heard in all sounds, and what decides when it counts."""

    def __init__(
        self,
        sounds: Sequence[Sound],
        heard: Sequence[Scores],
        labels: Sequence[NDArray[np.int8]],
        sudden: Sequence[NDArray[np.bool_]],
    ) -> None:
        """Take it in; arguments as of `judge`."""
        self.sounds, self._heard, self._labels, self._sudden = sounds, heard, labels, sudden
        self.truth = targets(sounds)
        self.street = np.array([sound.street for sound in sounds])
        self.hard = np.array([sound.hard for sound in sounds])

    def operating(self, chosen: NDArray[np.bool_]) -> Operating:
        """The temperature and thresholds that suit some of the sounds."""
        places = np.flatnonzero(chosen).tolist()
        scores = np.concatenate([self._heard[place] for place in places])
        of = np.repeat(places, [len(self._heard[place]) for place in places])
        labels = np.concatenate([self._labels[place] for place in places])
        warmth = temperature(scores, labels, balanced(self.sounds, of))
        streams = self.streams(chosen, warmth)
        loud = np.concatenate([loudest(stream) for stream in streams] or [np.empty((0, len(CLASSES)), np.float32)])
        return Operating(warmth, thresholds(loud, self.hours(chosen), self.best(warmth)[chosen], self.truth[chosen]))

    def named(self) -> Floats:
        """The likeliest moment of each sound, as the network names it, (N, 7)."""
        return np.array([smoothed(scores).max(axis=0) for scores in self._heard], np.float64)

    def best(self, warmth: float) -> Floats:
        """The likeliest moment of each sound in which an episode may begin, (N, 7)."""
        streams = self._streams(range(len(self.sounds)), warmth)
        return np.array([beginning(stream).max(axis=0) for stream in streams], np.float64)

    def hours(self, chosen: NDArray[np.bool_]) -> float:
        """How much street sound is among them."""
        return sum((self.sounds[place].seconds for place in np.flatnonzero(chosen & self.street).tolist()), 0.0) / 3600

    def streams(self, chosen: NDArray[np.bool_], warmth: float) -> list[Stream]:
        """Street sound: what is of one recording follows each other."""
        members: dict[str, list[Stream]] = {}
        places = np.flatnonzero(chosen & self.street).tolist()
        for place, stream in zip(places, self._streams(places, warmth), strict=True):
            members.setdefault(self.sounds[place].recording, []).append(stream)
        return [
            Stream(np.concatenate([part.scores for part in parts]), np.concatenate([part.sudden for part in parts]))
            for parts in members.values()
        ]

    def _streams(self, places: Iterable[int], warmth: float) -> list[Stream]:
        return [Stream(cooled(self._heard[place], warmth), self._sudden[place]) for place in places]


def judge(
    sounds: Sequence[Sound],
    heard: Sequence[Scores],
    labels: Sequence[NDArray[np.int8]],
    sudden: Sequence[NDArray[np.bool_]],
    dealt: NDArray[np.intp],
) -> tuple[Figures, dict[int, Operating]]:
    """The figures of one system, and for each fold the temperature and thresholds that they stand for.

    Args:
        sounds: What is tested.
        heard: For each, how likely each class is in each of its patches, (patches, 7).
        labels: For each, what is known of its patches, (patches, 7).
        sudden: For each, which of its patches have something louder than before, (patches,).
        dealt: Fold of each, (N,): thresholds are set on the other folds.

    Raises:
        SoundsError: there is no other fold.
    """
    if len(np.unique(dealt)) < 2:
        raise SoundsError("all recordings lie in one fold, so there are no others to set thresholds on; add recordings")
    evidence = Evidence(sounds, heard, labels, sudden)
    truth, hard = evidence.truth, evidence.hard
    raw, begun = evidence.named(), evidence.best(1.0)
    above = np.zeros_like(truth)
    counted = np.zeros(len(CLASSES), np.intp)
    points = {}
    for fold in np.unique(dealt).tolist():
        here = dealt == fold
        point = points[fold] = evidence.operating(~here)
        above[here] = evidence.best(point.temperature)[here] >= point.thresholds
        for stream in evidence.streams(here, point.temperature):
            counted += alarms(stream, point.thresholds)
    everywhere = np.ones(len(sounds), np.bool_)
    hours = evidence.hours(everywhere)
    # One false alarm an hour, read off the street sound itself.
    loud = [loudest(stream) for stream in evidence.streams(everywhere, 1.0)]
    heard_loud = np.sort(np.concatenate(loud or [np.zeros((1, len(CLASSES)), np.float32)]), axis=0)[::-1]
    hourly = heard_loud[min(int(hours), len(heard_loud) - 1)]

    def measure(chosen: NDArray[np.intp]) -> Floats:
        """(6, 7): both average precisions, found, precision, recall, F1."""
        plain = chosen[~hard[chosen]]
        there, told = truth[plain], above[plain]
        hits = (told & there).sum(axis=0)
        with np.errstate(invalid="ignore"):
            right, share = hits / told.sum(axis=0), hits / there.sum(axis=0)
            rows = [
                [average_precision(raw[plain, k], there[:, k]) for k in range(len(CLASSES))],
                [average_precision(raw[chosen, k], truth[chosen, k]) for k in range(len(CLASSES))],
                ((begun[plain] > hourly) & there).sum(axis=0) / there.sum(axis=0),
                right,
                share,
                2 * hits / (told.sum(axis=0) + there.sum(axis=0)),
            ]
        return np.array(rows, np.float64)

    measured = measure(np.arange(len(sounds)))
    drawn = np.array([measure(chosen) for chosen in _redrawn([sound.recording for sound in sounds])])
    recordings = [len({sound.recording for sound in sounds if sound.label == name}) for name in CLASSES]
    some = [k for k, count in enumerate(recordings) if count >= LEAST_RECORDINGS]
    classes = {}
    for k, name in enumerate(CLASSES):
        plain, strict, found, precision, recall, f1 = (
            _estimate(measured[row, k], drawn[:, row, k]) for row in range(6)
        )
        classes[name] = ClassFigures(
            recordings[k],
            plain,
            strict,
            found,
            precision,
            recall,
            f1,
            Rate(int(counted[k]), hours),
            float(above[hard, k].mean()) if hard.any() else float("nan"),
        )
    means = [
        _estimate(_mean(measured[row, some]), np.array([_mean(one[row, some]) for one in drawn])) for row in (0, 1)
    ]
    point = evidence.operating(everywhere)
    told = above[~hard].sum(axis=0).tolist()
    kinds = sorted({sound.kind for sound in sounds if sound.hard})
    fooled = {
        kind: float(above[[sound.hard and sound.kind == kind for sound in sounds]].any(axis=1).mean()) for kind in kinds
    }
    figures = Figures(
        classes,
        means[0],
        means[1],
        fooled,
        point.temperature,
        dict(zip(CLASSES, point.thresholds.tolist(), strict=True)),
        tuple(
            name
            for (name, one), clips in zip(classes.items(), told, strict=True)
            if not (one.precision.value >= PRECISION and clips >= _TOLD)
        ),
    )
    return figures, points


def _redrawn(recordings: Sequence[str]) -> Iterable[NDArray[np.intp]]:
    """Indices of the sounds of as many recordings as there are, drawn with replacement."""
    names, place = np.unique(recordings, return_inverse=True)
    members = [np.flatnonzero(place == number) for number in range(len(names))]
    random = np.random.default_rng(1)
    for _ in range(_RESAMPLED):
        yield np.concatenate([members[number] for number in random.integers(len(names), size=len(names))])


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
        points: For each fold, the temperature and thresholds that the figures stand for.
    """

    name: str
    figures: Figures
    ms_per_patch: float
    points: dict[int, Operating]


def compare(
    audio: Path,
    sounds: Sequence[Sound],
    dealt: NDArray[np.intp],
    taggers: Mapping[str, Mapping[int, Tagger]],
    yamnet: Yamnet | None,
    advance: Callable[[], None],
) -> list[System]:
    """Ours, and YAMNet's three ways, on the same sounds.

    Args:
        audio: Folder of the sounds.
        sounds: What is tested or learnt from.
        dealt: Fold in which each is tested, (N,); negative: only learnt from.
        taggers: By name, for each fold the network that learnt nothing of it.
        yamnet: The reference; None: ours alone.
        advance: Called after each sound.
    """
    reference = "YAMNet, zero-shot"
    heard: dict[str, list[Scores]] = {name: [] for name in (*taggers, *([reference] if yamnet else []))}
    spent = dict.fromkeys(heard, 0.0)
    embeddings, labels = [], []
    sudden, ears = list[NDArray[np.bool_]](), defaultdict[str, Sudden](lambda: Sudden(amid=True))
    for sound, fold in zip(sounds, dealt.tolist(), strict=True):
        tested = fold >= 0
        if tested or yamnet:
            pieces = patches(samples(audio / sound.file))
            labels.append(patch_labels(sound, pieces))
            if tested:
                sudden.append(_sudden(pieces, ears[sound.recording] if sound.street else None))
            if yamnet:
                begin = time.perf_counter()
                scores, embedding = yamnet.hear(pieces)
                embeddings.append(embedding)
                if tested:
                    spent[reference] += time.perf_counter() - begin
                    heard[reference].append(scores)
            for name, folds in taggers.items() if tested else ():
                begin = time.perf_counter()
                heard[name].append(np.concatenate([folds[fold].tag(piece[None]) for piece in pieces]))
                spent[name] += time.perf_counter() - begin
        advance()
    places = np.flatnonzero(dealt >= 0).tolist()
    if yamnet:
        for name, uses in _MATERIAL.items():
            heads = _heads(sounds, dealt, uses, embeddings, labels)
            heard[name] = [heads[int(dealt[place])].read(embeddings[place]) for place in places]
            spent[name] = spent[reference]
        labels = [labels[place] for place in places]
    judged, patches_heard = [sounds[place] for place in places], sum(map(len, labels))
    systems = []
    for name, answers in heard.items():
        figures, points = judge(judged, answers, labels, sudden, dealt[places])
        systems.append(System(name, figures, 1e3 * spent[name] / patches_heard, points))
    return systems


def _sudden(pieces: NDArray[np.float32], ear: Sudden | None) -> NDArray[np.bool_]:
    """Which patches have something louder than before, (patches,); all of a sound that stands alone (no `ear`)."""
    return np.array([ear is None or ear.hear(loudness(mel(piece))) for piece in pieces], np.bool_)


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


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _estimate(value: float, drawn: Floats) -> Estimate:
    known = drawn[~np.isnan(drawn)]
    low, high = np.percentile(known, _INTERVAL) if len(known) else (np.nan, np.nan)
    return Estimate(float(value), float(low), float(high))
