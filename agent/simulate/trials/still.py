"""Trials of what stays: things left and dumped, walls written on and broken; and what only looks like it."""

from __future__ import annotations

import math

import numpy as np

from agent.contract import EventType
from agent.perception.scene import ObjectClass
from agent.simulate.render import Image, Mark, Shade, Thing
from agent.simulate.trials.stage import Expected, Place, Props, Stage, Trial
from agent.simulate.world import Floats

#: Frames a second, and size.
_FPS, _SIZE = 5.0, (320, 240)
#: What the rules are told: how long a thing or a change must stay.
_STAYS_S = 30.0
#: How long nothing happens first, seconds: a camera must learn what a place looks like.
_FIRST_S = 25.0
_SECONDS = 130.0

Rng = np.random.Generator


def _stage(rng: Rng, props: Props) -> Stage:
    return Stage(rng, props, _SECONDS, fps=_FPS, size=_SIZE, high=(2.8, 5.0), pitch=(18.0, 32.0))


def _carried(stage: Stage, number: int, put: float, place: Place, taken: float | None = None) -> Floats:
    """The path of a thing that somebody carries to a place, and perhaps away again."""
    path = stage.paths[number]
    beside = 0.3
    carried = [(t, x + beside, y - 0.05, 0.45) for t, x, y in path[path[:, 0] < put - 0.6].tolist()]
    way = [*carried, (put - 0.5, place[0], place[1], 0.45), (put, *place, 0.0)]
    if taken is None:
        return np.array([*way, (stage.seconds + 10, *place, 0.0)])
    way += [(taken, *place, 0.0), (taken + 0.5, place[0], place[1], 0.45)]
    return np.array([*way, *((t, x + beside, y - 0.05, 0.45) for t, x, y in path[path[:, 0] > taken + 0.6].tolist())])


def _visit(stage: Stage, place: Place, comes: float, stays_s: float) -> tuple[int, float, float]:
    """Somebody comes to a place, stays, and leaves; their number, when they are there, and when they leave."""
    left = bool(stage.rng.integers(2))
    start, end = (
        stage.side(left, place[1] + stage.rng.normal(0, 0.5)),
        stage.side(bool(stage.rng.integers(2)), place[1] + 0.5),
    )
    path = stage.way(comes, [start, place, stays_s, end])
    number = stage.add(path, steadfast=True)
    return number, path[1][0], path[2][0]


def _put(
    stage: Stage,
    picture: Image,
    size: tuple[float, float],
    number: int,
    put: float,
    place: Place,
    taken: float | None = None,
) -> None:
    on_ground = (place[0] + 0.35, place[1] - 0.15)
    stage.things.append(Thing(_carried(stage, number, put, on_ground, taken), *size, picture))


def _bag_size(rng: Rng) -> tuple[float, float]:
    return rng.uniform(0.35, 0.65), rng.uniform(0.35, 0.7)


def abandoned(rng: Rng, props: Props) -> Trial:
    """Somebody puts a bag down, perhaps waits beside it, and leaves."""
    stage = _stage(rng, props)
    place = stage.spot((0.3, 0.7), (0.6, 0.8))
    number, there, leaves = _visit(stage, place, rng.uniform(_FIRST_S, _FIRST_S + 10), rng.uniform(1.5, 10))
    _put(stage, props.things.bag(rng), _bag_size(rng), number, there + 0.8, place)
    stage.passers(6, stage.around(place, 2, 1.5), 0.3)
    # Its owner is gone when some steps away.
    expected = Expected(leaves + 2.0, _STAYS_S, late_s=15.0, early_s=4.0)
    rule = {"dwell_s": _STAYS_S}
    return stage.trial(EventType.OBJECT_ABANDONED, "a bag is left", None, expected, rule=rule, painted=True)


