"""Trials of zones with a fence or a direction: who comes in, who stays out, who goes the wrong way."""

from __future__ import annotations

import numpy as np

from agent.contract import EventType
from agent.perception.scene import ObjectClass
from agent.simulate.trials.stage import Expected, Place, Props, Stage, Trial
from agent.simulate.world import HEIGHT_M

_INTRUSION_HOLD_S = 0.5
#: Box of a vehicle from the side, metres, from and to: width and height.
_VEHICLE_M = ((2.2, 4.6), (1.3, 1.9))
#: Frames a second, and size, where blobs that move are looked at.
_BLOB_FPS, _BLOB_SIZE = 8.0, (200, 150)

Rng = np.random.Generator


def _vehicle(stage: Stage, path: list[tuple[float, float, float]], *, known: bool) -> int:
    """A vehicle, which the detector knows or does not."""
    number = stage.add(path, kind=ObjectClass.CAR, steadfast=True)
    wide, tall = (stage.rng.uniform(*side) for side in _VEHICLE_M)
    stage.pose(number, (0.0, tall, wide, 0.0))
    stage.vehicles[number] = stage.props.things.vehicle(stage.rng)
    if not known:
        stage.harder[number] = np.array([[0.0, 20.0]])
    return number


def _cornered(stage: Stage) -> list[Place]:
    rng = stage.rng
    return stage.around(stage.spot((0.4, 0.65), (0.55, 0.75)), rng.uniform(3, 6), rng.uniform(2.5, 5))


def _entry(ground: list[Place], path: list[tuple[float, float, float]]) -> float:
    """When a path first enters a rectangle, seconds."""
    xs, ys = [x for x, _ in ground], [y for _, y in ground]
    way = np.array(path)
    time: float
    for time in np.arange(way[0, 0], way[-1, 0], 0.05).tolist():
        x, y = (float(np.interp(time, way[:, 0], way[:, k])) for k in (1, 2))
        if min(xs) < x < max(xs) and min(ys) < y < max(ys):
            return time
    raise ValueError("the path does not enter the rectangle")


def intrusion(rng: Rng, props: Props) -> Trial:
    """Somebody, or a vehicle, comes into the zone."""
    stage = Stage(rng, props, 45.0, fps=8.0)
    ground = _cornered(stage)
    goal = stage.within(ground, 0.8)
    start = stage.side(bool(rng.integers(2)), goal[1] + rng.normal(0, 0.5))
    vehicle = rng.random() < 0.25
    path = stage.way(
        rng.uniform(8, 15), [start, goal, rng.uniform(1, 8), start], rng.uniform(2, 5) if vehicle else None
    )
    if vehicle:
        _vehicle(stage, path, known=True)
    else:
        stage.add(path)
    stage.passers(6, ground, 1.0)
    sort = "a vehicle comes in" if vehicle else "somebody comes in"
    return stage.trial(
        EventType.ZONE_INTRUSION, sort, ground, Expected(_entry(ground, path), _INTRUSION_HOLD_S, late_s=6.0)
    )


def intrusion_not(rng: Rng, props: Props) -> Trial:
    """People walk along the edge, stop short of it, or stand beside it."""
    stage = Stage(rng, props, 60.0, fps=8.0)
    ground = _cornered(stage)
    xs, ys = [x for x, _ in ground], [y for _, y in ground]
    sort = str(rng.choice(["pass along the edge", "stops short of the edge", "stand beside it", "nobody there"]))
    if sort == "pass along the edge":
        for begin in rng.uniform(0, 50, 8).tolist():
            y = float(rng.choice([max(ys) + rng.uniform(0.9, 1.5), min(ys) - rng.uniform(0.9, 1.5)]))
            left = bool(rng.integers(2))
            stage.add(stage.way(begin, [stage.side(left, y), stage.side(not left, y)]))
    elif sort == "stops short of the edge":
        for begin in (5.0, 30.0):
            left, y = bool(rng.integers(2)), rng.uniform(min(ys) + 0.3, max(ys) - 0.3)
            stop = (min(xs) - rng.uniform(0.6, 1.2)) if left else (max(xs) + rng.uniform(0.6, 1.2))
            stage.add(stage.way(begin, [stage.side(left, y), (stop, y), rng.uniform(2, 8), stage.side(left, y)]))
    elif sort == "stand beside it":
        for _ in range(3):
            left = bool(rng.integers(2))
            x = (min(xs) - 1.6) if left else (max(xs) + 1.6)
            stage.mill(-1.0, stage.seconds, stage.around((x, sum(ys) / 4), 1.6, max(ys) - min(ys) + 1.0))
    stage.passers(4, ground, 1.0)
    return stage.trial(EventType.ZONE_INTRUSION, sort, ground, None)


