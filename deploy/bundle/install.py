#!/usr/bin/env python3
"""Install the first release of Vigie on a device that has none: `python3 install.py BUNDLE --key release.pem`.

It needs Python 3.10 or later and openssl 3, as JetPack has them, and no package, index or network. What it trusts: the
public key, this file, and the device's own python3 and openssl. So take the key and this file from where you trust them
(the machine that you provision from, not the place that the bundle came from); the copy of this file in the bundle is
signed as all else there, and worth as much as your check of it (docs/updates.md).

Until openssl has found the signature good, nothing of the bundle is used. Then the agent's own code, from its wheel,
goes on as `vigie update install` does. Nothing is started.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

SPKI = bytes.fromhex("302a300506032b6570032100")


def fits(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether a signature is that of an Ed25519 key, says openssl."""
    with tempfile.TemporaryDirectory() as folder:
        key, text, signed = (Path(folder) / name for name in ("key", "text", "signature"))
        key.write_bytes(SPKI + public)
        text.write_bytes(message)
        signed.write_bytes(signature)
        command = ["openssl", "pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", str(key), "-rawin"]
        done = subprocess.run(
            [*command, "-in", str(text), "-sigfile", str(signed)], capture_output=True, text=True, check=False
        )
    if "Verif" not in done.stdout + done.stderr:
        sys.exit(f"install.py: openssl: {done.stderr.strip()}")
    return done.returncode == 0


def public_key(file: Path) -> bytes:
    """The 32 bytes of a public key in PEM."""
    command = ["openssl", "pkey", "-pubin", "-in", str(file), "-outform", "DER"]
    done = subprocess.run(command, capture_output=True, check=False)
    if not done.stdout.startswith(SPKI):
        sys.exit(f"install.py: {file}: is no Ed25519 public key in PEM")
    return done.stdout[len(SPKI) :]


def agent_wheel(bundle: Path, public: bytes, folder: Path) -> Path:
    """The agent's wheel out of a bundle, once its signature and its SHA-256 are good."""
    with tarfile.open(bundle, "r:") as tar:
        texts = []
        for name in ("manifest.json", "manifest.sig"):
            info = tar.next()
            content = tar.extractfile(info) if info is not None and info.name == name and info.isreg() else None
            if content is None:
                sys.exit(f"install.py: {bundle}: is no bundle")
            texts.append(content.read(1 << 20))
        if not fits(public, texts[0], texts[1]):
            sys.exit(f"install.py: {bundle}: the signature is not that of this key; do not use this file")
        files = json.loads(texts[0])["files"]
        (name,) = (name for name in files if name.startswith("wheels/vigie-"))
        content = tar.extractfile(name)
        wheel = content.read() if content is not None else b""
    if hashlib.sha256(wheel).hexdigest() != files[name]["sha256"]:
        sys.exit(f"install.py: {bundle}: {name} is not what was signed; do not use this file")
    place = folder / Path(name).name
    place.write_bytes(wheel)
    return place


def main() -> None:
    """Install."""
    parser = argparse.ArgumentParser(description="Install the first release of Vigie on a device that has none.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--key", type=Path, required=True, help="public key that must have signed (PEM)")
    asked = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("install.py: releases belong to root: sudo python3 install.py …")
    public = public_key(asked.key)
    with tempfile.TemporaryDirectory() as folder:
        try:
            sys.path.insert(0, str(agent_wheel(asked.bundle, public, Path(folder))))
        except (OSError, tarfile.TarError) as error:
            sys.exit(f"install.py: {asked.bundle}: {error}")
        from agent.device import bundle, install, services, slots

        try:
            manifest = bundle.verify(asked.bundle, {bundle.key_id(public): public}, lambda _done, _total: None, fits)
            releases = slots.Slots()
            with releases.locked():
                if releases.state().phase != "none":
                    sys.exit("install.py: a release is here already: vigie update install")
                release = install.install(asked.bundle, manifest, releases, print, lambda _done, _total: None)
                found = services.Services(releases.root)
                for own in found.link(release / "units"):
                    print(f"{own}: is this device's own, and stays as it is")
                releases.begin_first(manifest.version)
                found.adopt()
        except (bundle.BundleError, slots.SlotError, OSError) as error:
            sys.exit(f"install.py: {error}")
    print(f"vigie {manifest.version} is installed; next: /etc/vigie, then systemctl enable --now vigie.target")


if __name__ == "__main__":
    main()
