"""`vigie policy`: what is on and why, what is refused, what ends, and texts to begin from."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent.cli.app import app
from agent.policy import PolicyError, load_policy
from agent.presets import preset, preset_names


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """The starter configuration and policy."""
    path = tmp_path / "vigie.toml"
    assert CliRunner().invoke(app, ["config", "init", "--path", str(path)]).exit_code == 0
    return path


def vigie(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["policy", *map(str, arguments)])
    return done.exit_code, done.output


def changed(config: Path, old: str, new: str) -> None:
    policy = config.with_name("policy.toml")
    assert old in policy.read_text()
    policy.write_text(policy.read_text().replace(old, new))


def test_check_explains_each_permission(written: Path) -> None:
    code, said = vigie("check", "-c", written)
    assert code == 0
    assert "TRIAL  crowd.gathering, every zone" in said
    assert "Basis TRIAL; Whoever set up this device answers for it: Ask at the place" in said
    assert "Used by camera camera-1 in square." in said
    assert "in 30 days. Nothing takes over from it." in said


def test_check_says_how_events_leave(written: Path) -> None:
    changed(written, 'mode = "shadow"', 'mode = "on"')
    assert "classes of people, never below 5, at the end of each 60 s" in vigie("check", "-c", written)[1]
    changed(written, '"crowd.density"', '"person.loitering"')
    assert "REFUSED  person.loitering, every zone" in vigie("check", "-c", written)[1]
    changed(written, '"person.loitering"', '"person.loitering"\nbelow_flow = "People may need help"')
    code, said = vigie("check", "-c", written)
    assert code == 1, "the rule for crowd.density has no permission any more"
    assert "one person can cause it, so it is not called anonymous" in said
    assert "No rule of the configuration uses it." in said
    assert "REFUSED  camera camera-1: crowd.density: the policy has no [[policy.detector]] entry for it" in said


def test_check_says_what_has_ended(written: Path) -> None:
    until = load_policy(written.with_name("policy.toml")).detectors[0].until
    changed(written, str(until), "2020-01-01")
    code, said = vigie("check", "-c", written, "--json")
    table = json.loads(said)
    assert code == 1
    assert not table["ok"]
    assert {entry["state"] for entry in table["detectors"]} == {"ended"}
    assert len(table["refused"]) == 2
    assert "It ended on 2020-01-01: the detector has stopped by itself" in vigie("check", "-c", written)[1]


def test_an_old_policy_is_told_which_keys_to_add(written: Path) -> None:
    changed(written, "retention_days = 0\n", "")
    code, said = vigie("check", "-c", written)
    assert code == 2
    assert "policy.detector[0].retention_days: is missing" in said


def test_presets_are_listed_with_their_sources() -> None:
    code, said = vigie("preset")
    assert code == 0
    assert all(f"{name}: {preset(name).title}" in said for name in preset_names())
    assert set(json.loads(vigie("preset", "--json")[1])) == set(preset_names())
    assert vigie("preset", "fr-2023")[0] == 2


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_becomes_a_policy_once_the_officer_has_filled_it_in(name: str, tmp_path: Path) -> None:
    code, text = vigie("preset", name)
    assert code == 0
    path = tmp_path / "policy.toml"
    path.write_text(text)
    with pytest.raises(PolicyError) as caught:
        load_policy(path)
    missing = {line.rpartition("].")[2] for line in caught.value.problems}
    assert missing == {f"{key}: is missing" for key in ("body", "contact", "retention_days", "until")}
    filled = text
    for key in ("body", "contact", "retention_days", "until"):
        filled = filled.replace(f"# {key} =", f"{key} =")
    path.write_text(filled)
    policy = load_policy(path)
    assert policy.follows == name
    assert tuple(entry.type for entry in policy.detectors) == preset(name).types
    assert policy.detectors[0].until == dt.date(2027, 12, 31)
