from __future__ import annotations

import contextlib
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from agent.canonical import canonical
from agent.device.bundle import (
    BundleError,
    Manifest,
    Member,
    key_id,
    read_keys,
    read_manifest_text,
    unpack,
    verify,
)
from agent.relay.keys import public_pem

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
PUBLIC = KEY.public_key().public_bytes_raw()
TRUSTED = {key_id(PUBLIC): PUBLIC}
FILES = {"units/vigie.target": b"[Unit]\n", "wheels/vigie-0.2.0-py3-none-any.whl": b"a wheel" * 500_000}
Entry = tuple[str, bytes]


MANIFEST = Manifest("0.2.0", "x86_64", "x86_64", "3.11", key_id(PUBLIC), 1000, ())


def manifest_of(files: dict[str, bytes] = FILES) -> Manifest:
    """A manifest that fits files."""
    members = tuple(Member(p, len(c), hashlib.sha256(c).hexdigest()) for p, c in sorted(files.items()))
    return replace(MANIFEST, members=members)


def write(path: Path, *entries: Entry, change: Callable[[tarfile.TarInfo], None] = lambda _info: None) -> Path:
    """A tar of entries as they are."""
    with tarfile.open(path, "w") as tar:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            change(info)
            tar.addfile(info, io.BytesIO(content))
    return path


def signed(text: bytes, key: Ed25519PrivateKey = KEY) -> list[Entry]:
    """Manifest and signature."""
    return [("manifest.json", text), ("manifest.sig", key.sign(text))]


def checked(path: Path) -> Manifest:
    return verify(path, TRUSTED, lambda _done, _total: None)


def test_a_good_bundle_is_verified_and_unpacked_as_it_was_signed(tmp_path: Path) -> None:
    path = write(tmp_path / "good", *signed(manifest_of().text()), *FILES.items())
    told: list[tuple[int, int]] = []
    manifest = verify(path, TRUSTED, lambda done, total: told.append((done, total)))
    assert manifest == manifest_of()
    assert told[-1] == (manifest.packed_bytes, manifest.packed_bytes)
    (tmp_path / "out").mkdir()
    unpack(path, manifest, tmp_path / "out", lambda _done, _total: None)
    found = {str(f.relative_to(tmp_path / "out")): f.read_bytes() for f in (tmp_path / "out").rglob("*") if f.is_file()}
    assert found == FILES


def test_nothing_is_believed_before_its_signature_is_good(tmp_path: Path) -> None:
    text = manifest_of().text()
    other = Ed25519PrivateKey.from_private_bytes(bytes(31) + b"\1")
    for name, head, said in (
        ("changed", [("manifest.json", text.replace(b"0.2.0", b"0.2.1")), signed(text)[1]], "is not that of key"),
        (
            "stranger",
            signed(replace(MANIFEST, key_id=key_id(other.public_key().public_bytes_raw())).text(), other),
            "trusted",
        ),
        ("another key", signed(text, other), "is not that of key"),
        ("no signature", [("manifest.json", text), ("manifest.sig", b"")], "is not that of key"),
        ("nobody", signed(b"{}"), "signed by key nobody"),
        ("order", signed(text)[::-1], "does not begin with"),
        ("nothing", [], "does not begin with"),
    ):
        with pytest.raises(BundleError, match=said):
            checked(write(tmp_path / name, *head, *FILES.items()))


def test_every_file_is_there_once_and_is_the_signed_one(tmp_path: Path) -> None:
    head = signed(manifest_of().text())
    first, second = FILES.items()
    for name, entries, said in (
        ("content", [first, (second[0], b"A" + second[1][1:])], "is not what was signed"),
        ("size", [first, (second[0], second[1] + b"a")], "is not as the manifest has it"),
        ("missing", [first], "is missing"),
        ("twice", [first, second, second], "is not as the manifest has it"),
        ("more", [first, second, ("units/more.service", b"")], "is not as the manifest has it"),
        ("outside", [first, second, ("../../etc/passwd", b"")], "is not as the manifest has it"),
    ):
        with pytest.raises(BundleError, match=said):
            checked(write(tmp_path / name, *head, *entries))


