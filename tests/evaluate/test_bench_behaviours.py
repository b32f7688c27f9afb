from __future__ import annotations

from agent.behaviours.registry import BEHAVIOURS
from agent.evaluate.bench_behaviours import measure


def test_all_behaviours_run_at_once_on_a_simulated_square() -> None:
    done: list[int] = []
    result = measure(20, people=3, width=320, height=180, advance=done.append)
    assert set(result.types) == {event_type.label for event_type in BEHAVIOURS}
    assert sum(done) == 20
    assert result.behaviours_ms > 0
    assert result.reference_ms > 0