def _distractions(stage: Stage, sort: str) -> None:
    """What changes a picture, and leaves nothing behind."""
    rng = stage.rng
    begin = rng.uniform(_FIRST_S, _FIRST_S + 15)
    if sort == "exposure jumps":
        light: list[tuple[float, float]] = [(0.0, 1.0)]
        for time in np.sort(rng.uniform(_FIRST_S, 110, 3)).tolist():
            light += [(time, light[-1][1]), (time + 0.3, rng.uniform(0.7, 1.3))]
        stage.light = light
    elif sort == "a shadow moves in":
        x, y, wide = rng.uniform(-0.3, 0.6), rng.uniform(0.3, 0.7), rng.uniform(0.2, 0.5)
        outline = np.array([(x, y), (x + wide, y), (x + wide + 0.1, y + 0.4), (x + 0.1, y + 0.4)])
        dark = rng.uniform(0.45, 0.75)
        gain = np.array([[begin, 1.0], [begin + rng.uniform(1, 20), dark]])
        stage.shades.append(Shade(outline, rng.uniform(0.005, 0.03), gain, (rng.uniform(0, 0.002), 0.0)))
    elif sort == "a light goes on":
        x, y = rng.uniform(0.1, 0.7), rng.uniform(0.2, 0.7)
        angles = np.linspace(0, 2 * math.pi, 12, endpoint=False)
        outline = np.stack([x + 0.15 * np.cos(angles), y + 0.12 * np.sin(angles)], axis=1)
        stage.shades.append(
            Shade(outline, rng.uniform(0.02, 0.06), np.array([[begin, 1.0], [begin + 0.2, rng.uniform(1.3, 1.7)]]))
        )


def _parks(stage: Stage, place: Place, comes: float, leaves: float | None) -> int:
    """A vehicle that the detector knows comes, stands, and perhaps leaves."""
    rng = stage.rng
    left = bool(rng.integers(2))
    start = stage.side(left, place[1])
    far = (start[0] * 1.6, start[1])
    ends: list[Place | float] = [far, place, (leaves or stage.seconds + 20) - comes]
    path = stage.way(comes, [*ends, far] if leaves else ends, rng.uniform(2, 4))
    number = stage.add(path, kind=ObjectClass.CAR, steadfast=True)
    stage.pose(number, (0.0, rng.uniform(1.4, 1.9), rng.uniform(3.2, 4.5), 0.0))
    stage.vehicles[number] = stage.props.things.vehicle(rng)
    return number


_LIGHT = ("exposure jumps", "a shadow moves in", "a light goes on")


def abandoned_not(rng: Rng, props: Props) -> Trial:
    """The owner stays near or takes the bag away, somebody sits still, furniture moves, a thing goes, light changes."""
    stage = _stage(rng, props)
    place = stage.spot((0.3, 0.7), (0.6, 0.8))
    begin = rng.uniform(_FIRST_S, _FIRST_S + 10)
    sort = str(
        rng.choice(
            [
                "owner stays near",
                "bag is taken again",
                "somebody sits still",
                "a chair is moved a little",
                "a thing is taken away",
                "a car parks",
                *_LIGHT,
            ]
        )
    )
    if sort == "owner stays near":
        number, there, _ = _visit(stage, place, begin, 90)
        _put(stage, props.things.bag(rng), _bag_size(rng), number, there + 0.8, place)
    elif sort == "bag is taken again":
        number, there, leaves = _visit(stage, place, begin, rng.uniform(8, 25))
        _put(stage, props.things.bag(rng), _bag_size(rng), number, there + 0.8, place, leaves - 0.6)
    elif sort == "somebody sits still":
        number, there, leaves = _visit(stage, place, begin, 80)
        tall, wide, _ = upright = stage.upright()
        sits = (0.75 * tall, wide + 0.1, 0.0)
        stage.pose(
            number, (0.0, *upright), (there, *upright), (there + 1.2, *sits), (leaves - 1.2, *sits), (leaves, *upright)
        )
        stage.harder[number] = np.array([[there, 0.0], [there + 1, rng.uniform(0, 0.5)]])
    elif sort == "a chair is moved a little":
        number, there, leaves = _visit(stage, place, begin, rng.uniform(4, 8))
        here, after = (place[0] + 0.5, place[1]), (place[0] + rng.choice([-0.2, 1.1]), place[1] + 0.2)
        path = np.array(
            [(-1.0, *here, 0.0), (there + 1, *here, 0.0), (leaves - 1, *after, 0.0), (stage.seconds + 10, *after, 0.0)]
        )
        stage.things.append(Thing(path, rng.uniform(0.4, 0.7), rng.uniform(0.7, 1.0), props.things.furniture(rng)))
    elif sort == "a thing is taken away":
        number, there, leaves = _visit(stage, place, begin, rng.uniform(2, 5))
        _put(stage, props.things.bag(rng), _bag_size(rng), number, -1.0, place, leaves - 0.6)
        stage.things[-1] = _standing_before(stage.things[-1])
    elif sort == "a car parks":
        _parks(stage, (rng.uniform(-1, 1), place[1]), begin, None)
    else:
        _distractions(stage, sort)
    stage.passers(6, stage.around(place, 2, 1.5), 0.3)
    return stage.trial(EventType.OBJECT_ABANDONED, sort, None, None, rule={"dwell_s": _STAYS_S}, painted=True)


