"""What the tagger learns from: patches of sound as log-mel, what YAMNet hears in them, and their labels.

YAMNet (github.com/tensorflow/models, research/audioset/yamnet) is the teacher; it looks once at each patch. No sound is
kept here, only log-mel and the teacher's answers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from agent.evaluate.imitated import IMITATED, imitate
from agent.evaluate.sounds import UNKNOWN, Sound, folds, patch_labels, samples, targets
from agent.evaluate.yamnet import Yamnet
from agent.perception.logmel import PATCH, logmel
from agent.perception.tag import CLASSES, patches
from models.train.sound.augment import cut, lay_over, mix, strange, synthesised

#: Patches a file: a stop loses no more than one file's work.
_CHUNK = 1000
#: How often an event, a hard negative and any other background sound comes first in a mixture.
_FIRST = {"event": 0.55, "hard": 0.12, "background": 0.33}
#: The same for the sound behind it.
_BEHIND = {"event": 0.12, "hard": 0.08, "background": 0.8}
#: The same where no label is wanted.
_STRANGE = {"event": 0.35, "hard": 0.15, "background": 0.5}
_ALONE = 0.2
#: How often an event or a sound that may be taken for one is laid over a street, and which is imitated.
_LAID = {"event": 0.65, "hard": 0.15, "background": 0.2}
_IMITATED = 0.05
#: An event is there for certain from so much above the street, dB: below, a street that bangs itself hides it, and who
#: is told to hear it there takes the street for it.
_CERTAIN_DB = 5.0
#: How often a strange mixture has a sound that no recording is needed for.
_SYNTHESISED = 0.35

Track = Callable[[Sequence[Any], str], Iterable[Any]]


@dataclass(frozen=True, slots=True)
class Corpus:
    """Patches, (N, ...).

    Attributes:
        logmel: (N, 96, 64) float16.
        embedding: What YAMNet makes of it, (N, 1024) float16, zero or more.
        labels: (N, 7) int8: 1 there, 0 not there, `UNKNOWN`; of strange mixtures nothing is known.
        sound: (N,) int32: index of the (first) sound in the manifest. A second one is of the same fold and may be
            used for whatever the first may.
        mixed: (N,) bool: a mixture, or a patch as it was recorded.
    """

    logmel: NDArray[np.float16]
    embedding: NDArray[np.float16]
    labels: NDArray[np.int8]
    sound: NDArray[np.int32]
    mixed: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.sound)


@dataclass(frozen=True, slots=True)
class Amounts:
    """How many patches are made, beside those that were recorded.

    Attributes:
        mixtures: By mixing as a street would.
        strange: By mixing what no street has heard.
        imitations: Of hard negatives that nobody has recorded.
        laid: Of events in the midst of a street.
    """

    mixtures: int
    strange: int
    imitations: int
    laid: int


class Shelf:
    """Sounds to draw from, of one fold and use, every class and every recording of it as likely as any other."""

    def __init__(self, sounds: Sequence[Sound], members: Iterable[int]) -> None:
        self._boxes: dict[str, dict[str, dict[str, list[int]]]] = {}
        for index in members:
            sound = sounds[index]
            hard = sound.kind.startswith("neg_")
            box = "event" if sound.label in CLASSES else "hard" if hard else "background"
            # Backgrounds are drawn by recording alone; there are hardly two of a kind.
            kind = sound.label if box == "event" else sound.kind if hard else ""
            for name in (box, "street") if sound.street else (box,):
                recordings = self._boxes.setdefault(name, {}).setdefault(kind, defaultdict(list))
                recordings[sound.recording].append(index)

    def draw(self, likely: dict[str, float], random: np.random.Generator) -> int:
        """Index of a sound."""
        boxes = [box for box in likely if box in self._boxes]
        weights = np.array([likely[box] for box in boxes])
        kinds = self._boxes[random.choice(boxes, p=weights / weights.sum())]
        recordings = kinds[random.choice(list(kinds))]
        return int(random.choice(recordings[random.choice(list(recordings))]))


def build(
    data: Path,
    sounds: Sequence[Sound],
    amounts: Amounts,
    cache: Path,
    track: Track,
    *,
    taught: bool = True,
) -> Corpus:
    """All patches as they are recorded, then mixtures; what an earlier call has made is read.

    Args:
        data: Folder of the shared data.
        sounds: Its manifest.
        amounts: How many patches are made, rounded up to whole parts.
        cache: Folder of the finished parts.
        track: Shows progress.
        taught: Whether YAMNet looks at them; without, there is no embedding, which only the first lessons need.
    """
    cache.mkdir(parents=True, exist_ok=True)
    yamnet = Yamnet(data / "models") if taught else None
    heard: dict[int, NDArray[np.float32]] = {}

    def hear(index: int) -> NDArray[np.float32]:
        if index not in heard:
            heard[index] = samples(data / "audio" / sounds[index].file)
        return heard[index]

    def recorded(first: int) -> Corpus:
        members = range(first, min(first + _CHUNK, len(sounds)))
        return _kept(cache / f"recorded-{first}.npz", lambda: _recorded(sounds, members, hear, yamnet))

    def mixed(number: int) -> Corpus:
        return _kept(cache / f"mixed-{number}.npz", lambda: _mixtures(sounds, shelves, number, hear, yamnet))

    def strangely(number: int) -> Corpus:
        return _kept(cache / f"strange-{number}.npz", lambda: _strange(sounds, shelves, number, hear, yamnet))

    def imitated(number: int) -> Corpus:
        return _kept(cache / f"imitated-{number}.npz", lambda: _imitations(shelves, number, hear, yamnet))

    def over_street(number: int) -> Corpus:
        return _kept(cache / f"laid-{number}.npz", lambda: _laid(sounds, shelves, number, hear, yamnet))

    shelves = _shelves(sounds)
    parts = [recorded(first) for first in track(range(0, len(sounds), _CHUNK), "recordings")]
    for make, amount, what in (
        (mixed, amounts.mixtures, "mixtures"),
        (strangely, amounts.strange, "strange mixtures"),
        (imitated, amounts.imitations, "imitations"),
        (over_street, amounts.laid, "events over streets"),
    ):
        parts += [make(number) for number in track(range(-(-amount // _CHUNK)), what)]
    return _joined(parts)


def _joined(parts: Sequence[Corpus]) -> Corpus:
    return Corpus(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Corpus)))


def _kept(path: Path, make: Callable[[], Corpus]) -> Corpus:
    if not path.exists():
        part = make()
        partial = path.with_suffix(".partial.npz")
        np.savez(partial, **{field.name: getattr(part, field.name) for field in fields(Corpus)})
        partial.replace(path)
    with np.load(path) as content:
        return Corpus(**content)


def _recorded(
    sounds: Sequence[Sound], members: Iterable[int], hear: Callable[[int], Any], yamnet: Yamnet | None
) -> Corpus:
    parts = list[Corpus]()
    for index in members:
        pieces = patches(hear(index))
        labels = patch_labels(sounds[index], pieces)
        here = np.full(len(pieces), index, np.int32)
        parts.append(Corpus(_bands(pieces), _taught(yamnet, pieces), labels, here, np.zeros(len(pieces), np.bool_)))
    return _joined(parts)


def _taught(yamnet: Yamnet | None, pieces: NDArray[np.float32]) -> NDArray[np.float16]:
    if yamnet is None:
        return np.empty((len(pieces), 0), np.float16)
    return yamnet.hear(pieces)[1].astype(np.float16)


def _bands(pieces: NDArray[np.float32]) -> NDArray[np.float16]:
    """Log-mel of patches one by one, which suits a small cache best."""
    return np.stack([logmel(piece).astype(np.float16) for piece in pieces])


def _shelves(sounds: Sequence[Sound]) -> list[tuple[Shelf, Shelf]]:
    """For each fold, twice: what is free to ship, and all that may be learnt."""
    dealt = folds(sounds)
    shelves = []
    for fold in range(int(dealt.max()) + 1):
        learnt = [index for index in np.flatnonzero(dealt == fold).tolist() if sounds[index].use != "evaluate"]
        free = [index for index in learnt if sounds[index].use == "ship"]
        shelves.append((Shelf(sounds, free), Shelf(sounds, learnt)))
    return shelves


def _mixtures(
    sounds: Sequence[Sound],
    shelves: Sequence[tuple[Shelf, Shelf]],
    number: int,
    hear: Callable[[int], Any],
    yamnet: Yamnet | None,
) -> Corpus:
    random = np.random.default_rng(number)
    truth = targets(sounds).astype(np.int8)
    pieces = np.empty((_CHUNK, PATCH), np.float32)
    labels = np.empty((_CHUNK, len(CLASSES)), np.int8)
    firsts = np.empty(_CHUNK, np.int32)
    for place in range(_CHUNK):
        free, learnt = shelves[int(random.integers(len(shelves)))]
        first = (free if random.random() < 0.4 else learnt).draw(_FIRST, random)
        second = (free if sounds[first].use == "ship" else learnt).draw(_BEHIND, random)
        alone = random.random() < _ALONE
        event = cut(hear(first), random, 30 if sounds[first].label == "background" else 12)
        other = None if alone else cut(hear(second), random, 30)
        pieces[place], louder = mix(event, other, random)
        labels[place] = truth[first]
        if not alone:
            # What is well below the first sound may be heard or not.
            labels[place][(truth[second] == 1) & (labels[place] == 0)] = 1 if louder < 5 else UNKNOWN
        firsts[place] = first
    return Corpus(_bands(pieces), _taught(yamnet, pieces), labels, firsts, np.ones(_CHUNK, np.bool_))


def _strange(
    sounds: Sequence[Sound],
    shelves: Sequence[tuple[Shelf, Shelf]],
    number: int,
    hear: Callable[[int], Any],
    yamnet: Yamnet | None,
) -> Corpus:
    random = np.random.default_rng((1, number))
    pieces = np.empty((_CHUNK, PATCH), np.float32)
    firsts = np.empty(_CHUNK, np.int32)
    for place in range(_CHUNK):
        free, learnt = shelves[int(random.integers(len(shelves)))]
        first = (free if random.random() < 0.5 else learnt).draw(_STRANGE, random)
        event = strange(cut(hear(first), random, 30), random)
        other = synthesised(random)
        if random.random() >= _SYNTHESISED:
            second = (free if sounds[first].use == "ship" else learnt).draw(_BEHIND, random)
            other = strange(cut(hear(second), random, 30), random)
        pieces[place], _ = mix(*((event, other) if random.random() < 0.5 else (other, event)), random)
        firsts[place] = first
    unknown = np.full((_CHUNK, len(CLASSES)), UNKNOWN, np.int8)
    return Corpus(_bands(pieces), _taught(yamnet, pieces), unknown, firsts, np.ones(_CHUNK, np.bool_))


def _imitations(
    shelves: Sequence[tuple[Shelf, Shelf]],
    number: int,
    hear: Callable[[int], Any],
    yamnet: Yamnet | None,
) -> Corpus:
    random = np.random.default_rng((2, number))
    pieces = np.empty((_CHUNK, PATCH), np.float32)
    behind = np.empty(_CHUNK, np.int32)
    for place in range(_CHUNK):
        free, learnt = shelves[int(random.integers(len(shelves)))]
        behind[place] = (free if random.random() < 0.4 else learnt).draw({"background": 1.0}, random)
        event = cut(imitate(str(random.choice(list(IMITATED))), random), random, 12)
        pieces[place], _ = mix(event, cut(hear(int(behind[place])), random, 30), random)
    nothing = np.zeros((_CHUNK, len(CLASSES)), np.int8)
    return Corpus(_bands(pieces), _taught(yamnet, pieces), nothing, behind, np.ones(_CHUNK, np.bool_))


def _laid(
    sounds: Sequence[Sound],
    shelves: Sequence[tuple[Shelf, Shelf]],
    number: int,
    hear: Callable[[int], Any],
    yamnet: Yamnet | None,
) -> Corpus:
    random = np.random.default_rng((3, number))
    truth = targets(sounds).astype(np.int8)
    pieces = np.empty((_CHUNK, PATCH), np.float32)
    labels = np.zeros((_CHUNK, len(CLASSES)), np.int8)
    firsts = np.empty(_CHUNK, np.int32)
    for place in range(_CHUNK):
        free, learnt = shelves[int(random.integers(len(shelves)))]
        shelf = free if random.random() < 0.4 else learnt
        street = shelf.draw({"street": 1.0}, random)
        first = street
        if random.random() < _IMITATED:
            event = imitate(str(random.choice(list(IMITATED))), random)
        else:
            first = shelf.draw(_LAID, random)
            event = hear(first)
            labels[place] = truth[first]
        # The one that fewer may learn from decides who may.
        firsts[place] = street if sounds[first].use == "ship" else first
        pieces[place], louder = lay_over(cut(event, random, 12), cut(hear(street), random, 30), random)
        if louder < _CERTAIN_DB:
            labels[place] *= UNKNOWN
    return Corpus(_bands(pieces), _taught(yamnet, pieces), labels, firsts, np.ones(_CHUNK, np.bool_))


def yamnet_scores(data: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights, (521, 1024), and bias, (521,), with which YAMNet reads its own embedding."""
    model = onnx.load(data / "models" / "yamnet_rebuilt.onnx")
    parts = {part.name: onnx.numpy_helper.to_array(part) for part in model.graph.initializer}
    return parts["fc.weight"], parts["fc.bias"]
