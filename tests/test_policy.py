"""The policy: nothing without a permission, and nothing beyond it."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path
from typing import Any

import pytest

from agent.contract import ALARMS, CROWD_TYPES, EventType
from agent.policy import DetectorPolicy, GatePolicy, Policy, PolicyError, load_policy, local_day

TODAY = dt.date(2026, 11, 23)
ENTRY = {
    "type": "crowd.gathering",
    "purpose": "Safety of the quay",
    "legal_basis": "FR-2026-04/3",
    "body": "City",
    "contact": "dpo@city.example",
    "retention_days": 30,
    "until": "2026-11-23",
}


def policy(*entries: dict[str, Any]) -> Policy:
    return Policy.model_validate({"detector": entries})


def reason(rules: Policy, zone: str | None = "quay", today: dt.date = TODAY) -> str:
    entry = rules.entry(EventType.CROWD_GATHERING, zone, today)
    assert isinstance(entry, str)
    return entry


def test_an_empty_policy_permits_nothing_and_says_why() -> None:
    for event_type in EventType:
        entry = Policy().entry(event_type, "quay", TODAY)
        assert entry == f"{event_type.label}: the policy has no [[policy.detector]] entry for it"


def test_an_entry_is_valid_up_to_and_including_its_last_day() -> None:
    rules = policy(ENTRY)
    assert not isinstance(rules.entry(EventType.CROWD_GATHERING, "quay", TODAY), str)
    assert reason(rules, today=TODAY + dt.timedelta(days=1)) == (
        "crowd.gathering: its legal basis FR-2026-04/3 ended on 2026-11-23"
    )


def test_an_entry_may_be_for_some_zones_only() -> None:
    rules = policy({**ENTRY, "zones": ["quay"]})
    assert not isinstance(rules.entry(EventType.CROWD_GATHERING, "quay", TODAY), str)
    assert reason(rules, "market") == "crowd.gathering: the policy does not allow it in zone market"
    assert reason(rules, None) == "crowd.gathering: the policy does not allow it without a zone"


def test_the_first_valid_entry_counts() -> None:
    over = {**ENTRY, "until": "2025-12-31", "legal_basis": "OLD"}
    shadow = {**ENTRY, "mode": "shadow", "legal_basis": "NEW"}
    entry = policy(over, shadow, ENTRY).entry(EventType.CROWD_GATHERING, "quay", TODAY)
    assert not isinstance(entry, str)
    assert (entry.mode, entry.legal_basis) == ("shadow", "NEW")


@pytest.mark.parametrize("key", ["type", "purpose", "legal_basis", "body", "contact", "retention_days", "until"])
def test_every_statement_is_demanded(key: str, tmp_path: Path) -> None:
    lines = [f"{name} = {value!r}" for name, value in ENTRY.items() if name != key]
    path = tmp_path / "policy.toml"
    path.write_text("[[policy.detector]]\n" + "\n".join(lines))
    with pytest.raises(PolicyError) as caught:
        load_policy(path)
    assert caught.value.problems == [f"{path}: policy.detector[0].{key}: is missing"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[policy.gat]\nk = 3", "policy.gat: unknown key; did you mean 'gate'?"),
        ("[policy.gate]\nkk = 3", "policy.gate.kk: unknown key; did you mean 'k'?"),
        ("[policy.gate]\nk = 0", "policy.gate.k: Input should be greater than or equal to 1"),
        ("[polcy]", "polcy: unknown key; did you mean 'policy'?"),
        (
            "[policy.detector]",
            "policy.detector: must be a list: write [[policy.detector]] instead of [policy.detector]",
        ),
    ],
)
def test_a_problem_says_where_and_what(text: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(text)
    with pytest.raises(PolicyError) as caught:
        load_policy(path)
    assert f"{path}: {problem}" in caught.value.problems


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"policy\.toml: cannot be read"):
        load_policy(tmp_path / "policy.toml")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to root")
@pytest.mark.parametrize(("owner", "mode", "fits"), [(0, 0o644, True), (0, 0o664, False), (1000, 0o644, False)])
def test_a_service_wants_a_file_that_only_root_can_change(owner: int, mode: int, fits: bool, tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text("[policy]")
    path.chmod(mode)
    os.chown(path, owner, owner)
    assert load_policy(path) == Policy()
    if fits:
        assert load_policy(path, service=True) == Policy()
    else:
        with pytest.raises(PolicyError, match="must belong to root"):
            load_policy(path, service=True)


def test_alarms_do_not_wait_crowds_wait_long_and_others_a_little() -> None:
    gate = Policy().gate
    for event_type in EventType:
        expected = 0 if event_type in ALARMS else 60 if event_type in CROWD_TYPES else 10
        assert gate.grain_of(event_type) == expected


def test_any_change_of_the_policy_changes_its_digest() -> None:
    assert policy(ENTRY).digest() == policy(ENTRY).digest()
    assert policy(ENTRY).digest() != policy({**ENTRY, "body": "State"}).digest()


def running(**more: Any) -> DetectorPolicy | str:
    return policy({**ENTRY, "type": "person.running", **more}).entry(EventType.PERSON_RUNNING, "quay", TODAY)


def test_a_type_that_one_person_can_start_needs_enough_people_or_a_reason() -> None:
    refused = running(flow_per_min=3)
    assert isinstance(refused, str)
    assert "3 people a minute are stated to pass" in refused
    assert "below_flow" in refused
    assert isinstance(running(), str)
    assert isinstance(running(flow_per_min=GatePolicy().min_flow_per_min), DetectorPolicy)
    assert isinstance(running(below_flow="Who runs from a fire needs help"), DetectorPolicy)
    assert isinstance(running(mode="shadow"), DetectorPolicy)


def test_what_may_be_told_on_some_day_is_known() -> None:
    rules = policy({**ENTRY, "zones": ["quay"]}, {**ENTRY, "type": "person.running"}, {**ENTRY, "type": "sound.horn"})
    assert rules.may_tell(EventType.CROWD_GATHERING, "quay")
    assert not rules.may_tell(EventType.CROWD_GATHERING, None)
    assert not rules.may_tell(EventType.PERSON_RUNNING, "quay")
    assert rules.may_tell(EventType.SOUND_HORN, None)
    assert not policy({**ENTRY, "mode": "shadow"}).may_tell(EventType.CROWD_GATHERING, "quay")


def test_what_goes_at_once_leaves_at_the_next_tenth_of_a_second() -> None:
    assert GatePolicy().tick_of(EventType.SOUND_SCREAM) == 0.1
    assert GatePolicy().tick_of(EventType.CROWD_DENSITY) == 60


def test_the_end_of_a_permission_is_seen_thirty_days_ahead() -> None:
    rules = policy(ENTRY)
    last = dt.date(2026, 11, 23)
    assert rules.ending(last - dt.timedelta(days=31)) == []
    assert rules.ending(last - dt.timedelta(days=30)) == list(rules.detectors)
    assert rules.ending(last) == list(rules.detectors)
    assert rules.ending(last + dt.timedelta(days=1)) == []


@pytest.mark.parametrize(
    ("zones", "later", "warned"),
    [([], {}, False), ([], {"zones": ["quay"]}, True), (["quay"], {"zones": ["quay", "gate"]}, False)],
)
def test_an_end_that_a_later_permission_takes_over_is_no_news(zones: list[str], later: Any, warned: bool) -> None:
    rules = policy({**ENTRY, "zones": zones}, {**ENTRY, "until": "2027-11-23", **later})
    assert bool(rules.ending(TODAY)) is warned


def test_a_day_is_that_of_the_device() -> None:
    before_midnight = dt.datetime(2026, 11, 23, 23, 59, 59).astimezone()
    assert local_day(before_midnight) == local_day(before_midnight.astimezone(dt.timezone.utc)) == TODAY
    assert local_day(before_midnight + dt.timedelta(seconds=1)) == TODAY + dt.timedelta(days=1)


def test_a_policy_that_follows_a_text_cannot_go_beyond_its_list(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    lines = [f"{name} = {value!r}" for name, value in {**ENTRY, "type": "person.loitering"}.items()]
    path.write_text('[policy]\nfollows = "fr-2023-828"\n[[policy.detector]]\n' + "\n".join(lines))
    with pytest.raises(PolicyError, match=r"preset fr-2023-828 does not name person\.loitering; it names object"):
        load_policy(path)
    assert Policy.model_validate({"follows": "fr-2023-828", "detector": [ENTRY]}).follows == "fr-2023-828"


def test_a_text_that_is_not_known_is_an_error_that_names_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text('[policy]\nfollows = "fr-2023-88"')
    with pytest.raises(PolicyError, match="no preset is called 'fr-2023-88'; did you mean 'fr-2023-828'"):
        load_policy(path)
