"""Running numbers: against a plain set of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.fleet.sequence import Sequence


@given(st.lists(st.tuples(st.sampled_from(["0000000a", "0000000b"]), st.integers(0, 40)), max_size=60))
def test_missing_and_doubles_are_those_of_a_set(ids: list[tuple[str, int]]) -> None:
    sequence, seen = Sequence(), set[tuple[str, int]]()
    for boot, number in ids:
        assert sequence.follow(f"{boot}-{number:06d}") == ((boot, number) not in seen)
        seen.add((boot, number))
        spans = [[n for b, n in seen if b == name] for name in ("0000000a", "0000000b")]
        assert sequence.missing == sum(max(span) - min(span) + 1 - len(span) for span in spans if span)


def test_what_a_device_cannot_mean_costs_no_memory() -> None:
    sequence = Sequence()
    sequence.follow("0000000a-000001")
    sequence.follow("0000000a-999999999999")
    assert sequence.missing == 999_999_999_997
    for number in range(2, 4000, 2):
        sequence.follow(f"0000000a-{number:06d}")
    assert sequence.missing == 999_999_999_997 - 1999
    assert len(sequence._boots["0000000a"].gaps) <= 256
    for boot in range(100):
        sequence.follow(f"{boot:08x}-000001")
    assert len(sequence._boots) == 8
    assert sequence.missing == 999_999_999_997 - 1999
