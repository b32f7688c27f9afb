"""Trials of single people: who runs, stays, falls, fights; and who jogs, waits, sits, lies on a bench, hugs, plays."""

from __future__ import annotations

import math

import numpy as np

from agent.contract import EventType
from agent.perception.scene import ObjectClass
from agent.simulate.trials.stage import Expected, Place, Props, Stage, Trial

_RUNNING_HOLD_S, _LOITERING_S, _DOWN_S, _FIGHT_HOLD_S = 0.5, 60.0, 8.0, 1.0
#: Frames a second, and size, where violent motion is looked at.
_FLOW_FPS, _FLOW_SIZE = 10.0, (200, 150)
#: How much harder than upright people those are to find who sit, kneel or bend, and who lie; probits, from and to.
#: Chosen, not measured: 18 % of upright people are missed, then up to 34 %, and up to 62 % of those who lie.
_SITS, _LIES = (0.0, 0.5), (0.0, 1.2)

Rng = np.random.Generator


# Running


def _across(stage: Stage, begin: float, pace: float, slant: float) -> list[tuple[float, float, float]]:
    """A path through the picture, so far from straight across, radians."""
    middle = stage.spot((0.4, 0.6), (0.5, 0.75))
    heading = stage.rng.uniform(-slant, slant) + (math.pi if stage.rng.integers(2) else 0.0)
    far = 0.7 * 2 * abs(stage.side(True, middle[1])[0])
    return stage.way(begin, [stage.off(middle, -far, heading), stage.off(middle, far, heading)], pace)


def running(rng: Rng, props: Props) -> Trial:
    """Somebody runs through."""
    stage = Stage(rng, props, 30.0, fps=10.0)
    path = _across(stage, rng.uniform(3, 10), rng.uniform(3.2, 5.0), math.radians(50))
    stage.add(path)
    stage.passers(8)
    met = stage.seen(path, 0.4)
    return stage.trial(EventType.PERSON_RUNNING, "runs through", None, Expected(met, _RUNNING_HOLD_S, late_s=5.0))


def running_not(rng: Rng, props: Props) -> Trial:
    """People walk fast, jog at up to four fifths of the limit, ride, or weave through each other."""
    stage = Stage(rng, props, 60.0, fps=10.0)
    sort = str(rng.choice(["walk fast", "jog below the limit", "ride bicycles", "weave through each other"]))
    if sort == "weave through each other":
        stage.passers(40)
        return stage.trial(EventType.PERSON_RUNNING, sort, None, None)
    for begin in np.arange(0, 56, 8).tolist():
        if sort == "ride bicycles":
            path = _across(stage, begin, rng.uniform(3.5, 6.0), 0.6)
            stage.add(path, steadfast=True)
            bicycle = stage.add(path, kind=ObjectClass.BICYCLE, steadfast=True)
            stage.pose(bicycle, (0.0, 1.05, 1.6, 0.0))
        else:
            # Steadfast, for whoever catches up after making way does run.
            pace = rng.uniform(*((1.8, 2.1) if sort == "walk fast" else (1.9, 2.2)))
            stage.add(_across(stage, begin, pace, 1.5), steadfast=True)
    stage.passers(6)
    return stage.trial(EventType.PERSON_RUNNING, sort, None, None)


# Loitering


def _area(stage: Stage) -> list[Place]:
    return stage.around(stage.spot((0.4, 0.6), (0.5, 0.7)), stage.rng.uniform(4, 7), stage.rng.uniform(3, 6))


def loitering(rng: Rng, props: Props) -> Trial:
    """Somebody stays for too long."""
    stage = Stage(rng, props, 105.0)
    ground = _area(stage)
    came = stage.side(bool(rng.integers(2)), stage.within(ground)[1])
    arrives = rng.uniform(6, 12)
    walk = math.dist(came, (sum(x for x, _ in ground) / 4, came[1])) / 1.3
    number = stage.mill(
        arrives - walk, arrives + rng.uniform(74, 85), ground, pause_s=rng.uniform(3, 12), came_from=came
    )
    stage.passers(8, ground, 0.3)
    for begin in rng.uniform(0, 100, 4).tolist():  # and some through the zone
        stage.passes(begin, stage.within(ground)[1])
    path = [(float(t), float(x), float(y)) for t, x, y in stage.paths[number]]
    times = np.arange(0, stage.seconds, 0.1)
    alone = Stage.count(_only(stage, path), ground, times)
    met = float(times[alone.argmax()])
    return stage.trial(EventType.PERSON_LOITERING, "stays for too long", ground, Expected(met, _LOITERING_S))


