"""What the policy permits today: asked once a day, said in the log, and shown in the status."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Sequence

from agent.policy import WARN_DAYS, DetectorPolicy, Policy
from agent.settings import CameraSettings, MicrophoneSettings

log = logging.getLogger(__name__)


class Permits:
    """The permissions of one device on one day.

    Attributes:
        refused: Why a configured rule may not run today, one reason a rule.
        ending: What ends within `WARN_DAYS[0]` days without another permission taking over.
    """

    def __init__(self, policy: Policy, sensors: Sequence[CameraSettings | MicrophoneSettings]) -> None:
        self._policy = policy
        self._sensors = sensors
        self._day = dt.date.min
        self.refused: tuple[str, ...] = ()
        self.ending: tuple[DetectorPolicy, ...] = ()

    def look(self, today: dt.date) -> bool:
        """Ask the policy, if the day is a new one; whether it was.

        The end of a permission is said in the log on the days of `WARN_DAYS`, and at the start.
        """
        if today == self._day:
            return False
        started = self._day == dt.date.min
        self._day = today
        self.refused = tuple(reason for sensor in self._sensors for reason in self._policy.permitted(sensor, today)[1])
        self.ending = tuple(self._policy.ending(today))
        for entry in self.ending:
            days = entry.days_left(today)
            if started or days in WARN_DAYS:
                log.warning("event=permission_ends type=%s basis=%r days=%d", entry.type, entry.legal_basis, days)
        return True
