"""`vigie config`: a first configuration, its problems, its values and its schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner

from agent.behaviours.registry import BEHAVIOURS
from agent.cli.app import app
from agent.policy import load_policy
from agent.settings import load, read_toml

COLUMNS = {"COLUMNS": "200"}


def vigie(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["config", *map(str, arguments)], env=COLUMNS)
    return result.exit_code, result.output


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A configuration as `vigie config init` writes it."""
    path = tmp_path / "vigie.toml"
    assert vigie("init", "--path", path) == (0, f"{path}\n{tmp_path / 'policy.toml'}\n")
    return path


def changed(path: Path, old: str, new: str) -> Path:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return path


def problems(path: Path) -> list[str]:
    code, output = vigie("check", "-c", path, "--json")
    answer = json.loads(output)
    assert code == 1
    assert answer["ok"] is False
    found: list[str] = answer["problems"]
    return found


def test_the_first_configuration_is_in_order(written: Path) -> None:
    assert vigie("check", "-c", written) == (0, "The configuration and the policy are in order.\n")
    code, output = vigie("check", "-c", written, "--json")
    assert (code, json.loads(output)) == (0, {"ok": True, "problems": []})


def test_the_first_configuration_sends_nothing_until_an_officer_says_so(written: Path) -> None:
    policy = load_policy(load(written).policy_file)
    assert policy.detectors
    assert {entry.mode for entry in policy.detectors} == {"shadow"}


def test_the_first_configuration_shows_every_key_with_its_default(written: Path) -> None:
    uncommented = "\n".join(
        line.removeprefix("# ") if " = " in line and not line.endswith(("...", ".")) else line
        for line in written.read_text().splitlines()
    )
    written.write_text(uncommented)
    assert vigie("check", "-c", written)[0] == 0


def test_files_that_are_there_are_replaced_by_force_only(written: Path) -> None:
    written.write_text("log_level = 'debug'")
    code, output = vigie("init", "--path", written)
    assert code == 2
    assert "is there already; --force replaces it" in output
    assert load(written).log_level == "debug"
    assert vigie("init", "--path", written, "--force")[0] == 0
    assert load(written).log_level == "info"


def test_init_says_where_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, output = vigie("init", "--path", tmp_path / "file" / "vigie.toml")
    assert code == 3
    assert "cannot be written" in output


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('name = "camera-1"', 'nam = "camera-1"', "camera[0].nam: unknown key; did you mean 'name'?"),
        ("min_persons = 10", "min_person = 10", "min_person: unknown key; did you mean 'min_persons'?"),
        ("min_persons = 10", "shedule = []", "shedule: unknown key; did you mean 'schedule'?"),
        ("min_persons = 10", "min_persons = 1", "min_persons: Input should be greater than or equal to 2"),
        (
            '"crowd.gathering"',
            '"sound.gunshot"',
            "rule sound.gunshot in zone square: is heard: write it as [[microphone.rule]]",
        ),
        ('type = "crowd.density"', 'type = "crowd.gathering"', "two rules crowd.gathering in zone square"),
        ('type = "crowd.density"', 'type = "person.loitering"', "the policy has no [[policy.detector]] entry for it"),
        ("# ca_file = ...", 'ca_file = "/nowhere/ca.pem"', "mqtt.ca_file: /nowhere/ca.pem: there is no such file"),
        ("policy.toml", "none.toml", "none.toml: cannot be read: No such file or directory"),
    ],
)
def test_a_problem_is_listed_with_its_place(written: Path, old: str, new: str, problem: str) -> None:
    found = problems(changed(written, old, new))
    assert any(problem in line for line in found), found


def test_problems_of_the_rules_and_of_the_policy_are_listed_together(written: Path) -> None:
    changed(written, "min_persons = 10", "min_persons = 1")
    changed(written.with_name("policy.toml"), "# k = 5", "k = 0")
    changed(written, 'name = "' + load(written).device.name + '"', "")
    found = problems(written)
    assert len(found) == 3
    assert found[0] == "device.name: is not set; it must be unique in the fleet"


def test_an_ended_permission_is_a_problem(written: Path) -> None:
    policy = written.with_name("policy.toml")
    until = read_toml(policy)["policy"]["detector"][0]["until"]
    changed(policy, str(until), "2020-01-01")
    assert any("its legal basis TRIAL ended on 2020-01-01" in line for line in problems(written))


def test_no_camera_is_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "vigie.toml"
    path.write_text("")
    assert "camera: there is none; add a [[camera]] with its name and source" in problems(path)


def test_show_tells_each_value_and_where_it_came_from(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIGIE_MQTT__HOST", "broker.example")
    changed(written, "v4l2:/dev/video0", "rtsp://user:secret@cam/stream?token=secret")
    code, output = vigie("show", "-c", written, "--json")
    rows: dict[str, dict[str, Any]] = {row["key"]: row for row in json.loads(output)}
    assert code == 0
    assert rows["mqtt.host"] == {"key": "mqtt.host", "value": "broker.example", "from": "environment"}
    assert rows["mqtt.keepalive_s"]["from"] == "default"
    assert rows["camera[0].zone[0].name"]["from"] == str(written)
    assert rows["camera[0].source"]["value"] == "rtsp://***@cam/stream***"
    code, output = vigie("show", "-c", written)
    assert code == 0
    assert "secret" not in output
    assert '"broker.example"' in output


def test_show_refuses_what_cannot_be_used(tmp_path: Path) -> None:
    code, output = vigie("show", "-c", tmp_path / "none.toml")
    assert code == 2
    assert "there is no such file" in output


def test_the_schema_knows_the_parameters_of_every_behaviour(written: Path) -> None:
    code, output = vigie("schema")
    schema = json.loads(output)
    assert code == 0
    jsonschema.Draft202012Validator.check_schema(schema)
    kinds = {kind["title"]: kind for kind in schema["$defs"]["RuleSettings"]["oneOf"]}
    assert set(kinds) == {event_type.label for event_type in BEHAVIOURS}
    table = read_toml(written)
    jsonschema.validate(table, schema)
    table["camera"][0]["rule"][0]["min_person"] = 3
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(table, schema)


def test_the_policy_has_a_schema_too(written: Path) -> None:
    code, output = vigie("schema", "--policy")
    assert code == 0
    table = read_toml(written.with_name("policy.toml"))
    for entry in table["policy"]["detector"]:
        entry["until"] = entry["until"].isoformat()
    jsonschema.validate(table, json.loads(output))
