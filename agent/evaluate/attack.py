"""Attacks on what leaves: what somebody can make of it who knows schema, policy and the habits of walkers.

The streets of `agent.evaluate.walkers` are watched, the real gate stands between, and an attacker reads what it lets
out. The attacker knows more than any event says: at which second the target came to a camera (of a type that is about
one person, that it was the target who did it), the distances, and how walkers walk, and has learned from far more
output of the same streets with the truth beside it.

* **link**: did the target go on to the next camera, or turn off?
* **single out**: was the target here at this second, or not?
* **trajectory**: did the target pass the next two cameras, or turn off at once?
* **speed**, **group**: does the target, who is known to go on, walk fast or slowly; does the target, known to be here,
  come alone or with two or more others?

Each is a choice between two worlds. With `r(x)` how much likelier the output `x` is around an arrival than at any time,
the likelihood ratio of "arrived" is the mean of `r` over the prior of the arrival; as arrivals are independent of each
other, one more of them changes nothing else (Slivnyak's theorem). `r` is learned as a table over the output in the
moments after an arrival; of several tables and thresholds the attacker takes those that did best on other streets. The
advantage is the true positive rate less the false positive rate: 0 is guessing, 1 is certainty.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agent.behaviours.episode import EpisodeChange
from agent.contract import (
    HEALTH_EVERY_S,
    CameraState,
    Count,
    DetectorState,
    Event,
    EventData,
    EventType,
    Kind,
    Level,
    Observation,
    Phase,
    RateClass,
    SenseState,
    State,
)
from agent.evaluate.walkers import (
    CORRIDORS,
    EMPTIES_S,
    FILLS_S,
    ZONE_M,
    Bools,
    Floats,
    Ints,
    Passages,
    Sensed,
    Street,
    arrival_prior,
    sense,
    street,
)
from agent.policy import GatePolicy, Policy
from agent.relay.budget import Budget
from agent.relay.counts import Counts, exact
from agent.relay.gate import Gate, Release
from agent.relay.health import health_of
from agent.relay.state import States
from agent.settings import Settings
from agent.simulate.scenarios import SPEED_M_S

FLOWS = (0.2, 1.0, 5.0, 20.0)
#: Gates to compare; None is no gate at all: exact episodes, and the number of people every second.
POLICIES: dict[str, GatePolicy | None] = {
    "default": GatePolicy(),
    "no holding": GatePolicy(density_grains=1),
    "k = 1": GatePolicy(k=1),
    "no grain": GatePolicy(crowd_grain_s=0, grain_s=0),
    "gate off": None,
}
#: What is attacked: events of one sort, counts, and what surrounds them.
FAMILIES = ("crowd", "count", "sound", "together", "loud", "person", "health", "sizes")
EVENTS = ("crowd", "count", "sound", "person")
#: What may tell a group from one walker.
_SIZED = frozenset({"crowd", "count", "person"})
#: What the attackers of `together` read at the same time.
_TOGETHER = ("crowd", "count", "sound")
#: What the outside sees of the encrypted connection is looked at so finely, seconds.
_SIZES_S = 10.0
_TYPES = {
    EventType.CROWD_DENSITY: "crowd",
    EventType.PERSON_RUNNING: "person",
    EventType.SOUND_HORN: "sound",
    EventType.SOUND_SCREAM: "sound",
    EventType.SOUND_CROWD_CLAMOUR: "loud",
}
_SLOTS = {event_type: slot for slot, event_type in enumerate(_TYPES)}
#: The streets are watched from here on.
_BEGIN = dt.datetime(2026, 11, 23, tzinfo=dt.timezone.utc)
#: Streets to learn from, as a multiple of those that are attacked.
_LEARN = 1.5
#: An arrival shows for so long, seconds.
_SHOWS_S = 32.0
#: Arrivals with which a table begins that says nothing.
_SHRINK = 10.0
#: Points of the prior of an arrival, or of a speed.
_POINTS = 200
_RESAMPLES = 500
_CLUSTER_S = 300.0
#: Longer than any street lives, and a multiple of the above.
_FURTHER_S = 3e8

Told = list[tuple[float, Hashable]]


@dataclass(slots=True)
class Heard:
    """What leaves a camera: what is told, and when (seconds).

    Attributes:
        told: By family, in the order of time.
        delays: By family, for each thing that sense had to tell, seconds until it was told; infinite where never.
    """

    told: dict[str, Told]
    delays: dict[str, Floats]


class Rate(NamedTuple):
    """An advantage with its 95 % interval, from so many choices of either kind."""

    advantage: float
    low: float
    high: float
    yes: int
    no: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the attackers made of one flow behind one gate.

    Attributes:
        flow: Walkers a minute.
        policy: Name in `POLICIES`.
        walkers: People in the attacked streets.
        advantages: By family and attack.
        kept: By family, share of what sense had to tell that was told, and its median delay, seconds.
    """

    flow: float
    policy: str
    walkers: int
    advantages: dict[tuple[str, str], Rate]
    kept: dict[str, tuple[float, float]]


