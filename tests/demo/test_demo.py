"""What `make run` needs: a configuration that works, and a clip from whatever apt this machine has."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.behaviours.watch import Watch
from agent.demo.clip import ClipError, fetch
from agent.demo.configuration import write_configuration
from agent.policy import load_policy
from agent.settings import load


def test_the_configuration_of_the_demonstration_works(tmp_path: Path) -> None:
    config = write_configuration(tmp_path, 'file:/odd "name".avi', "file:tone.wav", {"host": "localhost", "tls": False})
    settings = load(config)
    policy = load_policy(settings.policy_file)
    (camera,) = settings.cameras
    assert camera.source == 'file:/odd "name".avi'
    Watch(camera)
    allowed, refused = policy.permitted(camera, policy.detectors[0].until)
    assert len(allowed) == 5
    assert not refused
    allowed, refused = policy.permitted(settings.microphone, policy.detectors[0].until)
    assert len(allowed) == 3
    assert not refused


APT = """#!/bin/sh
case "$*" in
  *--print-uris*) {uris} ;;
  *update*) {update} ;;
  *) {download} ;;
esac
"""
DPKG = """#!/bin/sh
mkdir -p "$3/usr/share/doc/opencv-doc/examples/data"
echo clip > "$3/usr/share/doc/opencv-doc/examples/data/{name}"
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def install(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(script)
    (folder / name).chmod(0o755)


URIS = "echo \"'http://mirror/opencv-doc_1_all.deb' opencv-doc_1_all.deb 5 SHA256:0\""


def test_the_clip_is_fetched_once_and_then_kept(tmp_path: Path, programs: Path) -> None:
    install(programs, "apt-get", APT.format(uris=URIS, update="true", download="echo hello > opencv-doc_1_all.deb"))
    install(programs, "dpkg", DPKG.format(name="vtest.avi"))
    seen: list[tuple[int, int]] = []
    clip = fetch(lambda done, total: seen.append((done, total)), tmp_path / "cache")
    assert clip.read_text() == "clip\n"
    assert seen[-1] == (5, 5)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["vtest.avi"], "nothing else is left behind"
    install(programs, "apt-get", "#!/bin/sh\nexit 1\n")
    assert fetch(lambda *_: None, tmp_path / "cache") == clip


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"uris": "exit 100", "update": "true", "download": "true"}, "apt knows no package opencv-doc"),
        ({"uris": "exit 100", "update": "echo no route >&2; exit 100", "download": "true"}, "no route"),
        ({"uris": URIS, "update": "true", "download": "echo E: hash sum mismatch >&2; exit 100"}, "hash sum mismatch"),
    ],
)
def test_a_clip_that_cannot_be_had_says_why(tmp_path: Path, programs: Path, parts: dict[str, str], words: str) -> None:
    install(programs, "apt-get", APT.format(**parts))
    install(programs, "dpkg", DPKG.format(name="vtest.avi"))
    with pytest.raises(ClipError, match=words):
        fetch(lambda *_: None, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_a_package_without_the_clip_is_refused(tmp_path: Path, programs: Path) -> None:
    install(programs, "apt-get", APT.format(uris=URIS, update="true", download="echo hello > opencv-doc_1_all.deb"))
    install(programs, "dpkg", DPKG.format(name="other.avi"))
    with pytest.raises(ClipError, match=r"has no vtest\.avi"):
        fetch(lambda *_: None, tmp_path / "cache")


def test_a_machine_without_apt_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClipError, match="no Debian or Ubuntu"):
        fetch(lambda *_: None, tmp_path / "cache")
