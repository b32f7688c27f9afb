"""Our TensorRT code against the types of the real bindings; planted mistakes must be found."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tensorrt_types import stubs

pytestmark = [pytest.mark.rig, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
OURS = [ROOT / "agent" / "inference" / name for name in ("tensorrt.py", "build.py")]
VERSIONS = {
    "10.3.0": "tensorrt_cu12_bindings",
    "10.13.3.9.post1": "tensorrt_cu13_bindings",
    "11.4.0.106": "tensorrt_cu13_bindings",
}
CONFIGURATION = """
[mypy]
strict = true
explicit_package_bases = true
warn_unused_ignores = false
[mypy-agent.*]
follow_imports = silent
[mypy-tensorrt.*]
ignore_errors = true
"""
MISTAKES = {
    "self._context.execute_async_v3(self._cuda.stream)": {
        "self._context.execute_async_v2([1], self._cuda.stream)": set(VERSIONS),
        "self._context.execute_async_v3(str(self._cuda))": set(VERSIONS),
    },
    "engine.num_io_tensors": {"engine.num_bindings": set(VERSIONS)},
    'getattr(trt.BuilderFlag, "FP16")': {"trt.BuilderFlag.FP16": {"11.4.0.106"}},
    "config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace)": {
        "config.max_workspace_size = workspace": set(VERSIONS)
    },
    "builder.build_serialized_network(network, config)": {"builder.build_engine(network, config)": set(VERSIONS)},
}


@pytest.fixture(scope="module", params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def types(version: str, require: Callable[..., None]) -> Path:
    require("gcc")
    return stubs(VERSIONS[version], version, ROOT / ".cache" / "tensorrt")


def mypy(types: Path, folder: Path, *files: Path) -> tuple[int, str]:
    configuration = folder / "mypy.ini"
    configuration.write_text(CONFIGURATION, encoding="ascii")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", configuration, "--cache-dir", folder / "cache", *files],
        cwd=ROOT,
        env={**os.environ, "MYPYPATH": f"{types}:{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_our_calls_are_those_of_this_version(types: Path, tmp_path: Path) -> None:
    code, said = mypy(types, tmp_path, *OURS)
    assert code == 0, said


def test_planted_mistakes_are_found(types: Path, version: str, tmp_path: Path) -> None:
    planted = []
    for place, (right, wrongs) in enumerate(MISTAKES.items()):
        for number, (wrong, versions) in enumerate(wrongs.items()):
            (file,) = (file for file in OURS if right in file.read_text(encoding="utf-8"))
            if version in versions:
                copy = tmp_path / f"{file.stem}_{place}_{number}.py"
                copy.write_text(file.read_text(encoding="utf-8").replace(right, wrong), encoding="utf-8")
                planted.append(copy)
    code, said = mypy(types, tmp_path, *planted)
    assert code == 1, said
    for copy in planted:
        assert f"{copy.name}:" in said, f"nothing was found in {copy.name}: {said}"
