from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from agent.inference.backend import InferenceError
from agent.inference.registry import Registry

CONTENT = b"not really a network"
ENTRY = f"""
[[model]]
name = "spotter"
version = "1"
task = "detect"
decoder = "yolox"
classes = {{ person = 0 }}
input = {{ width = 64, height = 32, colour = "rgb", white = 1, letterbox = 0 }}
file = "spotter.onnx"
sha256 = "{hashlib.sha256(CONTENT).hexdigest()}"
source = "https://models.example/spotter"
licence = "Apache-2.0"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "registry.toml").write_text(ENTRY)
    (tmp_path / "spotter.onnx").write_bytes(CONTENT)
    return tmp_path


def test_a_registered_file_is_read(folder: Path) -> None:
    registry = Registry(folder)
    assert registry.read(registry.find("spotter")) == CONTENT


def test_another_file_is_refused_with_both_hashes(folder: Path) -> None:
    (folder / "spotter.onnx").write_bytes(b"something else")
    registry = Registry(folder)
    with pytest.raises(InferenceError) as refusal:
        registry.read(registry.find("spotter"))
    assert hashlib.sha256(b"something else").hexdigest() in str(refusal.value)
    assert registry.models[0].sha256 in str(refusal.value)


def test_a_missing_file_is_named_with_its_folder_and_source(folder: Path) -> None:
    (folder / "spotter.onnx").unlink()
    registry = Registry(folder)
    with pytest.raises(InferenceError, match=r"spotter\.onnx is not in .*get it from https://models\.example/spotter"):
        registry.read(registry.models[0])


def test_an_unreadable_file_is_named(folder: Path) -> None:
    (folder / "spotter.onnx").unlink()
    (folder / "spotter.onnx").mkdir()
    registry = Registry(folder)
    with pytest.raises(InferenceError, match=r"spotter\.onnx: cannot be read"):
        registry.read(registry.models[0])


def test_a_misspelt_name_is_answered_with_the_nearest(folder: Path) -> None:
    with pytest.raises(InferenceError, match="did you mean 'spotter'"):
        Registry(folder).find("sporter")


def test_a_folder_without_registry_is_named(tmp_path: Path) -> None:
    with pytest.raises(InferenceError, match=r"registry\.toml: cannot be read"):
        Registry(tmp_path)


@pytest.mark.parametrize(
    ("line", "replacement", "problem"),
    [
        ('file = "spotter.onnx"', 'file = "../spotter.onnx"', "file"),
        ("sha256 =", "sha265 =", "did you mean 'sha256'"),
        ('decoder = "yolox"', 'decoder = "guess"', "decoder"),
        ("person = 0", "person = -1", "person"),
    ],
)
def test_an_entry_that_cannot_be_used_is_explained(folder: Path, line: str, replacement: str, problem: str) -> None:
    (folder / "registry.toml").write_text(ENTRY.replace(line, replacement))
    with pytest.raises(InferenceError, match=problem):
        Registry(folder)


def test_a_name_cannot_be_registered_twice(folder: Path) -> None:
    (folder / "registry.toml").write_text(ENTRY + ENTRY)
    with pytest.raises(InferenceError, match="spotter"):
        Registry(folder)


def test_the_shipped_registry_can_be_used_and_its_files_need_not_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIGIE_DATA", str(tmp_path))
    registry = Registry()
    assert "yolox-nano" in [model.name for model in registry.models]
    assert registry.folders[-1] == tmp_path / "models"
