"""`vigie models`: what is there, what is right, and how the rest is fetched."""

from __future__ import annotations

import functools
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agent.cli.app import app
from agent.inference.registry import Registry

WHOLE, HALF = b"weights in FP32", b"in FP16"
REGISTRY = f"""
[[model]]
name = "spotter"
version = "1"
task = "detect"
decoder = "yolox"
classes = {{ person = 0 }}
input = {{ width = 64, height = 32, colour = "rgb", white = 1, letterbox = 0 }}
file = "spotter.onnx"
sha256 = "{hashlib.sha256(WHOLE).hexdigest()}"
size = {len(WHOLE)}
url = "https://models.invalid/releases/spotter.onnx"
fp16 = {{ file = "spotter-fp16.onnx", sha256 = "{hashlib.sha256(HALF).hexdigest()}" }}
source = "https://models.invalid"
licence = "Apache-2.0"

[[model]]
name = "checker"
version = "2"
task = "check-patch"
decoder = "softmax"
classes = {{ bag = 0, writing = 1 }}
input = {{ width = 64, height = 64, colour = "bgr", white = 255, letterbox = 0 }}
file = "checker.onnx"
sha256 = "{hashlib.sha256(b"").hexdigest()}"
source = "trained here"
licence = "Apache-2.0"
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of `inference.models`: a registry, and no model."""
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "registry.toml").write_text(REGISTRY)
    monkeypatch.setenv("VIGIE_INFERENCE__MODELS", str(folder))
    return folder


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A local folder that has the files of the spotter."""
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / "spotter.onnx").write_bytes(WHOLE)
    (mirror / "spotter-fp16.onnx").write_bytes(HALF)
    monkeypatch.setenv("VIGIE_MODEL_MIRROR", str(mirror))
    return mirror


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a folder while a web server offers it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    server.daemon_threads = False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def vigie(*arguments: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["models", *map(str, arguments)], env={"COLUMNS": "200"})
    return result.exit_code, result.stdout, result.stderr


def answer(*arguments: str | Path) -> Any:
    code, output, _ = vigie(*arguments, "--json")
    assert code == 0
    return json.loads(output)


def states(name: str) -> list[str]:
    return [file["state"] for file in answer("info", name)["files"]]


def test_the_list_says_what_is_there_and_what_can_be_had(folder: Path) -> None:
    (folder / "checker.onnx").touch()
    (folder / "spotter-fp16.onnx").write_bytes(b"damaged")
    code, output, _ = vigie("list")
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in output.splitlines() if line.startswith("│")]
    assert code == 0
    assert rows == [
        ["spotter", "1", "detect", "0.0 MB", "can be pulled", "Apache-2.0"],
        ["", "", "in FP16", "0.0 MB", "refused", ""],
        ["checker", "2", "check-patch", "0.0 MB", "verified", "Apache-2.0"],
    ]
    listed = answer("list")
    assert [model["name"] for model in listed] == ["spotter", "checker"]
    assert [file["state"] for file in listed[0]["files"]] == ["absent", "refused"]
    assert listed[1]["files"][0]["path"] == str(folder / "checker.onnx")


def test_info_gives_every_field_and_the_card(folder: Path) -> None:
    assert answer("info", "spotter")["card"] is None
    (folder / "spotter.md").write_text("# spotter")
    found = answer("info", "spotter")
    assert found["card"] == str(folder / "spotter.md")
    assert found["classes"] == {"person": 0}
    assert found["input"]["width"] == 64
    assert found["files"][0]["url"] == "https://models.invalid/releases/spotter.onnx"
    code, output, _ = vigie("info", "spotter")
    assert code == 0
    for text in ("width 64, height 32", str(folder / "spotter.md"), hashlib.sha256(HALF).hexdigest(), "absent"):
        assert text in output


def test_a_misspelt_name_is_answered_with_the_nearest() -> None:
    code, _, words = vigie("info", "spoter")
    assert code == 2
    assert "did you mean 'spotter'" in words


def test_a_folder_without_registry_is_wrong_usage(folder: Path) -> None:
    (folder / "registry.toml").unlink()
    code, _, words = vigie("list")
    assert code == 2
    assert "registry.toml: cannot be read" in words


def test_verify_fails_when_a_file_is_another_one(folder: Path) -> None:
    assert vigie("verify")[0] == 0
    (folder / "spotter.onnx").write_bytes(WHOLE)
    code, output, _ = vigie("verify")
    assert code == 0
    assert output.splitlines() == [
        f"spotter: {folder / 'spotter.onnx'}: verified",
        "spotter: spotter-fp16.onnx: absent",
        "checker: checker.onnx: absent",
    ]
    (folder / "checker.onnx").write_bytes(b"something else")
    code, output, _ = vigie("verify")
    assert code == 1
    assert f"{folder / 'checker.onnx'} is not the registered file" in output
    code, output, _ = vigie("verify", "--json")
    assert code == 1
    assert [file["state"] for file in json.loads(output)] == ["verified", "absent", "refused"]


def test_verify_fails_when_a_named_file_is_absent_or_no_file(folder: Path) -> None:
    assert vigie("verify", "checker")[0] == 1
    (folder / "checker.onnx").mkdir()
    code, output, _ = vigie("verify", "checker")
    assert code == 1
    assert "checker.onnx: cannot be read: Is a directory" in output
    (folder / "checker.onnx").rmdir()
    (folder / "checker.onnx").touch()
    assert vigie("verify", "checker")[0] == 0


def test_a_model_is_pulled_with_all_its_files(folder: Path, mirror: Path) -> None:
    pulled = answer("pull", "spotter")
    assert [item["path"] for item in pulled] == [str(folder / "spotter.onnx"), str(folder / "spotter-fp16.onnx")]
    assert [item["source"] for item in pulled] == [
        path.as_uri() for path in (mirror / "spotter.onnx", mirror / "spotter-fp16.onnx")
    ]
    assert (folder / "spotter.onnx").read_bytes() == WHOLE
    assert states("spotter") == ["verified", "verified"]


def test_what_is_there_and_right_is_not_fetched_again(mirror: Path) -> None:
    vigie("pull", "spotter")
    for file in mirror.iterdir():
        file.unlink()
    code, output, _ = vigie("pull", "spotter", "spotter")
    assert code == 0
    assert output.count("verified, was there already; licence Apache-2.0") == 2


@pytest.mark.usefixtures("mirror")
def test_what_is_there_and_wrong_is_replaced(folder: Path) -> None:
    (folder / "spotter.onnx").write_bytes(b"damaged")
    code, output, _ = vigie("pull", "spotter")
    assert code == 0
    assert f"{folder / 'spotter.onnx'}: verified, from file://" in output


def test_wrong_content_is_refused_and_the_other_models_are_still_pulled(folder: Path, mirror: Path) -> None:
    (folder / "checker.onnx").write_bytes(b"damaged")
    (mirror / "checker.onnx").write_bytes(b"forged")
    code, output, words = vigie("pull", "checker", "spotter")
    assert code == 3
    assert "vigie: checker: " in words
    assert "refused, nothing was replaced" in words
    assert (folder / "checker.onnx").read_bytes() == b"damaged"
    assert output.count("verified") == 2


def test_a_model_without_address_cannot_be_pulled() -> None:
    code, _, words = vigie("pull", "checker")
    assert code == 3
    assert "checker: there is no address to fetch it from" in words


def test_models_are_gathered_for_another_machine(tmp_path: Path, folder: Path, mirror: Path) -> None:
    vigie("pull", "spotter")
    stick = tmp_path / "stick"
    pulled = answer("pull", "spotter", "--folder", stick)
    assert sorted(path.name for path in stick.iterdir()) == ["spotter-fp16.onnx", "spotter.onnx"]
    assert pulled[0]["source"] == (mirror / "spotter.onnx").as_uri()
    assert answer("pull", "spotter", "--folder", stick)[0]["source"] is None


@pytest.mark.parametrize("mirror_is", ["file", "http"])
def test_a_mirror_can_be_an_address(mirror: Path, mirror_is: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(mirror) as address:
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("VIGIE_MODEL_MIRROR", f"{mirror.as_uri()}/" if mirror_is == "file" else address)
        pulled = answer("pull", "spotter")
    assert pulled[1]["source"].startswith(f"{mirror_is}://")
    assert pulled[1]["source"].endswith("/spotter-fp16.onnx")


def test_a_mirror_of_another_kind_is_refused_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIGIE_MODEL_MIRROR", "ftp://user:secret@mirror.invalid")
    code, _, words = vigie("pull", "spotter")
    assert code == 3
    assert "VIGIE_MODEL_MIRROR is ftp://***@mirror.invalid; it must be a folder" in words


class Shipped:
    """An installation whose models lie in several folders."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("VIGIE_INFERENCE__MODELS")
        monkeypatch.setenv("XDG_DATA_HOME", str(root / "data"))
        monkeypatch.setattr("agent.inference.registry._CHECKOUT", root)
        monkeypatch.setattr("agent.inference.registry._PULLED", root / "machine")
        self.folder = root / "models"
        self.machine = root / "machine"
        self.own = root / "data" / "vigie" / "models"


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shipped:
    return Shipped(tmp_path, monkeypatch)


@pytest.mark.parametrize("user", [0, 1000])
@pytest.mark.usefixtures("mirror")
def test_root_pulls_for_the_machine_and_others_for_themselves(
    shipped: Shipped, user: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: user)
    target = shipped.machine if user == 0 else shipped.own
    assert answer("pull", "spotter")[0]["path"] == str(target / "spotter.onnx")
    registry = Registry()
    assert registry.read(registry.find("spotter")) == WHOLE


@pytest.mark.usefixtures("mirror")
def test_a_wrong_file_that_would_be_taken_first_is_named(shipped: Shipped) -> None:
    (shipped.folder / "spotter.onnx").write_bytes(b"damaged")
    code, _, words = vigie("pull", "spotter")
    assert code == 3
    assert f"but {shipped.folder / 'spotter.onnx'} is taken before it and is not: remove that one" in words
