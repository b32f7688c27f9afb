"""Each scenario through the real path: what it says should be told is told.

Figures on simulated people are about the rules, never about the field.
"""

from __future__ import annotations

from typing import Any

import pytest

from agent.behaviours.episode import EpisodeChange
from agent.behaviours.watch import Watch
from agent.contract import EventType, Phase
from agent.replay import replay
from agent.settings import CameraSettings
from agent.simulate.source import open_sim

#: The rule for each type, and the seconds that its own hold or dwell time puts on top.
RULES: dict[EventType, tuple[dict[str, Any], float]] = {
    EventType.CROWD_GATHERING: ({"min_persons": 10, "hold_s": 3}, 5.0),
    EventType.ZONE_INTRUSION: ({"classes": ["person"]}, 2.0),
    EventType.PERSON_LOITERING: ({"dwell_s": 15}, 18.0),
    EventType.DIRECTION_WRONG_WAY: ({"allowed": [1, 0]}, 4.0),
}


def told(address: str, types: set[EventType]) -> tuple[list[EpisodeChange], Any]:
    """What starts in a scenario, with a rule of each of these types in the zone where it is expected."""
    source, detector = open_sim(f"{address}&detections=1", replay=True)
    assert detector is not None
    zones = source.scenario.zones
    place = {expected.type: expected.zone for expected in source.scenario.expected}
    camera = CameraSettings.model_validate(
        {
            "name": "sim",
            "source": address,
            "zone": [{"name": name, "polygon": polygon} for name, polygon in zones.items()],
            "rule": [{"type": t.label, "zone": place.get(t, "square"), **RULES[t][0]} for t in types],
        }
    )
    changes = [change for tick in replay(source, detector, Watch(camera)) for change in tick.changes]
    return [change for change in changes if change.phase is Phase.STARTED], source.scenario


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
@pytest.mark.parametrize("name", ["gathering", "intrusion", "loitering", "wrong_way"])
def test_what_a_scenario_is_about_is_told_in_its_time(name: str, seed: int) -> None:
    address = f"sim:{name}?people=20&flow=4&seed={seed}"
    (expected,) = told(address, set())[1].expected
    started, _ = told(address, {expected.type})
    low, high = expected.start[0], expected.start[1] + RULES[expected.type][1]
    assert [change for change in started if low <= change.time <= high], f"{started} outside {low} to {high}"


@pytest.mark.parametrize("name", ["empty", "walkers"])
def test_where_nothing_happens_nothing_is_told(name: str) -> None:
    started, _ = told(f"sim:{name}?flow=6&seconds=120", {EventType.CROWD_GATHERING})
    assert not started
