"""The scenarios there are: who walks where, what should be told of it, and where its zones lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from agent.capture.frame import SourceError
from agent.contract import EventType
from agent.settings import did_you_mean
from agent.simulate.world import Path, View, World

#: Free walking speed of pedestrians, metres per second: mean and standard deviation (Weidmann, Transporttechnik der
#: Fussgänger, ETH Zürich, 1993).
SPEED_M_S = (1.34, 0.26)
#: The ground that the camera sees well: x from and to, y from and to, metres.
_LEFT, _RIGHT, _NEAR, _FAR = -9.0, 9.0, 8.0, 22.0
#: The piece of ground that nobody may enter.
_YARD = ((2.0, 9.0), (7.0, 9.0), (7.0, 16.0), (2.0, 16.0))


@dataclass(frozen=True, slots=True)
class Expected:
    """Something that should be told.

    Attributes:
        type: The event type.
        zone: Name of the zone.
        start: Seconds between which the condition begins to hold; a rule's own hold or dwell time comes on top.
    """

    type: EventType
    zone: str
    start: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A world with its ground truth.

    Attributes:
        world: Who is there.
        seed: Seed of everything random, also of the detector's errors.
        seconds: How long it lasts.
        zones: Name and polygon, fractions of the frame.
        expected: What should be told of it.
    """

    world: World
    seed: int
    seconds: float
    zones: dict[str, list[list[float]]]
    expected: tuple[Expected, ...] = ()


@dataclass(frozen=True, slots=True)
class Options:
    """What `sim:NAME?…` may say.

    Attributes:
        people: How many come, in scenarios about a number of people.
        flow: Walkers a minute on average, in scenarios about passers-by.
        seconds: How long it lasts.
        seed: Seed of everything random.
    """

    people: int = 20
    flow: float = 12.0
    seconds: float = 60.0
    seed: int = 1


_Maker = Callable[[Options, np.random.Generator], tuple[list[Path], list[Expected]]]


@dataclass(slots=True)
class _Trip:
    """A path in the making."""

    rng: np.random.Generator
    time: float
    place: tuple[float, float]
    points: list[tuple[float, float, float]] = field(default_factory=list)
    speed: float = field(init=False)

    def __post_init__(self) -> None:
        self.speed = float(np.clip(self.rng.normal(*SPEED_M_S), 0.6, 2.2))
        self.points.append((self.time, *self.place))

    def to(self, x: float, y: float) -> _Trip:
        """Walk there."""
        self.time += max(0.1, float(np.hypot(x - self.place[0], y - self.place[1]))) / self.speed
        self.place = (x, y)
        self.points.append((self.time, x, y))
        return self

    def stay(self, until: float) -> _Trip:
        """Stand until then."""
        self.time = max(self.time + 0.1, until)
        self.points.append((self.time, *self.place))
        return self

    def path(self) -> Path:
        """What became of it."""
        return np.array(self.points)


def _walker(rng: np.random.Generator, time: float, *, to_the_right: bool, near: float = _NEAR) -> Path:
    y = rng.uniform(near, _FAR)
    edge = 0.75 * y + 2  # beyond both sides of the frame
    start, end = (-edge, edge) if to_the_right else (edge, -edge)
    return _Trip(rng, time, (start, y)).to(end, float(np.clip(y + rng.normal(0, 1), near, _FAR))).path()


def _arrivals(options: Options, rng: np.random.Generator) -> list[float]:
    """A Poisson process, begun early enough that people are there at once."""
    count = rng.poisson(options.flow * (options.seconds + 15) / 60)
    return sorted(rng.uniform(-15, options.seconds, count).tolist())


def _empty(options: Options, rng: np.random.Generator) -> tuple[list[Path], list[Expected]]:
    del options, rng
    return [], []


def _walkers(options: Options, rng: np.random.Generator) -> tuple[list[Path], list[Expected]]:
    return [_walker(rng, t, to_the_right=bool(rng.integers(2))) for t in _arrivals(options, rng)], []


