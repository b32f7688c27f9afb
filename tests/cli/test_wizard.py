"""`vigie config wizard`: answers in plain words become a configuration that is in order."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent.cli.app import app
from agent.cli.config_wizard import words_in
from agent.policy import load_policy
from agent.settings import load


def wizard(path: Path, answers: list[str], *options: str) -> tuple[int, str]:
    arguments = ["config", "wizard", "--path", str(path), "--language", "en", *options]
    result = CliRunner().invoke(app, arguments, input="".join(f"{answer}\n" for answer in answers))
    return result.exit_code, result.output


def test_enter_all_the_way_makes_a_configuration_that_is_in_order(tmp_path: Path) -> None:
    path = tmp_path / "vigie.toml"
    code, output = wizard(path, [""] * 11)
    assert code == 0, output
    settings = load(path)
    assert settings.cameras[0].source == "csi://0"
    assert settings.cameras[0].rules[0].type == "crowd.density"
    assert settings.microphone.source is None
    checked = CliRunner().invoke(app, ["config", "check", "-c", str(path)])
    assert checked.exit_code == 0, checked.output


def test_two_cameras_and_a_microphone(tmp_path: Path) -> None:
    path = tmp_path / "vigie.toml"
    first = ["3", "rtsp://192.0.2.1/a", "north", "quay", "2, 4,8", "25", "90", "30", "y"]
    second = ["2", "", "south", "ramp", "1", "n"]
    broker = ["broker.example", "", ""]
    code, output = wizard(path, ["old-port", "cam-07", *broker, "", *first, *second, "USB", "1,3", "y"])
    assert code == 0, output
    settings = load(path)
    north, south = settings.cameras
    assert (settings.device.site, settings.device.name, settings.mqtt.host) == ("old-port", "cam-07", "broker.example")
    assert (north.source, south.source) == ("rtsp://192.0.2.1/a", "v4l2:/dev/video0")
    assert [(rule.type, rule.zone, rule.parameters) for rule in north.rules] == [
        ("crowd.gathering", "quay", {"min_persons": 25}),
        ("person.loitering", "quay", {"dwell_s": 90}),
        ("camera.tampered", None, {}),
    ]
    assert settings.microphone.source == "device:USB"
    assert [rule.type for rule in settings.microphone.rules] == ["sound.gunshot", "sound.glass_break"]
    policy = load_policy(settings.policy_file)
    assert {entry.mode for entry in policy.detectors} == {"shadow"}
    flows = {entry.type: entry.flow_per_min for entry in policy.detectors}
    assert flows["person.loitering"] == 30
    assert path.read_text().count("\n# ") >= 8  # with comments


def test_an_answer_that_cannot_be_is_asked_for_again(tmp_path: Path) -> None:
    path = tmp_path / "vigie.toml"
    answers = ["Old Port", "old-port", "", "", "5", "1", "x", "0", "", "", "9", "2", "1", "2"]
    code, output = wizard(path, [*answers, "", "", ""])
    assert code == 0, output
    for hint in ("a to z, 0 to 9 and -", "a number from 1 to 4", "numbers from 1 to 8", "a whole number from 2"):
        assert hint in output
    assert load(path).cameras[0].rules[0].parameters == {"min_persons": 2}


def test_nothing_is_written_without_a_yes_or_over_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "vigie.toml"
    code, _ = wizard(path, [""] * 10 + ["n"])
    assert code == 1
    assert not path.exists()
    code, _ = wizard(path, ["", ""])  # the answers end early
    assert code == 1
    assert not path.exists()
    path.write_text("")
    code, output = wizard(path, [""] * 11)
    assert code == 2
    assert "--force replaces it" in output
    assert wizard(path, [""] * 11, "--force")[0] == 0


def test_it_speaks_french(tmp_path: Path) -> None:
    path = tmp_path / "vigie.toml"
    code, output = wizard(path, [""] * 11, "--language", "fr")
    assert code == 0, output
    assert "Combien" in output or "Que faut-il y remarquer" in output
    assert "# Une caméra." in path.read_text()
    assert load(path).cameras


def test_both_languages_say_the_same_things() -> None:
    assert words_in("en").keys() == words_in("fr").keys()


def test_another_language_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["config", "wizard", "--language", "tlh", "--path", str(tmp_path / "a.toml")])
    assert result.exit_code == 2
    assert "en, fr" in result.output


@pytest.mark.parametrize("answer", ['a"b\\c', "é\x7f"])
def test_odd_text_is_written_as_it_is_or_refused(tmp_path: Path, answer: str) -> None:
    path = tmp_path / "vigie.toml"
    code, output = wizard(path, ["", "", "", "4", answer, *[""] * 6])
    assert code in {0, 2}, output
    if code == 0:
        assert load(path).cameras[0].source == f"file:{answer}"
