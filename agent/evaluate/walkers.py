"""A street for the attack harness: walkers who pass a row of cameras, and what sense would say of them.

Each corridor has two to six cameras, 20 to 200 m apart. Whoever has passed a camera goes on to the next or turns off,
with even chances; others join there, so that the flow is the same at every camera. Half of all walk in small groups.
What sense says is made with the parameters and the life cycle of its own behaviours, of counts with misses.

It is kinder to an attacker than a street: everybody walks the same way and steadily, the way between two cameras has no
choice, and whoever does what a type is about does it at every camera.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from agent.behaviours.crowd_density import CrowdDensityParameters
from agent.behaviours.episode import BLINK_S, HEARTBEAT_S, EpisodeChange
from agent.contract import Confidence, EventType, Level, Phase
from agent.simulate.scenarios import SPEED_M_S

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

#: The gaps of each corridor, metres: two to six cameras.
CORRIDORS: tuple[tuple[float, ...], ...] = (
    (50.0,),
    (20.0, 100.0),
    (200.0, 20.0, 50.0),
    (100.0, 20.0, 150.0, 50.0),
    (20.0, 60.0, 20.0, 200.0, 100.0),
)
#: Length of the way through a camera's zone, metres: what a camera of `agent.simulate` sees well.
ZONE_M = 18.0
#: How likely people come alone, in twos, threes and fours; half of all walkers are then in groups, on the low side of
#: what is seen in streets (Moussaïd et al., PLoS ONE 5(4), 2010: up to 70 %).
GROUPS = (0.70, 0.20, 0.07, 0.03)
#: A walker keeps to the own speed but for so much, share of it, from one camera to the next.
_JITTER = 0.03
#: Probability of going on to the next camera: an even game for whoever asks.
GOES_ON = 0.5
#: Share of walkers who do what a person type is about, and probability that it is detected. Chosen.
DOERS, _DETECTED = 0.25, 0.9
#: Share of passages in which a walker is heard, as a horn (a bicycle's bell) or a scream; share of walkers who are
#: heard at every camera (a loudspeaker); sounds a minute that the street makes by itself. Chosen.
HEARD, LOUD, _STREET_PER_MIN = 0.02, 0.25, 0.05
#: A person who is there is seen in a frame with this probability (the detector's recall on people this near).
_SEEN = 0.95
#: Sense's analysed rate falls by so much with each person in sight, share of the target, with that much noise. Chosen.
_LOAD, _LOAD_NOISE = 0.01, 0.01
#: Time at the beginning and at the end in which nobody is asked about, seconds: a corridor must fill first, and who has
#: passed one camera must have the time to pass two more.
FILLS_S, EMPTIES_S = 600.0, 600.0


@dataclass(frozen=True, slots=True)
class Passages:
    """Every party at every camera that it passes. Arrays of one length, sorted by nothing.

    Attributes:
        party: Number of the party.
        camera: Number of the camera in its corridor.
        enters: Second at which it enters the zone.
        leaves: Second at which it leaves it.
        size: People in it.
        speed: Metres per second.
        doer: Whether one of it does what the person type is about, everywhere.
        loud: Whether one of it is heard everywhere.
        goes_on: Whether it goes on to the next camera.
    """

    party: Ints
    camera: Ints
    enters: Floats
    leaves: Floats
    size: Ints
    speed: Floats
    doer: Bools
    loud: Bools
    goes_on: Bools

    def __getitem__(self, which: NDArray[np.generic]) -> Passages:
        return Passages(*(getattr(self, name)[which] for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class Street:
    """One corridor in one run.

    Attributes:
        gaps_m: Metres between its cameras.
        flow: Walkers a minute at each camera.
        seconds: How long it lived.
        passages: Who passed.
        walkers: How many people that were.
    """

    gaps_m: tuple[float, ...]
    flow: float
    seconds: float
    passages: Passages
    walkers: int


def street(gaps_m: tuple[float, ...], flow: float, walkers: int, hours: float, rng: np.random.Generator) -> Street:
    """A corridor.

    Args:
        gaps_m: Metres between its cameras.
        flow: Walkers a minute at each camera.
        walkers: How many there are at least, but for chance.
        hours: How long people are asked about at least.
        rng: Source of everything random.
    """
    cameras = len(gaps_m) + 1
    mean_size = float(np.dot(GROUPS, range(1, len(GROUPS) + 1)))
    joins = np.array([1.0] + [1 - GOES_ON] * (cameras - 1)) * flow / mean_size / 60  # parties a second
    seconds = max(3600 * hours, walkers / mean_size / joins.sum()) + FILLS_S + EMPTIES_S
    number = rng.poisson(joins.sum() * seconds)
    time = rng.uniform(0, seconds, number)
    camera = rng.choice(cameras, number, p=joins / joins.sum())
    speed = np.clip(rng.normal(*SPEED_M_S, number), 0.6, 2.2)
    size = rng.choice(len(GROUPS), number, p=GROUPS) + 1
    doer, loud = rng.random(number) < DOERS, rng.random(number) < LOUD
    party = np.arange(number)
    found: list[Passages] = []
    while len(party):
        inside = ZONE_M / speed[party]
        goes_on = (rng.random(len(party)) < GOES_ON) & (camera < cameras - 1)
        whose = (size[party], speed[party], doer[party], loud[party])
        found.append(Passages(party, camera, time, time + inside, *whose, goes_on))
        party, camera, time = party[goes_on], camera[goes_on], (time + inside)[goes_on]
        way = np.asarray(gaps_m)[camera] / (speed[party] * rng.normal(1, _JITTER, len(party)))
        camera, time = camera + 1, time + way
    joined = Passages(*(np.concatenate([getattr(p, name) for p in found]) for name in Passages.__slots__))
    return Street(gaps_m, flow, seconds, joined, int(size.sum()))


@cache
def arrival_prior(gap_m: float, draws: int = 20_000) -> Floats:
    """Seconds from entering one zone to entering the next: (draws,) samples of what everybody knows of walkers."""
    rng = np.random.default_rng(0)
    speed = np.clip(rng.normal(*SPEED_M_S, draws), 0.6, 2.2)
    return (ZONE_M + gap_m / rng.normal(1, _JITTER, draws)) / speed


@dataclass(frozen=True, slots=True)
class Sensed:
    """What sense says at one camera.

    Attributes:
        changes: Steps of episodes by what they are about (`crowd`, `person`, `sound`, `loud`), in the order of time.
        counts: (seconds,) people seen, every second.
        rate: (seconds / 5,) analysed frames as a share of the target.
    """

    changes: dict[str, list[EpisodeChange]]
    counts: Ints
    rate: Floats


def sense(passages: Passages, seconds: float, rng: np.random.Generator) -> Sensed:
    """What sense says of those who pass one camera.

    Args:
        passages: Who passes it.
        seconds: How long.
        rng: Source of everything random.
    """
    counts = _counts(passages, seconds, rng)
    does = passages[passages.doer & (rng.random(len(passages.doer)) < _DETECTED)]
    begins = does.enters + rng.uniform(0.5, 1.5, len(does.enters))
    changes = {
        "crowd": density(counts.tolist()),
        "person": _episodes(EventType.PERSON_RUNNING, begins, does.leaves + 1),
        "sound": sorted(
            (
                change
                for event_type in (EventType.SOUND_HORN, EventType.SOUND_SCREAM)
                for change in _sounds(event_type, passages, HEARD / 2, _STREET_PER_MIN / 2, seconds, rng)
            ),
            key=lambda change: change.time,
        ),
        "loud": _sounds(EventType.SOUND_CROWD_CLAMOUR, passages[passages.loud], _DETECTED, 0, seconds, rng),
    }
    slots = counts[: len(counts) // 5 * 5].reshape(-1, 5).mean(axis=1)
    rate = 1 - _LOAD * slots - np.abs(rng.normal(0, _LOAD_NOISE, len(slots)))
    return Sensed(changes, counts, rate)


def _counts(passages: Passages, seconds: float, rng: np.random.Generator) -> Ints:
    """People counted in the zone at each second, as `Occupancy` does: the median of two seconds."""
    steps = np.zeros(int(seconds) + 2, dtype=np.int64)
    inside = passages.enters < seconds
    for moment, sign in ((passages.enters, 1), (passages.leaves, -1)):
        at = np.minimum(np.ceil(moment[inside]).astype(np.int64), len(steps) - 1)
        np.add.at(steps, at, sign * passages.size[inside])
    there = np.cumsum(steps)[: int(seconds)]
    seen = rng.binomial(there, _SEEN)
    a, b, c = seen, np.roll(seen, 1), np.roll(seen, 2)
    return np.asarray(np.maximum(np.minimum(a, b), np.minimum(np.maximum(a, b), c)))


def density(counts: Sequence[int]) -> list[EpisodeChange]:  # noqa: PLR0912 - one state machine
    """`crowd.density` told from its lowest class on, so that it is left to the gate to hold back the few.

    The rule of `CrowdDensity` and the life cycle of `Episode` with nothing but numbers in the loop, since a street has
    hundreds of thousands of steps; a test holds it to them.

    Args:
        counts: People in the zone, every second.
    """
    of = CrowdDensityParameters()
    limits = (0, of.low, of.medium, of.high, of.critical)
    stays = tuple(0.8 * limit for limit in limits)
    changes: list[EpisodeChange] = []
    level, told_level, open_, met_since, met_at, told_at = 0, 0, False, -1, 0, 0
    for second, count in enumerate(counts):
        if count == 0 and level == 0 and not open_ and met_since < 0:
            continue
        reached = 4
        while count < (stays[reached] if reached <= level else limits[reached]):
            reached -= 1
        level = reached
        phase = None
        if level:
            met_at = second
            if met_since < 0:
                met_since = second
            if not open_:
                if second - met_since >= of.hold_s:
                    phase, open_ = Phase.STARTED, True
            elif level != told_level or second - told_at >= HEARTBEAT_S:
                phase = Phase.ONGOING
        elif open_:
            if second - met_at >= of.release_s:
                phase, open_, met_since = Phase.ENDED, False, -1
            elif second - told_at >= HEARTBEAT_S:
                phase = Phase.ONGOING
        elif second - met_at >= BLINK_S:
            met_since = -1
        if phase is None:
            continue
        told_level, told_at = level or told_level, second
        changes.append(
            replace(changes[-1], phase=phase, time=float(second))
            if not level
            else EpisodeChange(
                EventType.CROWD_DENSITY,
                "zone",
                phase,
                float(second),
                confidence=Confidence.HIGH,
                level=Level(level + 1),
                count=count,
            )
        )
    return changes


def _episodes(event_type: EventType, begins: Floats, ends: Floats) -> list[EpisodeChange]:
    """Episodes of one type in one zone: those that overlap are one, as for a rule that asks whether anybody does it."""
    changes: list[EpisodeChange] = []
    for begin, end in sorted(zip(begins.tolist(), ends.tolist(), strict=True)):
        if changes and begin <= changes[-1].time:
            end = max(end, changes.pop().time)  # noqa: PLW2901 - the two are one
        else:
            changes.append(EpisodeChange(event_type, "zone", Phase.STARTED, begin))
        changes.append(EpisodeChange(event_type, "zone", Phase.ENDED, end))
    return changes


def _sounds(
    event_type: EventType,
    passages: Passages,
    heard: float,
    street_per_min: float,
    seconds: float,
    rng: np.random.Generator,
) -> list[EpisodeChange]:
    """Sounds of those who pass, each heard with the same probability, and of the street."""
    by = passages[rng.random(len(passages.enters)) < heard]
    own = rng.uniform(by.enters, by.leaves)
    others = rng.uniform(0, seconds, rng.poisson(street_per_min * seconds / 60))
    begins = np.concatenate([own, others])
    return _episodes(event_type, begins, begins + 3)
