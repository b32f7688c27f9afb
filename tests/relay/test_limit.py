"""The token bucket."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.relay.limit import TokenBucket


class Clock:
    """Time that moves when told."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


def test_a_burst_passes_and_the_rest_waits_for_time() -> None:
    clock = Clock()
    bucket = TokenBucket(rate=2, burst=3, now=clock)
    assert [bucket.take() for _ in range(5)] == [True, True, True, False, False]
    clock.time += 1
    assert [bucket.take() for _ in range(3)] == [True, True, False]


def test_a_long_silence_saves_no_more_than_a_burst() -> None:
    clock = Clock()
    bucket = TokenBucket(rate=2, burst=3, now=clock)
    clock.time += 3600
    assert sum(bucket.take() for _ in range(10)) == 3


@given(st.floats(0.1, 100), st.integers(1, 50), st.lists(st.floats(0, 5), max_size=200))
def test_no_pattern_of_arrival_gets_more_through_than_the_bound(rate: float, burst: int, gaps: list[float]) -> None:
    clock = Clock()
    bucket = TokenBucket(rate, burst, clock)
    passed = 0
    for gap in gaps:
        clock.time += gap
        passed += bucket.take()
        assert passed <= burst + rate * (clock.time - 1000) + 1e-6
