"""Simulated detectors err as the fitted figures say, and so that a seed tells everything."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from agent.perception.scene import Detections, ObjectClass
from agent.simulate.errors import MOT15, DetectorErrors, ErringDetector
from agent.simulate.world import Truth

QUIET = replace(MOT15, false_per_s=0.0, ghosts_per_s=0.0)
SIZE = (640, 480)


def people(count: int, tall: float = 96.0, visible: float = 1.0) -> Truth:
    """So many of a fifth of the picture's height, side by side."""
    x = 20.0 + np.arange(count) * 2.0
    boxes = np.stack([x, np.full(count, 200.0), x + 0.4 * tall, np.full(count, 200.0 + tall)], axis=1)
    flat = np.ones(count, np.float32)
    return Truth(np.arange(count), boxes.astype(np.float32), boxes.astype(np.float32), visible * flat, 10 * flat, flat)


def looks(errors: DetectorErrors, truth: Truth, count: int, step: float = 0.1, seed: int = 1) -> list[Detections]:
    total = len(truth.ids)
    detector = ErringDetector(total, SIZE, np.random.default_rng(seed), errors)
    classes, none = np.full(total, ObjectClass.PERSON, np.uint8), np.zeros(total)
    return [detector.detect(k * step, truth, classes, none, none > 0) for k in range(count)]


def test_as_many_are_missed_as_in_the_fit() -> None:
    found = np.mean([len(one) for one in looks(QUIET, people(200), 100)]) / 200
    assert 1 - found == pytest.approx(0.18, abs=0.03)  # the normal distribution at the first figure of `miss`


def test_whoever_is_hidden_or_small_is_missed_more_often() -> None:
    def missed(truth: Truth) -> float:
        return float(1 - np.mean([len(one) for one in looks(QUIET, truth, 50)]) / len(truth.ids))

    assert missed(people(100)) < missed(people(100, tall=40)) < missed(people(100, tall=20))
    assert missed(people(100, visible=0.3)) > 0.6


def test_misses_come_in_bursts() -> None:
    seen = [len(one) for one in looks(QUIET, people(1), 1500)]
    missed = 1 - np.array(seen)
    again = float(missed[1:][missed[:-1] == 1].mean())
    assert again > 2 * float(missed.mean())


def test_boxes_where_nobody_is_come_back_at_few_places() -> None:
    found = np.concatenate([one.boxes for one in looks(MOT15, people(0), 3000)])
    assert 0.03 < len(found) / 3000 < 0.4
    places = {tuple(np.round((box[:2] + box[2:]) / 80)) for box in found}
    assert len(places) <= 4 * MOT15.places


def test_the_same_seed_errs_the_same() -> None:
    first, again = (looks(MOT15, people(5), 30) for _ in range(2))
    assert all(np.array_equal(a.boxes, b.boxes) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[5].boxes, looks(MOT15, people(5), 30, seed=2)[5].boxes)
