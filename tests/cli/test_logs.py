"""`vigie logs bundle`: what is in the file, and what never is."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent.cli.app import app
from agent.device.doctor import check
from agent.relay.journal import Journal

runner = CliRunner()
SECRETS = ("sesame", "hunter2", "10.20.30.40", "Dupont", "ville-exemple", "north gate", "bystander")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "policy.toml").write_text(
        '[[policy.detector]]\ntype = "crowd.gathering"\npurpose = "Mme Dupont at the north gate"\nlegal_basis = "B-1"\n'
        'body = "Mme Dupont"\ncontact = "dupont@ville-exemple.fr"\nretention_days = 1\nuntil = 2099-01-01\n'
    )
    (tmp_path / "vigie.toml").write_text(
        f'policy_file = "{tmp_path}/policy.toml"\n[device]\nsite = "old-port"\nname = "cam-07"\n'
        f'[journal]\nfolder = "{tmp_path}/journal"\n[pipe]\nstatus_socket = "{tmp_path}/status.sock"\n'
        '[mqtt]\nhost = "127.0.0.1"\nport = 1\ntls = false\nusername = "hunter2"\n'
        '[[camera]]\nname = "quay-cam"\nsource = "rtsp://admin:sesame@10.20.30.40/live"\n'
        '[[camera.zone]]\nname = "quay"\npolygon = [[0, 0], [1, 0], [1, 1]]\n'
    )
    limits = {"outbox_max_bytes": 2**20, "outbox_max_age_s": 1e9, "audit_max_bytes": 2**20}
    journal = Journal(tmp_path / "journal", "old-port", "cam-07", **limits)  # type: ignore[arg-type]
    journal.record("command", '{"verb":"bystander"}')
    journal.close()
    return tmp_path / "vigie.toml"


def test_the_file_lists_what_is_in_it_and_has_nothing_of_people(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = "2026-11-28 00:48:04,017 WARNING agent.sense event=lost reason='rtsp://sesame@10.20.30.40 Dupont: no route'\n"
    monkeypatch.setattr(check, "run", lambda words: log if words[0] == "journalctl" else None)
    out = tmp_path / "help.tar.gz"
    done = runner.invoke(app, ["logs", "bundle", "-c", str(config), "--out", str(out), "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    with tarfile.open(out) as archive:
        files = {entry.name: archive.extractfile(entry).read() for entry in archive}  # type: ignore[union-attr]
        assert {(entry.uid, entry.uname) for entry in archive} == {(0, "")}
    listed = json.loads(files.pop("manifest.json"))["files"]
    assert listed == said["files"]
    assert {(one["file"], one["bytes"], one["sha256"]) for one in listed} == {
        (name, len(content), hashlib.sha256(content).hexdigest()) for name, content in files.items()
    }
    everything = b"\n".join(files.values()).decode()
    assert str(tmp_path) not in everything
    assert [secret for secret in SECRETS if secret in everything] == []
    assert "event=lost reason='*** ***: no route'" in files["vigie-sense.log"].decode()
    assert json.loads(files["configuration.json"])["camera"][0]["source"] == "rtsp"
    assert json.loads(files["journal.json"])["kinds"]["command"] == 1
    assert json.loads(files["policy.json"])["detectors"][0]["until"] == "2099-01-01"
    assert {c["subject"] for c in json.loads(files["doctor.json"])} >= {"camera", "broker", "disk"}


def test_a_configuration_that_cannot_be_read_makes_a_file_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "vigie.toml").write_text("[mqtt\n")
    out = tmp_path / "help.tar.gz"
    done = runner.invoke(app, ["logs", "bundle", "-c", str(tmp_path / "vigie.toml"), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "doctor.json" in done.stdout
    with tarfile.open(out) as archive:
        assert "configuration.json" not in archive.getnames()


def test_a_place_that_cannot_be_written_is_told(config: Path) -> None:
    done = runner.invoke(app, ["logs", "bundle", "-c", str(config), "--out", "/nowhere/help.tar.gz"])
    assert done.exit_code == 3
    assert "--out" in done.stderr
