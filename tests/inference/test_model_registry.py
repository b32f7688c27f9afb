from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from agent.inference.backend import InferenceError
from agent.inference.registry import DetectorModel, PatchModel, Registry, SoundModel

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

SOUND = f"""
[[model]]
name = "listener"
version = "1"
task = "tag-sound"
decoder = "sigmoid"
classes = {{ siren = 0, horn = 1 }}
input = {{ rate_hz = 16000, window_s = 0.975, hop_s = 0.5, frame_s = 0.025, step_s = 0.01, bands = 64, low_hz = 125, high_hz = 7500 }}
file = "listener.onnx"
sha256 = "{hashlib.sha256(b"").hexdigest()}"
fp16 = {{ file = "listener-fp16.onnx", sha256 = "{hashlib.sha256(b"half").hexdigest()}" }}
source = "https://models.example/listener"
licence = "Apache-2.0"
"""  # noqa: E501
PATCH = ENTRY.replace("spotter", "checker").replace('"detect"', '"check-patch"').replace('"yolox"', '"softmax"')


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


def test_networks_of_every_task_stand_in_one_registry(folder: Path) -> None:
    (folder / "registry.toml").write_text(SOUND + ENTRY + PATCH)
    registry = Registry(folder)
    assert [model.name for model in registry.models] == ["listener", "spotter", "checker"]
    assert [model.name for model in registry.of(DetectorModel)] == ["spotter"]
    assert registry.find("listener", SoundModel).input.bands == 64
    assert registry.find("checker", PatchModel).input.width == 64
    assert registry.find("checker").card == "checker.md"


def test_a_network_of_another_task_cannot_serve(folder: Path) -> None:
    (folder / "registry.toml").write_text(SOUND + ENTRY)
    with pytest.raises(InferenceError, match="model 'listener' cannot serve here: its task is tag-sound"):
        Registry(folder).find("listener", DetectorModel)


def test_a_tagger_has_a_threshold_for_every_class(folder: Path) -> None:
    (folder / "registry.toml").write_text(f'{SOUND}temperature = 1.5\nthresholds.siren = 0.8\nexperimental = ["horn"]')
    model = Registry(folder).find("listener", SoundModel)
    assert model.temperature == 1.5
    assert (model.threshold("siren"), model.threshold("horn")) == (0.8, 0.5)
    assert model.experimental == ("horn",)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("thresholds.clap = 0.5", "thresholds: not among its classes: clap"),
        ("thresholds.siren = 1.1", "thresholds"),
        ('experimental = ["clap"]', "experimental: not among its classes: clap"),
        ("temperature = 0", "temperature"),
    ],
)
def test_a_threshold_that_means_nothing_is_refused(folder: Path, line: str, said: str) -> None:
    (folder / "registry.toml").write_text(f"{SOUND}{line}")
    with pytest.raises(InferenceError, match=said):
        Registry(folder)


def test_the_file_with_fp16_weights_is_verified_too(folder: Path) -> None:
    (folder / "registry.toml").write_text(SOUND)
    (folder / "listener-fp16.onnx").write_bytes(b"half")
    registry = Registry(folder)
    model = registry.find("listener")
    assert registry.read(model, model.fp16) == b"half"
    (folder / "listener-fp16.onnx").write_bytes(b"full")
    with pytest.raises(InferenceError, match=r"listener-fp16\.onnx is not the registered file"):
        registry.read(model, model.fp16)


def test_a_missing_file_that_can_be_pulled_says_how(folder: Path) -> None:
    (folder / "registry.toml").write_text(ENTRY + 'url = "https://models.example/spotter.onnx"\nsize = 18\n')
    (folder / "spotter.onnx").unlink()
    registry = Registry(folder)
    with pytest.raises(InferenceError, match=r"spotter\.onnx is not in .*; vigie models pull spotter"):
        registry.read(registry.models[0])


@pytest.mark.parametrize(
    ("line", "replacement", "problem"),
    [
        ('file = "spotter.onnx"', 'file = "../spotter.onnx"', "file"),
        ("sha256 =", "sha265 =", "did you mean 'sha256'"),
        ('decoder = "yolox"', 'decoder = "guess"', "decoder"),
        ("person = 0", "person = -1", "person"),
        ('task = "detect"', 'task = "guess"', "spotter: task: must be one of detect, tag-sound, check-patch"),
        ('task = "detect"', "", "spotter: task: must be one of"),
        ('task = "detect"', 'task = "tag-sound"', "spotter: decoder"),
        ('name = "spotter"', 'nam = "spotter"', "model number 2: nam: unknown key; did you mean 'name'"),
        ('version = "1"', 'version = "1"\nurl = "http://models.example/spotter.onnx"', "url"),
        ('version = "1"', 'version = "1"\nurl = "https://models.example/spotter.onnx"', "needs its size"),
        ("step_s = 0.01", "step_s = 0.1", "step_s must not exceed frame_s"),
        ("high_hz = 7500", "high_hz = 8001", "at most half of rate_hz"),
        ("spotter.onnx", "listener.onnx", "two models have one file: listener.onnx"),
    ],
)
def test_an_entry_that_cannot_be_used_is_explained(folder: Path, line: str, replacement: str, problem: str) -> None:
    (folder / "registry.toml").write_text((SOUND + ENTRY).replace(line, replacement))
    with pytest.raises(InferenceError, match=problem):
        Registry(folder)


def test_the_problems_of_all_entries_are_listed_together(folder: Path) -> None:
    (folder / "registry.toml").write_text((SOUND + ENTRY).replace("sha256", "sha265").replace('"1"', "1"))
    with pytest.raises(InferenceError) as refusal:
        Registry(folder)
    assert all(f"model {name}: version" in str(refusal.value) for name in ("spotter", "listener"))


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


def test_the_documented_entry_can_be_used(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/models.md").read_text()
    entry = page.partition("```toml\n")[2].partition("```")[0]
    entry = entry.replace('sha256 = "…"', f'sha256 = "{"0" * 64}"').replace("https://…", "https://models.example/file")
    (tmp_path / "registry.toml").write_text(entry)
    assert Registry(tmp_path).find("street-sounds", SoundModel).fp16
