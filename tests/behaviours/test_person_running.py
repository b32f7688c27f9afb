from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from agent.contract import Phase
from agent.perception.scene import ObjectClass, Scene
from tests.behaviours.conftest import HEIGHT, WIDTH, MakeBehaviour, MakeScene

WHOLE = ((0, 0), (1, 0), (1, 1), (0, 1))
#: Height of the scenes' people, of the picture's width.
TALL = 100 / WIDTH


def way(scene: MakeScene, speed: float, seconds: float = 3.0, fps: float = 10) -> Iterator[Scene]:
    """Somebody who moves to the right so many body heights per second."""
    for tick in range(round(seconds * fps)):
        yield scene(tick / fps, [(1, 0.1 + speed * TALL * tick / fps, 0.8)])


@pytest.mark.parametrize(("speed", "runs"), [(0.8, False), (1.4, False), (1.9, True), (3.0, True)])
@pytest.mark.parametrize("fps", [5, 10, 25])
def test_who_is_faster_than_the_limit_runs(
    scene: MakeScene, behaviour: MakeBehaviour, speed: float, runs: bool, fps: float
) -> None:
    running = behaviour("person.running", WHOLE)
    changes = [change for one in way(scene, speed, fps=fps) for change in running.update(one)]
    assert [change.phase for change in changes] == ([Phase.STARTED] if runs else [])
    if runs:
        assert 0.8 <= changes[0].time <= 1.8


def test_a_box_that_jumps_does_not_run(scene: MakeScene, behaviour: MakeBehaviour) -> None:
    running = behaviour("person.running", WHOLE)
    random = np.random.default_rng(1)
    for one in way(scene, 0.8, seconds=8):
        jitter = random.normal(0, 6, one.tracks.boxes.shape).astype(np.float32)
        assert not list(running.update(replace(one, tracks=replace(one.tracks, boxes=one.tracks.boxes + jitter))))


def test_half_a_body_that_appears_does_not_run(scene: MakeScene, behaviour: MakeBehaviour) -> None:
    running = behaviour("person.running", WHOLE)
    for one in way(scene, 0.2, seconds=6):
        hidden = 60 if one.time % 2 < 1 else 0
        boxes = one.tracks.boxes - np.array([0, 0, 0, hidden], np.float32)
        assert not list(running.update(replace(one, tracks=replace(one.tracks, boxes=boxes))))


def test_who_rides_does_not_run(scene: MakeScene, behaviour: MakeBehaviour) -> None:
    running = behaviour("person.running", WHOLE)
    for tick in range(30):
        x = 0.1 + 3 * TALL * tick / 10
        one = scene(tick / 10, [(1, x, 0.8), (2, x, 0.85)])
        classes = np.array([ObjectClass.PERSON, ObjectClass.BICYCLE], np.uint8)
        assert not list(running.update(replace(one, tracks=replace(one.tracks, classes=classes))))


def test_a_box_at_the_edge_tells_nothing(scene: MakeScene, behaviour: MakeBehaviour) -> None:
    running = behaviour("person.running", WHOLE)
    for tick in range(20):
        one = scene(tick / 10, [(1, 0.5, (HEIGHT - 0.5) / HEIGHT)])
        boxes = one.tracks.boxes.copy()
        boxes[:, [0, 2]] += 30 * tick
        assert not list(running.update(replace(one, tracks=replace(one.tracks, boxes=boxes))))
