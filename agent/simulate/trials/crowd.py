"""Trials of the crowd types: zones that fill up, groups that gather, crowds that move as one, and those that do not."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from agent.contract import EventType
from agent.simulate.trials.stage import Expected, Place, Props, Stage, Trial

#: Defaults of the rules, which the trials are about.
_MEDIUM, _MEDIUM_PER_M2, _DENSITY_HOLD_S = 5, 0.7, 5.0
_GATHERING, _GATHERING_HOLD_S = 10, 30.0
_MOVING, _MOVEMENT_HOLD_S = 10, 1.5
#: How long people on a square stand between two strolls, seconds; and how long whoever is told to leave is still there
#: on average, for the pause and the stroll that are begun are finished.
_PAUSE_S, _LINGERS_S = 8.0, 10.0
#: Frames a second where flow is looked at.
_FLOW_FPS, _FLOW_SIZE = 10.0, (200, 150)

Rng = np.random.Generator


def _fill(stage: Stage, ground: list[Place], count: int, begin: tuple[float, float], stay_s: float) -> None:
    """People come into a rectangle one after another, and stay."""
    for arrival in stage.rng.uniform(*begin, count).tolist():
        depth = stage.within(ground)[1]
        came = stage.side(bool(stage.rng.integers(2)), depth)
        walk = math.dist(came, (sum(x for x, _ in ground) / 4, depth)) / 1.3
        stage.mill(arrival - walk, arrival + stay_s, ground, came_from=came)


def density(rng: Rng, props: Props) -> Trial:
    """A zone fills up."""
    stage = Stage(rng, props, 60.0)
    calibrated = rng.random() < 0.3
    wide, deep = (rng.uniform(3, 4.5), rng.uniform(3, 4)) if calibrated else (rng.uniform(4, 7), rng.uniform(3, 6))
    ground = stage.around(stage.spot((0.4, 0.6), (0.55, 0.7)), wide, deep)
    limit = math.ceil(_MEDIUM_PER_M2 * wide * deep) if calibrated else _MEDIUM
    begin = rng.uniform(8, 15)
    _fill(stage, ground, round(limit * rng.uniform(1.5, 2.5)), (begin, begin + rng.uniform(3, 12)), 40.0)
    stage.passers(4, ground)
    met = stage.reached(ground, limit, _DENSITY_HOLD_S)
    sort = "a calibrated zone fills up" if calibrated else "a zone fills up"
    expected = Expected(met, _DENSITY_HOLD_S) if met is not None else None
    return stage.trial(EventType.CROWD_DENSITY, sort, ground, expected, calibrated=calibrated)


def density_below(rng: Rng, props: Props) -> Trial:
    """People stand in a zone, fewer than the limit, and others pass outside."""
    stage = Stage(rng, props, 60.0)
    ground = stage.around(stage.spot((0.4, 0.6), (0.55, 0.7)), rng.uniform(4, 7), rng.uniform(3, 6))
    for _ in range(int(rng.integers(2, _MEDIUM))):
        stage.mill(-1.0, stage.seconds, ground)
    stage.passers(12, ground)
    return stage.trial(EventType.CROWD_DENSITY, "a few stay, others pass outside", ground, None)


def density_passing(rng: Rng, props: Props) -> Trial:
    """Groups pass through a zone, too briefly."""
    stage = Stage(rng, props, 60.0)
    ground = stage.around(stage.spot((0.45, 0.55), (0.55, 0.7)), rng.uniform(2, 3), rng.uniform(3, 5))
    for begin in np.arange(5, 55, 25) + rng.uniform(0, 8, 2):
        left, pace = bool(rng.integers(2)), rng.uniform(1.2, 1.6)
        for _ in range(int(rng.integers(5, 8))):
            depth = stage.within(ground)[1]
            path = [stage.side(left, depth), stage.side(not left, depth)]
            stage.add(stage.way(float(begin + rng.uniform(0, 0.8)), path, pace))
    if stage.reached(ground, _MEDIUM, _DENSITY_HOLD_S - 1.5) is not None:
        return density_below(rng, props)
    return stage.trial(EventType.CROWD_DENSITY, "groups pass through", ground, None)


def gathering(rng: Rng, props: Props) -> Trial:
    """A group gathers and stays."""
    stage = Stage(rng, props, 90.0)
    ground = stage.around(stage.spot((0.4, 0.6), (0.5, 0.65)), rng.uniform(5, 9), rng.uniform(4, 7))
    begin = rng.uniform(6, 15)
    _fill(stage, ground, int(rng.integers(13, 22)), (begin, begin + rng.uniform(5, 15)), 60.0)
    stage.passers(4, ground)
    met = stage.reached(ground, _GATHERING, _GATHERING_HOLD_S)
    expected = None if met is None else Expected(met, _GATHERING_HOLD_S)
    return stage.trial(EventType.CROWD_GATHERING, "a group gathers and stays", ground, expected)


def gathering_few(rng: Rng, props: Props) -> Trial:
    """A smaller group stays, another one next to the zone."""
    stage = Stage(rng, props, 90.0)
    middle = stage.spot((0.4, 0.6), (0.55, 0.65))
    ground = stage.around(middle, rng.uniform(4, 6), rng.uniform(3, 4))
    for _ in range(int(rng.integers(5, 8))):
        stage.mill(-1.0, stage.seconds, ground)
    beside = stage.around((middle[0] + 6.0, middle[1] + rng.uniform(0, 2)), 3.0, 3.0)
    for _ in range(int(rng.integers(3, 7))):
        stage.mill(-1.0, stage.seconds, beside)
    return stage.trial(EventType.CROWD_GATHERING, "a smaller group, another one outside", ground, None)


def gathering_brief(rng: Rng, props: Props) -> Trial:
    """A large group comes, stops for some seconds, and goes on."""
    stage = Stage(rng, props, 60.0)
    ground = stage.around(stage.spot((0.4, 0.6), (0.5, 0.65)), rng.uniform(5, 8), rng.uniform(4, 6))
    _fill(stage, ground, int(rng.integers(11, 18)), (10.0, 13.0), rng.uniform(5, 12))
    if stage.reached(ground, _GATHERING, _GATHERING_HOLD_S - 5) is not None:
        return gathering_few(rng, props)
    return stage.trial(EventType.CROWD_GATHERING, "a group stops briefly", ground, None)


def gathering_passing(rng: Rng, props: Props) -> Trial:
    """A steady stream of people."""
    stage = Stage(rng, props, 90.0)
    ground = stage.around(stage.spot((0.4, 0.6), (0.55, 0.65)), rng.uniform(4, 6), rng.uniform(4, 6))
    stage.passers(rng.uniform(30, 60))
    if stage.reached(ground, _GATHERING - 1, _GATHERING_HOLD_S / 3) is not None:
        return gathering_few(rng, props)
    return stage.trial(EventType.CROWD_GATHERING, "a steady stream", ground, None)


def _occupied(stage: Stage, ground: list[Place], wanted: Sequence[tuple[float, float]]) -> None:
    """So many people in a rectangle over time, with some coming and going in between."""
    here = list[float]()  # when each of them leaves
    stays: list[list[float]] = []
    for time in np.arange(-2.0, stage.seconds, 2.0).tolist():
        level = float(np.interp(time, *np.array(wanted).T))
        turned = stage.rng.random() < 0.04 * len(here)
        target = round(level)
        while len(here) > max(0, target - (1 if turned else 0)):
            stays[int(here.pop(int(stage.rng.integers(len(here)))))][1] = time
        while len(here) < target:
            here.append(len(stays))
            stays.append([time + stage.rng.uniform(0, 2), stage.seconds + 5])
    for begin, end in stays:
        depth = stage.within(ground)[1]
        came = stage.side(bool(stage.rng.integers(2)), depth)
        if begin <= 0:
            stage.mill(begin, max(end - _LINGERS_S, 1.0), ground, pause_s=_PAUSE_S)
        else:
            walk = math.dist(came, (0, depth)) / 1.3
            stage.mill(begin - walk, max(end - _LINGERS_S, begin + 1.0), ground, pause_s=_PAUSE_S, came_from=came)


def _square(stage: Stage) -> list[Place]:
    return stage.around(stage.spot((0.45, 0.55), (0.5, 0.6)), stage.rng.uniform(7, 10), stage.rng.uniform(5, 7))


def forecast(rng: Rng, props: Props) -> Trial:
    """A zone fills up steadily, over its limit."""
    stage = Stage(rng, props, 300.0, fps=4.0, high=(5.0, 8.0))
    ground, limit = _square(stage), int(rng.integers(10, 16))
    begin, crossed = rng.uniform(30, 70), rng.uniform(170, 270)
    first = limit * rng.uniform(0.1, 0.3)
    slope = (limit - first) / (crossed - begin)
    _occupied(
        stage, ground, [(0, first), (begin, first), (begin + 2 * (crossed - begin), limit + slope * (crossed - begin))]
    )
    met = stage.reached(ground, limit, 6.0)
    # Likelier than not may be said from when the trend is there; at the latest when it has come true.
    expected = None if met is None else Expected(met, early_s=max(met - begin, 0.0), late_s=0.0)
    return stage.trial(EventType.CROWD_FORECAST, "fills up steadily", ground, expected, rule={"limit": limit})


def forecast_steady(rng: Rng, props: Props) -> Trial:
    """A zone stays half full, fills a little and empties again, or empties."""
    stage = Stage(rng, props, 300.0, fps=4.0, high=(5.0, 8.0))
    ground, limit = _square(stage), int(rng.integers(12, 18))
    level = limit * rng.uniform(0.3, 0.6)
    courses = {
        "stays half full": [(0, level), (300, level)],
        "fills a little and empties": [(0, 0.4 * level), (120, level), (170, level), (280, 0.3 * level)],
        "empties": [(0, 0.75 * limit), (60, 0.75 * limit), (200, 0.2 * limit)],
        "fills a little and stays": [(0, 0.2 * limit), (60, 0.2 * limit), (150, 0.55 * limit), (300, 0.55 * limit)],
    }
    sort = str(rng.choice(list(courses)))
    _occupied(stage, ground, courses[sort])
    if stage.reached(ground, limit, 0.25) is not None:
        return forecast_steady(rng, props)  # it did fill up, as chance would have it
    return stage.trial(EventType.CROWD_FORECAST, sort, ground, None, rule={"limit": limit})


def _open(rng: Rng, props: Props, seconds: float) -> Stage:
    """A camera that overlooks a square."""
    return Stage(rng, props, seconds, fps=_FLOW_FPS, size=_FLOW_SIZE, high=(5.0, 9.0), pitch=(24.0, 40.0))


def _moves(stage: Stage, sort: str, met: float | None) -> Trial:
    expected = None if met is None else Expected(met, _MOVEMENT_HOLD_S, late_s=6.0)
    return stage.trial(EventType.CROWD_MOVEMENT, sort, None, expected, painted=True)


def _standing(stage: Stage, middle: Place, radius: float, count: int) -> list[Place]:
    """Places over a disc, at least shoulders apart."""
    places = []
    for number in range(count):
        angle, far = 2.4 * number + stage.rng.normal(0, 0.2), radius * math.sqrt((number + 0.5) / count)
        places.append(stage.off(middle, far, angle))
    return places


def surge(rng: Rng, props: Props) -> Trial:
    """A crowd comes running, in one direction."""
    stage = _open(rng, props, 30.0)
    middle = stage.spot((0.4, 0.6), (0.5, 0.65))
    heading = rng.uniform(-0.9, 0.9) + (math.pi if rng.integers(2) else 0.0)
    begin, pace = rng.uniform(8, 12), rng.uniform(2.9, 4.0)
    for _ in range(int(rng.integers(28, 45))):
        along, aside = rng.uniform(-20, -2), rng.uniform(-3, 3)
        start = stage.off(stage.off(middle, along, heading), aside, heading + math.pi / 2)
        run = stage.way(begin, [start, stage.off(start, 60, heading)], pace * rng.uniform(0.9, 1.1))
        stage.add([(-1.0, *start), *run])
    # The first of them stand in the picture; all others run into it.
    return _moves(stage, "surge", begin + 0.5)


def dispersal(rng: Rng, props: Props) -> Trial:
    """A group runs apart."""
    stage = _open(rng, props, 30.0)
    middle = stage.spot((0.4, 0.6), (0.5, 0.6))
    begin = rng.uniform(8, 14)
    for place in _standing(stage, middle, rng.uniform(1.5, 2.5), int(rng.integers(14, 24))):
        angle = math.atan2(place[1] - middle[1], place[0] - middle[0]) + rng.normal(0, 0.25)
        run = stage.way(begin + abs(rng.normal(0, 0.3)), [place, stage.off(place, 40, angle)], rng.uniform(2.8, 3.8))
        stage.add([(-1.0, *place), *run])
    return _moves(stage, "dispersal", begin + 0.5)


def convergence(rng: Rng, props: Props) -> Trial:
    """People come together from all sides."""
    stage = _open(rng, props, 35.0)
    middle = stage.spot((0.4, 0.6), (0.5, 0.65))
    begin = rng.uniform(6, 10)
    count = int(rng.integers(14, 24))
    for number, place in enumerate(_standing(stage, middle, rng.uniform(1.2, 2.0), count)):
        angle = 2.4 * number
        start = stage.off(middle, rng.uniform(6, 11), angle)
        stage.add(
            [(-1.0, *start), *stage.way(begin + rng.uniform(0, 1.5), [start, place, 20.0], rng.uniform(1.1, 1.6))]
        )
    return _moves(stage, "convergence", begin + 1.0)


def counterflow(rng: Rng, props: Props) -> Trial:
    """Two streams push through each other."""
    stage = _open(rng, props, 35.0)
    _, depth = stage.spot((0.5, 0.5), (0.55, 0.7))
    begin, wide = rng.uniform(4, 8), rng.uniform(1.2, 2.0)
    for way in (True, False):
        for _ in range(int(rng.integers(16, 24))):
            y = depth + rng.uniform(-wide, wide)
            start = stage.side(way, y)
            late = rng.uniform(0, 14)
            stage.add(stage.way(begin + late, [start, stage.side(not way, y)], rng.uniform(0.9, 1.3)))
    # Both heads meet in the middle; enough are there when half of the way is taken.
    met = begin + 0.5 * (2 * abs(start[0])) / 1.1
    return _moves(stage, "counterflow", met)


def movement_not(rng: Rng, props: Props) -> Trial:
    """Crowds that walk, stand, mill about, pass each other with room, part at a walk; a few who run among them."""
    stage = _open(rng, props, 40.0)
    middle = stage.spot((0.4, 0.6), (0.5, 0.65))
    sort = str(
        rng.choice(
            ["procession", "both ways with room", "milling about", "parting at a walk", "few run", "small group runs"]
        )
    )
    count = int(rng.integers(14, 26))
    if sort == "procession":
        heading = rng.uniform(0, 2 * math.pi)
        for _ in range(2 * count):
            start = stage.off(
                stage.off(middle, rng.uniform(-30, 3), heading), rng.uniform(-2.5, 2.5), heading + math.pi / 2
            )
            stage.add(stage.way(-1.0, [start, stage.off(start, 70, heading)], rng.uniform(1.0, 1.5)))
    elif sort == "both ways with room":
        for _ in range(2 * count):
            way = bool(rng.integers(2))
            y = middle[1] + (1.5 if way else -1.5) + rng.uniform(-0.8, 0.8)
            stage.add(stage.way(rng.uniform(-8, 30), [stage.side(way, y), stage.side(not way, y)]))
    elif sort == "milling about":
        for _ in range(count):
            stage.mill(-1.0, stage.seconds, stage.around(middle, 8, 6), pause_s=2.0)
    elif sort == "parting at a walk":
        for place in _standing(stage, middle, rng.uniform(2, 3), count):
            angle = math.atan2(place[1] - middle[1], place[0] - middle[0])
            leave = stage.way(rng.uniform(10, 14), [place, stage.off(place, 40, angle)], rng.uniform(0.9, 1.5))
            stage.add([(-1.0, *place), *leave])
    else:
        if sort == "few run":
            for _ in range(count):
                stage.mill(-1.0, stage.seconds, stage.around(middle, 9, 6), pause_s=3.0)
        heading = rng.uniform(0, 2 * math.pi)
        for _ in range(int(rng.integers(2, 5)) if sort == "few run" else int(rng.integers(4, 7))):
            start = stage.off(stage.off(middle, -12, heading), rng.uniform(-2, 2), heading + math.pi / 2)
            stage.add(stage.way(rng.uniform(10, 14), [start, stage.off(start, 40, heading)], rng.uniform(2.6, 3.8)))
    return stage.trial(EventType.CROWD_MOVEMENT, sort, None, None, painted=True)