def _standing_before(thing: Thing) -> Thing:
    """The same, there from the beginning."""
    path = thing.path[thing.path[:, 0] >= -0.6]
    return Thing(np.concatenate([[(-2.0, *path[0, 1:3], 0.0)], path]), thing.wide_m, thing.tall_m, thing.picture)


def _heap_size(rng: Rng) -> tuple[float, float]:
    return rng.uniform(0.6, 1.4), rng.uniform(0.45, 0.9)


def dumped(rng: Rng, props: Props) -> Trial:
    """Somebody, on foot or from a vehicle, leaves refuse."""
    stage = _stage(rng, props)
    place = stage.spot((0.3, 0.7), (0.6, 0.75))
    begin = rng.uniform(_FIRST_S, _FIRST_S + 10)
    vehicle = rng.random() < 0.4
    if vehicle:
        stops, leaves = begin, begin + rng.uniform(14, 22)
        car = _parks(stage, (place[0], place[1] + 1.6), stops, leaves)
        there = float(stage.paths[car][1, 0]) + rng.uniform(2, 4)
        beside = (place[0] + 1.5, place[1] + 1.2)
        path = stage.way(there - 1, [beside, place, 3.0, beside])
        number = stage.add(path, steadfast=True)
        put, gone = path[1][0] + 0.8, max(leaves, path[-1][0]) + 2.0
    else:
        number, there, leaves = _visit(stage, place, begin, rng.uniform(2, 6))
        put, gone = there + 0.8, leaves + 2.0
    _put(stage, props.things.refuse(rng), _heap_size(rng), number, put, place)
    stage.passers(5, stage.around(place, 2, 2.5), 0.5)
    ground = stage.around(place, 4, 3)
    sort = "dumped from a vehicle" if vehicle else "dumped on foot"
    expected = Expected(gone, _STAYS_S, late_s=20.0, early_s=5.0)
    return stage.trial(EventType.WASTE_DUMPED, sort, ground, expected, painted=True)


def dumped_not(rng: Rng, props: Props) -> Trial:
    """People stop, put things down and take them along, vehicles park and leave, refuse is collected, light changes."""
    stage = _stage(rng, props)
    place = stage.spot((0.3, 0.7), (0.6, 0.75))
    begin = rng.uniform(_FIRST_S, _FIRST_S + 10)
    sort = str(
        rng.choice(
            [
                "somebody stops",
                "bag is taken again",
                "a car stops and leaves",
                "a car parks",
                "refuse is collected",
                *_LIGHT,
            ]
        )
    )
    if sort == "somebody stops":
        _visit(stage, place, begin, rng.uniform(10, 50))
    elif sort == "bag is taken again":
        number, there, leaves = _visit(stage, place, begin, rng.uniform(8, 25))
        _put(stage, props.things.refuse(rng), _heap_size(rng), number, there + 0.8, place, leaves - 0.6)
    elif sort == "refuse is collected":
        number, _, leaves = _visit(stage, place, begin, rng.uniform(2, 5))
        _put(stage, props.things.refuse(rng), _heap_size(rng), number, -1.0, place, leaves - 0.6)
        stage.things[-1] = _standing_before(stage.things[-1])
    elif sort.startswith("a car"):
        _parks(stage, place, begin, begin + rng.uniform(15, 30) if "leaves" in sort else None)
    else:
        _distractions(stage, sort)
    stage.passers(5, stage.around(place, 2, 2.5), 0.5)
    return stage.trial(EventType.WASTE_DUMPED, sort, stage.around(place, 4, 3), None, painted=True)


