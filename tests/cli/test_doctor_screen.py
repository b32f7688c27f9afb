"""`vigie doctor`: subjects by name, exit codes by severity, one screen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent.cli.app import app
from agent.device.doctor import disk
from agent.device.doctor.check import Finding, Findings, Patient, fail, ok, warn

runner = CliRunner()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "vigie.toml"
    path.write_text(f'[journal]\nfolder = "{tmp_path}"\n[pipe]\nstatus_socket = "{tmp_path}/status.sock"\n')
    return path


def finds(monkeypatch: pytest.MonkeyPatch, *findings: Finding) -> None:
    def examine(_: Patient) -> Findings:
        return findings

    monkeypatch.setattr(disk, "examine", examine)


@pytest.mark.parametrize(
    ("findings", "code", "worst"),
    [
        ((ok("a", "well"),), 0, "ok"),
        ((ok("a", "well"), warn("b", "so so", "do this")), 4, "warn"),
        ((fail("c", "broken", "do that"), warn("b", "so so", "do this")), 1, "fail"),
    ],
)
def test_the_exit_code_is_that_of_the_worst(
    config: Path, monkeypatch: pytest.MonkeyPatch, findings: tuple[Finding, ...], code: int, worst: str
) -> None:
    finds(monkeypatch, *findings)
    done = runner.invoke(app, ["doctor", "-c", str(config), "--only", "disk", "--json"])
    assert done.exit_code == code
    said = json.loads(done.stdout)
    assert said["worst"] == worst
    assert {check["subject"] for check in said["checks"]} == {"disk"}
    assert said["checks"][0].keys() == {"subject", "line", "level", "what", "fix"}


def test_what_is_well_takes_one_line_and_what_is_not_has_its_fix_below(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finds(monkeypatch, ok("a", "well"), ok("b", "fine"), fail("c", "broken", "do that"))
    lines = runner.invoke(app, ["doctor", "-c", str(config), "--only", "disk"]).stdout.splitlines()
    assert lines[0].split() == ["ok", "disk", "well;", "fine"]
    assert lines[1].split() == ["fail", "disk", "c:", "broken"]
    assert lines[2].strip() == "→ do that"
    assert lines[3].startswith("1 fail; ")


def test_a_subject_that_is_none_is_refused_with_the_nearest(config: Path) -> None:
    done = runner.invoke(app, ["doctor", "-c", str(config), "--only", "camra"])
    assert done.exit_code == 2
    assert "did you mean 'camera'" in done.stderr


def test_short_names_are_understood(config: Path) -> None:
    done = runner.invoke(app, ["doctor", "-c", str(config), "--only", "cameras, mic", "--json"])
    assert {check["subject"] for check in json.loads(done.stdout)["checks"]} == {"camera", "microphone"}


def test_a_configuration_that_cannot_be_read_is_told_and_the_machine_looked_at(tmp_path: Path) -> None:
    (tmp_path / "vigie.toml").write_text("[mqtt]\nhots = 'x'\n")
    done = runner.invoke(app, ["doctor", "-c", str(tmp_path / "vigie.toml"), "--json"])
    assert done.exit_code == 1
    checks = json.loads(done.stdout)["checks"]
    assert "did you mean 'host'" in checks[0]["what"]
    assert {check["subject"] for check in checks} >= {"config", "hardware"}
