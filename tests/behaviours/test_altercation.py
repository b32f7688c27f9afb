from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from agent.behaviours.episode import EpisodeChange
from agent.contract import Phase
from agent.perception.scene import Flow
from tests.behaviours.conftest import HEIGHT, WIDTH, MakeBehaviour, MakeScene

WHOLE = ((0, 0), (1, 0), (1, 1), (0, 1))
CELL = 20.0
SHAPE = (round(HEIGHT / CELL), round(WIDTH / CELL))
#: People of the scenes are 100 pixels tall: free fall is 577 pixels per second squared.
VIOLENT, CALM = 900.0, 300.0
PAIR = [(1, 0.5, 0.8), (2, 0.55, 0.8)]


def flow(acceleration: float, x0: float, x1: float, y0: float = 0.6, y1: float = 0.8) -> Flow:
    """Cells between these shares of the picture accelerate so."""
    map_ = np.zeros(SHAPE, np.float32)
    map_[round(y0 * SHAPE[0]) : round(y1 * SHAPE[0]), round(x0 * SHAPE[1]) : round(x1 * SHAPE[1])] = acceleration
    return Flow(CELL, np.zeros((*SHAPE, 2), np.float32), (map_ > 0).astype(np.float32), map_)


STILL = flow(0, 0, 1)


def watched(
    scene: MakeScene,
    behaviour: MakeBehaviour,
    moves: Flow,
    people: list[tuple[int, float, float]],
    seconds: float = 8,
    before: Flow = STILL,
) -> list[EpisodeChange]:
    altercation = behaviour("altercation", WHOLE)
    for tick in range(300):  # the height of people is learned before, and how it usually is
        altercation.update(replace(scene(tick / 10, people), flow=before))
    changes: list[EpisodeChange] = []
    for tick in range(300, 300 + round(10 * seconds)):
        changes += altercation.update(replace(scene(tick / 10, people), flow=moves))
    for tick in range(300 + round(10 * seconds), 600):
        changes += altercation.update(replace(scene(tick / 10, people), flow=STILL))
    return changes


def test_two_who_move_violently_fight_until_it_is_calm(scene: MakeScene, behaviour: MakeBehaviour) -> None:
    changes = watched(scene, behaviour, flow(VIOLENT, 0.45, 0.6), PAIR)
    assert [change.phase for change in changes] == [Phase.STARTED, Phase.ENDED]
    assert 31 <= changes[0].time <= 34
    assert 48 <= changes[1].time <= 52


@pytest.mark.parametrize(
    ("moves", "people"),
    [
        (flow(CALM, 0.0, 1.0, 0.0, 1.0), PAIR),
        (flow(VIOLENT, 0.45, 0.6), PAIR[:1]),
        (flow(VIOLENT, 0.5, 0.52), PAIR),
        (flow(VIOLENT, 0.7, 0.85), PAIR),
        (flow(VIOLENT, 0.45, 0.6), [(1, 0.2, 0.8), (2, 0.8, 0.8)]),
    ],
    ids=["everything moves, nothing jerks", "one alone", "a hand waves", "trees beside them", "apart"],
)
def test_what_is_no_fight(
    scene: MakeScene, behaviour: MakeBehaviour, moves: Flow, people: list[tuple[int, float, float]]
) -> None:
    assert not watched(scene, behaviour, moves, people)


def test_what_is_always_agitated_is_no_fight(scene: MakeScene, behaviour: MakeBehaviour) -> None:
    noise = flow(VIOLENT, 0.0, 1.0, 0.0, 1.0)
    changes = watched(scene, behaviour, noise, PAIR, before=noise)  # it may begin with one, half a minute before
    assert Phase.STARTED not in {change.phase for change in changes}


def test_many_who_each_move_a_little_do_not_add_up(scene: MakeScene, behaviour: MakeBehaviour) -> None:
    map_ = np.zeros(SHAPE, np.float32)
    map_[12, ::6] = VIOLENT
    moves = Flow(CELL, np.zeros((*SHAPE, 2), np.float32), map_ * 0, map_)
    assert not watched(scene, behaviour, moves, PAIR)


def test_a_stumble_is_too_short(scene: MakeScene, behaviour: MakeBehaviour) -> None:
    assert not watched(scene, behaviour, flow(VIOLENT, 0.45, 0.6), PAIR, seconds=0.6)


def test_outside_of_the_zone_it_is_nobodys_business(scene: MakeScene, behaviour: MakeBehaviour) -> None:
    altercation = behaviour("altercation")
    for tick in range(200):
        assert not list(altercation.update(replace(scene(tick / 10, PAIR), flow=flow(VIOLENT, 0.6, 0.8))))
