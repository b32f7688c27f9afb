from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from agent.capture.frame import Frame
from agent.perception.change import ChangeModel
from agent.perception.patch import PatchChecker
from agent.perception.scene import Detections, ObjectClass, StillThing, Tracks

WIDTH, HEIGHT, FPS = 400, 300, 2.5
RANDOM = np.random.default_rng(1)
Image = NDArray[np.uint8]


def pattern(width: int, height: int, low: int, high: int, seed: int) -> Image:
    grain = np.random.default_rng(seed).integers(low, high, (height, width, 3)).astype(np.uint8)
    return np.asarray(cv2.GaussianBlur(grain, (0, 0), 2), np.uint8)


NOISES = np.round(RANDOM.normal(0, 3, (6, HEIGHT, WIDTH, 3))).astype(np.int16)
GROUND = pattern(WIDTH, HEIGHT, 40, 230, 2)
BAG = pattern(40, 36, 0, 90, 3)
#: Where the bag lies: x0 y0 x1 y1.
PLACE = (200, 180, 240, 216)


def with_bag(ground: Image = GROUND, x: int = PLACE[0]) -> Image:
    image: Image = ground.copy()
    image[PLACE[1] : PLACE[3], x : x + 40] = BAG
    return image


def noisy(image: Image) -> Image:
    return np.asarray(np.clip(image + NOISES[RANDOM.integers(len(NOISES))], 0, 255).astype(np.uint8), np.uint8)


def somebody(box: Sequence[float], score: float = 0.8) -> Detections:
    return Detections(
        np.array([box], np.float32), np.array([score], np.float32), np.array([ObjectClass.PERSON], np.uint8)
    )


Picture = Callable[[float], Image]
Found = Callable[[float], Detections]


def nobody(time: float) -> Detections:
    return Detections.empty()


def watch(
    seconds: float, picture: Picture, found: Found = nobody, checker: PatchChecker | None = None
) -> Iterator[tuple[float, tuple[StillThing, ...]]]:
    model = ChangeModel(checker)
    for tick in range(round(seconds * FPS)):
        time = tick / FPS
        yield time, model.update(Frame(noisy(picture(time)), time, 0), Tracks.empty(), found(time))


def told(seconds: float, picture: Picture, found: Found = nobody) -> list[tuple[StillThing, ...]]:
    return [things for _, things in watch(seconds, picture, found) if things]


def put_down(time: float) -> Image:
    return with_bag() if time >= 15 else GROUND


def test_what_comes_and_stays_is_told_with_its_place_and_its_time() -> None:
    times = {time: things for time, things in watch(30, put_down) if things}
    assert 15 < min(times) < 23
    (thing,) = times[max(times)]
    assert np.allclose(thing.box, PLACE, atol=6)
    assert 14 <= thing.since <= 15.5
    assert thing.quiet_since <= 20
    assert thing.fill > 0.9
    assert 0.6 < thing.stroke < 0.8
    assert thing.likely is None
    assert {t.number for things in times.values() for t in things} == {thing.number}


def test_a_camera_that_begins_in_the_dark_sees_things_later() -> None:
    dark = np.zeros_like(GROUND)
    model, seen = ChangeModel(), list[float]()
    for tick in range(round(300 * FPS)):
        time = tick / FPS
        picture = dark if time < 20 else noisy(with_bag() if time >= 240 else GROUND)
        if model.update(Frame(picture, time, 0), Tracks.empty(), Detections.empty()):
            seen.append(time)
    assert max(seen) > 290
    assert min(time for time in seen if time > 200) > 240


def test_what_is_taken_away_again_is_told_no_more() -> None:
    times = dict(watch(45, lambda t: with_bag() if 15 <= t < 30 else GROUND))
    assert times[28.8]
    assert not any(things for time, things in times.items() if time > 40)


def test_what_was_there_from_the_start_and_is_moved_a_little_is_no_thing() -> None:
    assert not told(45, lambda t: with_bag(x=PLACE[0] + (50 if t >= 20 else 0)))


def test_who_walks_by_is_no_thing() -> None:
    assert told(40, lambda t: with_bag(x=int(20 + 50 * (t % 6)))) == []


def test_what_was_there_from_the_start_and_goes_is_no_thing() -> None:
    assert told(60, lambda t: with_bag() if t < 20 else GROUND) == []


