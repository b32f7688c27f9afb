from __future__ import annotations

import math

import numpy as np
import pytest

from agent.behaviours.episode import EpisodeChange
from agent.behaviours.trend import Trend
from agent.contract import Phase
from agent.evaluate.forecast import backtest
from tests.behaviours.conftest import MakeBehaviour, MakeScene

WHOLE = ((0, 0), (1, 0), (1, 1), (0, 1))


def watched(scene: MakeScene, behaviour: MakeBehaviour, counts: list[int]) -> list[EpisodeChange]:
    """What is told of so many people, one number a second; 20 are too many, and five minutes the horizon."""
    forecast = behaviour("crowd.forecast", WHOLE, limit=20)
    changes: list[EpisodeChange] = []
    for second, count in enumerate(counts):
        people = [(number, 0.03 + 0.03 * number, 0.3 + 0.6 * (number % 2)) for number in range(count)]
        changes += forecast.update(scene(float(second), people))
    return [change for change in changes if change.phase is not Phase.ONGOING]


def rising(per_minute: float, seconds: int = 600, first: float = 4) -> list[int]:
    return [min(30, int(first + per_minute * second / 60)) for second in range(seconds)]


def test_a_zone_that_fills_up_is_forecast_before_it_is_full(scene: MakeScene, behaviour: MakeBehaviour) -> None:
    counts = rising(2.0)
    full = counts.index(20)
    changes = watched(scene, behaviour, counts)
    assert [change.phase for change in changes] == [Phase.STARTED, Phase.ENDED]
    assert full - 300 <= changes[0].time <= full - 30
    assert full <= changes[1].time <= full + 60


@pytest.mark.parametrize(
    "counts",
    [[5] * 600, [12 + round(math.sin(second / 40)) for second in range(900)], rising(0.3), [25] * 300],
    ids=["few", "up and down", "slowly", "full already"],
)
def test_what_does_not_fill_up_is_not_forecast(scene: MakeScene, behaviour: MakeBehaviour, counts: list[int]) -> None:
    assert not watched(scene, behaviour, counts)


def test_the_forecast_ends_when_the_zone_levels_off(scene: MakeScene, behaviour: MakeBehaviour) -> None:
    counts = rising(6.0, 115) + [rising(6.0, 115)[-1]] * 900
    assert [change.phase for change in watched(scene, behaviour, counts)] == [Phase.STARTED, Phase.ENDED]


def test_a_trend_is_surer_of_what_is_near() -> None:
    trend = Trend(20)
    for second in range(0, 300, 5):
        trend.update(second, 3 * second / 60)
    soon, _ = trend.crossing(60)
    later, lead = trend.crossing(600)
    assert soon < 0.2
    assert later > 0.5
    assert lead is not None
    assert lead >= 100
    assert Trend(20).crossing(60) == (0.0, None)


def test_forecasts_that_are_likely_come_true_as_often() -> None:
    """Counts that wander as the model says: its probabilities then are frequencies."""
    random = np.random.default_rng(7)
    limit, results = 40.0, []
    for _ in range(12):
        level, slope, counts = 10.0, 0.0, []
        for second in range(0, 7200, 5):
            slope += random.normal(0, 0.05 * limit * math.sqrt(5 / 60))
            slope *= 0.98  # or it would leave for good
            level = max(0.0, level + slope * 5 / 60 + random.normal(0, 0.05 * limit * math.sqrt(5 / 60)))
            counts.append((float(second), round(level + random.normal(0, 1))))
        results.append(backtest(counts, limit, 300))
    assert np.mean([result.brier for result in results]) < 0.8 * np.mean([result.brier_of_rate for result in results])
    assert np.mean([result.right for result in results]) > 0.8


def test_a_backtest_says_how_early_crossings_were_foreseen() -> None:
    result = backtest([(float(second), 2 * second / 60) for second in range(0, 1200, 5)], 20, 300)
    assert (result.crossings, result.foreseen) == (1, 1)
    assert result.lead_s is not None
    assert 30 <= result.lead_s <= 300
    with pytest.raises(ValueError, match="too short"):
        backtest([(0.0, 1.0), (5.0, 1.0)], 20, 300)