def _only(stage: Stage, path: list[tuple[float, float, float]]) -> Stage:
    """A stage with nobody else on it."""
    alone = Stage(np.random.default_rng(0), stage.props, stage.seconds)
    alone.add(path)
    return alone


def loitering_not(rng: Rng, props: Props) -> Trial:
    """People stay for less than too long, follow one another, or pass through all the time."""
    stage = Stage(rng, props, 100.0)
    ground = _area(stage)
    sort = str(rng.choice(["stay briefly", "one after another", "pass through all the time"]))
    if sort == "pass through all the time":
        for begin in rng.uniform(-5, 95, 30).tolist():
            stage.passes(begin, stage.within(ground)[1])
    else:
        stays = [(5.0, rng.uniform(38, 50))] if sort == "stay briefly" else [(3.0, 28.0), (33.0, 28.0), (63.0, 28.0)]
        for begin, stays_s in stays:
            came = stage.side(bool(rng.integers(2)), stage.within(ground)[1])
            stage.mill(begin, begin + stays_s, ground, came_from=came)
    stage.passers(8, ground, 0.3)
    return stage.trial(EventType.PERSON_LOITERING, sort, ground, None)


# Falling


def _lying(
    stage: Stage, number: int, begin: float, takes_s: float, upright: tuple[float, float, float], angle: float
) -> list[tuple[float, float, float, float]]:
    """Keys of a pose that ends lying, in a direction of the ground."""
    across, along = abs(math.cos(angle)), abs(math.sin(angle))
    tall = 0.35 + 0.9 * along * math.sin(math.radians(stage.view.pitch_deg))
    wide = 0.6 + 1.1 * across
    shift = stage.rng.uniform(*_LIES)
    stage.harder[number] = np.array([[begin, 0.0], [begin + takes_s, shift + 0.01]])
    return [(begin, *upright), (begin + takes_s, tall, wide, 0.0)]


def down(rng: Rng, props: Props) -> Trial:
    """Somebody walks, falls, and stays."""
    stage = Stage(rng, props, 45.0, fps=8.0)
    place = stage.spot((0.2, 0.8), (0.5, 0.8))
    start = stage.side(bool(rng.integers(2)), place[1] + rng.normal(0, 1))
    walk = stage.way(rng.uniform(2, 6), [start, place])
    falls = walk[-1][0] + rng.choice([0.0, rng.uniform(1, 8)])
    takes_s = rng.uniform(0.5, 1.1)
    angle = rng.uniform(0, 2 * math.pi)
    # The lower edge of who falls towards the camera is where the head lies, else where the feet stood.
    rest = (place[0] + 0.7 * math.cos(angle), place[1] + min(0.0, 1.3 * math.sin(angle)) + rng.uniform(-0.2, 0.2))
    number = stage.add(
        [*walk, (falls + 0.01, *place), (falls + takes_s, *rest), (stage.seconds + 5, *rest)], steadfast=True
    )
    upright = stage.upright()
    stage.pose(number, *_lying(stage, number, falls, takes_s, upright, angle))
    stage.passers(5, stage.around(place, 3, 3), 0.3)
    return stage.trial(EventType.PERSON_DOWN, "falls and stays", None, Expected(falls + takes_s / 2, _DOWN_S))


