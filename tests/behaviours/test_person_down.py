from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from agent.behaviours.episode import EpisodeChange
from agent.capture.frame import Frame
from agent.contract import Phase
from agent.perception.scale import PersonScale
from agent.perception.scene import Detections, Scene, Tracks
from tests.behaviours.conftest import HEIGHT, WIDTH, MakeBehaviour

WHOLE = ((0, 0), (1, 0), (1, 1), (0, 1))
TALL, WIDE, X, FLOOR = 160.0, 55.0, 500.0, 400.0
Box = tuple[float, float, float, float]


def scene(time: float, tracked: Box | None, found: list[tuple[Box, float]]) -> Scene:
    boxes = np.array([tracked] if tracked else [], np.float32).reshape(-1, 4)
    none = np.zeros(len(boxes), np.float32)
    tracks = Tracks(
        np.zeros(len(boxes), np.int64), boxes, boxes[:, :2] * 0, np.zeros(len(boxes), np.uint8), none + 1, none, none
    )
    seen = np.array([box for box, _ in found], np.float32).reshape(-1, 4)
    detections = Detections(seen, np.array([s for _, s in found], np.float32), np.zeros(len(found), np.uint8))
    return Scene(Frame(np.zeros((HEIGHT, WIDTH, 3), np.uint8), time, 0), tracks, detections, PersonScale())


def standing(height: float, x: float = X, floor: float = FLOOR) -> Box:
    return x - WIDE / 2, floor - height, x + WIDE / 2, floor


LYING = (X - 80, FLOOR - 45, X + 80, FLOOR + 10)


def fall(
    *, down_to: float = 0.3, in_s: float = 0.8, after: list[tuple[Box, float]], up_at: float | None = None
) -> Iterator[Scene]:
    """Three seconds upright, then the height falls to a share of itself, then only detections are left."""
    for tick in range(200):
        time = tick / 10
        if time < 3:
            yield scene(time, standing(TALL), [(standing(TALL), 0.9)])
        elif time < 3 + in_s:
            height = TALL * (1 - (1 - down_to) * (time - 3) / in_s)
            yield scene(time, standing(height), [(standing(height), 0.6)])
        elif up_at is not None and time > up_at:
            yield scene(time, standing(TALL), [(standing(TALL), 0.9)])
        else:
            yield scene(time, None, after if tick % 3 == 0 else [])


def watched(behaviour: MakeBehaviour, scenes: Iterator[Scene]) -> list[EpisodeChange]:
    down = behaviour("person.down", WHOLE, hold_s=3)
    return [change for one in scenes for change in down.update(one)]


def test_who_falls_and_lies_is_down(behaviour: MakeBehaviour) -> None:
    changes = watched(behaviour, fall(after=[(LYING, 0.3)]))
    assert [change.phase for change in changes] == [Phase.STARTED]
    assert 6.0 <= changes[0].time <= 7.5


def test_who_gets_up_before_the_time_was_not_down(behaviour: MakeBehaviour) -> None:
    assert not watched(behaviour, fall(after=[(LYING, 0.3)], up_at=5.0))


def test_who_gets_up_later_ends_it(behaviour: MakeBehaviour) -> None:
    changes = watched(behaviour, fall(after=[(LYING, 0.3)], up_at=10.0))
    assert [change.phase for change in changes] == [Phase.STARTED, Phase.ENDED]


@pytest.mark.parametrize(
    ("scenes", "why"),
    [
        (fall(after=[]), "gone behind something"),
        (fall(down_to=0.75, after=[((X - 30, FLOOR - 120, X + 30, FLOOR), 0.8)]), "sits on a bench"),
        (fall(in_s=4.0, after=[(LYING, 0.5)]), "lies down slowly"),
        (fall(after=[(standing(TALL, X + 60), 0.8)]), "another stands there"),
        (fall(after=[((X - 80, FLOOR - 160, X + 80, FLOOR - 100), 0.5)]), "something far behind"),
        (fall(after=[((X - 15, FLOOR - 90, X + 15, FLOOR), 0.9)]), "a child, or the half of two who were one box"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_fall(behaviour: MakeBehaviour, scenes: Iterator[Scene], why: str) -> None:
    del why
    assert not watched(behaviour, scenes)


@pytest.mark.parametrize(
    ("blob", "down"), [(LYING, True), (standing(TALL), False), ((X - 160, FLOOR - TALL, X + 160, FLOOR), False)]
)
def test_a_detector_that_knows_nobody_who_lies_is_helped_by_what_differs_from_the_background(
    behaviour: MakeBehaviour, blob: Box, down: bool
) -> None:
    moving = np.array([blob], np.float32)
    assert bool(watched(behaviour, (replace(one, moving=moving) for one in fall(after=[])))) == down


def test_who_walks_out_below_the_camera_has_not_fallen(behaviour: MakeBehaviour) -> None:
    def scenes() -> Iterator[Scene]:
        for tick in range(60):
            floor = 300 + 12 * tick
            height = 0.4 * floor
            box = standing(height, floor=floor)
            cut = (box[0], box[1], box[2], min(box[3], HEIGHT))
            yield scene(tick / 10, cut, [(cut, 0.9)]) if cut[1] < HEIGHT - 20 else scene(tick / 10, None, [])

    assert not watched(behaviour, scenes())


def test_it_ends_with_the_camera(behaviour: MakeBehaviour) -> None:
    down = behaviour("person.down", WHOLE, hold_s=3)
    for one in fall(after=[(LYING, 0.3)]):
        list(down.update(replace(one)))
    assert [change.phase for change in down.close(20.0)] == [Phase.ENDED]
    assert not list(down.update(scene(21.0, None, [])))
