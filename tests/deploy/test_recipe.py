from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from agent.inference.registry import Registry
from deploy.bundle.recipe import TARGETS, Target, requirements
from deploy.bundle.sbom import bill

CHECKOUT = Path(__file__).parents[2]


def pins(lock: str, target: Target) -> dict[str, str]:
    """Name and version of what a lock gives a target."""
    found = (entry.partition(" ")[0].split("==") for entry in requirements(CHECKOUT / lock, target))
    return {name: version for name, version in found}  # noqa: C416 - two by two


@pytest.mark.parametrize("name", ["jetpack6", "jetpack7"])
def test_a_jetpack_gets_what_everybody_gets_but_for_numpy(name: str) -> None:
    """The JetPack 6 stack was built for numpy 1.x, and OpenCV must fit it."""
    target = TARGETS[name]
    own, common = pins(target.lock, target), pins("requirements.txt", target)
    assert own.keys() == common.keys()
    others = {package for package in own if own[package] != common[package]}
    assert others == ({"numpy", "opencv-python-headless"} if name == "jetpack6" else set())
    assert own["numpy"].startswith("1.26." if name == "jetpack6" else "2.")


def test_every_entry_of_a_lock_has_its_hashes() -> None:
    for target in TARGETS.values():
        for entry in requirements(CHECKOUT / target.lock, target):
            assert "==" in entry
            assert "--hash=sha256:" in entry
    (pip,) = requirements(CHECKOUT / "deploy" / "bundle" / "pip.txt", TARGETS["jetpack6"])
    assert pip.startswith("pip==")


def test_markers_are_about_the_target_and_not_about_this_machine(tmp_path: Path) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text(
        "a==1 ; python_full_version < '3.11' \\\n    --hash=sha256:aa \\\n    --hash=sha256:ab\n"
        "b==2 ; platform_machine == 'x86_64' \\\n    --hash=sha256:bb\n"
        "# a word\n\nc==3 ; sys_platform == 'win32' \\\n    --hash=sha256:cc\n"
    )
    assert requirements(lock, TARGETS["jetpack6"]) == ["a==1 --hash=sha256:aa --hash=sha256:ab"]
    assert requirements(lock, TARGETS["x86_64"])[-1] == "b==2 --hash=sha256:bb"


def test_a_target_loads_wheels_of_its_own_c_library_and_older_ones() -> None:
    platforms = list(TARGETS["jetpack6"].platforms)
    assert platforms[0] == "manylinux_2_35_aarch64"
    assert platforms[-2:] == ["manylinux_2_17_aarch64", "manylinux2014_aarch64"]


def wheel(folder: Path, name: str, *lines: str) -> Path:
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        said = [f"Name: {name}", "Version: 1.0", *lines]
        archive.writestr(zipfile.ZipInfo(f"{name}-1.0.dist-info/METADATA"), "\n".join(said) + "\n")
    return path


def test_the_bill_names_packages_and_models_with_hashes_and_licences(tmp_path: Path) -> None:
    wheels = [
        wheel(tmp_path, "vigie", "License-Expression: Apache-2.0"),
        wheel(tmp_path, "spdx", "License-Expression: MIT OR Apache-2.0"),
        wheel(tmp_path, "words", "License: BSD"),
        wheel(tmp_path, "classified", "Classifier: License :: OSI Approved :: MIT License"),
        wheel(tmp_path, "silent"),
    ]
    models = Registry(CHECKOUT / "models").models[:1]
    text = bill("1.0", "jetpack6", wheels, models)
    assert text == bill("1.0", "jetpack6", wheels, models)
    found = json.loads(text)
    assert (found["bomFormat"], found["specVersion"]) == ("CycloneDX", "1.6")
    assert found["metadata"]["component"]["name"] == "vigie"
    parts = {part["name"]: part for part in found["components"]}
    assert parts.keys() == {"spdx", "words", "classified", "silent", models[0].name}
    assert all(len(part["hashes"][0]["content"]) == 64 for part in parts.values())
    assert parts["spdx"]["licenses"] == [{"expression": "MIT OR Apache-2.0"}]
    assert parts["words"]["licenses"] == [{"license": {"name": "BSD"}}]
    assert parts["classified"]["licenses"] == [{"license": {"name": "MIT License"}}]
    assert "licenses" not in parts["silent"]
    assert parts[models[0].name]["type"] == "machine-learning-model"
    assert found["dependencies"][0]["dependsOn"] == sorted(part["bom-ref"] for part in parts.values())
