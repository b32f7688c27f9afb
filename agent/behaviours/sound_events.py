"""`sound.…`: gunshot, explosion, glass_break, scream, crowd_clamour, siren, horn.

The network gives each class a probability twice a second (`agent.perception.hearing`); the class's threshold, held
against recordings that the network never heard, comes with it (`models/registry.toml`). What lasts is averaged over as
long as it always lasts, so that one window alone proves nothing; a bang, breaking glass or a scream may be over within
one window and is taken at its word. A bang and breaking glass begin suddenly (`agent.perception.sudden`): what is as
loud as it has been for a while is a jackhammer or an engine, and what is sudden is one of these sounds, the likeliest
(but a shot may be as well what is likelier to be an explosion: both are a bang).
What is heard goes on until the odds are a quarter of those at the threshold.
No word is understood: the network knows these seven sounds, and its input has no phase.

Known failures stand with their figures in the network's card: a firework, a burst bag or a dropped plank is close to a
gunshot for any network of this size, a class with few recordings is a guess, and nothing here knows where a sound comes
from, so that a film in an open window is a gunshot too. A class that the card calls experimental runs only if its rule
says so.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from agent.behaviours.episode import Episode, EpisodeChange
from agent.behaviours.parameters import Parameters
from agent.contract import ONSET_TYPES, Confidence, EventType, Phase
from agent.perception.hearing import Floats, Hearing
from agent.perception.tag import CLASSES

#: Odds of what goes on, and of what is sure, beside those at the threshold.
_GOES_ON, _SURE = 1 / 4, 8.0
#: How close to 0 or 1 a probability may come, so that odds have a quotient.
_LEAST = 1e-9


@dataclass(frozen=True, slots=True)
class Manner:
    """How a sound goes on.

    Attributes:
        hops: Half seconds over which its probability is averaged.
        release_s: Longest pause within one event of it, seconds.
        sudden: Whether it begins only where something is louder than what was heard for a while.
        rivals: What it must be likelier than to begin, for what is sudden is one thing.
    """

    hops: int
    release_s: float
    sudden: bool = False
    rivals: tuple[EventType, ...] = ()


_SHOT, _BLAST, _GLASS = EventType.SOUND_GUNSHOT, EventType.SOUND_EXPLOSION, EventType.SOUND_GLASS_BREAK
#: The event types there are, in the order of the tagger's classes: shots come in bursts, sirens wail and pause. A shot
#: and an explosion are both a bang, and which of the two a network takes it for hangs on few recordings of explosions:
#: so a shot may be told though an explosion is likelier.
MANNERS: dict[EventType, Manner] = {
    _SHOT: Manner(1, 5, sudden=True, rivals=(_GLASS,)),
    _BLAST: Manner(1, 5, sudden=True, rivals=(_SHOT, _GLASS)),
    _GLASS: Manner(1, 3, sudden=True, rivals=(_SHOT, _BLAST)),
    EventType.SOUND_SCREAM: Manner(1, 3),
    EventType.SOUND_CROWD_CLAMOUR: Manner(4, 10),
    EventType.SOUND_SIREN: Manner(4, 10),
    EventType.SOUND_HORN: Manner(2, 3),
}
assert tuple(t.label for t in MANNERS) == tuple(f"sound.{name}" for name in CLASSES)  # noqa: S101 - never import a mix-up


_SUDDEN = np.array([manner.sudden for manner in MANNERS.values()])
_RIVALS = np.array([[event in manner.rivals for event in MANNERS] for manner in MANNERS.values()])


def may_begin(scores: Floats, sudden: NDArray[np.bool_] | bool) -> NDArray[np.bool_]:
    """(..., 7): which sounds may begin: what need not be sudden, and of the others what is likelier than its rivals.

    Args:
        scores: (..., 7) float32, of windows.
        sudden: (...): in which of them something is sudden.
    """
    rivals = np.where(_RIVALS, scores[..., None, :], 0).max(axis=-1)
    return np.asarray((scores >= rivals) & (~_SUDDEN | np.asarray(sudden)[..., None]))


class SoundParameters(Parameters):
    """Parameters of a `sound.…` rule."""

    threshold: float | None = Field(
        None, gt=0, lt=1, description="Probability from which it counts as heard; unset: the network's own for it."
    )
    release_s: float | None = Field(
        None,
        ge=0,
        le=3600,
        description="How long it must not be heard before it ends, seconds; unset: 3 to 10 by type.",
    )
    experimental: bool = Field(
        False, description="Run it though the network's card calls this class experimental: it is often wrong."
    )


class SoundEvent:
    """One kind of sound, as it begins and ends."""

    Parameters = SoundParameters

    def __init__(self, event_type: EventType, parameters: SoundParameters, threshold: float, *, doubtful: bool) -> None:
        """Nothing has been heard.

        Args:
            event_type: One of `MANNERS`.
            parameters: Of the rule.
            threshold: The network's own for this class, a probability.
            doubtful: Whether the network's card calls the class experimental.
        """
        manner = MANNERS[event_type]
        self._type = event_type
        self._place = list(MANNERS).index(event_type)
        self._hops = manner.hops
        self._recent: deque[float] = deque(maxlen=manner.hops)
        self._odds = _odds(threshold if parameters.threshold is None else parameters.threshold)
        self._doubtful = doubtful
        release_s = manner.release_s if parameters.release_s is None else parameters.release_s
        self._episode = Episode(event_type, None, release_s=release_s)

    def update(self, hearing: Hearing) -> list[EpisodeChange]:
        """What changes with this hearing."""
        self._recent.append(float(hearing.scores[self._place]))
        ratio = _odds(sum(self._recent) / self._hops) / self._odds
        confidence = Confidence.LOW if self._doubtful else Confidence.HIGH if ratio >= _SURE else Confidence.MEDIUM
        begins = ratio >= 1 and bool(may_begin(hearing.scores, hearing.sudden)[self._place])
        met = ratio >= _GOES_ON if self._episode.open else begins
        changes = self._episode.update(hearing.time, met, confidence=confidence)
        if self._type in ONSET_TYPES and hearing.onset is not None:
            changes = [
                replace(change, onset=hearing.onset, onset_error_s=hearing.onset_error)
                if change.phase is Phase.STARTED
                else change
                for change in changes
            ]
        return changes

    def close(self, time: float) -> list[EpisodeChange]:
        """End what is open and forget what was heard."""
        self._recent.clear()
        return self._episode.close(time)


def _odds(probability: float) -> float:
    return max(probability, _LEAST) / max(1 - probability, _LEAST)
