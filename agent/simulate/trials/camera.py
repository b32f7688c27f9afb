"""Trials of the camera itself: covered, out of focus, turned away, blinded; and weather, lorries, lights and crowds."""

from __future__ import annotations

import math

import numpy as np

from agent.contract import EventType
from agent.perception.scene import ObjectClass
from agent.simulate.render import Shade, Tampering
from agent.simulate.trials.stage import Expected, Props, Stage, Trial

_HOLD_S = 5.0
_FPS, _SIZE = 4.0, (320, 240)
#: How long a camera is left alone first, seconds, from and to.
_FIRST_S = (30.0, 50.0)

Rng = np.random.Generator


def tampered(rng: Rng, props: Props) -> Trial:
    """Somebody covers, defocuses, turns or blinds the camera."""
    stage = Stage(rng, props, 80.0, fps=_FPS, size=_SIZE)
    kind = str(rng.choice(["cover", "defocus", "move", "blind"]))
    begin, takes_s = rng.uniform(*_FIRST_S), rng.uniform(0.3, 2.0)
    strength = {
        "cover": rng.uniform(0.9, 1.0),
        "defocus": rng.uniform(0.3, 1.0),
        "move": rng.uniform(0.6, 1.0),
        "blind": rng.uniform(0.9, 1.0),
    }[kind]
    picture = props.things.cover(rng, *_SIZE) if kind == "cover" else props.backgrounds.draw(rng, *_SIZE)
    keys = np.array([[begin, 0.0], [begin + takes_s, strength], [stage.seconds + 10, strength]])
    stage.tampering.append(Tampering(kind, keys, picture))
    stage.passers(rng.uniform(2, 12))
    names = {"cover": "covered", "defocus": "out of focus", "move": "turned away", "blind": "blinded"}
    expected = Expected(begin + takes_s, _HOLD_S, early_s=takes_s + 1.0)
    return stage.trial(EventType.CAMERA_TAMPERED, names[kind], None, expected, painted=True)


def tampered_not(rng: Rng, props: Props) -> Trial:
    """Light and weather change, a lorry passes, headlights shine, a hand or a bird is before the lens for a moment."""
    stage = Stage(rng, props, 100.0, fps=_FPS, size=_SIZE)
    sorts = [
        "a lorry passes",
        "headlights",
        "exposure jumps",
        "dusk falls",
        "something before the lens for a moment",
        "a crowd passes",
        "shakes in the wind",
        "clouds",
    ]
    sort = str(rng.choice(sorts))
    begin = rng.uniform(*_FIRST_S)
    if sort == "a lorry passes":
        y = stage.view.ground(0.5, 0.93)[1]
        far = stage.side(True, y)[0] - 5
        path = stage.way(begin, [(far, y), (-far, y)], rng.uniform(3.5, 7))
        number = stage.add(path, kind=ObjectClass.TRUCK, steadfast=True)
        stage.pose(number, (0.0, rng.uniform(2.5, 3.5), rng.uniform(5, 8), 0.0))
        stage.vehicles[number] = props.things.vehicle(rng)
    elif sort == "headlights":
        stays = rng.uniform(1, 3.5)
        keys = np.array(
            [
                [begin, 0.0],
                [begin + 0.5, rng.uniform(0.5, 0.95)],
                [begin + stays, rng.uniform(0.5, 0.95)],
                [begin + stays + 0.5, 0.0],
            ]
        )
        stage.tampering.append(Tampering("blind", keys, props.things.cover(rng, *_SIZE)))
    elif sort == "exposure jumps":
        stage.light = [(0.0, 1.0)]
        for time in np.sort(rng.uniform(20, 95, 5)).tolist():
            stage.light += [(time, stage.light[-1][1]), (time + 0.2, rng.uniform(0.6, 1.4))]
    elif sort == "dusk falls":
        stage.light = [(0.0, 1.0), (begin, 1.0), (begin + rng.uniform(20, 45), rng.uniform(0.25, 0.5))]
    elif sort == "something before the lens for a moment":
        stays = rng.uniform(0.5, 3.5)
        keys = np.array(
            [
                [begin, 0.0],
                [begin + 0.2, rng.uniform(0.5, 1)],
                [begin + stays, rng.uniform(0.5, 1)],
                [begin + stays + 0.2, 0.0],
            ]
        )
        stage.tampering.append(Tampering("cover", keys, props.things.cover(rng, *_SIZE)))
    elif sort == "a crowd passes":
        stage.passers(60)
    elif sort == "clouds":
        stage.shades.append(
            Shade(
                np.array([(-1.5, -0.2), (-0.2, -0.2), (0.0, 1.2), (-1.3, 1.2)]),
                0.05,
                np.array([[0.0, rng.uniform(0.4, 0.7)]]),
                (rng.uniform(0.01, 0.05), 0.0),
            )
        )
    stage.passers(rng.uniform(2, 12))
    look = stage.weather()
    if sort == "shakes in the wind":
        from dataclasses import replace

        gust = rng.uniform(0.6, 2.0)
        wind = np.array([[t, gust * (0.5 + 0.5 * math.sin(t / 4))] for t in np.arange(0, 110, 1.0).tolist()])
        look = replace(look, shake=wind)
    return stage.trial(EventType.CAMERA_TAMPERED, sort, None, None, painted=True, look=look)