@pytest.mark.parametrize("gain", [0.7, 1.25])
def test_another_exposure_is_no_thing(gain: float) -> None:
    assert told(40, lambda t: np.clip(GROUND * (gain if t > 15 else 1), 0, 255).astype(np.uint8)) == []


def test_a_thing_outlives_another_exposure() -> None:
    def picture(time: float) -> Image:
        return np.asarray(np.clip(put_down(time) * (0.75 if time > 30 else 1.0), 0, 255).astype(np.uint8), np.uint8)

    times = dict(watch(50, picture))
    assert {len(things) for time, things in times.items() if time > 25} == {1}
    assert times[49.2][0].number == times[26.0][0].number


def test_a_shadow_is_no_thing() -> None:
    shade = np.ones((HEIGHT, WIDTH, 1))
    cv2.fillPoly(shade, [np.array([(150, 120), (220, 110), (260, 220), (170, 240)])], 0.55)
    shaded = np.clip(GROUND * shade, 0, 255).astype(np.uint8)
    assert told(60, lambda t: shaded if t > 15 else GROUND) == []


def test_a_trembling_camera_sees_no_things() -> None:
    steps = np.random.default_rng(5).integers(-2, 3, (200, 2))

    def picture(time: float) -> Image:
        return np.asarray(np.roll(GROUND, tuple(steps[round(time * FPS)].tolist()), axis=(0, 1)), np.uint8)

    assert told(40, picture) == []


def test_who_moves_within_is_not_quiet() -> None:
    """Somebody sits there whom the detector never finds: now and then the head turns."""

    def picture(time: float) -> Image:
        image: Image = put_down(time).copy()
        if time >= 15:
            y = PLACE[1] + 4 + (0 if int(time / 8) % 2 else 14)
            image[y : y + 12, PLACE[0] + 10 : PLACE[0] + 30] = 220
        return image

    assert all(time - thing.quiet_since < 13 for time, things in watch(60, picture) for thing in things)


def test_whom_the_detector_finds_now_and_then_is_not_quiet() -> None:
    def found(time: float) -> Detections:
        return somebody((195, 175, 245, 220), 0.4) if int(time) % 10 == 0 else Detections.empty()

    assert all(time - thing.quiet_since < 11 for time, things in watch(60, put_down, found) for thing in things)


def test_a_thing_outlives_somebody_who_stands_before_it() -> None:
    person = pattern(70, 200, 0, 255, 7)

    def picture(time: float) -> Image:
        image: Image = put_down(time).copy()
        if 30 <= time < 50:
            image[60:260, 185:255] = person
        return image

    def found(time: float) -> Detections:
        return somebody((185, 60, 255, 260)) if 30 <= time < 50 else Detections.empty()

    times = dict(watch(65, picture, found))
    (before,), (after,) = times[28.8], times[64.0]
    assert before.number == after.number
    assert after.quiet_since < 30


class Asked(PatchChecker):
    """Says that everything is a heap, and counts how often it was asked."""

    def __init__(self) -> None:
        self.patches = 0

    def check(self, patches: Sequence[Image]) -> NDArray[np.float32]:
        self.patches += len(patches)
        return np.tile(np.array([0.9, 0.04, 0.06], np.float32), (len(patches), 1))


def test_the_patch_checker_is_asked_once_what_a_thing_is() -> None:
    checker = Asked()
    *_, (_, (thing,)) = watch(40, put_down, checker=checker)
    assert thing.likely == pytest.approx((0.9, 0.04, 0.06))
    assert checker.patches == 1


def test_another_size_of_picture_begins_anew() -> None:
    model = ChangeModel()
    for tick in range(100):
        model.update(Frame(noisy(put_down(tick / FPS)), tick / FPS, 0), Tracks.empty(), Detections.empty())
    small = cv2.resize(with_bag(), (200, 150))
    assert model.update(Frame(np.asarray(small, np.uint8), 41.0, 0), Tracks.empty(), Detections.empty()) == ()


def test_another_view_begins_anew() -> None:
    blocks = np.random.default_rng(9).integers(0, 255, (15, 20, 3)).astype(np.uint8)
    other = np.asarray(cv2.resize(blocks, (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST), np.uint8)
    assert told(40, lambda t: other if t > 15 else GROUND) == []
