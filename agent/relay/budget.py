"""The privacy budget of noisy counts: how much a zone has told today, and when it must stop.

A count costs `epsilon` for every person who was in the zone in that grain (a person-bin). The costs of one day in one
zone add up (sequential composition) to what somebody risks who stays there all day: that sum is bounded. It is kept in
a file, so that a restart brings nothing back, and a day begins anew only when the date grows, so that a clock that is
set back brings nothing back either.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
from fractions import Fraction
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agent.durable import replace_file

log = logging.getLogger(__name__)


class _Spent(BaseModel):
    """What stands in the file."""

    model_config = ConfigDict(extra="forbid")

    day: dt.date
    counts: dict[str, int] = Field(description="Counts told, by zone.")


class Budget:
    """What each zone has spent on one day."""

    def __init__(self, epsilon: Fraction, per_day: Fraction, path: Path | None = None) -> None:
        """A budget; a file that cannot be read counts as spent until the next day.

        Args:
            epsilon: Cost of one count.
            per_day: What a zone may spend on one day.
            path: Where it is kept; None: in memory, for simulations.
        """
        self._most = int(per_day / epsilon) if epsilon else 0
        self._epsilon = epsilon
        self._path = path
        self._day = dt.date.min
        self._counts: dict[str, int] = {}
        self._unknown = False
        if path is None:
            return
        try:
            spent = _Spent.model_validate_json(path.read_bytes())
            self._day, self._counts = spent.day, spent.counts
        except FileNotFoundError:
            pass
        except (OSError, ValidationError):
            log.error("event=budget_unreadable file=%s counts=stopped_until_tomorrow", path)  # noqa: TRY400
            self._unknown = True

    def spend(self, zone: str, day: dt.date) -> bool:
        """Spend one count; False, and it must not be told, where nothing is left or it cannot be written down."""
        if self._left(zone, day) < 1:
            return False
        self._counts[zone] = self._counts.get(zone, 0) + 1
        if self._path is None:
            return True
        try:
            replace_file(self._path, json.dumps({"day": self._day.isoformat(), "counts": self._counts}).encode())
        except OSError:
            return False  # what is not written down counts as spent all the same
        return True

    def left(self, zone: str, day: dt.date) -> Fraction:
        """What a zone may still spend on this day."""
        return self._left(zone, day) * self._epsilon

    def _left(self, zone: str, day: dt.date) -> int:
        """Counts that may still be told."""
        if self._unknown and self._day == dt.date.min:
            self._day = day
        elif day > self._day:
            self._day, self._counts, self._unknown = day, {}, False
        return 0 if self._unknown else self._most - self._counts.get(zone, 0)
