import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.evaluate.operating import (
    ALARMS_PER_HOUR,
    HOPS,
    Rate,
    Stream,
    alarms,
    cooled,
    episodes,
    loudest,
    smoothed,
    temperature,
    thresholds,
)
from agent.perception.hearing import HOP_S
from agent.perception.tag import CLASSES

GUNSHOT, SIREN = CLASSES.index("gunshot"), CLASSES.index("siren")


def scored(*probabilities: float, place: int = GUNSHOT) -> np.ndarray:
    scores = np.zeros((len(probabilities), len(CLASSES)), np.float32)
    scores[:, place] = probabilities
    return scores


def stream(*probabilities: float, place: int = GUNSHOT, sudden: bool = True) -> Stream:
    return Stream(scored(*probabilities, place=place), np.full(len(probabilities), sudden))


@pytest.mark.parametrize(("count", "bound"), [(0, 2.996), (1, 4.744), (3, 7.754), (20, 29.062)])
def test_the_bound_of_a_rate_is_that_of_the_tables(count: int, bound: float) -> None:
    rate = Rate(count, 2.0)
    assert rate.per_hour == count / 2
    assert rate.at_most == pytest.approx(bound / 2, abs=1e-3)


def test_nothing_is_said_where_nobody_listened() -> None:
    assert math.isnan(Rate(0, 0.0).per_hour)
    assert math.isnan(Rate(0, 0.0).at_most)


@given(st.floats(0, 1), st.floats(0.25, 4))
def test_temperature_keeps_the_side(probability: float, value: float) -> None:
    scores = cooled(np.full((1, len(CLASSES)), probability, np.float32), value)
    assert np.isfinite(scores).all()
    assert ((scores - 0.5) * (probability - 0.5) >= -1e-6).all()


def test_boasts_are_cooled() -> None:
    random = np.random.default_rng(1)
    labels = (random.random((2000, len(CLASSES))) < 0.3).astype(np.int8)
    logits = np.where(random.random(labels.shape) < 0.8, 2 * labels - 1, 1 - 2 * labels) * 5.0
    boasts = (1 / (1 + np.exp(-logits))).astype(np.float32)
    assert temperature(boasts, labels, np.ones(2000)) > 2


def test_what_lasts_is_averaged() -> None:
    assert HOPS[SIREN] > HOPS[GUNSHOT] == 1
    lone = smoothed(scored(0, 0, 0, 0, 1, 0, 0, 0, place=SIREN))[:, SIREN]
    assert lone.max() == pytest.approx(1 / HOPS[SIREN])
    assert smoothed(scored(0.9, place=SIREN))[0, SIREN] == pytest.approx(0.9)


def test_ten_seconds_are_one_piece() -> None:
    pieces = loudest(stream(*[0.1] * 19, 0.7, 0.2))
    np.testing.assert_allclose(pieces[:, GUNSHOT], [0.7, 0.2])


def test_a_threshold_keeps_the_street_quiet() -> None:
    random = np.random.default_rng(1)
    hours = 20.0
    noise = (1 / (1 + np.exp(6 - random.exponential(1, (int(hours * 360), len(CLASSES)))))).astype(np.float32)
    nothing = np.zeros((1, len(CLASSES)))
    levels = thresholds(noise, hours, nothing, np.zeros((1, len(CLASSES)), np.bool_))
    np.testing.assert_allclose((noise >= levels).sum(axis=0) / hours, ALARMS_PER_HOUR, atol=0.5)
    more = np.concatenate([noise, np.zeros_like(noise)])
    same = thresholds(more, hours, nothing, np.zeros((1, len(CLASSES)), np.bool_))
    np.testing.assert_allclose(same, levels, err_msg="pieces in which nothing may begin")


def test_a_threshold_is_as_high_as_precision_asks() -> None:
    best = np.tile(np.linspace(0.1, 0.9, 9)[:, None], len(CLASSES))
    there = best >= 0.5
    levels = thresholds(np.empty((0, len(CLASSES)), np.float32), 0.0, best, there)
    # Five that are there and one that is not: five sixths are right, five sevenths are too few.
    np.testing.assert_allclose(levels, 0.4)


def test_alarms_are_episodes_of_the_runtime() -> None:
    shots = stream(*[0.9, *[0.0] * 20] * 2, 0.9, 0.9, 0.0, 0.9)
    levels = np.full(len(CLASSES), 0.6)
    assert alarms(shots, levels).tolist() == [3, *[0] * (len(CLASSES) - 1)]
    assert episodes(shots, levels)[GUNSHOT] == [0, 21 * HOP_S, 42 * HOP_S]


def test_a_bang_that_is_not_sudden_is_no_alarm() -> None:
    levels = np.full(len(CLASSES), 0.6)
    assert loudest(stream(*[0.9] * 4, sudden=False)).max() == 0
    assert not alarms(stream(*[0.9] * 4, sudden=False), levels).any()
    assert alarms(stream(*[0.9] * 4, place=SIREN, sudden=False), levels)[SIREN] == 1


def test_of_sudden_sounds_the_likeliest_alone_is_an_alarm() -> None:
    scores = scored(0.7) + scored(0.8, place=CLASSES.index("glass_break")) + scored(0.9, place=SIREN)
    (found,) = loudest(Stream(scores, np.array([True])))
    np.testing.assert_allclose(found[[GUNSHOT, CLASSES.index("glass_break"), SIREN]], [0, 0.8, 0.9])
