"""The presets: published texts, each with its source, and nothing in them that Vigie does not have."""

from __future__ import annotations

import pytest

from agent.presets import preset, preset_names


@pytest.mark.parametrize("name", preset_names())
def test_each_preset_has_a_source_and_says_what_to_check(name: str) -> None:
    text = preset(name)
    assert text.source
    assert text.note
    assert text.types


def test_the_french_decree_names_eight_kinds_of_event_of_which_two_are_not_offered() -> None:
    decree = preset("fr-2023-828")
    assert len(decree.events) == 8
    assert [event.en for event in decree.events if not event.types] == [
        "Presence or use of weapons",
        "Outbreaks of fire",
    ]
    assert decree.types == (
        "object.abandoned",
        "direction.wrong_way",
        "zone.intrusion",
        "person.down",
        "crowd.movement",
        "crowd.density",
        "crowd.gathering",
    )


def test_statistics_name_no_type_that_one_person_can_start() -> None:
    assert set(preset("statistics").types) == {"crowd.density", "crowd.forecast"}
