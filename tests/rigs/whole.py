"""Whether a release is whole: every file as it was installed, by its manifest and its packages' records (PEP 627)."""

from __future__ import annotations

import base64
import csv
import hashlib

from agent.device.slots import Slots


def broken(slots: Slots, version: str) -> list[str]:
    """Files of a release that are not as they were installed."""
    release = slots.folder(version)
    expected = {release / m.path: m.sha256 for m in slots.manifest(version).members if m.path.startswith("units/")}
    for packages in release.glob("lib/python3.*/site-packages"):
        for record in packages.glob("*.dist-info/RECORD"):
            for path, digest, _ in csv.reader(record.read_text().splitlines()):
                if digest:
                    expected[packages / path] = base64.urlsafe_b64decode(digest.partition("=")[2] + "=").hex()
    wrong = [str(f) for f, s in expected.items() if not f.is_file() or hashlib.sha256(f.read_bytes()).hexdigest() != s]
    return wrong if len(expected) > 100 else [f"{len(expected)} files are recorded", *wrong]
