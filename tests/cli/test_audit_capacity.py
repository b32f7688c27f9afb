"""`vigie audit capacity`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent.cli.app import app
from agent.demo.configuration import write_configuration


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["audit", "capacity", *arguments], env={"COLUMNS": "200"})
    return result.exit_code, result.output


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_configuration(tmp_path, "sim:empty", None, {"host": "localhost", "tls": False})


def test_the_largest_device_keeps_to_the_bound_of_the_default_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VIGIE_CONFIG", raising=False)
    code, said = run("--json")
    bound = json.loads(said)
    assert code == 0
    assert bound["of"] == "the largest device, every type permitted, default gate"
    assert bound["bits_per_minute"] <= 400.001
    assert bound["burst_bits"] <= 4000.001
    assert len(bound["types"]) == 25


def test_a_device_has_its_own_and_says_what_it_does_not_exclude(config: Path) -> None:
    code, said = run("--config", str(config))
    assert code == 0
    assert "person.loitering" in said
    assert "surface.tagged" not in said, "its policy does not permit that"
    assert "volume alone proves no anonymity" in " ".join(said.split())


def test_another_policy_can_be_tried(config: Path, tmp_path: Path) -> None:
    policy = tmp_path / "other.toml"
    policy.write_text("[policy.gate]\nbits_per_minute = 100\nburst_bits = 1000\n")
    code, said = run("--config", str(config), "--policy", str(policy), "--json")
    assert code == 0
    assert json.loads(said)["bits_per_minute"] == pytest.approx(100)


def test_a_policy_that_lets_nothing_leave_is_refused(config: Path, tmp_path: Path) -> None:
    policy = tmp_path / "other.toml"
    policy.write_text("[policy.gate]\nbits_per_minute = 20\nburst_bits = 4000\n")
    code, said = run("--config", str(config), "--policy", str(policy))
    assert code == 2
    assert "raise bits_per_minute" in said
