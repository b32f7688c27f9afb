from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from agent.behaviours.episode import EpisodeChange
from agent.contract import Phase, Variant
from agent.perception.scene import Flow
from tests.behaviours.conftest import HEIGHT, WIDTH, MakeBehaviour, MakeScene

WHOLE = ((0, 0), (1, 0), (1, 1), (0, 1))
SHAPE = (20, 40)
STILL = Flow(25.0, np.zeros((*SHAPE, 2), np.float32), np.zeros(SHAPE, np.float32), np.zeros(SHAPE, np.float32))
TALL = 100.0

Floats = np.ndarray
#: From places, (N, 2) pixels, and the number of each, to velocities in body heights per second on the ground.
Moves = Callable[[Floats, Floats], Floats]


def watched(
    scene: MakeScene, behaviour: MakeBehaviour, places: Floats, moves: Moves, seconds: float = 4
) -> list[EpisodeChange]:
    """What is told of people who stand for five seconds, and then move so."""
    movement = behaviour("crowd.movement", WHOLE)
    numbers = np.arange(len(places))
    changes: list[EpisodeChange] = []
    for tick in range(round(10 * (5 + seconds))):
        if tick >= 50:
            velocities = moves(places, numbers) * TALL * np.array([1, 0.5])
            places = np.clip(places + velocities / 10, [30, 110], [WIDTH - 30, HEIGHT - 5])
        else:
            velocities = np.zeros_like(places)
        one = scene(tick / 10, [(int(n), x / WIDTH, y / HEIGHT) for n, (x, y) in zip(numbers, places, strict=True)])
        tracks = replace(one.tracks, velocities=velocities.astype(np.float32))
        changes += movement.update(replace(one, tracks=tracks, flow=STILL))
    return changes


def spread(count: int = 16, wide: float = 380, high: float = 120) -> Floats:
    random = np.random.default_rng(2)
    return np.array([WIDTH / 2, 300]) + random.uniform(-0.5, 0.5, (count, 2)) * [wide, high]


def outwards(places: Floats, numbers: Floats) -> Floats:
    del numbers
    away = (places - [WIDTH / 2, 300]) / [1, 0.5]
    return np.asarray(away / np.hypot(*away.T)[:, None])


MOVES: dict[Variant, tuple[Floats, Moves]] = {
    Variant.SURGE: (spread(), lambda places, _: np.tile([1.9, 0.2], (len(places), 1))),
    Variant.DISPERSAL: (spread(), lambda places, numbers: 1.9 * outwards(places, numbers)),
    Variant.CONVERGENCE: (spread(16, 900, 350), lambda places, numbers: -0.9 * outwards(places, numbers)),
    Variant.COUNTERFLOW: (
        spread(20, 900, 60),
        lambda places, numbers: np.stack([np.where(numbers % 2, 0.7, -0.7), 0 * places[:, 1]], axis=1),
    ),
}


@pytest.mark.parametrize("variant", MOVES, ids=lambda variant: variant.name.lower())
def test_a_crowd_that_moves_as_one_is_told(scene: MakeScene, behaviour: MakeBehaviour, variant: Variant) -> None:
    changes = watched(scene, behaviour, *MOVES[variant])
    assert [(change.phase, change.variant) for change in changes[:1]] == [(Phase.STARTED, variant)]
    assert 6.3 <= changes[0].time <= 8.5


@pytest.mark.parametrize("variant", MOVES, ids=lambda variant: variant.name.lower())
def test_a_few_are_no_crowd(scene: MakeScene, behaviour: MakeBehaviour, variant: Variant) -> None:
    places, moves = MOVES[variant]
    assert not watched(scene, behaviour, places[:8], moves)


@pytest.mark.parametrize(
    ("places", "moves"),
    [
        (spread(), lambda places, _: np.tile([0.8, 0.1], (len(places), 1))),
        (
            spread(16, 900, 350),
            lambda places, numbers: np.stack([np.where(numbers % 2, 0.8, -0.8), 0 * places[:, 1]], axis=1),
        ),
        (spread(), lambda places, _: np.random.default_rng(5).normal(0, 0.4, places.shape)),
        (spread(), lambda places, _: 0 * places),
        (spread(), lambda places, numbers: outwards(places, numbers) * 0.7),
    ],
    ids=["a procession", "both ways with room", "milling about", "standing", "parting at a walk"],
)
def test_what_crowds_do_all_day(scene: MakeScene, behaviour: MakeBehaviour, places: Floats, moves: Moves) -> None:
    assert not watched(scene, behaviour, places, moves)


def test_flow_stands_for_people_whom_nobody_can_tell_apart(scene: MakeScene, behaviour: MakeBehaviour) -> None:
    movement = behaviour("crowd.movement", WHOLE)
    moving = np.zeros(SHAPE, np.float32)
    moving[4:16, 8:32] = 1.0
    velocities = np.zeros((*SHAPE, 2), np.float32)
    velocities[..., 0] = 2.0 * 0.2 * HEIGHT * moving  # a person fills a fifth of the picture
    flow = Flow(25.0, velocities, moving, moving * 0)
    changes = [c for tick in range(50) for c in movement.update(replace(scene(tick / 10, []), flow=flow))]
    assert [(change.phase, change.variant) for change in changes] == [(Phase.STARTED, Variant.SURGE)]
    assert [change.phase for change in movement.close(5.0)] == [Phase.ENDED]
