"""Permissions from day to day: refusals, and warnings before the end."""

from __future__ import annotations

import datetime as dt

import pytest

from agent.policy import Policy
from agent.relay.permits import Permits
from agent.settings import CameraSettings

LAST = dt.date(2026, 12, 31)
POLICY = Policy.model_validate(
    {
        "detector": [
            {
                "type": "crowd.density",
                "purpose": "Safety of the quay",
                "legal_basis": "FR-1",
                "body": "City",
                "contact": "dpo@city.example",
                "retention_days": 30,
                "until": LAST.isoformat(),
            }
        ]
    }
)
CAMERA = CameraSettings.model_validate(
    {
        "name": "north",
        "source": "sim:empty",
        "zone": [{"name": "quay", "polygon": [[0, 0], [1, 0], [1, 1]]}],
        "rule": [{"type": "crowd.density", "zone": "quay"}],
    }
)


def test_the_end_is_said_thirty_seven_and_one_day_ahead_and_on_the_last_day(caplog: pytest.LogCaptureFixture) -> None:
    permits = Permits(POLICY, [CAMERA])
    said = []
    for days in range(40, -2, -1):
        caplog.clear()
        assert permits.look(LAST - dt.timedelta(days=days))
        assert not permits.look(LAST - dt.timedelta(days=days))
        assert bool(permits.ending) is (0 <= days <= 30)
        assert bool(permits.refused) is (days < 0)
        said += [days] if caplog.records else []
    assert said == [30, 7, 1, 0]


def test_a_start_in_the_last_days_says_so_at_once(caplog: pytest.LogCaptureFixture) -> None:
    Permits(POLICY, [CAMERA]).look(LAST - dt.timedelta(days=12))
    assert caplog.messages == ["event=permission_ends type=crowd.density basis='FR-1' days=12"]


def test_a_rule_without_a_permission_is_refused_in_words() -> None:
    permits = Permits(Policy(), [CAMERA])
    permits.look(LAST)
    assert permits.refused == ("crowd.density: the policy has no [[policy.detector]] entry for it",)