def _crowd(options: Options, rng: np.random.Generator) -> tuple[list[Path], list[Expected]]:
    """People who mill about for the whole time (random waypoints)."""
    paths = []
    for _ in range(options.people):
        trip = _Trip(rng, -1.0, (rng.uniform(_LEFT, _RIGHT) / 2, rng.uniform(_NEAR, _FAR)))
        while trip.time < options.seconds:
            trip.stay(trip.time + rng.exponential(3)).to(rng.uniform(_LEFT, _RIGHT) / 2, rng.uniform(_NEAR, _FAR))
        paths.append(trip.path())
    return paths, [Expected(EventType.CROWD_GATHERING, "square", (0.0, 3.0))]


def _gathering(options: Options, rng: np.random.Generator) -> tuple[list[Path], list[Expected]]:
    """People come from all sides, stand together in the middle, and part."""
    together, parting = 0.3 * options.seconds, 0.75 * options.seconds
    paths = []
    for number in range(options.people):
        side = -1 if rng.integers(2) else 1
        start = (side * 20.0, rng.uniform(_NEAR, _FAR))
        angle = number * 2.4  # the golden angle spreads them evenly over a disc
        spot = (0.8 * np.sqrt(number) * np.cos(angle), 14 + 0.8 * np.sqrt(number) * np.sin(angle))
        trip = _Trip(rng, 0.0, start)
        walk = float(np.hypot(spot[0] - start[0], spot[1] - start[1])) / trip.speed
        arrival = rng.uniform(0.7, 1.0) * together
        trip.points = [(arrival - walk, *start)]
        trip.time, trip.place = arrival - walk, start
        paths.append(trip.to(*spot).stay(parting + rng.uniform(0, 3)).to(*start).path())
    # They are in the square some seconds before they stand.
    return paths, [Expected(EventType.CROWD_GATHERING, "square", (0.4 * together, together + 1))]


def _intrusion(options: Options, rng: np.random.Generator) -> tuple[list[Path], list[Expected]]:
    """Walkers pass by behind the yard; one of them goes in."""
    paths = [_walker(rng, t, to_the_right=bool(rng.integers(2)), near=18.0) for t in _arrivals(options, rng)]
    trip = _Trip(rng, 0.4 * options.seconds, (-10.0, 12.5)).to(2.0, 12.5)
    entered = trip.time
    paths.append(trip.to(4.5, 12.5).stay(entered + 10).to(-10.0, 12.5).path())
    return paths, [Expected(EventType.ZONE_INTRUSION, "yard", (entered - 0.5, entered + 1.0))]


def _loitering(options: Options, rng: np.random.Generator) -> tuple[list[Path], list[Expected]]:
    """Walkers pass by; one stays for half the time."""
    paths = [_walker(rng, t, to_the_right=bool(rng.integers(2)), near=15.0) for t in _arrivals(options, rng)]
    trip = _Trip(rng, 0.1 * options.seconds, (-9.0, 11.0)).to(-2.0, 11.0)
    arrived = trip.time
    paths.append(trip.stay(arrived + 0.5 * options.seconds).to(-9.0, 11.0).path())
    return paths, [Expected(EventType.PERSON_LOITERING, "square", (arrived - 6.0, arrived))]


def _wrong_way(options: Options, rng: np.random.Generator) -> tuple[list[Path], list[Expected]]:
    """All walk to the right; one comes the other way."""
    paths = [_walker(rng, t, to_the_right=True) for t in _arrivals(options, rng)]
    begun = 0.4 * options.seconds
    path = _walker(rng, begun, to_the_right=False, near=10.0)
    return [*paths, path], [Expected(EventType.DIRECTION_WRONG_WAY, "square", (begun, float(path[-1, 0])))]


SCENARIOS: dict[str, _Maker] = {
    "empty": _empty,
    "walkers": _walkers,
    "crowd": _crowd,
    "gathering": _gathering,
    "intrusion": _intrusion,
    "loitering": _loitering,
    "wrong_way": _wrong_way,
}


def scenario(name: str, options: Options, view: View) -> Scenario:
    """A scenario by its name; the same options make the same scenario.

    Raises:
        SourceError: there is none of that name.
    """
    if name not in SCENARIOS:
        hint = did_you_mean(name, SCENARIOS) or f"; there are: {', '.join(SCENARIOS)}"
        raise SourceError(f"sim:{name}: no such scenario{hint}")
    rng = np.random.default_rng(options.seed)
    paths, expected = SCENARIOS[name](options, rng)
    zones = {"square": [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]], "yard": view.polygon(_YARD)}
    return Scenario(World(paths, rng), options.seed, options.seconds, zones, tuple(expected))
