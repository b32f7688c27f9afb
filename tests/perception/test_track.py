"""The tracker: who keeps an id, who loses it, and that nothing is left of those who have gone."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.perception.scene import Detections, ObjectClass, Tracks
from agent.perception.track import Tracker, TrackerParameters

Box = tuple[float, float, float, float]

WIDTH, HEIGHT = 40.0, 100.0
KEEP_S = TrackerParameters().keep_s


def person_at(x: float, y: float = 200.0) -> Box:
    return x, y, x + WIDTH, y + HEIGHT


def frame(*boxes: Box, score: float = 0.9, classes: ObjectClass = ObjectClass.PERSON) -> Detections:
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.full(len(boxes), score, np.float32),
        np.full(len(boxes), classes, np.uint8),
    )


def follow(tracker: Tracker, box: Box, start: float = 0.0, frames: int = 5) -> Tracks:
    """Somebody who stands still, at 10 frames a second."""
    tracks = Tracks.empty()
    for index in range(frames):
        tracks = tracker.update(start + index / 10, frame(box))
    return tracks


def test_a_person_is_reported_after_three_clear_looks_and_keeps_one_id() -> None:
    tracker = Tracker()
    ids = [tracker.update(index / 10, frame(person_at(5 * index))).ids.tolist() for index in range(20)]
    assert ids[:2] == [[], []]
    assert ids[2:] == [ids[2]] * 18
    assert len(ids[2]) == 1


def test_a_doubtful_detection_needs_more_looks_than_a_clear_one() -> None:
    def looks(score: float) -> int:
        tracker = Tracker()
        times = (index / 10 for index in range(100))
        return next(n for n, time in enumerate(times, 1) if len(tracker.update(time, frame(person_at(0), score=score))))

    assert looks(0.95) < looks(0.6)


def test_a_false_detection_that_flickers_is_never_reported() -> None:
    tracker = Tracker()
    for index in range(100):
        seen = frame(person_at(0)) if index % 3 else frame()
        assert not len(tracker.update(index / 10, seen))


def test_position_velocity_and_age_follow_a_walk() -> None:
    tracker = Tracker()
    for index in range(30):
        tracks = tracker.update(100 + index / 10, frame(person_at(8 * index)))
    np.testing.assert_allclose(tracks.boxes, [person_at(8 * 29)], atol=1)
    np.testing.assert_allclose(tracks.velocities, [(80, 0)], atol=2)
    np.testing.assert_allclose(tracks.ages, [2.9], atol=1e-5)
    assert tracks.unseen.tolist() == [0]
    assert tracks.scores.tolist() == pytest.approx([0.9])


def test_an_id_survives_a_second_behind_something_on_a_straight_walk() -> None:
    tracker = Tracker()
    for index in range(15):
        before = tracker.update(index / 10, frame(person_at(8 * index)))
    for index in range(15, 25):
        hidden = tracker.update(index / 10, frame())
        np.testing.assert_allclose(hidden.boxes, [person_at(8 * index)], atol=5)
        assert hidden.unseen.tolist() == pytest.approx([(index - 14) / 10], abs=1e-5)
    after = tracker.update(2.5, frame(person_at(8 * 25)))
    assert after.ids.tolist() == hidden.ids.tolist() == before.ids.tolist()
    assert after.unseen.tolist() == [0]


def test_two_who_cross_keep_their_ids() -> None:
    tracker = Tracker()
    for index in range(41):
        left, right = person_at(10 * index), person_at(400 - 10 * index, 215)
        tracks = tracker.update(index / 10, frame(left, right))
        if index == 5:
            first = dict(zip(tracks.ids.tolist(), tracks.velocities[:, 0] > 0, strict=True))
    assert dict(zip(tracks.ids.tolist(), tracks.velocities[:, 0] > 0, strict=True)) == first
    assert len(first) == 2


@given(st.lists(st.floats(1 / 30, 1 / 5), min_size=30, max_size=60))
def test_frames_may_come_at_any_rate(steps: list[float]) -> None:
    tracker = Tracker()
    ids: set[int] = set()
    time = 0.0
    for step in steps:
        time += step
        tracks = tracker.update(time, frame(person_at(100 * time)))
        ids.update(tracks.ids.tolist())
    assert len(ids) == 1
    np.testing.assert_allclose(tracks.velocities, [(100, 0)], atol=10)


def test_a_weak_detection_continues_a_track_but_starts_none() -> None:
    tracker = Tracker()
    assert follow(tracker, person_at(0)).unseen.tolist() == [0]
    for index in range(5, 20):
        tracks = tracker.update(index / 10, frame(person_at(0), person_at(300), score=0.2))
    assert tracks.unseen.tolist() == [0]
    assert tracks.scores.tolist() == pytest.approx([0.2])


def test_a_weak_detection_does_not_bring_back_a_lost_track_but_a_strong_one_does() -> None:
    tracker = Tracker()
    before = follow(tracker, person_at(0))
    tracker.update(0.5, frame())
    assert tracker.update(0.6, frame(person_at(0), score=0.3)).unseen.tolist() == pytest.approx([0.2])
    after = tracker.update(0.7, frame(person_at(0)))
    assert (after.ids.tolist(), after.unseen.tolist()) == (before.ids.tolist(), [0])


def test_a_person_is_never_continued_as_a_car() -> None:
    tracker = Tracker()
    person = follow(tracker, person_at(0))
    for index in range(5, 10):
        tracks = tracker.update(index / 10, frame(person_at(0), classes=ObjectClass.CAR))
    by_id = dict(zip(tracks.ids.tolist(), tracks.classes.tolist(), strict=True))
    assert by_id.pop(person.ids.item()) == ObjectClass.PERSON
    assert list(by_id.values()) == [ObjectClass.CAR]


def test_the_class_of_a_vehicle_is_a_vote() -> None:
    tracker = Tracker()
    for index, classes in enumerate([ObjectClass.CAR, ObjectClass.TRUCK, ObjectClass.TRUCK, ObjectClass.CAR] * 3):
        tracks = tracker.update(index / 10, frame(person_at(0), classes=classes))
    tracks = tracker.update(2.0, frame(person_at(0), classes=ObjectClass.TRUCK))
    assert tracks.classes.tolist() == [ObjectClass.TRUCK]
    assert tracks.ids.tolist() == [1]


def test_a_track_ends_when_it_was_not_seen_for_its_time() -> None:
    tracker = Tracker()
    before = follow(tracker, person_at(0))
    last = 0.4
    assert tracker.update(last + KEEP_S, frame()).ids.tolist() == before.ids.tolist()
    assert not len(tracker.update(last + KEEP_S + 0.1, frame()))


@pytest.mark.parametrize("gap", [KEEP_S + 0.1, 3600.0, 1e300])
def test_nobody_is_recognised_after_a_gap_of_the_camera(gap: float) -> None:
    tracker = Tracker()
    before = follow(tracker, person_at(0))
    after = follow(tracker, person_at(0), start=0.4 + gap, frames=1 if gap > 1e9 else 5)
    assert not set(before.ids.tolist()) & set(after.ids.tolist())


def test_a_box_that_shrinks_never_turns_inside_out() -> None:
    tracker = Tracker()
    for index in range(5):
        tracker.update(index / 10, frame((10.0 * index, 0, 100 - 10.0 * index, 100)))
    boxes = tracker.update(0.4 + KEEP_S, frame()).boxes
    assert (boxes[:, 2:] >= boxes[:, :2]).all()


def test_time_may_stand_still_but_not_go_back() -> None:
    tracker = Tracker()
    before = follow(tracker, person_at(0))
    assert tracker.update(0.4, frame(person_at(0))).ids.tolist() == before.ids.tolist()
    with pytest.raises(ValueError, match=r"0\.3 s after one at 0\.4 s"):
        tracker.update(0.3, frame())


@pytest.mark.parametrize("time", [math.nan, math.inf])
def test_a_time_that_is_no_time_is_refused(time: float) -> None:
    with pytest.raises(ValueError, match="in order"):
        Tracker().update(time, frame())


def test_nothing_is_left_of_those_who_have_gone() -> None:
    rng = np.random.default_rng(7)
    tracker = Tracker()
    most = 0
    for index in range(3000):
        x = 100 * (index % 50)
        passers_by = [person_at(x + 3 * (index % 7)), *map(person_at, rng.uniform(0, 5000, rng.poisson(3)))]
        tracker.update(index / 10, frame(*passers_by))
        most = max(most, tracker._tracks.shape[1])
    assert most < 50
    tracker.update(300 + KEEP_S, frame())
    assert tracker._tracks.shape[1] == 0


_COORDINATE = st.floats(-1e4, 1e4, width=32)
_SIDE = st.one_of(st.just(0.0), st.floats(0, 1e4, width=32))
_DETECTION = st.tuples(
    _COORDINATE, _COORDINATE, _SIDE, _SIDE, st.floats(0, 1, width=32), st.sampled_from(list(ObjectClass))
)
_FRAME = st.tuples(st.floats(1e-3, 3), st.lists(_DETECTION, max_size=6))


@given(st.lists(_FRAME, max_size=12), st.booleans())
def test_whatever_is_detected_the_tracks_make_sense(
    frames: list[tuple[float, list[tuple[float, ...]]]], eager: bool
) -> None:
    tracker = Tracker(TrackerParameters(evidence=0.5) if eager else TrackerParameters())
    time, history = 0.0, list[tuple[float, int]]()
    for step, rows in frames:
        time += step
        table = np.array(rows, np.float64).reshape(-1, 6)
        corners = np.concatenate([table[:, :2], table[:, :2] + table[:, 2:4]], axis=1)
        detections = Detections(
            corners.astype(np.float32), table[:, 4].astype(np.float32), table[:, 5].astype(np.uint8)
        )
        tracks = tracker.update(time, detections)
        history.append((time, len(rows)))
        assert len(set(tracks.ids.tolist())) == len(tracks)
        assert (tracks.unseen == 0).sum() <= len(rows)
        assert len(tracks) <= sum(count for seen, count in history if time - seen <= KEEP_S)
        assert (tracks.unseen <= KEEP_S).all()
        assert (tracks.unseen <= tracks.ages).all()
        assert np.isfinite(tracks.boxes).all()
        assert (tracks.boxes[:, 2:] >= tracks.boxes[:, :2]).all()
        assert set(tracks.classes.tolist()) <= {int(c) for _, detected in frames for *_, c in detected}
        assert [a.dtype for a in (tracks.ids, tracks.boxes, tracks.velocities, tracks.classes)] == [
            np.int64,
            np.float32,
            np.float32,
            np.uint8,
        ]