def settings() -> Settings:
    """A device with one camera and one zone."""
    zone = {"name": "zone", "polygon": [[0, 0], [1, 0], [1, 1], [0, 1]]}
    return Settings.model_validate({"camera": [{"name": "camera", "source": "sim:walkers", "zone": [zone]}]})


def _policy(gate: GatePolicy) -> Policy:
    basis = {
        "purpose": "to be attacked",
        "legal_basis": "NONE",
        "body": "nobody",
        "contact": "nobody",
        "retention_days": 0,
        "until": "9999-12-31",
    }
    entries = [{"type": of.label, **basis, "below_flow": "to be attacked at every flow"} for of in _TYPES]
    return Policy.model_validate({"detector": entries, "gate": gate.model_dump()})


def observation(change: EpisodeChange) -> Observation:
    """What sense puts into the pipe."""
    return Observation(
        Kind.EPISODE,
        change.type,
        change.phase,
        zone=0,
        camera=0,
        slot=_SLOTS[change.type],
        level=change.level,
        confidence=change.confidence,
        count=change.count,
    )


class _Device:
    """One relay without network and disk: gate, counts, states and health, and what they send."""

    def __init__(self, gate: GatePolicy, noise: np.random.Generator) -> None:
        self._time = 0.0
        policy = _policy(gate)
        self._gate = Gate(settings(), policy, now=lambda: self._time, wall=self._wall, synced=lambda: True)
        budget = Budget(exact(gate.count_epsilon), exact(gate.count_epsilon_per_day))
        self._counts = Counts(
            ["zone"], policy, self._gate, budget, wall=self._wall, synced=lambda: True, noise=_fast_noise(noise)
        )
        self._minute = float(gate.crowd_grain_s or 60)
        self._states = States("0" * 8)
        self._number = 0
        self.told: dict[str, Told] = defaultdict(list)
        self.starts: dict[str, list[float]] = defaultdict(list)

    def _wall(self) -> dt.datetime:
        return _BEGIN + dt.timedelta(seconds=self._time)

    def take(self, time: float, change: EpisodeChange) -> None:
        self.until(time)
        self._gate.take(observation(change).pack())

    def until(self, time: float) -> None:
        """Let time pass."""
        while True:
            due = self._gate.next_due()
            minute = (self._time // self._minute + 1) * self._minute
            moment = min(minute, float("inf") if due is None else due)
            if moment > time:
                self._time = time
                return
            self._time = max(self._time, moment)
            for release in self._gate.due():
                self._leaves(release)
            for _, count in self._counts.due():
                self.told["count"].append((self._time, count.count))
                self._sent(count)

    def _leaves(self, release: Release) -> None:
        family, data = _TYPES[release.event_type], release.data
        self.told[family].append((self._time, _said(data)))
        if data.phase == "started" or data.level in {"medium", "high", "critical"}:
            self.starts[family].append(self._time)
        if family in {"person", "loud"}:  # attacked by itself; an eavesdropper is to see what is no such thing
            return
        self._number += 1
        event = Event(
            id=f"00000000-{self._number:06d}",
            source="/vigie/site/camera",
            type=f"vigie.{release.event_type.label}.v1",
            time=release.time,
            data=data,
        )
        self._sent(event)
        changed = self._states.follow(event)
        if changed is not None:
            self._sent(self._states[changed])

    def _sent(self, message: Event | Count | State) -> None:
        self.told["sizes"].append((self._time, len(message.model_dump_json(exclude_none=True))))


def _fast_noise(rng: np.random.Generator) -> Callable[[Fraction], int]:
    """Noise distributed as the gate's, from a generator with a seed: the difference of two geometric numbers."""

    def draw(epsilon: Fraction) -> int:
        p = 1 - np.exp(-float(epsilon))
        return int(rng.geometric(p) - rng.geometric(p))

    return draw


def _said(data: EventData) -> Hashable:
    return (data.phase, data.level, data.count, data.duration, data.confidence)


def behind(gate: GatePolicy | None, sensed: Sensed, seconds: float, noise: np.random.Generator) -> Heard:
    """What leaves of what sense says at one camera.

    Args:
        gate: The gate's knobs; None: everything leaves as it is.
        sensed: What sense says.
        seconds: For how long.
        noise: Source of the noise of counts.
    """
    began = {family: _beginnings(changes) for family, changes in sensed.changes.items()}
    if gate is None:
        everything = [(float(second), count) for second, count in enumerate(sensed.counts.tolist())]
        told: dict[str, Told] = {
            family: [(c.time, c.phase) for c in changes] for family, changes in sensed.changes.items()
        }
        told["crowd"] = told["count"] = everything
        told["health"] = [(5.0 * (i + 1), round(100 * rate)) for i, rate in enumerate(sensed.rate.tolist())]
        packets = (
            c.time for family, changes in sensed.changes.items() if family in {"crowd", "sound"} for c in changes
        )
        told["sizes"] = [(time, 32) for time in sorted(packets)]
        return Heard(told, {family: np.zeros(len(times)) for family, times in began.items()})
    device = _Device(gate, noise)
    for change in sorted((c for changes in sensed.changes.values() for c in changes), key=lambda c: c.time):
        if change.time < seconds:
            device.take(change.time, change)
    device.until(seconds)
    device.told["health"] = _health(sensed.rate)
    wait = {family: _waits(gate, family) for family in began}
    delays = {family: _delays(times, device.starts[family], wait[family]) for family, times in began.items()}
    return Heard(device.told, delays)


def _waits(gate: GatePolicy, family: str) -> float:
    """Seconds after which what is told is no longer about what began then."""
    return 1.0 + (gate.density_grains * gate.crowd_grain_s if family == "crowd" else gate.grain_s)


def _beginnings(changes: Sequence[EpisodeChange]) -> Floats:
    """When there was something to tell: an episode began, or a zone filled up to the class `medium` (five people)."""
    return np.array(
        [
            now.time
            for last, now in zip([None, *changes], changes, strict=False)
            if now.phase is not Phase.ENDED
            and (now.level >= Level.MEDIUM or now.level is Level.NONE)
            and (last is None or last.phase is Phase.ENDED or last.level < min(now.level, Level.MEDIUM))
        ]
    )


def _health(rate: Floats) -> Told:
    """`health` every five minutes: the analysed rate in its class, the only part that those who pass could move."""
    every = HEALTH_EVERY_S // 5
    cameras = (CameraState.LIVE, CameraState.NONE, CameraState.NONE, CameraState.NONE)
    told: Told = []
    for slot in range(every - 1, len(rate), every):
        of = RateClass.FULL if rate[slot] >= 0.9 else RateClass.REDUCED if rate[slot] >= 0.5 else RateClass.LOW
        said = Observation(Kind.HEALTH, sense=SenseState.READY, cameras=cameras, detector=DetectorState.MODEL, rate=of)
        told.append((5.0 * (slot + 1), health_of(said, 1, 0.0).rate))
    return told


def _delays(began: Floats, told: Sequence[float], most: float) -> Floats:
    """Seconds from each beginning until it was told: an event told in that time is about it."""
    if not len(began) or not told:
        return np.full(len(began), np.inf)
    times = np.append(np.asarray(told), np.inf)
    delays = times[np.searchsorted(times, began)] - began
    return np.where(delays <= most, delays, np.inf)


@dataclass(slots=True)
class _View:
    """One reading of one family's output: a symbol for every unit of time.

    Attributes:
        unit_s: Length of a unit, seconds.
        phases: Into so many parts a unit is cut to tell when in it somebody arrives.
        change: Whether a symbol is the change of a number (else what was told, and what held before).
    """

    unit_s: float
    phases: int
    change: bool

    def read(self, told: Told, seconds: float, code: dict[Hashable, int], *, grow: bool) -> Ints:
        """(units,) symbols as numbers; what is told at the end of a unit is of that unit, and 0 is an unknown symbol.

        Args:
            told: What was told.
            seconds: For how long.
            code: The number of each symbol.
            grow: Whether new symbols get a number.
        """
        number = int(seconds / self.unit_s) + 1
        late = 1e-3 if self.unit_s > 1 else 0.0
        units: dict[int, list[Hashable]] = defaultdict(list)
        for time, what in told:
            place = int((time - late) / self.unit_s)
            if place < number:
                units[place].append(what)
        places: list[int] = [0]
        symbols: list[Hashable] = [None]
        before: Hashable = None
        for place, unit in units.items():  # in the order of time
            places.append(place)
            if self.change:
                now = unit[-1]
                if isinstance(now, int) and isinstance(before, int):
                    symbols.append(max(-9, min(9, now - before)))
                else:
                    symbols.append((now == before, type(now)))
                before = now
            else:
                symbols.append((before, *unit))
                before = unit[-1][:3] if isinstance(unit[-1], tuple) else None
            if place + 1 < number and place + 1 not in units:
                places.append(place + 1)
                symbols.append(0 if self.change else (before,))
        if grow:
            for symbol in symbols:
                code.setdefault(symbol, len(code) + 1)
        coded = np.fromiter((code.get(symbol, 0) for symbol in symbols), dtype=np.int64, count=len(symbols))
        return np.repeat(coded, np.diff([*places, number]))

    def parts(self, times: Floats) -> tuple[Ints, Ints]:
        """Unit and part of the unit of each time."""
        place = times / self.unit_s
        unit = place.astype(np.int64)
        return unit, ((place - unit) * self.phases).astype(np.int64)


def _views(family: str, gate: GatePolicy | None) -> list[_View]:
    """The readings that an attacker tries."""
    grain = 0 if gate is None else gate.crowd_grain_s if family in {"crowd", "count"} else gate.grain_s
    unit_s = float(grain or 1)
    if family == "count" and gate is not None:
        unit_s = float(grain or 60)
    elif family == "sound":
        unit_s = 1.0  # a scream goes at once
    elif family == "health":
        unit_s = 5.0 if gate is None else float(HEALTH_EVERY_S)
    elif family == "sizes":
        unit_s = 1.0 if gate is None else _SIZES_S
    phases = (1,) if unit_s < 10 else (1, 3)
    numbers = family in {"count", "health"} or (gate is None and family == "crowd")
    return [_View(unit_s, p, change) for p in phases for change in ((False, True) if numbers else (False,))]


@dataclass(frozen=True, slots=True)
class Watched:
    """A street with what leaves each of its cameras."""

    street: Street
    heard: list[Heard]

    def at(self, camera: int) -> Passages:
        """Who passes a camera."""
        return self.street.passages[self.street.passages.camera == camera]


def watch(
    flow: float, walkers: int, hours: float, seed: tuple[int, ...], gates: dict[str, GatePolicy | None]
) -> Iterator[tuple[str, list[Watched]]]:
    """The same streets behind each gate.

    Args:
        flow: Walkers a minute.
        walkers: How many in all.
        hours: How long people are asked about at least.
        seed: Of everything random.
        gates: By name.
    """
    streets, sensed = [], []
    for number, gaps in enumerate(CORRIDORS):
        rng = np.random.default_rng((*seed, number))
        made = street(gaps, flow, walkers // len(CORRIDORS) + 1, hours, rng)
        streets.append(made)
        at = (made.passages[made.passages.camera == camera] for camera in range(len(gaps) + 1))
        sensed.append([sense(passages, made.seconds, rng) for passages in at])
    for name, gate in gates.items():
        noise = np.random.default_rng((*seed, 99))
        yield (
            name,
            [
                Watched(made, [behind(gate, at, made.seconds, noise) for at in of])
                for made, of in zip(streets, sensed, strict=True)
            ],
        )


class _Reader:
    """One reading of one family, learned: how much likelier its output is around an arrival than at any time."""

    def __init__(self, family: str, view: _View, learn: Sequence[Watched]) -> None:
        self._family = family
        self._view = view
        self._code: dict[Hashable, int] = {}
        places = [
            (self._symbols(watched, camera, grow=True), watched.at(camera))
            for watched in learn
            for camera in range(len(watched.heard))
        ]
        tables = {"all": (1, 9), **({"alone": (1, 1), "group": (3, 9)} if family in _SIZED else {})}
        self._tables = {name: self._learn(places, sizes) for name, sizes in tables.items()}

    def _symbols(self, watched: Watched, camera: int, *, grow: bool = False) -> Ints:
        told = watched.heard[camera].told.get(self._family, [])
        return self._view.read(told, watched.street.seconds, self._code, grow=grow)

    def _learn(self, places: Sequence[tuple[Ints, Passages]], sizes: tuple[int, int]) -> NDArray[np.float32]:
        """(phases, lags, symbols): log likelihood ratio of each symbol so many units after an arrival."""
        view = self._view
        lags = int(np.ceil(_SHOWS_S / view.unit_s)) + (view.unit_s > 1)
        number = len(self._code) + 1
        around = np.zeros((view.phases, lags, number))
        always = np.full(number, 0.5)
        for symbols, passages in places:
            always += np.bincount(symbols, minlength=number)
            of_size = (passages.size >= sizes[0]) & (passages.size <= sizes[1])
            unit, part = view.parts(passages.enters[_targets(self._family, passages) & of_size])
            for lag in range(lags):
                inside = unit + lag < len(symbols)
                np.add.at(around[:, lag], (part[inside], symbols[unit[inside] + lag]), 1)
        usual = always / always.sum()
        ratio = (around + _SHRINK * usual) / (around.sum(axis=2, keepdims=True) + _SHRINK) / usual
        ratio[:, :, 0] = 1  # what was never seen while learning says nothing
        return np.asarray(np.log(ratio), dtype=np.float32)

    def read(self, watched: Watched, camera: int) -> dict[str, NDArray[np.float32]]:
        """By table, (phases, units): log likelihood ratio of an arrival in each part of each unit."""
        symbols = self._symbols(watched, camera)
        found = {}
        for name, table in self._tables.items():
            scores = np.zeros((len(table), len(symbols)), dtype=np.float32)
            for lag in range(table.shape[1]):
                scores[:, : len(symbols) - lag] += table[:, lag, symbols[lag:]]
            found[name] = scores
        return found

    def at(self, scores: NDArray[np.float32], times: Floats) -> Floats:
        """The log likelihood ratio of an arrival at each of these times."""
        unit, part = self._view.parts(times)
        return np.asarray(scores[part, np.minimum(unit, scores.shape[1] - 1)], dtype=np.float64)


class _Site:
    """One street as some readers see it together, and the choices it puts before them."""

    def __init__(self, readers: Sequence[_Reader], family: str, watched: Watched, rng: np.random.Generator) -> None:
        self._readers = readers
        self._family = family
        self._street = watched.street
        self._rng = rng
        self._passages = [watched.at(camera) for camera in range(len(watched.heard))]
        self._scores = [[r.read(watched, camera) for r in readers] for camera in range(len(watched.heard))]

    def choices(self, camera: int) -> Iterator[tuple[str, _Scores]]:
        """What each attack says of those who pass a camera."""
        here, made, rng = self._passages[camera], self._street, self._rng
        who = here[_targets(self._family, here)]
        who = who[(who.enters > FILLS_S) & (who.enters < made.seconds - EMPTIES_S)]
        ghosts = rng.uniform(FILLS_S, made.seconds - EMPTIES_S, len(who.enters))
        both = np.concatenate([who.enters, ghosts])
        yield "single out", _Scores(self._at(camera, both), np.arange(len(both)) < len(ghosts), both)
        if any("group" in tables for tables in self._scores[camera]):
            sized = who[(who.size == 1) | (who.size >= 3)]
            ratio = self._at(camera, sized.enters, "group") - self._at(camera, sized.enters, "alone")
            yield "group", _Scores(ratio, sized.size >= 3, sized.enters)
        if camera + 1 == len(self._passages):
            return
        ways = np.quantile(arrival_prior(made.gaps_m[camera]), (np.arange(_POINTS) + 0.5) / _POINTS)
        yield "link", _Scores(_log_mean(self._each(camera + 1, who.enters, ways)), who.goes_on, who.enters)
        goes = who[who.goes_on]
        each, slow = self._each(camera + 1, goes.enters, ways), ways > np.median(ways)
        ratio = _log_mean(each[:, ~slow]) - _log_mean(each[:, slow])
        yield "speed", _Scores(ratio, goes.speed > SPEED_M_S[0], goes.enters)
        if camera + 2 < len(self._passages):
            either = who[np.isin(who.party, self._passages[camera + 2].party) | ~who.goes_on]
            speeds = np.clip(rng.normal(*SPEED_M_S, _POINTS), 0.6, 2.2)
            first = (ZONE_M + made.gaps_m[camera]) / speeds
            second = first + (ZONE_M + made.gaps_m[camera + 1]) / speeds
            each = self._each(camera + 1, either.enters, first) + self._each(camera + 2, either.enters, second)
            yield "trajectory", _Scores(_log_mean(each), either.goes_on, either.enters)

    def _at(self, camera: int, times: Floats, table: str = "all") -> Floats:
        both = zip(self._readers, self._scores[camera], strict=True)
        each = [reader.at(tables[table], times) for reader, tables in both if table in tables]
        return np.asarray(np.sum(each, axis=0))

    def _each(self, camera: int, times: Floats, ways: Floats) -> Floats:
        return self._at(camera, (times[:, None] + ways).ravel()).reshape(len(times), len(ways))


def _scores(readers: Sequence[_Reader], family: str, streets: Sequence[Watched], seed: int) -> dict[str, _Scores]:
    """What each attack says of all its choices."""
    games: dict[str, list[_Scores]] = defaultdict(list)
    rng = np.random.default_rng((seed, 7))
    for number, watched in enumerate(streets):
        site = _Site(readers, family, watched, rng)
        for camera in range(len(watched.heard)):
            for game, scored in site.choices(camera):
                # A number for the place in front of the time, in a new array: the old one may be the passages' own.
                scored.cluster = scored.cluster + (number * 10 + camera) * _FURTHER_S
                games[game].append(scored)
    return {
        game: _Scores(*(np.concatenate([getattr(p, name) for p in parts]) for name in _Scores.__slots__))
        for game, parts in games.items()
    }


def _targets(family: str, passages: Passages) -> Bools:
    """Whom an attacker asks about: of a type that is about one person, those who do it."""
    if family == "person":
        return passages.doer
    return passages.loud if family == "loud" else np.ones(len(passages.party), dtype=bool)


def _log_mean(each: Floats) -> Floats:
    """Logarithm of the mean of exponentials along the last axis."""
    top = each.max(axis=1, keepdims=True, initial=-100)
    return np.asarray(np.log(np.exp(each - top).mean(axis=1)) + top[:, 0])


@dataclass(slots=True)
class _Scores:
    """What an attack says of its choices.

    Attributes:
        score: The higher, the likelier yes.
        truth: Yes or no.
        cluster: Where and when, in seconds at first; choices that share output are resampled together.
    """

    score: Floats
    truth: Bools
    cluster: Floats


def _best_threshold(of: _Scores) -> tuple[float, float]:
    """The threshold with the highest advantage, and that advantage."""
    order = np.argsort(-of.score, kind="stable")
    score, truth = of.score[order], of.truth[order]
    yes = np.cumsum(truth) / max(1, truth.sum())
    no = np.cumsum(~truth) / max(1, (~truth).sum())
    last = np.append(score[1:] != score[:-1], True)  # equal scores fall on one side
    gain = np.where(last, yes - no, -1)
    best = int(np.argmax(gain))
    return float(score[best]), float(gain[best])


def advantage(of: _Scores, threshold: float, rng: np.random.Generator) -> Rate:
    """True positive rate less false positive rate, with a bootstrap interval over places and times."""
    says = of.score >= threshold
    _, cluster = np.unique(of.cluster // _CLUSTER_S, return_inverse=True)
    cells = [np.bincount(cluster, weights=w) for w in (says & of.truth, of.truth, says & ~of.truth, ~of.truth)]
    table = np.stack(cells, axis=1)
    weights = rng.exponential(size=(_RESAMPLES, len(table)))  # Rubin, "The Bayesian bootstrap", Ann. Statist. 9, 1981
    hits, yes, alarms, no = (weights @ table).T
    resampled = hits / np.maximum(yes, 1e-9) - alarms / np.maximum(no, 1e-9)
    hit, all_yes, alarm, all_no = table.sum(axis=0)
    low, high = np.quantile(resampled, (0.025, 0.975))
    gain = float(hit / max(all_yes, 1) - alarm / max(all_no, 1))
    return Rate(gain, float(low), float(high), int(all_yes), int(all_no))


def attack(
    walkers: int,
    seed: int,
    flows: Sequence[float] = FLOWS,
    gates: dict[str, GatePolicy | None] | None = None,
    hours: float = 0.5,
) -> Iterator[Outcome]:
    """Attack each flow behind each gate.

    Args:
        walkers: People in the attacked streets of each flow, at least.
        seed: Of everything random: the same seed gives the same outcome.
        flows: Walkers a minute.
        gates: By name; None: `POLICIES`. What surrounds the events is attacked behind the first one only.
        hours: How long people are asked about at least.
    """
    gates = POLICIES if gates is None else gates
    for flow in flows:
        one, many = (walkers, hours), (round(_LEARN * walkers), _LEARN * hours)
        runs = zip(
            watch(flow, *many, (seed, round(1000 * flow), 0), gates),
            watch(flow, *one, (seed, round(1000 * flow), 1), gates),
            watch(flow, *one, (seed, round(1000 * flow), 2), gates),
            strict=True,
        )
        for (name, learn), (_, choose), (_, target) in runs:
            families = FAMILIES if name in {next(iter(gates)), "gate off"} else EVENTS
            yield _outcome(flow, name, gates[name], families, learn, choose, target, seed)


def _outcome(
    flow: float,
    name: str,
    gate: GatePolicy | None,
    families: Sequence[str],
    learn: Sequence[Watched],
    choose: Sequence[Watched],
    target: Sequence[Watched],
    seed: int,
) -> Outcome:
    advantages: dict[tuple[str, str], Rate] = {}
    chosen: dict[str, _Reader] = {}
    for family in families:
        if family == "together":
            tries = [[chosen[one] for one in _TOGETHER if one in chosen]]
        else:
            tries = [[_Reader(family, view, learn)] for view in _views(family, gate)]
        best: dict[str, tuple[float, float, list[_Reader]]] = {}
        for readers in tries:
            for game, scores in _scores(readers, family, choose, seed).items():
                threshold, gain = _best_threshold(scores)
                if game not in best or gain > best[game][0]:
                    best[game] = gain, threshold, readers
        chosen[family] = best["link"][2][0]
        on_target = {id(readers): _scores(readers, family, target, seed + 1) for readers in tries}
        for game, (_, threshold, readers) in best.items():
            scores = on_target[id(readers)][game]
            advantages[family, game] = advantage(scores, threshold, np.random.default_rng((seed, 8)))
    delays: dict[str, Floats] = {
        family: np.concatenate([heard.delays[family] for watched in target for heard in watched.heard])
        for family in ("crowd", "sound", "loud", "person")
    }
    kept = {
        family: (float(np.isfinite(d).mean()), float(np.median(d[np.isfinite(d)])) if np.isfinite(d).any() else 0.0)
        for family, d in delays.items()
        if len(d)
    }
    return Outcome(flow, name, sum(w.street.walkers for w in target), advantages, kept)
