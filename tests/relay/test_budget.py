"""A zone stops when its day's budget is spent, and nothing but a new day gives it back."""

from __future__ import annotations

import datetime as dt
from fractions import Fraction
from pathlib import Path

import pytest

from agent.relay.budget import Budget

TODAY = dt.date(2026, 11, 23)
TOMORROW = TODAY + dt.timedelta(days=1)


def budget(path: Path | None = None) -> Budget:
    return Budget(Fraction(1, 2), Fraction(1), path)


def spend(of: Budget, zone: str = "quay", day: dt.date = TODAY, times: int = 4) -> int:
    return sum(of.spend(zone, day) for _ in range(times))


def test_each_zone_has_its_own_and_a_new_day_begins_anew() -> None:
    spent = budget()
    assert (spend(spent), spend(spent, "gate"), spend(spent, day=TOMORROW)) == (2, 2, 2)
    assert spent.left("gate", TOMORROW) == 1


def test_a_clock_that_is_set_back_brings_nothing_back() -> None:
    spent = budget()
    assert spend(spent, day=TOMORROW) == 2
    assert spend(spent, day=TODAY) == 0


def test_a_restart_brings_nothing_back(tmp_path: Path) -> None:
    path = tmp_path / "budget.json"
    assert spend(budget(path), times=1) == 1
    assert spend(budget(path)) == 1
    assert path.stat().st_mode & 0o777 == 0o600
    assert spend(budget(path), day=TOMORROW) == 2


@pytest.mark.parametrize("content", ["", "{}", '{"day": "2026-11-23", "counts": {"quay": "many"}}'])
def test_what_cannot_be_read_counts_as_spent_until_tomorrow(tmp_path: Path, content: str) -> None:
    path = tmp_path / "budget.json"
    path.write_text(content)
    spent = budget(path)
    assert spend(spent) == 0
    assert spend(spent, day=TOMORROW) == 2


def test_what_cannot_be_written_down_is_not_told(tmp_path: Path) -> None:
    assert spend(budget(tmp_path / "missing" / "budget.json")) == 0


def test_without_an_epsilon_there_is_nothing_to_spend() -> None:
    assert spend(Budget(Fraction(0), Fraction(1))) == 0