def _wall(stage: Stage) -> tuple[Place, float, tuple[float, float, float, float]]:
    """A wall with its own pattern across a part of the picture: its foot's middle, its width, and its box there."""
    rng = stage.rng
    foot = stage.spot((0.4, 0.6), (0.5, 0.62))
    wide, tall = rng.uniform(4, 7), rng.uniform(2.2, 3.0)
    ends = np.array([(foot[0] - wide / 2, foot[1], tall), (foot[0] + wide / 2, foot[1], 0.0)])
    (x0, y0), (x1, y1) = stage.view.project(ends)[0] / stage.size
    box = (max(0.0, float(x0)), max(0.0, float(y0)), min(1.0, float(x1)), min(1.0, float(y1)))
    width, height = stage.size
    stage.background = stage.props.backgrounds.draw(rng, width, height)
    left, top, right, bottom = (round(part * side) for part, side in zip(box, (width, height) * 2, strict=True))
    if rng.random() < 0.7:  # else the place itself is the wall
        face = stage.props.backgrounds.draw(rng, max(2, right - left), max(2, bottom - top)).astype(np.float32)
        shade = rng.uniform(60, 190)
        flat = face.mean(axis=(0, 1)) + rng.uniform(0.1, 0.6) * (face - face.mean(axis=(0, 1)))
        stage.background[top:bottom, left:right] = np.clip(flat + shade - flat.mean(), 0, 255).astype(np.uint8)
    return foot, wide, box


def _upon(
    rng: Rng,
    stage: Stage,
    box: tuple[float, float, float, float],
    at_x: float,
    wide_m: float,
    tall_m: float,
    wall_m: float,
) -> tuple[float, float, float, float]:
    """Where a mark of that size comes on a wall, at a place across it, at the height of hands."""
    scale = (box[2] - box[0]) / wall_m
    wide, tall = wide_m * scale, tall_m * scale * stage.size[0] / stage.size[1]
    middle = box[0] + at_x * (box[2] - box[0])
    y = box[3] - (rng.uniform(1.0, 1.5) * scale) * stage.size[0] / stage.size[1]
    x0 = float(np.clip(middle - wide / 2, box[0], max(box[0], box[2] - wide)))
    y0 = float(np.clip(y - tall / 2, box[1], max(box[1], box[3] - tall)))
    return x0, y0, min(x0 + wide, box[2]), min(y0 + tall, box[3])


def _at_wall(stage: Stage, foot: Place, wide: float, begin: float, stays_s: float) -> tuple[float, float, float]:
    """Somebody stands at the wall; where across it, 0 to 1, when they are there, and when they leave."""
    across = stage.rng.uniform(0.25, 0.75)
    place = (foot[0] + (across - 0.5) * wide, foot[1] - stage.rng.uniform(0.4, 0.8))
    _, there, leaves = _visit(stage, place, begin, stays_s)
    return across, there, leaves


def _ground_of(box: tuple[float, float, float, float]) -> list[list[float]]:
    x0, y0, x1, y1 = box
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]


def _surface(
    stage: Stage, event_type: EventType, sort: str, box: tuple[float, float, float, float], expected: Expected | None
) -> Trial:
    from dataclasses import replace

    trial = stage.trial(event_type, sort, None, expected, painted=True)
    return replace(trial, zone=_ground_of(box))