def _road(stage: Stage, *, wrong: bool, kind: str, begin: float, right: bool) -> tuple[float, float]:
    """Somebody or a vehicle goes across the picture: when it comes into it, and in what time it goes its own length."""
    rng = stage.rng
    _, y = stage.spot((0.5, 0.5), (0.45, 0.8))
    heads_right = right != wrong
    places: list[Place | float] = [stage.side(heads_right, y), stage.side(not heads_right, y)]
    if kind == "person":
        pace, size = rng.uniform(1.1, 1.7), HEIGHT_M[0]
        path = stage.way(begin, places, pace)
        stage.add(path)
    else:
        pace = rng.uniform(2.5, 6)
        path = stage.way(begin, places, pace)
        number = _vehicle(stage, path, known=kind == "vehicle")
        size = float(stage.poses[number][0, 1:3].max())
    return stage.seen(path), size / pace


def _kind(rng: Rng) -> str:
    return str(rng.choice(["person", "vehicle", "unknown vehicle"]))


def _exposure(stage: Stage) -> None:
    """The camera's exposure jumps, now and then."""
    times = np.sort(stage.rng.uniform(5, stage.seconds, int(stage.rng.integers(1, 4)))).tolist()
    light: list[tuple[float, float]] = [(0.0, 1.0)]
    for time in times:
        light += [(time, light[-1][1]), (time + 0.2, stage.rng.uniform(0.75, 1.25))]
    stage.light = light


def _one_way(stage: Stage, *, right: bool, traffic: int) -> None:
    for begin in stage.rng.uniform(-5, stage.seconds, traffic).tolist():
        _road(stage, wrong=False, kind=_kind(stage.rng), begin=begin, right=right)


def wrong_way(rng: Rng, props: Props) -> Trial:
    """One comes against all others."""
    stage = Stage(rng, props, 40.0, fps=_BLOB_FPS, size=_BLOB_SIZE)
    right, kind = bool(rng.integers(2)), _kind(rng)
    _one_way(stage, right=right, traffic=int(rng.integers(0, 6)))
    met, travel_s = _road(stage, wrong=True, kind=kind, begin=rng.uniform(12, 22), right=right)
    if rng.random() < 0.3:
        _exposure(stage)
    expected = Expected(met, travel_s)
    rule = {"allowed": (1.0 if right else -1.0, 0.0)}
    return stage.trial(EventType.DIRECTION_WRONG_WAY, f"{kind} the wrong way", None, expected, rule=rule, painted=True)


def wrong_way_not(rng: Rng, props: Props) -> Trial:
    """All go the right way or across; somebody steps back, stands, or strolls; the exposure jumps."""
    stage = Stage(rng, props, 60.0, fps=_BLOB_FPS, size=_BLOB_SIZE)
    right = bool(rng.integers(2))
    sort = str(rng.choice(["right way only", "right way and across", "steps back", "exposure jumps"]))
    _one_way(stage, right=right, traffic=int(rng.integers(4, 9)))
    sign = 1.0 if right else -1.0
    if sort == "right way and across":
        for begin in rng.uniform(0, 50, 4).tolist():
            x, y = stage.spot((0.3, 0.7), (0.45, 0.55))
            near = stage.view.ground(0.5, 0.98)[1] - 2.0
            ends: list[Place | float] = [(x, near), (x, y + 6)]
            stage.add(stage.way(begin, ends if rng.integers(2) else ends[::-1]))
    elif sort == "steps back":
        for begin in (8.0, 30.0):
            y = stage.spot()[1]
            start, end = stage.side(right, y), stage.side(not right, y)
            stop = (rng.uniform(-1, 1), y)
            back = (stop[0] - sign * rng.uniform(0.2, 0.5), y)
            stage.add(stage.way(begin, [start, stop, rng.uniform(1, 4), back, 1.0, end]))
    elif sort == "exposure jumps":
        _exposure(stage)
    return stage.trial(EventType.DIRECTION_WRONG_WAY, sort, None, None, rule={"allowed": (sign, 0.0)}, painted=True)
