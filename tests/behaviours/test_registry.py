from __future__ import annotations

from collections.abc import Callable

import pytest

from agent.behaviours.episode import Behaviour
from agent.behaviours.registry import BEHAVIOURS, build
from agent.contract import EventType
from agent.settings import CameraSettings, SettingsError

MakeBehaviour = Callable[..., Behaviour]


@pytest.mark.parametrize("event_type", BEHAVIOURS, ids=lambda t: t.label)
def test_every_parameter_says_what_it_is(event_type: EventType) -> None:
    for name, field in BEHAVIOURS[event_type].Parameters.model_fields.items():
        assert field.description, f"{event_type.label}: {name}"


def test_an_unknown_parameter_is_refused_with_the_nearest_name(behaviour: MakeBehaviour) -> None:
    with pytest.raises(SettingsError, match=r"crowd.gathering in zone half: min_person: .*'min_persons'"):
        behaviour("crowd.gathering", min_person=3)


def test_a_value_out_of_bounds_is_refused(behaviour: MakeBehaviour) -> None:
    with pytest.raises(SettingsError, match="dwell_s: Input should be greater"):
        behaviour("person.loitering", dwell_s=-1)


def test_limits_of_density_must_grow(behaviour: MakeBehaviour) -> None:
    with pytest.raises(SettingsError, match="low < medium < high < critical"):
        behaviour("crowd.density", high=3)


def test_an_unknown_class_is_refused(behaviour: MakeBehaviour) -> None:
    with pytest.raises(SettingsError, match="classes"):
        behaviour("zone.intrusion", classes=["dog"])


@pytest.mark.parametrize(
    ("rule", "reason"),
    [({"type": "crowd.gathering"}, "zone"), ({"type": "incident.panic", "zone": "half"}, "is heard")],
)
def test_a_rule_that_cannot_be_served_says_why(rule: dict[str, str], reason: str) -> None:
    camera = CameraSettings.model_validate(
        {
            "name": "camera",
            "source": "file:none",
            "zone": [{"name": "half", "polygon": [(0, 0), (1, 0), (1, 1)]}],
            "rule": [rule],
        }
    )
    with pytest.raises(SettingsError, match=reason):
        build(camera.rules[0], camera)
