from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from agent.perception.scale import PersonScale
from agent.perception.scene import Tracks

SIZE = 500


def street(feet: list[float]) -> Tracks:
    """People whose height is 0.4 of the place of their feet, as shares of the picture's height."""
    count = len(feet)
    low = np.array(feet, np.float32) * SIZE
    tall = 0.4 * low
    boxes = np.stack([np.full(count, 200), low - tall, 200 + tall / 3, low], axis=1).astype(np.float32)
    none = np.zeros(count, np.float32)
    return Tracks(
        np.arange(count), boxes, np.zeros((count, 2), np.float32), np.zeros(count, np.uint8), none + 1, none, none
    )


def test_before_anybody_was_seen_a_person_fills_a_fifth() -> None:
    assert PersonScale().at(np.array([0.1, 0.9], np.float32)).tolist() == pytest.approx([0.2, 0.2])


def test_the_height_by_place_is_learned() -> None:
    scale, random = PersonScale(), np.random.default_rng(1)
    for _ in range(500):
        scale.update(street(random.uniform(0.4, 0.95, 4).tolist()), SIZE, SIZE)
    assert scale.at(np.array([0.5, 0.9], np.float32)).tolist() == pytest.approx([0.2, 0.36], abs=0.02)


def test_people_at_one_depth_say_little_of_others() -> None:
    scale = PersonScale()
    for _ in range(200):
        scale.update(street([0.75]), SIZE, SIZE)
    near, there = scale.at(np.array([1.0, 0.75], np.float32)).tolist()
    assert there == pytest.approx(0.3, abs=0.03)
    assert near < 0.4


def test_who_is_cut_unseen_or_not_upright_teaches_nothing() -> None:
    scale = PersonScale()
    people = street([0.6, 0.8])
    cut = people.boxes + np.array([0, SIZE, 0, SIZE], np.float32)
    wide = people.boxes * np.array([0.1, 1, 1.9, 1], np.float32)
    for boxes in (cut, wide):
        scale.update(replace(people, boxes=boxes), SIZE, SIZE)
    scale.update(replace(people, unseen=np.full(2, 1.0, np.float32)), SIZE, SIZE)
    assert float(scale.at(np.array(0.8, np.float32))) == pytest.approx(0.2)