def tagged(rng: Rng, props: Props) -> Trial:
    """Somebody writes on a wall and leaves."""
    stage = _stage(rng, props)
    foot, wide, box = _wall(stage)
    across, there, leaves = _at_wall(stage, foot, wide, rng.uniform(_FIRST_S, _FIRST_S + 10), rng.uniform(6, 15))
    where = _upon(rng, stage, box, across, rng.uniform(0.9, 2.0), rng.uniform(0.5, 1.0), wide)
    stage.marks.append(Mark(where, props.things.tag(rng), there + 1, leaves - there - 2))
    stage.passers(4, stage.around(foot, wide, 2.0), 0.8)
    return _surface(
        stage,
        EventType.SURFACE_TAGGED,
        "somebody writes on a wall",
        box,
        Expected(leaves + 1.5, _STAYS_S, late_s=20.0, early_s=5.0),
    )


def damaged(rng: Rng, props: Props) -> Trial:
    """Somebody breaks a pane or a board and leaves."""
    stage = _stage(rng, props)
    foot, wide, box = _wall(stage)
    across, there, leaves = _at_wall(stage, foot, wide, rng.uniform(_FIRST_S, _FIRST_S + 10), rng.uniform(3, 8))
    size = rng.uniform(0.6, 1.2)
    where = _upon(rng, stage, box, across, size, size, wide)
    stage.marks.append(Mark(where, props.things.hole(rng), there + 1.5))
    stage.passers(4, stage.around(foot, wide, 2.0), 0.8)
    return _surface(
        stage,
        EventType.SURFACE_DAMAGED,
        "somebody breaks a pane",
        box,
        Expected(leaves + 1.5, _STAYS_S, late_s=20.0, early_s=5.0),
    )


def _surface_not(rng: Rng, props: Props, event_type: EventType) -> Trial:
    stage = _stage(rng, props)
    foot, wide, box = _wall(stage)
    begin = rng.uniform(_FIRST_S, _FIRST_S + 10)
    sort = str(
        rng.choice(
            [
                "somebody stands there",
                "a poster is put up",
                "a car parks in front",
                "rain runs down",
                "a crowd passes",
                *_LIGHT,
            ]
        )
    )
    if sort in {"somebody stands there", "a poster is put up", *_LIGHT}:
        across, there, leaves = _at_wall(stage, foot, wide, begin, rng.uniform(6, 40))
        if sort == "a poster is put up":
            where = _upon(rng, stage, box, across, rng.uniform(0.5, 0.9), rng.uniform(0.7, 1.2), wide)
            stage.marks.append(Mark(where, props.things.poster(rng), min(there + 2, leaves - 1)))
    if sort == "a car parks in front":
        _parks(stage, (foot[0], foot[1] - 1.2), begin, None)
    elif sort == "rain runs down":
        x0, y0, x1, y1 = box
        outline = np.array(
            [
                (x0, y0),
                (x1, y0),
                (x1, y0 + rng.uniform(0.2, 0.8) * (y1 - y0)),
                (x0, y0 + rng.uniform(0.2, 0.8) * (y1 - y0)),
            ]
        )
        stage.shades.append(Shade(outline, 0.02, np.array([[begin, 1.0], [begin + 40, rng.uniform(0.7, 0.85)]])))
    elif sort == "a crowd passes":
        stage.passers(30)
    _distractions(stage, sort)
    stage.passers(4, stage.around(foot, wide, 2.0), 0.8)
    return _surface(stage, event_type, sort, box, None)


def tagged_not(rng: Rng, props: Props) -> Trial:
    """Nobody writes on the wall."""
    return _surface_not(rng, props, EventType.SURFACE_TAGGED)


def damaged_not(rng: Rng, props: Props) -> Trial:
    """Nobody breaks anything."""
    return _surface_not(rng, props, EventType.SURFACE_DAMAGED)
