from __future__ import annotations

import hashlib
import io
import json
import platform
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

from agent.cli.app import app
from agent.device import install as installing
from agent.device.bundle import Manifest, Member, key_id
from agent.relay.keys import public_pem

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))


def bundle(folder: Path, version: str, *, machine: str = platform.machine(), room: int = 1000) -> Path:
    """A signed bundle with one unit and wheels that nobody looks into."""
    contents = {
        "units/vigie.target": f"[Unit]\nDescription={version}\n".encode(),
        "units/vigie-update-boot.service": b"[Service]\n",
        "units/vigie.tmpfiles.conf": b"",
        "wheels/pip-1-py3-none-any.whl": b"pip",
        "wheels/vigie-1-py3-none-any.whl": version.encode(),
    }
    members = tuple(Member(p, len(c), hashlib.sha256(c).hexdigest()) for p, c in sorted(contents.items()))
    signer, python = key_id(KEY.public_key().public_bytes_raw()), f"3.{sys.version_info.minor}"
    text = Manifest(version, "x86_64", machine, python, signer, room, members).text()
    path = folder / f"{version}.bundle"
    with tarfile.open(path, "w") as tar:
        for name, content in [("manifest.json", text), ("manifest.sig", KEY.sign(text)), *contents.items()]:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


class Terminal:
    """Runs `vigie update` on a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "vigie"
        self.key = folder / "release.pem"
        self.key.write_text(public_pem(KEY.public_key()))
        self.error = ""

    def __call__(self, verb: str, *words: str, code: int = 0) -> dict[str, Any]:
        root = () if verb == "verify" else ("--root", str(self.root))
        config = ("--config", str(self.folder / "vigie.toml")) if verb in {"install", "commit", "rollback"} else ()
        key = ("--key", str(self.key)) if verb in {"verify", "install"} else ()
        done = CliRunner().invoke(app, ["update", verb, *words, *root, *config, *key, "--json"])
        self.error = done.stderr
        assert done.exit_code == code, done.output
        found: dict[str, Any] = json.loads(done.stdout) if done.stdout else {}
        return found

    def install(self, version: str, *words: str, code: int = 0) -> dict[str, Any]:
        return self("install", str(bundle(self.folder, version)), *words, code=code)


@pytest.fixture
def vigie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    def run(*command: str) -> str:
        """In place of venv, pip and the release's own commands; a configuration that says `bad` is refused by 0.9."""
        release = Path(command[0]).parents[1].name
        if "check" in command and release == "0.9" and "bad" in Path(command[-1]).read_text():
            raise installing.InstallError("zones: bad")
        return f'{{"vigie": "{release}"}}'

    monkeypatch.setattr(installing, "_run", run)
    monkeypatch.setattr(installing, "interpreter", lambda *_: Path("/usr/bin/python3"))
    return Terminal(tmp_path)


def test_a_bundle_is_verified_without_being_installed(vigie: Terminal, tmp_path: Path) -> None:
    path = bundle(tmp_path, "0.2.0")
    assert vigie("verify", str(path))["version"] == "0.2.0"
    path.write_bytes(path.read_bytes().replace(b"0.2.0", b"0.2.1"))
    assert vigie("verify", str(path), code=1) == {}
    assert "is not that of key" in vigie.error
    vigie("verify", str(tmp_path / "gone.bundle"), code=1)
    assert "cannot be read" in vigie.error
    assert not vigie.root.exists()