def test_links_and_devices_are_no_files(tmp_path: Path) -> None:
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):

        def change(info: tarfile.TarInfo, kind: bytes = kind) -> None:
            if info.name.startswith("units"):
                info.type, info.linkname, info.size = kind, "/etc/passwd", 0

        path = write(tmp_path / kind.decode(), *signed(manifest_of().text()), *FILES.items(), change=change)
        with pytest.raises(BundleError, match="is no regular file"):
            checked(path)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_file_that_was_cut_off_is_no_bundle(tmp_path: Path, share: float) -> None:
    whole = write(tmp_path / "whole", *signed(manifest_of().text()), *FILES.items()).read_bytes()
    size = len(whole.rstrip(b"\0"))
    (tmp_path / "cut").write_bytes(whole[: int(size * share)])
    with pytest.raises(BundleError):
        checked(tmp_path / "cut")


def test_a_bundle_that_changes_between_verification_and_unpacking_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path / "b", *signed(manifest_of().text()), *FILES.items())
    manifest = checked(path)
    (tmp_path / "out").mkdir()
    bad = {**FILES, "units/vigie.target": b"[Evil]\n"}
    write(path, *signed(manifest.text()), *bad.items())
    with pytest.raises(BundleError, match="is not what was signed"):
        unpack(path, manifest, tmp_path / "out", lambda _done, _total: None)
    write(path, *signed(manifest_of(bad).text()), *bad.items())
    with pytest.raises(BundleError, match="has changed since"):
        unpack(path, manifest, tmp_path / "out", lambda _done, _total: None)


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_as_a_manifest(text: bytes) -> None:
    with pytest.raises(BundleError):
        read_manifest_text(text)


_VALUES = st.one_of(st.none(), st.integers(), st.text(max_size=8), st.lists(st.integers(), max_size=2))


@given(st.sampled_from(["version", "target", "machine", "python", "key_id", "installed_bytes", "files"]), _VALUES)
def test_a_manifest_with_one_wrong_field_is_refused_or_says_the_same(name: str, value: object) -> None:
    text = canonical({**json.loads(manifest_of().text()), name: value})
    with contextlib.suppress(BundleError):
        assert read_manifest_text(text).text() == text


@pytest.mark.parametrize(
    "path", ["../x", "/x", "a/../b", "a//b", ".hidden", "manifest.json", "manifest.sig", "a b", ""]
)
def test_a_manifest_names_no_file_outside_of_its_folder(path: str) -> None:
    with pytest.raises(BundleError, match="no name of a file"):
        read_manifest_text(manifest_of({path: b""}).text())


@pytest.mark.parametrize("version", ["../0.1", "", "v1", "0/1", "0" * 41])
def test_a_version_is_a_name_of_a_folder(version: str) -> None:
    with pytest.raises(BundleError, match="version is"):
        read_manifest_text(replace(MANIFEST, version=version).text())


def test_keys_are_those_of_the_folder(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no public key"):
        read_keys(tmp_path)
    other = Ed25519PrivateKey.generate().public_key()
    for name, key in (("a.pem", KEY.public_key()), ("b.pem", other)):
        (tmp_path / name).write_text(public_pem(key))
    assert read_keys(tmp_path) == {**TRUSTED, key_id(other.public_bytes_raw()): other.public_bytes_raw()}
    assert read_keys(tmp_path / "a.pem") == TRUSTED
    (tmp_path / "a.pem").chmod(0o666)
    with pytest.raises(BundleError, match="others can change"):
        read_keys(tmp_path)


@pytest.mark.parametrize("pem", [b"", b"no key", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"])
def test_a_key_of_another_kind_is_refused(tmp_path: Path, pem: bytes) -> None:
    (tmp_path / "k.pem").write_bytes(pem)
    with pytest.raises(BundleError, match="no Ed25519 public key"):
        read_keys(tmp_path)


def test_a_key_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"gone\.pem: the public key cannot be read"):
        read_keys(tmp_path / "gone.pem")
