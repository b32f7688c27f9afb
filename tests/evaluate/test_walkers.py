"""The streets of the attack harness."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from agent.behaviours.crowd_density import CrowdDensityParameters
from agent.behaviours.episode import Episode, EpisodeChange
from agent.contract import Confidence, EventType, Level, Phase
from agent.evaluate.walkers import CORRIDORS, ZONE_M, arrival_prior, density, sense, street


def slowly(counts: list[int]) -> list[EpisodeChange]:
    """`CrowdDensity` on these counts, by its own parts."""
    of = CrowdDensityParameters(report_from="low")
    limits = {Level.CRITICAL: of.critical, Level.HIGH: of.high, Level.MEDIUM: of.medium, Level.LOW: of.low}
    episode = Episode(EventType.CROWD_DENSITY, "zone", hold_s=of.hold_s, release_s=of.release_s)
    level, changes = Level.FREE, list[EpisodeChange]()
    for second, count in enumerate(counts):
        level = next((at for at, limit in limits.items() if count >= limit * (0.8 if at <= level else 1)), Level.FREE)
        met = level >= Level.LOW
        changes += episode.update(float(second), met, confidence=Confidence.HIGH, level=level, count=count)
    return changes


@hypothesis_settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 70)), max_size=30))
def test_the_fast_density_is_that_of_the_behaviour(runs: list[tuple[int, int]]) -> None:
    counts = [count for count, seconds in runs for _ in range(seconds)]
    assert density(counts) == slowly(counts)


def test_the_flow_is_the_same_at_every_camera() -> None:
    made = street(CORRIDORS[4], 20.0, 0, 4.0, np.random.default_rng(1))
    later = made.passages[made.passages.enters > 1200]
    per_minute = [later.size[later.camera == camera].sum() / (made.seconds - 1200) * 60 for camera in range(6)]
    assert per_minute == pytest.approx([20] * 6, rel=0.08)


def test_half_of_those_who_pass_go_on_and_arrive_when_they_are_expected() -> None:
    made = street(CORRIDORS[0], 5.0, 4000, 1.0, np.random.default_rng(2))
    first = made.passages[made.passages.camera == 0]
    second = made.passages[made.passages.camera == 1]
    assert first.goes_on.mean() == pytest.approx(0.5, abs=0.03)
    came = dict(zip(second.party.tolist(), second.enters.tolist(), strict=True))
    took = [
        came[p] - t for p, t, on in zip(first.party.tolist(), first.enters.tolist(), first.goes_on, strict=True) if on
    ]
    prior = arrival_prior(CORRIDORS[0][0])
    assert np.mean(took) == pytest.approx(prior.mean(), rel=0.03)
    assert np.std(took) == pytest.approx(prior.std(), rel=0.1)


def test_sense_sees_those_who_pass() -> None:
    rng = np.random.default_rng(4)
    made = street(CORRIDORS[0], 20.0, 0, 1.0, rng)
    here = made.passages[made.passages.camera == 0]
    sensed = sense(here, made.seconds, rng)
    stay_s = ZONE_M / 1.34
    assert sensed.counts[600:].mean() == pytest.approx(20 / 60 * stay_s * 0.95, rel=0.15)
    for changes in sensed.changes.values():
        assert [c.phase for c in changes][:1] == [Phase.STARTED]
        times = [c.time for c in changes]
        assert times == sorted(times)
