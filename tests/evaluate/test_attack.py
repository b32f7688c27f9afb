"""The attacks: they find what is there, and nothing where nothing is."""

from __future__ import annotations

import numpy as np
import pytest

from agent.cli.audit_attack import document, shortfalls
from agent.evaluate.attack import (
    POLICIES,
    Outcome,
    Rate,
    _best_threshold,
    _Scores,
    _View,
    advantage,
    attack,
)


def scores(score: list[float], truth: list[bool]) -> _Scores:
    return _Scores(np.array(score, float), np.array(truth), np.arange(len(score), dtype=float) * 1000)


def test_the_advantage_is_the_true_positive_rate_less_the_false_positive_rate() -> None:
    rate = advantage(scores([3, 3, 3, 0, 3, 0, 0, 0], [True] * 4 + [False] * 4), 1.0, np.random.default_rng(1))
    assert rate.advantage == pytest.approx(0.75 - 0.25)
    assert rate.low < 0.5 < rate.high
    assert (rate.yes, rate.no) == (4, 4)


def test_chance_has_no_advantage_and_the_interval_says_so() -> None:
    rng = np.random.default_rng(2)
    rate = advantage(_Scores(rng.random(4000), rng.random(4000) < 0.5, np.arange(4000, dtype=float) * 300), 0.5, rng)
    assert rate.low < 0 < rate.high
    assert rate.high < 0.05


def test_the_best_threshold_never_parts_equal_scores() -> None:
    threshold, gain = _best_threshold(scores([1, 1, 1, 1, 0, 0], [True, True, True, False, False, False]))
    assert threshold == pytest.approx(1)
    assert gain == pytest.approx(1 - 1 / 3)
    assert _best_threshold(scores([5, 5, 5, 5], [True, False, True, False]))[1] == 0


def test_what_is_told_at_the_end_of_a_grain_belongs_to_it() -> None:
    code: dict[object, int] = {}
    said = ("started", "low", "5-9")
    symbols = _View(10.0, 1, False).read([(30.0, said), (50.0, said)], 60.0, code, grow=True)
    names = {number: symbol for symbol, number in code.items()}
    assert [names[s] for s in symbols.tolist()] == [
        None,
        None,
        (None, said),
        (said,),
        (said, said),
        (said,),
        (said,),
    ]
    assert _View(10.0, 1, False).read([(30.0, "news")], 60.0, code, grow=False)[2] == 0


def test_a_number_is_read_by_its_changes_too() -> None:
    code: dict[object, int] = {}
    symbols = _View(1.0, 1, True).read([(float(t), n) for t, n in enumerate((3, 3, 5, 40, 4))], 4.0, code, grow=True)
    names = {number: symbol for symbol, number in code.items()}
    assert [names[s] for s in symbols.tolist()][1:] == [0, 2, 9, -9]


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    gates = {name: POLICIES[name] for name in ("default", "gate off")}
    return {outcome.policy: outcome for outcome in attack(100, 1, (2.0,), gates, hours=0.3)}


def test_without_a_gate_the_attacks_succeed(outcomes: dict[str, Outcome]) -> None:
    off = outcomes["gate off"].advantages
    assert off["crowd", "link"].low > 0.1, "more than the default gate may leave at most"
    assert off["crowd", "single out"].low > 0.1
    assert off["person", "link"].low > 0.3


def test_behind_the_gate_crowds_and_counts_and_sounds_tell_nearly_nothing(outcomes: dict[str, Outcome]) -> None:
    default = outcomes["default"].advantages
    for family in ("crowd", "count", "sound", "together", "health"):
        assert default[family, "link"].advantage < 0.1
        assert default[family, "single out"].advantage < 0.1
    assert default["person", "link"].low > 0.2, "and types of single persons are what the document says they are"


def test_what_falls_short_is_said(outcomes: dict[str, Outcome]) -> None:
    default = outcomes["default"]
    bad = {**default.advantages, ("crowd", "link"): Rate(0.06, 0.01, 0.11, 9, 9)}
    outcome = Outcome(default.flow, "default", default.walkers, bad, default.kept)
    assert any(
        line.startswith("crowd.density at 2 walkers a minute: linking advantage 0.06") for line in shortfalls([outcome])
    )


def test_the_same_seed_gives_the_same_outcome(outcomes: dict[str, Outcome]) -> None:
    (again,) = attack(100, 1, (2.0,), {"gate off": None}, hours=0.3)
    assert again.advantages == outcomes["gate off"].advantages


def test_the_document_names_every_gate_and_flow(outcomes: dict[str, Outcome]) -> None:
    every = [Outcome(2.0, name, 100, outcomes["default"].advantages, outcomes["default"].kept) for name in POLICIES]
    text = document(every, 100, 1)
    for name in POLICIES:
        assert f"| {name} | 2 |" in text
    assert "not anonymous" in text
    assert "24000 bit" in text
