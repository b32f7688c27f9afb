"""Labelled recordings of sounds, and the folds in which they are learnt and tested."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from agent.perception.logmel import RATE
from agent.perception.tag import CLASSES

#: What a recording may serve for: a network that is shipped, one for non-commercial use, or tests alone.
Use = Literal["ship", "noncommercial", "evaluate"]
FOLDS = 4
#: Label of a class that may be in a patch or not: in its recording it is, but the patch is faint.
UNKNOWN = -1
#: Samples of 20 ms, by which loudness is told.
BLOCK = RATE // 50
#: What an event's level is measured by: its 20 ms that are at most so much fainter than the loudest.
_LOUD_DB = 15
#: A patch this much fainter than the loudest of its recording may be without the event.
_FAINT_DB = 20
#: Backgrounds that are no place and no lasting noise but one sound cut out, dense as no street has it.
_SINGLE = ("bg_impact", "bg_rct", "bg_thunder", "bg_baby_cry", "bg_person_sneeze", "bg_rooster", "bg_clock_tick")
#: Background is drawn as often as so many classes.
_BACKGROUND_SHARES = 8


class SoundsError(ValueError):
    """A manifest or a recording that cannot be used; the text says which, where and why."""


class Sound(BaseModel):
    """One labelled file.

    Attributes:
        file: Path below the manifest's folder.
        label: One of `CLASSES`, or `background`.
        kind: What it is in detail.
        recording: Files cut from one recording share it, whatever their labels.
        use: What it may serve for.
        seconds: Its length.
    """

    model_config = ConfigDict(frozen=True)

    file: str
    label: str
    kind: str
    recording: str
    use: Use
    seconds: float

    @property
    def street(self) -> bool:
        """Whether it is what a microphone hears for hours: a place, weather, traffic, works, animals, music."""
        return self.kind.startswith("bg_") and self.kind not in _SINGLE

    @property
    def hard(self) -> bool:
        """Whether it is a single sound that is none of the classes and may be taken for one."""
        return self.kind.startswith("neg_") or self.kind in _SINGLE

    @property
    def unsure(self) -> bool:
        """Whether whoever collected it left it out, such as cries of pain, which are screams and are not."""
        return self.kind.endswith("_excluded")


def read_manifest(path: Path) -> list[Sound]:
    """The labelled files of a manifest.csv.

    Raises:
        SoundsError: it cannot be read, or a line has a wrong value.
    """
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            sounds = [Sound.model_validate(row) for row in csv.DictReader(lines)]
    except OSError as error:
        raise SoundsError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        problem = error.errors()[0]
        raise SoundsError(f"{path}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}") from None
    if unknown := {sound.label for sound in sounds} - {*CLASSES, "background"}:
        raise SoundsError(f"{path}: unknown label {', '.join(sorted(unknown))}")
    return sounds


def samples(path: Path) -> NDArray[np.float32]:
    """A file's samples, (S,) float32 at 16 kHz, full scale being 1.

    Raises:
        SoundsError: it cannot be read, or is not 16 kHz mono.
    """
    try:
        content, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, soundfile.LibsndfileError) as error:
        raise SoundsError(f"{path}: cannot be read: {error}") from error
    if rate != RATE or content.shape[1] != 1 or not len(content):
        raise SoundsError(f"{path}: {rate} Hz, {content.shape[1]} channels; it must be {RATE} Hz and mono")
    return np.asarray(content[:, 0], np.float32)


def folds(sounds: Sequence[Sound]) -> NDArray[np.intp]:
    """The fold, 0 to 3, in which each sound is tested, (N,); a recording lies in one fold whole.

    Every label is spread evenly over the folds, what is free to ship and what is not each by itself, the rarest label
    first. The same manifest always gives the same folds.
    """
    recordings = defaultdict[str, list[Sound]](list)
    for sound in sounds:
        recordings[sound.recording].append(sound)
    common = {label: len({s.recording for s in sounds if s.label == label}) for label in (*CLASSES, "background")}

    def group(name: str) -> tuple[int, str, str, str]:
        rarest = min(recordings[name], key=lambda sound: common[sound.label])
        return common[rarest.label], rarest.label, rarest.use, rarest.kind

    ordered = np.random.default_rng(1).permutation(sorted(recordings))
    dealt = {str(name): place % FOLDS for place, name in enumerate(sorted(ordered.tolist(), key=group))}
    return np.array([dealt[sound.recording] for sound in sounds])


def targets(sounds: Iterable[Sound]) -> NDArray[np.bool_]:
    """(N, 7) bool: which of `CLASSES` each sound is labelled as."""
    return np.array([[sound.label == name for name in CLASSES] for sound in sounds])


def loudness(piece: NDArray[np.float32]) -> NDArray[np.float32]:
    """Power of each 20 ms, (B,) float32."""
    whole = np.pad(piece, (0, -len(piece) % BLOCK)).reshape(-1, BLOCK)
    return np.asarray(np.square(whole).mean(axis=1))


def level(event: NDArray[np.float32]) -> float:
    """How loud an event is: the mean power of its 20 ms that are within 15 dB of its loudest."""
    powers = loudness(event)
    return float(powers[powers >= powers.max() * 10 ** (-_LOUD_DB / 10)].mean())


def patch_labels(sound: Sound, pieces: NDArray[np.float32]) -> NDArray[np.int8]:
    """What is known of each patch of a sound, (N, 7): 1 there, 0 not there, `UNKNOWN` for its label where it is faint.

    Args:
        sound: Whose label is of the whole of it.
        pieces: Its patches, (N, S) float32.
    """
    loudest = np.array([loudness(piece).max() for piece in pieces])
    labels = np.repeat(targets([sound]).astype(np.int8), len(pieces), axis=0)
    labels[loudest < loudest.max() * 10 ** (-_FAINT_DB / 10)] *= UNKNOWN
    return labels


def balanced(sounds: Sequence[Sound], places: NDArray[np.integer]) -> NDArray[np.float64]:
    """How often patches should be drawn for learning: every class alike, and in it every recording alike.

    Args:
        sounds: The manifest.
        places: Index of the sound that each patch is of, (N,).

    Returns:
        (N,), adding up to 1; background has as much as eight classes.
    """
    groups = np.array([f"{sound.label} {sound.recording}" for sound in sounds])[places]
    names, group, count = np.unique(groups, return_inverse=True, return_counts=True)
    labels = np.array([name.split()[0] for name in names])
    label_names, label, recordings = np.unique(labels, return_inverse=True, return_counts=True)
    share = np.where(label_names == "background", _BACKGROUND_SHARES, 1) / recordings
    weights = share[label[group]] / count[group]
    return np.asarray(weights / weights.sum())
