"""The whole way from sound to episode, as in the street: false alarms an hour, and what is heard through the noise.

Street sound that the network never heard, each hour once, goes through the agent's own ears and rules
(`agent.perception.hearing`, `agent.behaviours.sound_events`). Then events of recordings that it never heard are laid
over pieces of that street, one a recording and band of loudness. No episode of a class within the event and two
seconds is a miss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agent.capture.sound import BLOCK_S, Block
from agent.evaluate.imitated import IMITATED, imitate
from agent.evaluate.operating import Operating, Rate, Stream, cooled, episodes
from agent.evaluate.sounds import BLOCK, Sound, SoundsError, level, loudness, samples
from agent.perception.hearing import HOP_S, Ears, Hearing, Room
from agent.perception.logmel import RATE
from agent.perception.tag import CLASSES, Tagger

#: How much louder than the street an event is, dB: from each edge to the next.
BANDS_DB = (-5, 0, 5, 10, 15, 20)
#: Street before an event and after it, and the longest piece of an event, seconds.
_BEFORE_S, _AFTER_S, _LONGEST_S = 13.0, 3.0, 4.0
#: An episode may begin so long after the event's end: windows, and averages over them, end later than what they hear.
_LATE_S = 2.0
#: Imitated hard negatives of each kind a fold.
_IMITATIONS = 25

Samples = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Heard:
    """How often something was heard.

    Attributes:
        heard: So often.
        of: Of so many.
    """

    heard: int
    of: int


@dataclass(frozen=True, slots=True)
class StreetFigures:
    """What came of one system in the street.

    Attributes:
        false_alarms: By class.
        heard: By class, for each of the bands between `BANDS_DB`.
        fooled: By kind of imitated hard negative: how often it was an episode of any class, at 5 to 20 dB.
    """

    false_alarms: dict[str, Rate]
    heard: dict[str, list[Heard]]
    fooled: dict[str, Heard]


@dataclass(slots=True)
class Fold:
    """What one network is tested on.

    Attributes:
        tagger: It learnt nothing of these sounds.
        point: Its temperature and thresholds, set on other folds.
        sounds: Street sound and events.
    """

    tagger: Tagger
    point: Operating
    sounds: Sequence[Sound]


def walk(audio: Path, tested: Mapping[int, Fold], advance: Callable[[], None]) -> StreetFigures:
    """Hear every fold's street and events.

    Args:
        audio: Folder of the sounds.
        tested: The folds.
        advance: Called after each recording of street and each event, `length` times in all.

    Raises:
        SoundsError: a fold has no street, or a recording cannot be read.
    """
    alarms, seconds = np.zeros(len(CLASSES), np.intp), 0
    heard = np.zeros((len(CLASSES), len(BANDS_DB) - 1, 2), np.intp)
    fooled = {kind: np.zeros(2, np.intp) for kind in IMITATED}
    for number, fold in tested.items():
        random = np.random.default_rng(number)
        streets = []
        for recording in _recordings(sound for sound in fold.sounds if sound.street):
            street = np.concatenate([samples(audio / sound.file) for sound in recording])
            streets.append(street)
            seconds += len(street)
            alarms += [len(starts) for starts in _starts(street, fold)]
            advance()
        if not streets:
            raise SoundsError(f"fold {number} has no street sound (kind bg_…) to lay events over")
        for event, place in _events(audio, fold.sounds, random):
            for band in range(len(BANDS_DB) - 1):
                found = _laid_over(streets, event, BANDS_DB[band : band + 2], fold, random)
                heard[place, band] += (found[place], 1)
            advance()
        for kind in IMITATED:
            for _ in range(_IMITATIONS):
                found = _laid_over(streets, imitate(kind, random), (5, 20), fold, random)
                fooled[kind] += (any(found), 1)
            advance()
    hours = seconds / RATE / 3600
    return StreetFigures(
        {name: Rate(int(count), hours) for name, count in zip(CLASSES, alarms, strict=True)},
        {name: [Heard(int(a), int(b)) for a, b in rows] for name, rows in zip(CLASSES, heard, strict=True)},
        {kind: Heard(int(a), int(b)) for kind, (a, b) in fooled.items()},
    )


def length(tested: Mapping[int, Fold]) -> int:
    """How often `walk` calls `advance`."""
    every = [fold.sounds for fold in tested.values()]
    groups = {
        (place, sound.recording, sound.label) for place, sounds in enumerate(every) for sound in sounds if _used(sound)
    }
    return len(groups) + len(every) * len(IMITATED)


def _used(sound: Sound) -> bool:
    return sound.street or sound.label in CLASSES


def _recordings(sounds: Iterator[Sound]) -> Iterator[list[Sound]]:
    """What is of one recording, in the manifest's order."""
    members: dict[tuple[str, str], list[Sound]] = {}
    for sound in sounds:
        members.setdefault((sound.recording, sound.label), []).append(sound)
    yield from members.values()


def _events(audio: Path, sounds: Sequence[Sound], random: np.random.Generator) -> Iterator[tuple[Samples, int]]:
    """Of each recording of a class one piece around its loudest moment, and the class's place."""
    for recording in _recordings(sound for sound in sounds if sound.label in CLASSES):
        chosen = recording[random.integers(len(recording))]
        whole = samples(audio / chosen.file)
        first = max(0, int(loudness(whole).argmax()) * BLOCK - int(_LONGEST_S / 2 * RATE))
        yield whole[first : first + int(_LONGEST_S * RATE)], CLASSES.index(chosen.label)


def _laid_over(
    streets: Sequence[Samples],
    event: Samples,
    band_db: Sequence[int],
    fold: Fold,
    random: np.random.Generator,
) -> list[bool]:
    """Which classes begin while an event is laid over a street drawn by chance."""
    wanted = int((_BEFORE_S + _AFTER_S) * RATE) + len(event)
    street = streets[int(random.integers(len(streets)))]
    # What is too short goes on from its beginning.
    piece = np.resize(np.roll(street, -int(random.integers(len(street)))), wanted)
    first = int(_BEFORE_S * RATE)
    under = piece[first : first + len(event)]
    louder = 10 ** (random.uniform(*band_db) / 10)
    gain = np.sqrt(louder * max(np.square(under).mean(), 1e-9) / max(level(event), 1e-12))
    under += (gain * event).astype(np.float32)
    # A microphone that is driven too far adjusts; no sound here is clipped.
    piece /= max(1.0, float(np.abs(piece).max()))
    end = _BEFORE_S + len(event) / RATE + _LATE_S
    return [any(_BEFORE_S <= start <= end for start in starts) for starts in _starts(piece, fold)]


def _starts(sound: Samples, fold: Fold) -> Sequence[list[float]]:
    """When episodes of each class begin, seconds."""
    hearings: list[Hearing] = []
    ears = Ears(fold.tagger, 1, Room(), hearings.append)
    step = round(BLOCK_S * RATE)
    for first in range(0, len(sound), step):
        block = sound[None, first : first + step]
        ears.hear(Block(block, (first + block.shape[1]) / RATE, gap=not first))  # it was cut out of the street's day
    if not hearings:
        return [[] for _ in CLASSES]
    scores = cooled(np.stack([hearing.scores for hearing in hearings]), fold.point.temperature)
    stream = Stream(scores, np.array([hearing.sudden for hearing in hearings]))
    return [[start + HOP_S for start in starts] for starts in episodes(stream, fold.point.thresholds)]
