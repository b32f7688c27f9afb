"""How good forecasts of a count were: they are made again at each moment of its past, and compared with what came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agent.behaviours.trend import Trend


@dataclass(frozen=True, slots=True)
class Backtest:
    """How the forecasts of one series went.

    Attributes:
        forecasts: Moments with a forecast: below the limit, with the whole horizon in the series.
        crossed: Share of them after which the limit was reached within the horizon.
        brier: Mean squared difference of forecast and outcome (Brier, Monthly Weather Review 78, 1950); 0 is best.
        brier_of_rate: The same for who always says the share of `crossed`, which nobody knows beforehand.
        right: Share of the forecasts that were on the right side of one half.
        crossings: Times that the limit was reached from below.
        foreseen: Of these, how many were likelier than not at the moment before.
        lead_s: Median seconds from the first such moment to the crossing; None where none was foreseen.
    """

    forecasts: int
    crossed: float
    brier: float
    brier_of_rate: float
    right: float
    crossings: int
    foreseen: int
    lead_s: float | None


def backtest(
    counts: Sequence[tuple[float, float]], limit: float, horizon_s: float, warm_up_s: float = 30.0
) -> Backtest:
    """Forecast a series at each of its moments from what came before.

    Args:
        counts: Seconds, growing, and persons.
        limit: The count that is asked about.
        horizon_s: How far ahead, seconds.
        warm_up_s: No forecast is made in so many seconds at the beginning.

    Raises:
        ValueError: the series is too short for one forecast.
    """
    trend = Trend(limit)
    forecasts: list[tuple[float, bool]] = []
    crossings, leads = 0, list[float]()
    likely_since: float | None = None
    before = limit
    for place, (time, count) in enumerate(counts):
        if count >= limit > before:
            crossings += 1
            if likely_since is not None:
                leads.append(time - likely_since)
        before = count
        trend.update(time, count)
        likely, _ = trend.crossing(horizon_s)
        if count >= limit or likely <= 0.5 or time - counts[0][0] < warm_up_s:
            likely_since = None
        elif likely_since is None:
            likely_since = time
        if count < limit and time - counts[0][0] >= warm_up_s and time + horizon_s <= counts[-1][0]:
            ahead = (later for then, later in counts[place + 1 :] if then <= time + horizon_s)
            forecasts.append((likely, any(later >= limit for later in ahead)))
    if not forecasts:
        raise ValueError("the series is too short, or never below the limit: there is no forecast to judge")
    rate = sum(came for _, came in forecasts) / len(forecasts)
    leads.sort()
    return Backtest(
        forecasts=len(forecasts),
        crossed=rate,
        brier=sum((likely - came) ** 2 for likely, came in forecasts) / len(forecasts),
        brier_of_rate=rate * (1 - rate),
        right=sum((likely > 0.5) == came for likely, came in forecasts) / len(forecasts),
        crossings=crossings,
        foreseen=len(leads),
        lead_s=leads[len(leads) // 2] if leads else None,
    )
