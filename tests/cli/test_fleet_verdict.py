"""`vigie fleet verdict`."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from agent.cli.app import app
from agent.contract import Event, EventData
from agent.fleet.verdicts import Verdicts, default_file

ID = "5f3a9c01-000123"


@pytest.fixture(autouse=True)
def _file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    event = Event(
        id=ID,
        source="/vigie/old-port/cam-07",
        type="vigie.sound.gunshot.v1",
        time="2026-11-23T10:15:00Z",
        data=EventData(episode="9b1e", phase="started", confidence="high", clock="synced", basis="DEMO"),
    )
    assert default_file() == tmp_path / "vigie" / "fleet.sqlite"
    with contextlib.closing(Verdicts(default_file())) as file:
        file.note([(event, 4e9)])


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["fleet", "verdict", *arguments])


def test_a_verdict_is_recorded_listed_and_summed_up() -> None:
    done = run(ID, "false", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.output) == [
        {
            "id": ID,
            "device": "old-port/cam-07",
            "type": "sound.gunshot",
            "zone": None,
            "time": "2026-11-23T10:15:00Z",
            "verdict": False,
        }
    ]
    assert json.loads(run("--list", "--json").output) == json.loads(done.output)
    assert json.loads(run("--summary", "--json").output) == [
        {
            "site": "old-port",
            "type": "sound.gunshot",
            "events": 1,
            "true_alarms": 0,
            "false_alarms": 1,
            "false_share": 1.0,
        }
    ]
    assert "100%" in run("--summary").output
    assert "sound.gunshot" in run("--list").output


def test_where_nobody_said_anything_no_share_is_told() -> None:
    assert json.loads(run("--summary", "--json").output)[0]["false_share"] is None
    assert "nobody said" in run("--summary").output


def test_an_event_that_is_not_known_ends_with_words() -> None:
    done = run("00000000-000001", "true")
    assert done.exit_code == 2
    assert "no event 00000000-000001 is kept here" in done.output


@pytest.mark.parametrize("arguments", [(), (ID,), (ID, "perhaps"), (ID, "true", "--list")])
def test_wrong_usage_is_refused(arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2