def down_not(rng: Rng, props: Props) -> Trial:
    """People sit down, bend, kneel, lie down on a bench or slowly, get up after a fall, or are hidden below."""
    stage = Stage(rng, props, 60.0, fps=8.0)
    sorts = [
        "sits down",
        "bends down",
        "kneels",
        "lies down on a bench",
        "lies down slowly",
        "falls and gets up",
        "walks behind a wall",
    ]
    sort = str(rng.choice(sorts))
    place = stage.spot((0.3, 0.7), (0.5, 0.75))
    start = stage.side(bool(rng.integers(2)), place[1] + rng.normal(0, 0.5))
    walk = stage.way(rng.uniform(2, 6), [start, place, rng.uniform(0.5, 3.0)])
    begin = walk[-1][0]
    tall, wide, _ = upright = stage.upright()
    leaves = begin + rng.uniform(20, 30)
    number = stage.add([*walk, *stage.way(leaves, [place, start])], steadfast=True)
    sits = (0.76 * tall, wide + 0.1, 0.0)
    keys = [(0.0, *upright), (begin, *upright)]
    if sort == "sits down":
        takes_s = rng.uniform(0.7, 1.8)
        keys += [(begin + takes_s, *sits), (leaves - 1.5, *sits), (leaves, *upright)]
    elif sort == "bends down":
        for bend in np.arange(begin, leaves - 6, 6).tolist():
            low = (tall * rng.uniform(0.55, 0.75), wide + 0.25, 0.0)
            stays = rng.uniform(0.5, 3)
            keys += [
                (bend + 0.1, *upright),
                (bend + 0.9, *low),
                (bend + 0.9 + stays, *low),
                (bend + 1.8 + stays, *upright),
            ]
    elif sort == "kneels":
        low = (tall * rng.uniform(0.62, 0.72), wide + 0.1, 0.0)
        keys += [(begin + rng.uniform(0.8, 1.5), *low), (leaves - 2, *low), (leaves - 0.8, *upright)]
    elif sort == "lies down on a bench":
        lies = (0.4, 1.65, 0.45)
        lies_at = begin + rng.uniform(3, 6)
        keys += [
            (begin + 1.2, *sits),
            (lies_at, *sits),
            (lies_at + rng.uniform(1.5, 3), *lies),
            (leaves - 4, *lies),
            (leaves - 2, *sits),
            (leaves, *upright),
        ]
    elif sort == "lies down slowly":
        low, lies = (0.55 * tall, 0.8, 0.0), (0.45, 1.65, 0.0)
        sat = begin + rng.uniform(2, 3)
        lay = sat + rng.uniform(2, 6)
        keys += [
            (sat, *low),
            (lay, *low),
            (lay + rng.uniform(1.8, 3), *lies),
            (leaves - 4, *lies),
            (leaves - 2, *low),
            (leaves, *upright),
        ]
    elif sort == "falls and gets up":
        lies = (0.5, 1.4, 0.0)
        up = begin + rng.uniform(2.5, 5.0)
        keys += [(begin + rng.uniform(0.5, 1.0), *lies), (up - 1.2, *lies), (up, *upright)]
    else:
        hidden = (0.55 * tall, wide, 0.45 * tall)
        keys += [(begin + 0.4, *hidden), (leaves - 0.4, *hidden), (leaves, *upright)]
    stage.pose(number, *keys)
    shift = rng.uniform(*(_LIES if "lies" in sort or "falls" in sort else _SITS))
    stage.harder[number] = np.array([[begin, 0.0], [begin + 1, shift], [leaves - 1, shift], [leaves, 0.0]])
    stage.passers(6, stage.around(place, 2, 2), 0.3)
    return stage.trial(EventType.PERSON_DOWN, sort, None, None)


# Fighting


def _near(rng: Rng, props: Props, seconds: float) -> Stage:
    """A camera that sees people large enough."""
    return Stage(rng, props, seconds, fps=_FLOW_FPS, size=_FLOW_SIZE, high=(2.8, 4.5), pitch=(18.0, 30.0))


def _meet(stage: Stage, place: Place, count: int, meets: float, until: float, apart: float) -> list[int]:
    """Some people come to a place, stand close to each other, and part; their numbers."""
    numbers = []
    for number in range(count):
        spot = stage.off(place, apart / 2, 2 * math.pi * number / count + 0.3)
        came = stage.side(bool(number % 2), spot[1])
        speed = stage.speed()
        walk = math.dist(came, spot) / speed
        path = [(meets - walk, *came), (meets, *spot), (until, *spot), (until + walk, *came)]
        numbers.append(stage.add(path, steadfast=True))
    return numbers


