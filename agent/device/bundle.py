"""A release as one signed file: what it holds, and how it is verified before anything is touched.

A bundle is a POSIX tar without compression (wheels are compressed already), with these members in this order:

| member | what it is |
|---|---|
| `manifest.json` | canonical JSON (RFC 8785): format, version, target, machine, Python, key, room it takes, SHA-256 of every other member |
| `manifest.sig` | the Ed25519 signature of the bytes of `manifest.json`, 64 bytes |
| `install.py` | installs the first release on a device that has none |
| `sbom.cdx.json` | what is in it, in CycloneDX |
| `units/…` | units of systemd, sysusers, tmpfiles |
| `wheels/…` | the agent with its models, everything it needs, and pip |

The signature covers `manifest.json` as it stands, so that `openssl pkeyutl -verify -rawin` can check it as well. It is
checked before anything in the manifest is believed, and the manifest before any other member is. What a member of a tar
calls itself decides nothing: only regular files are taken whose name, size and SHA-256 stand in the manifest, each once,
and none is left out.

Whose signature counts is in `/etc/vigie/release-keys`: one public key a file (`*.pem`). A key is rotated by a second
file beside the first, and revoked by removing its file. `openssl genpkey -algorithm ed25519` makes such a key, and so
does `vigie fleet keys make`; it is not one of those that sign commands.

Nothing here needs more than Python, so that `install.py` can use it straight from the bundle's wheel.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import stat
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from agent.canonical import JsonError, canonical, parse

FORMAT = "vigie-bundle/1"
MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
KEYS = Path("/etc/vigie/release-keys")

#: Whether a signature is that of a public key: `(public, message, signature)`.
Fits = Callable[[bytes, bytes, bytes], bool]
#: Told how many bytes are done, and of how many.
Told = Callable[[int, int], None]

_MOST_MANIFEST = 1 << 20
_VERSION = re.compile(r"[0-9][0-9A-Za-z.+-]{0,39}")
_PATH = re.compile(r"[0-9A-Za-z_][0-9A-Za-z._+@!-]*(/[0-9A-Za-z_][0-9A-Za-z._+@!-]*){0,3}")
_PYTHON = re.compile(r"3\.[0-9]{1,2}")
_WORD = re.compile(r"[0-9a-z_]{1,20}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_KEY_ID = re.compile(r"[0-9a-f]{16}")
#: What stands before the 32 bytes of an Ed25519 key in a SubjectPublicKeyInfo (RFC 8410, section 4).
_SPKI = bytes.fromhex("302a300506032b6570032100")
_PEM = re.compile(rb"-----BEGIN PUBLIC KEY-----\s+([0-9A-Za-z+/=\s]+?)-----END PUBLIC KEY-----\s*")
_CHUNK = 1 << 20


class BundleError(ValueError):
    """A bundle, or a key for it, that may not be used; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a bundle.

    Attributes:
        path: Its name there.
        size: Bytes.
        sha256: Of its content, in hexadecimal.
    """

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a bundle says of itself.

    Attributes:
        version: Of the agent.
        target: `jetpack6`, `jetpack7` or `x86_64`.
        machine: As `uname -m` says it.
        python: Such as `3.10`.
        key_id: Who signed it.
        installed_bytes: Room on the disk that it takes once installed.
        members: All other files.
    """

    version: str
    target: str
    machine: str
    python: str
    key_id: str
    installed_bytes: int
    members: tuple[Member, ...]

    @property
    def packed_bytes(self) -> int:
        """Of all members."""
        return sum(member.size for member in self.members)

    def text(self) -> bytes:
        """As it stands in a bundle."""
        return canonical(
            {
                "files": {member.path: {"sha256": member.sha256, "size": member.size} for member in self.members},
                "format": FORMAT,
                "installed_bytes": self.installed_bytes,
                "key_id": self.key_id,
                "machine": self.machine,
                "python": self.python,
                "target": self.target,
                "version": self.version,
            }
        )


