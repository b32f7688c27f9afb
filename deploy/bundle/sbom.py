"""The bill of materials of a bundle, in CycloneDX 1.6 (ECMA-424): packages and models, with licences and hashes."""

from __future__ import annotations

import email
import hashlib
import uuid
import zipfile
from collections.abc import Iterable, Sequence
from email.message import Message
from pathlib import Path
from typing import Any

from agent.canonical import canonical
from agent.inference.registry import Model

_NAMESPACE = uuid.UUID("6f3d2a52-52a5-5c0e-9d6b-3a2f6d1c8e47")


def bill(version: str, target: str, wheels: Sequence[Path], models: Iterable[Model]) -> bytes:
    """The bill as JSON; the same for the same content, so it has no time.

    Args:
        version: Of the release.
        target: Of the release.
        wheels: All of them, the agent's too.
        models: Those of the registry whose files are in the agent's wheel.
    """
    packages = [_package(wheel) for wheel in wheels]
    root = next(package for package in packages if package["name"] == "vigie")
    others = [package for package in packages if package is not root]
    components = [*others, *(_model(model) for model in models)]
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {**root, "type": "application"},
            "properties": [{"name": "vigie:target", "value": target}],
        },
        "components": components,
        "dependencies": [{"ref": root["bom-ref"], "dependsOn": sorted(c["bom-ref"] for c in components)}],
    }
    serial = uuid.uuid5(_NAMESPACE, hashlib.sha256(canonical(document)).hexdigest() + version)
    return canonical({**document, "serialNumber": f"urn:uuid:{serial}"})


def metadata(wheel: Path) -> Message:
    """What a wheel says of itself."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA") and n.count("/") == 1)
        return email.message_from_bytes(archive.read(name))


def _package(wheel: Path) -> dict[str, Any]:
    said = metadata(wheel)
    name, version = said["Name"].lower().replace("_", "-"), said["Version"]
    purl = f"pkg:pypi/{name}@{version}"
    found = {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
        "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(wheel.read_bytes()).hexdigest()}],
        "properties": [{"name": "vigie:file", "value": f"wheels/{wheel.name}"}],
    }
    licence = _licence(said)
    return {**found, "licenses": [licence]} if licence else found


def _licence(said: Message) -> dict[str, Any] | None:
    """By its SPDX expression, else by what its author calls it in one line, else by its classifier."""
    if said["License-Expression"]:
        return {"expression": said["License-Expression"]}
    words = (said["License"] or "").strip()
    if words and "\n" not in words and len(words) <= 80:
        return {"license": {"name": words}}
    for line in said.get_all("Classifier", []):
        if line.startswith("License ::"):
            return {"license": {"name": line.rpartition(" :: ")[2]}}
    return None


def _model(model: Model) -> dict[str, Any]:
    return {
        "type": "machine-learning-model",
        "bom-ref": f"vigie-model:{model.name}@{model.version}",
        "name": model.name,
        "version": model.version,
        "hashes": [{"alg": "SHA-256", "content": model.sha256}],
        "licenses": [{"license": {"name": model.licence}}],
    }
