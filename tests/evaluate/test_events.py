from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent.behaviours.episode import EpisodeChange
from agent.contract import EventType, Phase
from agent.evaluate.events import judge
from agent.evaluate.labels import LabelledClip, Labels, read_labels
from agent.settings import SettingsError


def clip(**changes: Any) -> LabelledClip:
    table = {
        "rules": [{"type": "person.loitering", "zone": "table", "dwell_s": 15}],
        "events": [
            {"type": "person.loitering", "zone": "table", "start": [10, 20]},
            {"type": "person.loitering", "zone": "table", "start": [40, 50]},
        ],
    }
    return LabelledClip.model_validate({**table, **changes})


def started(*times: float, zone: str = "table") -> list[EpisodeChange]:
    return [EpisodeChange(EventType.PERSON_LOITERING, zone, Phase.STARTED, time) for time in times]


def outcome(labels: LabelledClip, changes: list[EpisodeChange]) -> tuple[str, int, int, int]:
    verdict = judge("clip", labels, changes)
    return verdict.result, verdict.hits, verdict.misses, verdict.false_alarms


def test_each_event_met_by_one_start_passes_with_its_mean_delay() -> None:
    verdict = judge("clip", clip(), started(12, 46))

    assert (verdict.result, verdict.hits, verdict.delay_s) == ("pass", 2, 4)


def test_what_goes_on_or_ends_is_no_start() -> None:
    over = [EpisodeChange(EventType.PERSON_LOITERING, "table", phase, 30) for phase in (Phase.ONGOING, Phase.ENDED)]

    assert outcome(clip(), [*started(12, 46), *over]) == ("pass", 2, 0, 0)


def test_a_missed_event_fails() -> None:
    assert outcome(clip(), started(12)) == ("fail", 1, 1, 0)


def test_a_start_outside_any_span_or_a_second_one_inside_is_a_false_alarm() -> None:
    assert outcome(clip(), started(12, 30, 46)) == ("fail", 2, 0, 1)
    assert outcome(clip(), started(12, 15, 46)) == ("fail", 2, 0, 1)
    assert outcome(clip(), [*started(12, 46), *started(15, zone="door")]) == ("fail", 2, 0, 1)


def test_a_start_in_a_span_to_ignore_is_neither() -> None:
    assert outcome(clip(ignore=[[25, 35]]), started(12, 30, 46)) == ("pass", 2, 0, 0)


def test_a_rule_without_a_behaviour_is_no_pass() -> None:
    later = clip(rules=[{"type": "incident.panic"}, {"type": "of.another.version"}], events=[])
    verdict = judge("clip", later, [])

    assert (verdict.result, verdict.not_built) == ("not built", ("incident.panic", "of.another.version"))


def test_events_of_a_rule_without_a_behaviour_are_no_misses() -> None:
    both = clip(
        rules=[{"type": "person.loitering", "zone": "table"}, {"type": "incident.panic", "zone": "table"}],
        events=[{"type": "incident.panic", "zone": "table", "start": [1, 2]}],
    )

    assert outcome(both, []) == ("pass", 0, 0, 0)


def test_one_type_can_be_looked_at_alone() -> None:
    labels = Labels(format="vigie-eval/1", clips={"a": clip(), "b": clip(rules=[{"type": "camera.tampered"}])})

    assert list(labels.only({"person.loitering"}).clips) == ["a"]


def test_rules_become_a_camera_with_their_zones_and_parameters() -> None:
    triangle = [[0, 0], [1, 0], [1, 1]]
    camera = clip(rules=[{"type": "person.loitering", "zone": "table", "polygon": triangle, "dwell_s": 15}]).camera(
        "file:clip"
    )

    assert list(camera.zones[0].polygon) == [(0, 0), (1, 0), (1, 1)]
    assert camera.rules[0].parameters == {"dwell_s": 15}


def test_a_zone_with_two_polygons_is_refused() -> None:
    rules = [
        {"type": "person.loitering", "zone": "table", "polygon": [[0, 0], [1, 0], [1, 1]]},
        {"type": "crowd.density", "zone": "table"},
    ]
    with pytest.raises(SettingsError, match="zone table has two polygons"):
        clip(rules=rules).camera("file:clip")


@pytest.mark.parametrize("content", ["", "{}", json.dumps({"format": "vigie-eval/2", "clips": {}})])
def test_a_file_in_another_format_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "labels.json"
    path.write_text(content)
    with pytest.raises(SettingsError, match=r"labels\.json"):
        read_labels(path)
    with pytest.raises(SettingsError, match="cannot be read"):
        read_labels(tmp_path / "absent.json")


def test_the_shared_labels_can_be_used(data: Path) -> None:
    for labels in read_labels(data / "labels.json").clips.values():
        labels.camera("file:clip")