def _sway(stage: Stage, number: int, begin: float, end: float, far: float, every_s: tuple[float, float]) -> None:
    """Somebody moves to and fro around their place, so far and so often."""
    path = stage.paths[number]
    before, after = path[path[:, 0] <= begin], path[path[:, 0] >= end]
    here = path[np.searchsorted(path[:, 0], begin, side="right") - 1, 1:]
    time, moves = begin, []
    while time < end - every_s[1]:
        time += stage.rng.uniform(*every_s)
        moves.append((time, *stage.off((float(here[0]), float(here[1])), stage.rng.uniform(0.3, 1.0) * far)))
    stage.paths[number] = np.concatenate([before, np.array(moves).reshape(-1, 3), after])


def fight(rng: Rng, props: Props) -> Trial:
    """Some people come to blows."""
    stage = _near(rng, props, 40.0)
    place = stage.spot((0.35, 0.65), (0.6, 0.8))
    meets = rng.uniform(6, 9)
    begins = meets + rng.uniform(1, 5)
    ends = begins + rng.uniform(8, 16)
    for number in _meet(stage, place, int(rng.integers(2, 5)), meets, ends + 2, rng.uniform(0.7, 1.1)):
        _sway(stage, number, begins, ends, rng.uniform(0.3, 0.6), (0.25, 0.6))
        reach = rng.uniform(0.3, 0.42)
        stage.blows[number] = np.array([[begins, 0.0], [begins + 0.2, reach], [ends - 0.2, reach], [ends, 0.0]])
    stage.passers(6, stage.around(place, 3, 3), 0.5)
    expected = Expected(begins, _FIGHT_HOLD_S, late_s=8.0)
    return stage.trial(EventType.ALTERCATION, "some people come to blows", None, expected, painted=True)


def fight_not(rng: Rng, props: Props) -> Trial:
    """People hug, shake hands, talk with their hands, play, dance slowly, run past, or a crowd passes."""
    stage = _near(rng, props, 45.0)
    place = stage.spot((0.35, 0.65), (0.6, 0.8))
    sorts = [
        "hug",
        "shake hands",
        "talk with their hands",
        "children play",
        "run past",
        "crowd passes",
        "one exercises alone",
    ]
    sort = str(rng.choice(sorts))
    meets = rng.uniform(5, 8)
    until = meets + rng.uniform(12, 25)
    if sort == "hug":
        for number in _meet(stage, place, 2, meets, until, 0.35):
            _sway(stage, number, meets + 0.5, until, 0.12, (0.6, 1.5))
    elif sort in {"shake hands", "talk with their hands"}:
        for number in _meet(stage, place, int(rng.integers(2, 4)), meets, until, 0.9):
            keys = [[meets, 0.0]]
            for time in np.arange(meets + 1, until - 2, 4).tolist():
                reach = rng.uniform(0.05, 0.09) if sort == "shake hands" else rng.uniform(0.08, 0.14)
                stays = 1.2 if sort == "shake hands" else 3.0
                keys += [[time, 0.0], [time + 0.1, reach], [time + stays, reach], [time + stays + 0.1, 0.0]]
            stage.blows[number] = np.array(keys)
    elif sort == "children play":
        ground = stage.around(place, 5, 4)
        for _ in range(int(rng.integers(2, 5))):
            path = [(-1.0, *stage.within(ground))]
            while path[-1][0] < stage.seconds:
                path += stage.way(
                    path[-1][0],
                    [(path[-1][1], path[-1][2]), stage.within(ground), float(rng.exponential(0.8))],
                    rng.uniform(1.5, 2.8),
                )[1:]
            number = stage.add(path)
            tall = rng.uniform(1.05, 1.35)
            stage.pose(number, (0.0, tall, 0.5, 0.0))
    elif sort == "run past":
        for begin in np.arange(2, 40, 6).tolist():
            stage.add(_across(stage, begin, rng.uniform(2.8, 4.2), 0.8))
    elif sort == "crowd passes":
        stage.passers(45)
    else:
        (number,) = _meet(stage, place, 1, meets, until, 0.0)
        reach = rng.uniform(0.25, 0.4)
        stage.blows[number] = np.array([[meets, 0.0], [meets + 0.5, reach], [until - 0.5, reach], [until, 0.0]])
    stage.passers(6, stage.around(place, 3, 3), 0.5)
    return stage.trial(EventType.ALTERCATION, sort, None, None, painted=True)
