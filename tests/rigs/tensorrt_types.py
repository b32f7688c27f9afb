"""Type stubs of TensorRT, made from its real Python bindings; no GPU and none of its libraries are needed.

The bindings (PyPI packages tensorrt_cu12_bindings, tensorrt_cu13_bindings) want a handful of C functions at import.
Empty libraries that have them let `tensorrt.so` be imported, so that its classes, methods and enums can be written down
as stubs. They say what a version offers and what its arguments are; what a call does, only a device can tell.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

STUBGEN = "pybind11-stubgen==3.0.0"
_FUNCTIONS = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "getBuilderPluginRegistry",
    "getPluginRegistry",
    "initLibNvInferPlugins",
    "getNvOnnxParserVersion",
    "getInferLibVersion",
)


def stubs(package: str, version: str, cache: Path) -> Path:
    """Make the stubs of one version, once.

    Args:
        package: Name of the bindings' package.
        version: Its version.
        cache: Where downloads and stubs are kept.

    Returns:
        A folder for mypy's path, with `tensorrt` in it.
    """
    root = cache / f"{package}-{version}-py{sys.version_info.major}{sys.version_info.minor}"
    stub = root / "stubs" / "tensorrt" / "__init__.pyi"
    if not stub.exists():
        wheels, unpacked, libraries = root / "wheels", root / "unpacked", root / "lib"
        _pip("download", "--no-deps", "--only-binary=:all:", "--dest", str(wheels), f"{package}=={version}")
        for wheel in wheels.glob("*.whl"):
            zipfile.ZipFile(wheel).extractall(unpacked)
        _libraries(libraries, version.split(".", maxsplit=1)[0])
        text = _generate(unpacked, libraries, cache / "stubgen")
        stub.parent.mkdir(parents=True)
        partial = stub.with_suffix(".partial")
        version_there = "__version__" in (unpacked / "tensorrt_bindings" / "__init__.py").read_text(encoding="utf-8")
        partial.write_text(_mend(text) + "\n__version__: str\n" * version_there, encoding="utf-8")
        partial.replace(stub)
    return stub.parents[1]


def _pip(*arguments: str) -> None:
    _run([sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments])


def _run(command: list[str], **environment: str) -> None:
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr[-2000:]}")


def _libraries(folder: Path, major: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "empty.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in _FUNCTIONS), encoding="ascii")
    nothing = folder / "nothing.c"
    nothing.write_text("", encoding="ascii")
    for name, content in (("nvinfer", source), ("nvinfer_plugin", nothing), ("nvonnxparser", nothing)):
        _run(["gcc", "-shared", "-fPIC", str(content), "-o", str(folder / f"lib{name}.so.{major}")])


def _generate(unpacked: Path, libraries: Path, stubgen: Path) -> str:
    if not stubgen.exists():
        _pip("install", "--target", str(stubgen), STUBGEN)
    out = unpacked.parent / "generated"
    _run(
        [sys.executable, "-m", "pybind11_stubgen", "--ignore-all-errors", "-o", str(out), "tensorrt_bindings.tensorrt"],
        LD_LIBRARY_PATH=str(libraries),
        PYTHONPATH=f"{unpacked}:{stubgen}",
    )
    made = out / "tensorrt_bindings" / "tensorrt"
    return (made / "__init__.pyi" if made.is_dir() else made.with_suffix(".pyi")).read_text(encoding="utf-8")


def _mend(text: str) -> str:
    """Make Python of it: what the bindings do not tell in Python's grammar may be anything."""
    lines = [_line(line) for line in re.sub(r"= <[^>\n]*>", "= ...", text).split("\n")]
    mended = "\n".join(lines)
    ast.parse(mended)
    return mended


def _line(line: str) -> str:
    words = line.strip()
    if not words or _parses(words):
        return line
    if function := re.match(r"(\s*def \w+)\((self)?", line):
        own = "self, " if function[2] else ""
        return f"{function[1]}({own}*args: typing.Any, **kwargs: typing.Any) -> typing.Any:"
    if attribute := re.match(r"\s*\w+(?=:)", line):
        return f"{attribute[0]}: typing.Any"
    return line


def _parses(words: str) -> bool:
    try:
        ast.parse(words + " ..." if words.endswith(":") else words)
    except SyntaxError:
        return words.startswith(('"', "'", ")", "]", "}", "@")) or words.endswith((",", "(", "["))
    return True
