"""`vigie test camera`, `detector`, `clap`, `broker`, `end-to-end`, on files and scenarios."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from agent.cli.app import app

runner = CliRunner()


def configuration(folder: Path, camera: str, microphone: str = "") -> Path:
    heard = f'[microphone]\nsource = "{microphone}"\n' if microphone else ""
    path = folder / "vigie.toml"
    path.write_text(
        f'[journal]\nfolder = "{folder}/journal"\n[pipe]\nstatus_socket = "{folder}/status.sock"\n'
        f'[mqtt]\nhost = "127.0.0.1"\nport = 1\ntls = false\n{heard}'
        f'[[camera]]\nname = "quay"\nsource = "{camera}"\n'
    )
    return path


def test_a_camera_is_looked_at_and_nothing_of_it_is_shown(data: Path, tmp_path: Path) -> None:
    config = configuration(tmp_path, f"file:{data}/clips/pets2009_s2l1.mp4")
    done = runner.invoke(app, ["test", "camera", "-c", str(config), "--seconds", "2.2", "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert (said["camera"], said["width"], said["height"], said["wrong"]) == ("quay", 768, 576, [])
    assert said["rate"] == pytest.approx(10, abs=3)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["camera", "quya"], 2, "did you mean 'quay'"),
        (["camera"], 3, "vigie doctor --only camera"),
        (["detector", "--camera", "pier"], 2, "there are quay"),
        (["clap"], 2, "name one with --source"),
        (["clap", "--source", "file:/nowhere.wav"], 3, "vigie doctor --only mic"),
        (["end-to-end"], 3, "sudo systemctl start vigie.target"),
    ],
)
def test_what_cannot_be_tried_says_what_to_do(tmp_path: Path, arguments: list[str], code: int, said: str) -> None:
    config = configuration(tmp_path, "file:/nowhere.mp4")
    done = runner.invoke(app, ["test", *arguments, "-c", str(config)])
    assert done.exit_code == code
    assert said in done.stderr


def test_the_detector_is_checked_and_timed_and_counts_whom_it_sees(data: Path, tmp_path: Path) -> None:
    config = configuration(tmp_path, f"file:{data}/clips/pets2009_s2l1.mp4")
    command = ["test", "detector", "-c", str(config), "--json", "--camera", "quay", "--seconds", "1.5"]
    done = runner.invoke(app, command)
    assert done.exit_code == 0, done.output
    checked, *seen = map(json.loads, done.stdout.splitlines())
    assert checked["detector"] == "model"
    assert checked["passed"]
    assert checked["ms_median"] > 0
    assert max(each["seen"].get("person", 0) for each in seen) >= 2


def test_the_shutter_is_respected(tmp_path: Path) -> None:
    from agent.relay.journal import Journal

    limits = {"outbox_max_bytes": 2**20, "outbox_max_age_s": 1e9, "audit_max_bytes": 2**20}
    journal = Journal(tmp_path / "journal", "site", "camera", **limits)  # type: ignore[arg-type]
    with journal.changing():
        journal.ledger.hold("manager-1")
    journal.close()
    config = configuration(tmp_path, "file:/nowhere.mp4")
    done = runner.invoke(app, ["test", "camera", "-c", str(config)])
    assert done.exit_code == 3
    assert "privacy shutter" in done.stderr
    found = runner.invoke(app, ["doctor", "-c", str(config), "--only", "camera", "--json"])
    assert "privacy shutter" in json.loads(found.stdout)["checks"][0]["what"]


def clap(folder: Path, level: float) -> Path:
    """Three seconds of noise at -50 dBFS, with a clap after the second one."""
    rng = np.random.default_rng(1)
    sound = rng.normal(0, 10 ** (-50 / 20), 3 * 16_000)
    sound[32_000:32_800] += level * rng.normal(0, 1, 800) * np.exp(-np.arange(800) / 160)
    path = folder / "clap.wav"
    soundfile.write(path, sound.clip(-1, 1), 16_000)
    return path


def test_a_clap_is_heard(tmp_path: Path) -> None:
    config = configuration(tmp_path, "sim:empty", f"file:{clap(tmp_path, 0.3)}")
    done = runner.invoke(app, ["test", "clap", "-c", str(config), "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["heard"]
    assert 2 < said["after_s"] < 2.5
    assert said["rise_db"] > 30


def test_a_street_is_no_clap(tmp_path: Path) -> None:
    config = configuration(tmp_path, "sim:empty", f"file:{clap(tmp_path, 0.0)}")
    done = runner.invoke(app, ["test", "clap", "-c", str(config)])
    assert done.exit_code == 1
    assert "heard no clap" in done.stdout


def test_the_way_to_a_broker_that_is_down_ends_with_what_to_do(tmp_path: Path) -> None:
    done = runner.invoke(app, ["test", "broker", "-c", str(configuration(tmp_path, "sim:empty"))])
    assert done.exit_code == 1
    assert "ok    DNS" in done.stdout
    assert "fail  TCP" in done.stdout
    assert "→" in done.stdout
