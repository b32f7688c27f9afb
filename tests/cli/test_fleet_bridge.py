"""`vigie fleet bridge` and `vigie fleet conform`: what they say where they cannot begin."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from agent.cli.app import app
from agent.documents import documents

#: Port 1 of loopback: nobody listens there.
NOBODY = ("--host", "127.0.0.1", "--port", "1", "--no-tls")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["fleet", *NOBODY, *arguments])


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


@pytest.mark.parametrize(
    "arguments", [("bridge", "homeassistant"), ("bridge", "onvif"), ("bridge", "prometheus"), ("conform", "a/b")]
)
def test_without_a_broker_it_ends_with_3_and_names_it(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.exit_code == 3
    assert "broker 127.0.0.1:1: " in done.output


@pytest.mark.parametrize("device", ["camera", "a/b/c", "A/b", "a/+", ""])
def test_what_is_no_device_is_refused(device: str) -> None:
    done = run("conform", device)
    assert done.exit_code == 2
    assert "write SITE/DEVICE" in done.output


def test_documents_of_another_version_can_be_named(tmp_path: Path) -> None:
    for name, text in documents().items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert run("conform", "a/b", "--schemas", str(tmp_path)).exit_code == 3
    (tmp_path / "schemas" / "event.json").unlink()
    done = run("conform", "a/b", "--schemas", str(tmp_path))
    assert done.exit_code == 2
    assert "schemas/event.json" in done.output
    (tmp_path / "asyncapi.json").write_text(json.dumps({"operations": 7}))
    assert run("conform", "a/b", "--schemas", str(tmp_path)).exit_code == 2
    done = run("conform", "a/b", "--schemas", str(tmp_path / "nowhere"))
    assert done.exit_code == 2
    assert "cannot be read" in done.output


def test_a_prefix_that_does_not_tell_devices_apart_is_refused() -> None:
    done = run("bridge", "onvif", "--prefix", "cameras")
    assert done.exit_code == 2
    assert "it needs {device}" in done.output


def test_a_key_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    done = run("bridge", "homeassistant", "--key", str(tmp_path / "none.pem"))
    assert done.exit_code == 2
    assert "none.pem" in done.output


def test_a_file_of_verdicts_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run("bridge", "prometheus", "--verdicts", str(tmp_path / "file" / "inside"))
    assert done.exit_code == 2
    assert "name another file with --verdicts" in done.output