def test_from_the_first_release_to_a_second_and_back(vigie: Terminal) -> None:
    assert vigie("status")["phase"] == "none"
    assert vigie.install("0.1.0") == {"version": "0.1.0", "result": "installed", "reason": "the first release"}
    assert vigie.install("0.1.0")["result"] == "there_already"
    assert vigie.install("0.2.0", "--no-wait", "--hold-s", "5")["result"] == "on_trial"
    state = vigie("status")
    assert (state["phase"], state["running"], state["committed"]) == ("trial", "0.2.0", "0.1.0")
    assert state["trial"]["before"] == {"state": "unknown", "reasons": [], "broker": False}
    vigie.install("0.3.0", code=2)
    assert "is on trial" in vigie.error
    vigie("commit", code=1)
    assert "is not ready: its configuration cannot be read" in vigie.error
    assert vigie("commit", "--force")["result"] == "committed"
    assert vigie("rollback", "--no-wait")["version"] == "0.1.0"
    assert vigie("status")["trial"]["back"] is True
    assert vigie("rollback")["result"] == "rolled_back"
    state = vigie("status")
    assert (state["phase"], state["running"], state["previous"]) == ("settled", "0.2.0", "0.1.0")


def test_units_follow_the_release_and_those_of_the_trial_the_committed_one(vigie: Terminal) -> None:
    vigie.install("0.1.0")
    units = vigie.root / "etc" / "systemd" / "system"
    links = {link.name: str(link.readlink()) for link in units.iterdir() if link.is_symlink()}
    assert links == {
        "vigie.target": f"{vigie.root}/current/units/vigie.target",
        "vigie-update-boot.service": f"{vigie.root}/committed/units/vigie-update-boot.service",
    }
    assert (vigie.root / "etc" / "tmpfiles.d" / "vigie.conf").exists()
    assert (units / "multi-user.target.wants" / "vigie-update-boot.service").exists()
    (units / "vigie.target").unlink()
    (units / "vigie.target").write_text("an administrator's own")
    vigie.install("0.2.0", "--no-wait")
    assert "is this device's own" in vigie.error
    assert (units / "vigie.target").read_text() == "an administrator's own"


def test_what_does_not_fit_this_device_changes_nothing(vigie: Terminal, tmp_path: Path) -> None:
    vigie.install("0.1.0")
    vigie("install", str(bundle(tmp_path, "0.2.0", room=1 << 50)), code=3)
    assert "nothing has been changed" in vigie.error
    (tmp_path / "vigie.toml").write_text("bad")
    vigie.install("0.9", code=1)
    assert "zones: bad" in vigie.error
    state = vigie("status")
    assert (state["phase"], state["whole"]) == ("settled", ["0.1.0"])
    changed = bundle(tmp_path, "0.1.0", room=2000)
    vigie("install", str(changed), code=1)
    assert "is not the same" in vigie.error


def test_the_fourth_boot_on_trial_brings_the_old_release_back(vigie: Terminal) -> None:
    vigie.install("0.1.0")
    vigie.install("0.2.0", "--no-wait")
    for number in range(4):
        assert vigie("status")["running"] == "0.2.0"
        done = CliRunner().invoke(app, ["update", "boot", f"{number:032x}", "--root", str(vigie.root)])
        assert done.exit_code == 0
    assert "result=failed" in done.stdout
    assert vigie("status")["running"] == "0.1.0"


def test_nothing_to_commit_and_nothing_to_go_back_to(vigie: Terminal) -> None:
    vigie("commit", code=2)
    vigie.install("0.1.0")
    vigie("rollback", code=2)
    assert "no release before this one" in vigie.error


@pytest.mark.parametrize(
    ("target", "device", "said"),
    [
        ("jetpack6", 38, "runs L4T 38.2"),
        ("x86_64", 36, "runs L4T 36.4"),
        ("jetpack7", 36, "runs L4T 36.4"),
    ],
)
def test_a_bundle_for_another_jetpack_is_refused(target: str, device: int, said: str) -> None:
    from agent.device.bundle import BundleError
    from agent.device.l4t import L4t

    manifest = Manifest("0.2.0", target, "aarch64", "3.10", "0" * 16, 0, ())
    with pytest.raises(BundleError, match=said):
        installing.interpreter(manifest, "aarch64", L4t(device, "4" if device == 36 else "2"))
    with pytest.raises(BundleError, match="this machine is x86_64"):
        installing.interpreter(manifest, "x86_64", None)
