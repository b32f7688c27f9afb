"""What every trial is made of: a camera at random, people who pass, a piece of ground, light and weather.

A trial is drawn from one random generator, so that its seed tells everything. Ranges are stated where they are drawn;
none was chosen by what a behaviour makes of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from agent.contract import EventType
from agent.perception.scene import ObjectClass
from agent.simulate.backgrounds import Backgrounds
from agent.simulate.render import Image, Keys, Look, Mark, Shade, Tampering, Thing
from agent.simulate.things import Things
from agent.simulate.world import HEIGHT_M, WIDTH_M, Floats, Path, Pose, View, World

#: Free walking speed of pedestrians, metres per second: mean and standard deviation (Weidmann, 1993).
SPEED_M_S = (1.34, 0.26)
#: The whole picture.
WHOLE = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))

Place = tuple[float, float]
Corners = Sequence[Place]


@dataclass(frozen=True, slots=True)
class Props:
    """What pictures are made of."""

    backgrounds: Backgrounds
    things: Things


@dataclass(frozen=True, slots=True)
class Expected:
    """Something that should be told.

    Attributes:
        met: When the condition begins to hold, seconds.
        dwell_s: How long the rule wants it to hold before it tells, as configured.
        late_s: How much later than both together it may be told.
        early_s: How much earlier than `met`: what a camera sees of the moment is no better than that.
    """

    met: float
    dwell_s: float = 0.0
    late_s: float = 10.0
    early_s: float = 2.0


@dataclass(frozen=True, slots=True)
class Trial:
    """A scene with its ground truth.

    Attributes:
        type: What watches.
        sort: What happens, in a few words.
        seconds: How long it lasts.
        fps: Frames a second.
        view: The camera.
        world: Who is there.
        classes: (N,) uint8, `ObjectClass` of everybody, by number.
        harder: By number, how much harder than an upright person somebody is to find over time (`ErringDetector`).
        zone: Corners of the zone, fractions of the picture.
        calibration: Four places in the picture, and the same on the ground, metres; None: not calibrated.
        rule: What the rule is told beside its defaults.
        expected: What should be told; None: nothing.
        look: What is painted; None: nothing is, and only detections count.
        vehicles: Pictures of vehicles, by number.
    """

    type: EventType
    sort: str
    seconds: float
    fps: float
    view: View
    world: World
    classes: NDArray[np.uint8]
    harder: Mapping[int, Keys]
    zone: list[list[float]]
    calibration: tuple[list[list[float]], list[list[float]]] | None
    rule: Mapping[str, object]
    expected: Expected | None
    look: Look | None
    vehicles: Mapping[int, Image]


Maker = Callable[[np.random.Generator, Props], Trial]


@dataclass
class Stage:
    """A trial in the making.

    Attributes:
        rng: Chance.
        props: What pictures are made of.
        seconds: How long it lasts.
        fps: Frames a second.
        size: Of the picture, pixels.
        high: Height of the camera, metres, from and to.
        pitch: How far below the horizon it looks, degrees, from and to.
    """

    rng: np.random.Generator
    props: Props
    seconds: float
    fps: float = 5.0
    size: tuple[int, int] = (640, 480)
    high: tuple[float, float] = (3.0, 7.0)
    pitch: tuple[float, float] = (20.0, 38.0)
    view: View = field(init=False)
    paths: list[Path] = field(default_factory=list)
    poses: dict[int, Pose] = field(default_factory=dict)
    steadfast: set[int] = field(default_factory=set)
    classes: list[ObjectClass] = field(default_factory=list)
    harder: dict[int, Keys] = field(default_factory=dict)
    vehicles: dict[int, Image] = field(default_factory=dict)
    things: list[Thing] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    shades: list[Shade] = field(default_factory=list)
    tampering: list[Tampering] = field(default_factory=list)
    blows: dict[int, Keys] = field(default_factory=dict)
    light: list[tuple[float, float]] = field(default_factory=list)
    background: Image | None = None

    def __post_init__(self) -> None:
        self.view = View(
            width=self.size[0],
            height=self.size[1],
            above_m=self.rng.uniform(*self.high),
            pitch_deg=self.rng.uniform(*self.pitch),
            fov_deg=self.rng.uniform(60, 85),
        )

    # Places

    def spot(self, x: tuple[float, float] = (0.25, 0.75), y: tuple[float, float] = (0.55, 0.8)) -> Place:
        """A place on the ground that is seen in a part of the picture, fractions, whole person included."""
        for _ in range(50):
            place = self.view.ground(self.rng.uniform(*x), self.rng.uniform(*y))
            head, depth = self.view.project(np.array([[*place, HEIGHT_M[0]]]))
            if depth[0] < 25 and head[0, 1] > 0.03 * self.view.height:
                return place
        return self.view.ground(sum(x) / 2, sum(y) / 2)

    def around(self, place: Place, wide: float, deep: float) -> list[Place]:
        """Corners of a rectangle of ground, metres, with its middle there."""
        x, y = place
        return [
            (x - wide / 2, y + deep / 2),
            (x + wide / 2, y + deep / 2),
            (x + wide / 2, y - deep / 2),
            (x - wide / 2, y - deep / 2),
        ]

    def off(self, place: Place, far: float, angle: float | None = None) -> Place:
        """A place so far away, metres, in a direction of the ground, or in any."""
        angle = self.rng.uniform(0, 2 * math.pi) if angle is None else angle
        return place[0] + far * math.cos(angle), place[1] + far * math.sin(angle)

    def within(self, corners: Corners, margin: float = 0.3) -> Place:
        """A place within a rectangle, so far from its edge, metres."""
        xs, ys = [x for x, _ in corners], [y for _, y in corners]
        return (
            float(self.rng.uniform(min(xs) + margin, max(xs) - margin)),
            float(self.rng.uniform(min(ys) + margin, max(ys) - margin)),
        )

    def side(self, left: bool, depth: float) -> Place:
        """A place just beyond the left or right edge of the picture, at a y on the ground."""
        pitch = math.radians(self.view.pitch_deg)
        away = depth * math.cos(pitch) + self.view.above_m * math.sin(pitch)
        far = (self.view.width / 2 / self.view.focal) * away + 1.0
        return (-far if left else far), depth

    # People

    def speed(self) -> float:
        """Of somebody who walks, metres per second."""
        return float(np.clip(self.rng.normal(*SPEED_M_S), 0.7, 2.0))

    def add(
        self,
        path: Sequence[tuple[float, float, float]],
        *,
        kind: ObjectClass = ObjectClass.PERSON,
        steadfast: bool = False,
    ) -> int:
        """Somebody with a path of (seconds, x, y); the number."""
        number = len(self.paths)
        self.paths.append(np.array(path, np.float64))
        self.classes.append(kind)
        if steadfast:
            self.steadfast.add(number)
        return number

    def way(
        self, begin: float, places: Sequence[Place | float], speed: float | None = None
    ) -> list[tuple[float, float, float]]:
        """A path from place to place at a walk, or at a speed; a number among the places is a wait, seconds."""
        pace = speed or self.speed()
        time, here = begin, places[0]
        assert not isinstance(here, int | float)  # noqa: S101 - who waits must be somewhere
        path = [(time, *here)]
        for place in places[1:]:
            if isinstance(place, int | float):
                time += max(place, 0.05)
            else:
                time += max(0.05, math.dist(here, place) / pace)
                here = place
            path.append((time, *here))
        return path

    def seen(self, path: Sequence[tuple[float, float, float]], half_m: float = 0.0) -> float:
        """When somebody on a path is first in the picture with so much on both sides, seconds; else the path's end."""
        way = np.array(path)
        times = np.arange(max(way[0, 0], 0.0), way[-1, 0], 0.05)
        x, y = (np.interp(times, way[:, 0], way[:, k]) for k in (1, 2))
        pixels, depth = self.view.project(np.stack([x, y, np.zeros_like(x)], axis=1))
        half = half_m * self.view.focal / np.maximum(depth, 0.1)
        inside = (depth > 0) & (pixels[:, 0] > half) & (pixels[:, 0] < self.view.width - half)
        inside &= (pixels[:, 1] > 0) & (pixels[:, 1] < self.view.height)
        return float(times[inside.argmax()]) if inside.any() else float(way[-1, 0])

    def passes(self, begin: float, depth: float, speed: float | None = None) -> int:
        """Somebody who walks across the picture."""
        left = bool(self.rng.integers(2))
        end = self.side(not left, depth + self.rng.normal(0, 0.7))
        return self.add(self.way(begin, [self.side(left, depth), end], speed))

    def passers(self, a_minute: float, avoid: Corners | None = None, margin: float = 0.8) -> None:
        """People who walk across the picture all the time, though not through a rectangle nor close to it."""
        for begin in self.rng.uniform(-10, self.seconds, self.rng.poisson(a_minute * (self.seconds + 10) / 60)):
            depth = self.free_depth(avoid, margin)
            if depth is not None:
                left = bool(self.rng.integers(2))
                self.add(self.way(float(begin), [self.side(left, depth), self.side(not left, depth)]))

    def free_depth(self, avoid: Corners | None, margin: float) -> float | None:
        """A y on the ground that is seen, and is not in a rectangle nor so close to it; None where there is none."""
        for _ in range(20):
            _, depth = self.spot((0.5, 0.5), (0.4, 0.9))
            if avoid is None:
                return depth
            ys = [y for _, y in avoid]
            if depth < min(ys) - margin or depth > max(ys) + margin:
                return depth
        return None

    def mill(
        self, begin: float, end: float, corners: Corners, pause_s: float = 4.0, came_from: Place | None = None
    ) -> int:
        """Somebody who stands and strolls in a rectangle, and comes from somewhere and leaves if told so."""
        here = self.within(corners)
        path = self.way(begin, [came_from, here]) if came_from else [(begin, *here)]
        while path[-1][0] < end:
            wait = float(self.rng.exponential(pause_s)) + 0.5
            step = self.off(here, self.rng.uniform(0.2, 1.2))
            xs, ys = [x for x, _ in corners], [y for _, y in corners]
            here = (
                float(np.clip(step[0], min(xs) + 0.3, max(xs) - 0.3)),
                float(np.clip(step[1], min(ys) + 0.3, max(ys) - 0.3)),
            )
            path += self.way(path[-1][0], [(path[-1][1], path[-1][2]), wait, here], self.rng.uniform(0.3, 0.9))[1:]
        if came_from:
            path += self.way(path[-1][0], [here, came_from])[1:]
        return self.add(path)

    def pose(self, number: int, *keys: tuple[float, float, float, float]) -> None:
        """How somebody holds themselves: (seconds, tall, wide, lift)."""
        self.poses[number] = np.array(keys, np.float64)

    def upright(self) -> tuple[float, float, float]:
        """Tall, wide and lift of somebody who stands."""
        return float(np.clip(self.rng.normal(*HEIGHT_M), 1.4, 2.0)), WIDTH_M, 0.0

    def count(self, corners: Corners, times: Floats) -> NDArray[np.int64]:
        """How many persons mean to be in a rectangle at each of these times."""
        xs, ys = [x for x, _ in corners], [y for _, y in corners]
        total = np.zeros(len(times), np.int64)
        for path, kind in zip(self.paths, self.classes, strict=True):
            if kind is ObjectClass.PERSON:
                x, y = (np.interp(times, path[:, 0], path[:, k], left=np.inf, right=np.inf) for k in (1, 2))
                total += (x > min(xs)) & (x < max(xs)) & (y > min(ys)) & (y < max(ys))
        return total

    def reached(self, corners: Corners, limit: float, lasts_s: float) -> float | None:
        """When the number of persons in a rectangle first is at a limit for so long; None: never."""
        step = 0.25
        times = np.arange(0, self.seconds, step)
        run = 0
        for time, count in zip(times.tolist(), self.count(corners, times).tolist(), strict=True):
            run = run + 1 if count >= limit else 0
            if run * step >= lasts_s:
                return float(time - (run - 1) * step)
        return None

    # Light

    def weather(self, *, still: bool = False) -> Look:
        """What the picture shows, in some light and weather, with what was put on the stage."""
        rng = self.rng
        width, height = self.size
        background = self.background if self.background is not None else self.props.backgrounds.draw(rng, width, height)
        drift = [(time, rng.uniform(0.9, 1.1)) for time in np.arange(0, self.seconds + 30, 30).tolist()]
        light = np.array(sorted([*drift, *self.light]) if not self.light else self.light)
        rain = int(rng.integers(20, 80)) if not still and rng.random() < 0.15 else 0
        shakes = not still and rng.random() < 0.15
        return Look(
            background=background,
            light=light,
            # As of a picture 640 wide that was shrunk to this size, which takes noise off.
            noise=rng.uniform(2, 6) * width / 640,
            rain=rain,
            shake=np.array([[0.0, rng.uniform(0.2, 0.5) if shakes else 0.0]]),
            sun=(rng.uniform(-0.8, 0.8), rng.uniform(-0.1, 0.15), rng.choice([0.0, rng.uniform(0.15, 0.5)])),
            shades=tuple(self.shades),
            things=tuple(self.things),
            marks=tuple(self.marks),
            blows=dict(self.blows),
            tampering=tuple(self.tampering),
        )

    def trial(
        self,
        event_type: EventType,
        sort: str,
        zone: Corners | None,
        expected: Expected | None,
        *,
        rule: Mapping[str, object] | None = None,
        calibrated: bool = False,
        painted: bool = False,
        look: Look | None = None,
    ) -> Trial:
        """What became of it.

        Args:
            event_type: What watches.
            sort: What happens.
            zone: A piece of ground, metres; None: the whole picture.
            expected: What should be told.
            rule: What the rule is told.
            calibrated: Whether the rule knows the zone's size.
            painted: Whether pictures count.
            look: What they show; None: what `weather` gives.
        """
        polygon = [list(corner) for corner in WHOLE] if zone is None else self.view.polygon(zone)
        ground = [list(corner) for corner in zone] if zone is not None and calibrated else None
        return Trial(
            type=event_type,
            sort=sort,
            seconds=self.seconds,
            fps=self.fps,
            view=self.view,
            world=World(self.paths, self.rng, self.poses, self.steadfast),
            classes=np.array(self.classes, np.uint8),
            harder=dict(self.harder),
            zone=polygon,
            calibration=(polygon, ground) if ground else None,
            rule=dict(rule or {}),
            expected=expected,
            look=(look or self.weather()) if painted else None,
            vehicles=dict(self.vehicles),
        )
