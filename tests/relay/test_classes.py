"""Counts and durations become classes."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract import MAX_COUNT, CountClass, DurationClass
from agent.relay.classes import count_class, duration_class

COUNTS = st.integers(0, MAX_COUNT)
THRESHOLDS = st.integers(1, 100)


def lowest(name: CountClass) -> int:
    """Fewest people of a class, read from its own name."""
    return 0 if name == "<k" else int(name.removeprefix(">=").split("-")[0])


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, "<k"), (4, "<k"), (5, "5-9"), (9, "5-9"), (10, "10-19"), (49, "20-49"), (199, "100-199"), (255, ">=200")],
)
def test_a_count_has_its_class(count: int, expected: CountClass) -> None:
    assert count_class(count, k=5) == expected


def test_a_count_at_the_edge_of_two_classes_does_not_flip() -> None:
    said: CountClass | None = None
    told = []
    for count in (9, 10, 9, 10, 9, 10):
        said = count_class(count, 5, said)
        told.append(said)
    assert set(told) == {"5-9"}


def test_a_class_rises_when_it_is_clearly_passed() -> None:
    assert count_class(219, 5, "100-199") == "100-199"
    assert count_class(220, 5, "100-199") == ">=200"
    assert count_class(11, 5, "<k") == "10-19"


def test_a_threshold_inside_a_class_holds() -> None:
    assert count_class(11, k=12) == "<k"
    assert count_class(12, k=12) == "10-19"
    assert count_class(12, 12, "<k") == "<k"
    assert count_class(14, 12, "<k") == "10-19"


@given(COUNTS, THRESHOLDS, st.none() | st.sampled_from(get_args(CountClass)))
def test_what_is_said_is_never_above_the_truth(count: int, k: int, previous: CountClass | None) -> None:
    said = count_class(count, k, previous)
    assert lowest(said) <= count
    assert said == "<k" or count >= k


@given(COUNTS, THRESHOLDS, st.none() | st.sampled_from(get_args(CountClass)))
def test_the_same_count_again_changes_nothing(count: int, k: int, previous: CountClass | None) -> None:
    said = count_class(count, k, previous)
    assert count_class(count, k, said) == said


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "<10s"), (10, "<1min"), (60, "1-5min"), (300, "5-15min"), (900, "15-60min"), (3600, ">1h"), (1e9, ">1h")],
)
def test_a_duration_has_its_class(seconds: float, expected: DurationClass) -> None:
    assert duration_class(seconds) == expected