def read_manifest_text(text: bytes) -> Manifest:
    """The manifest in its text.

    Raises:
        BundleError: it is none.
    """
    try:
        table = parse(text, _MOST_MANIFEST)
    except JsonError as error:
        raise BundleError(f"{MANIFEST}: {error}") from error
    if table.get("format") != FORMAT:
        raise BundleError(f"{MANIFEST}: its format is {table.get('format')!r}; this agent reads {FORMAT}")
    try:
        manifest = Manifest(
            _matched(table, "version", _VERSION),
            _matched(table, "target", _WORD),
            _matched(table, "machine", _WORD),
            _matched(table, "python", _PYTHON),
            _matched(table, "key_id", _KEY_ID),
            _size(table["installed_bytes"]),
            tuple(_member(path, entry) for path, entry in sorted(table["files"].items())),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{MANIFEST}: something is missing or of a wrong kind: {error}") from error
    if manifest.text() != text:
        raise BundleError(f"{MANIFEST}: is not in its canonical form, or says more than it may")
    return manifest


def _matched(table: Mapping[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    value: str = table[name]
    if not pattern.fullmatch(value):
        raise BundleError(f"{MANIFEST}: {name} is {value!r}")
    return value


def _size(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise BundleError(f"{MANIFEST}: {value!r} is no size")
    return value


def _member(path: str, entry: Mapping[str, Any]) -> Member:
    if not _PATH.fullmatch(path) or path in {MANIFEST, SIGNATURE}:
        raise BundleError(f"{MANIFEST}: {path!r} is no name of a file in a bundle")
    return Member(path, _size(entry["size"]), _matched(entry, "sha256", _SHA256))


def key_id(public: bytes) -> str:
    """The id of a public key, as everywhere in Vigie: first 16 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(public).hexdigest()[:16]


def read_keys(place: Path) -> dict[str, bytes]:
    """Public keys by id.

    Args:
        place: A PEM file, or a folder of such (`*.pem`).

    Raises:
        BundleError: there is none, one is of another kind, or others than root and this user can change it.
    """
    files = sorted(place.glob("*.pem")) if place.is_dir() else [place]
    keys = {}
    for file in files:
        try:
            status, pem = file.stat(), file.read_bytes()
        except OSError as error:
            raise BundleError(f"{file}: the public key cannot be read: {error.strerror}") from error
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) or status.st_uid not in {0, os.geteuid()}:
            raise BundleError(f"{file}: others can change this key: chown root {file}; chmod 644 {file}")
        found = _PEM.fullmatch(pem)
        raw = base64.b64decode(found[1]) if found else b""
        if len(raw) != len(_SPKI) + 32 or not raw.startswith(_SPKI):
            raise BundleError(f"{file}: is no Ed25519 public key in PEM")
        public = raw[len(_SPKI) :]
        keys[key_id(public)] = public
    if not keys:
        raise BundleError(f"{place}: holds no public key (*.pem), so no release can be trusted")
    return keys


def ed25519(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether a signature is that of an Ed25519 key."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def verify(path: Path, keys: Mapping[str, bytes], told: Told, fits: Fits = ed25519) -> Manifest:
    """Check a bundle whole: signature, manifest, every byte.

    Args:
        path: The bundle.
        keys: Who may sign, by id.
        told: Told how far it is.
        fits: Checks a signature.

    Raises:
        BundleError: it may not be used.
    """
    with _members(path) as members:
        manifest = _signed(path, members, keys, fits)
        for _ in _contents(path, manifest, members, told):
            pass
    return manifest


def unpack(path: Path, manifest: Manifest, folder: Path, told: Told) -> None:
    """Write all members into an empty folder, each checked again as it is written.

    Args:
        path: The bundle.
        manifest: As verified.
        folder: Where to.
        told: Told how far it is.

    Raises:
        BundleError: it is not the bundle that was verified.
        OSError: something cannot be written.
    """
    with _members(path) as members:
        if _head(path, members)[0] != manifest.text():
            raise BundleError(f"{path}: has changed since it was verified")
        out: IO[bytes] | None = None
        try:
            for member, chunk in _contents(path, manifest, members, told):
                if out is None:
                    place = folder / member.path
                    place.parent.mkdir(parents=True, exist_ok=True)
                    out = place.open("xb")
                if chunk is None:
                    out.close()
                    out = None
                else:
                    out.write(chunk)
        finally:
            if out is not None:
                out.close()


_Members = Iterator[tuple[tarfile.TarInfo, IO[bytes]]]


@contextmanager
def _members(path: Path) -> Iterator[_Members]:
    """Regular files of a tar, in their order."""

    def each(tar: tarfile.TarFile) -> _Members:
        for info in tar:
            content = tar.extractfile(info) if info.isreg() else None
            if content is None:
                raise BundleError(f"{path}: {info.name!r} is no regular file")
            yield info, content

    try:
        file = path.open("rb")
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}") from error
    with file:
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                yield each(tar)
        except (tarfile.TarError, EOFError, UnicodeError) as error:
            raise BundleError(f"{path}: is no whole bundle: {error}") from error


def _head(path: Path, members: _Members) -> tuple[bytes, bytes]:
    """Manifest and signature, with which a bundle begins."""
    texts = []
    for name in (MANIFEST, SIGNATURE):
        info, content = next(members, (None, None))
        if info is None or content is None or info.name != name or info.size > _MOST_MANIFEST:
            raise BundleError(f"{path}: is no bundle: it does not begin with {MANIFEST} and {SIGNATURE}")
        texts.append(content.read())
    return texts[0], texts[1]


def _signed(path: Path, members: _Members, keys: Mapping[str, bytes], fits: Fits) -> Manifest:
    """The manifest, once its signature is good."""
    text, signature = _head(path, members)
    named = re.search(rb'"key_id":"([0-9a-f]{16})"', text)  # not believed, only looked up
    public = keys.get(named[1].decode()) if named else None
    if public is None:
        raise BundleError(
            f"{path}: signed by key {named[1].decode() if named else 'nobody'}, trusted are {', '.join(sorted(keys))}"
        )
    if not fits(public, text, signature):
        raise BundleError(f"{path}: the signature is not that of key {key_id(public)}; do not use this file")
    manifest = read_manifest_text(text)
    if manifest.key_id != key_id(public):
        raise BundleError(f"{path}: names two keys")
    return manifest


def _contents(
    path: Path, manifest: Manifest, members: _Members, told: Told
) -> Iterator[tuple[Member, bytes | None]]:
    """Chunks of every member, with None when one has proved to be the signed one."""
    awaited = {member.path: member for member in manifest.members}
    done, total = 0, manifest.packed_bytes
    for info, content in members:
        member = awaited.pop(info.name, None)
        if member is None or info.size != member.size:
            raise BundleError(f"{path}: {info.name!r} is not as the manifest has it; do not use this file")
        digest = hashlib.sha256()
        yield member, b""
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
            yield member, chunk
            done += len(chunk)
            told(done, total)
        if digest.hexdigest() != member.sha256:
            raise BundleError(f"{path}: {member.path} is not what was signed; do not use this file")
        yield member, None
    if awaited:
        raise BundleError(f"{path}: {min(awaited)} is missing")
