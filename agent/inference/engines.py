"""TensorRT engines: what one is made for, where it is kept, and how it is built.

An engine is kept under a hash of all that it depends on, so a new TensorRT, L4T, GPU or model finds none and says so,
instead of loading a wrong one. Beside it stands what it is (`.json`), its own SHA-256 included; an engine whose content
is another one is not loaded, since an engine is code that runs on the GPU.

Building takes minutes and much memory: `vigie models build` does it, one engine at a time, as its own unit
(`vigie-engines.service`) with the GPU, without cameras and network. Sense only reads. One that finds no engine, as
after an upgrade of JetPack, runs on the processor meanwhile, knocks at the socket of that unit, and begins anew when
engines have come (`Awaited`).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from agent.inference.backend import InferenceError
from agent.inference.registry import Model, ModelFile, Registry

#: Told which phase is at work, and how many of its steps are done of how many.
Progress = Callable[[str, int, int], None]
Precision = Literal["fp16", "fp32"]
PRECISIONS: tuple[Precision, ...] = ("fp16", "fp32")
#: What to do, at the end of every message about an engine that is missing or damaged.
BUILD = "run `vigie models build`"


@dataclass(frozen=True, slots=True)
class Target:
    """What an engine runs on.

    Attributes:
        tensorrt: Version of TensorRT.
        capability: Compute capability of the GPU, such as `8.7`.
        l4t: Release of L4T, or `none` where this is no Jetson.
    """

    tensorrt: str
    capability: str
    l4t: str


@dataclass(frozen=True, slots=True)
class EngineKey:
    """All that an engine depends on.

    Attributes:
        model: SHA-256 of the model's ONNX file, the FP32 one whatever the precision.
        target: What it runs on.
        precision: Of its weights and arithmetic.
        batches: Smallest, usual and largest batch.
    """

    model: str
    target: Target
    precision: Precision = "fp16"
    batches: tuple[int, int, int] = (1, 1, 4)

    @property
    def name(self) -> str:
        """Stem of its files."""
        canonical = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return f"{self.model[:12]}-{hashlib.sha256(canonical.encode()).hexdigest()[:32]}"


class EngineCache:
    """Engines in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, key: EngineKey) -> bytes:
        """An engine's content, once its SHA-256 is verified.

        Raises:
            InferenceError: there is none, or it cannot be read or trusted; the text says what to do.
        """
        path = self.folder / f"{key.name}.engine"
        try:
            known = json.loads((self.folder / f"{key.name}.json").read_text(encoding="utf-8"))
            engine = path.read_bytes()
        except FileNotFoundError:
            raise InferenceError(
                f"no engine for TensorRT {key.target.tensorrt}, compute capability {key.target.capability}, "
                f"L4T {key.target.l4t} in {self.folder}: {BUILD}"
            ) from None
        except (OSError, ValueError) as error:
            raise InferenceError(f"{path}: cannot be read: {error}: {BUILD}") from error
        digest = hashlib.sha256(engine).hexdigest()
        if not isinstance(known, dict) or known.get("sha256") != digest:
            raise InferenceError(f"{path}: damaged, its SHA-256 is {digest}: {BUILD}")
        return engine

    def find(self, model: bytes) -> bytes:
        """The engine of a model for this machine, the fastest precision first.

        Args:
            model: Content of its ONNX file.

        Raises:
            InferenceError: TensorRT, pycuda, the GPU or the engine is missing.
        """
        here, digest = target(), hashlib.sha256(model).hexdigest()
        half, single = (EngineKey(digest, here, precision) for precision in PRECISIONS)
        try:
            return self.read(half)
        except InferenceError:
            if self.built_from(single) is None:
                raise
        return self.read(single)

    def write(self, key: EngineKey, engine: bytes, built_from: str) -> Path:
        """Keep an engine; a power cut leaves it whole or absent.

        Args:
            key: What it depends on.
            engine: Its content.
            built_from: SHA-256 of the ONNX file that it was built from.

        Returns:
            Its file.

        Raises:
            InferenceError: it cannot be written.
        """
        known = {**asdict(key), "sha256": hashlib.sha256(engine).hexdigest(), "built_from": built_from}
        path = self.folder / f"{key.name}.engine"
        self._replace(path, engine)
        # Last, since an engine without it is not trusted.
        self._replace(path.with_suffix(".json"), json.dumps(known, indent=1).encode())
        return path

    def built_from(self, key: EngineKey) -> str | None:
        """SHA-256 of the ONNX file that the engine was built from; None where there is no good engine."""
        try:
            self.read(key)
            known: dict[str, str] = json.loads((self.folder / f"{key.name}.json").read_text(encoding="utf-8"))
        except InferenceError:
            return None
        return known.get("built_from")

    def timing(self, target: Target) -> bytes:
        """What was measured in earlier builds, which makes the next one faster; empty when nothing was."""
        try:
            return self._timing(target).read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise InferenceError(f"{self._timing(target)}: cannot be read: {error.strerror}") from error

    def keep_timing(self, target: Target, content: bytes) -> None:
        """Keep what was measured.

        Raises:
            InferenceError: it cannot be written.
        """
        self._replace(self._timing(target), content)

    def forget_others(self, target: Target) -> list[Path]:
        """Remove the engines and measurements of every other target: after an upgrade they serve nobody, and take room.

        Returns:
            The engines that were removed.

        Raises:
            InferenceError: one cannot be removed.
        """
        removed = []
        try:
            for path in sorted(self.folder.glob("*.engine")):
                description = path.with_suffix(".json")
                try:
                    known = json.loads(description.read_text(encoding="utf-8"))
                    kept = known["target"] == asdict(target)
                except (OSError, ValueError, TypeError, KeyError):
                    kept = False  # without it an engine is not loaded either
                if not kept:
                    description.unlink(missing_ok=True)
                    path.unlink()
                    removed.append(path)
            for path in set(self.folder.glob("*.timing")) - {self._timing(target)}:
                path.unlink()
        except OSError as error:
            raise InferenceError(f"{error.filename}: cannot be removed: {error.strerror}") from error
        return removed

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One build at a time.

        Raises:
            InferenceError: another one is at work, or the folder cannot be made.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = (self.folder / ".lock").open("w")
        except OSError as error:
            raise InferenceError(f"{self.folder}: cannot be written: {error.strerror}") from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InferenceError(f"{self.folder}: another build is at work; wait for its end") from None
            yield

    @property
    def changed_at(self) -> int:
        """When something in the folder was made or removed, nanoseconds; 0 where there is none."""
        try:
            return self.folder.stat().st_mtime_ns
        except OSError:
            return 0

    @property
    def is_building(self) -> bool:
        """Whether a build is at work."""
        try:
            lock = (self.folder / ".lock").open()
        except OSError:
            return False
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def _timing(self, target: Target) -> Path:
        digest = hashlib.sha256(json.dumps(asdict(target), sort_keys=True).encode()).hexdigest()[:32]
        return self.folder / f"{digest}.timing"

    def _replace(self, path: Path, content: bytes) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.folder, prefix=".", delete=False) as file:
                partial = Path(file.name)
                try:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                    os.fchmod(file.fileno(), 0o644)
                    partial.replace(path)
                except OSError:
                    partial.unlink(missing_ok=True)
                    raise
        except OSError as error:
            raise InferenceError(f"{path}: cannot be written: {error.strerror}") from error


class Awaited:
    """Engines that this machine lacks, for a process that may not build them."""

    def __init__(self, cache: EngineCache) -> None:
        """Look at what is there.

        Args:
            cache: Where they will be.
        """
        self._cache = cache
        self._changed_at = cache.changed_at

    @staticmethod
    def ask(door: Path) -> None:
        """Have them built, by an empty datagram that starts the unit behind the socket.

        Args:
            door: The socket.

        Raises:
            OSError: there is none, or the unit has failed too often.
        """
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as knocker:
            knocker.sendto(b"", str(door))

    @property
    def have_come(self) -> bool:
        """Whether a build has changed something and is over; one that failed changes nothing."""
        return self._cache.changed_at != self._changed_at and not self._cache.is_building


def target() -> Target:
    """What an engine on this machine runs on.

    Raises:
        InferenceError: TensorRT or pycuda is not installed, or there is no GPU.
    """
    from agent.device.l4t import l4t
    from agent.inference.cuda import Cuda

    trt = tensorrt()
    cuda = Cuda()
    major, minor = cuda.capability
    cuda.close([])
    return Target(str(trt.__version__), f"{major}.{minor}", str(l4t() or "none"))


def construct(
    cache: EngineCache,
    registry: Registry,
    model: Model,
    here: Target,
    precision: Precision,
    workspace: int,
    progress: Progress,
    *,
    again: bool,
) -> tuple[Path, bool]:
    """Build a model's engine, unless a good one is there.

    Args:
        cache: Where it is kept.
        registry: Where the model's files are.
        model: The model.
        here: What the engine is for.
        precision: Wanted; a model without an FP16 file gets FP32 where precision comes from the file.
        workspace: Most memory to try a layer with, bytes.
        progress: Told of TensorRT's phases.
        again: Build it also if it is there.

    Returns:
        The engine's file, and whether it is new.

    Raises:
        InferenceError: the model's file is missing or not the registered one, or TensorRT cannot build it.
    """
    from agent.inference.build import build, is_strongly_typed

    file: ModelFile = model
    if precision == "fp16" and is_strongly_typed():
        if model.fp16 is not None:
            file = model.fp16
        else:
            precision = "fp32"
    key = EngineKey(model.sha256, here, precision)
    path = cache.folder / f"{key.name}.engine"
    if not again and cache.built_from(key) == file.sha256:
        return path, False
    engine, timing = build(registry.read(model, file), key, workspace, cache.timing(here), progress)
    cache.keep_timing(here, timing)
    return cache.write(key, engine, file.sha256), True


def tensorrt() -> Any:
    """TensorRT's Python module.

    Raises:
        InferenceError: it is not installed.
    """
    try:
        import tensorrt
    except ImportError as error:
        raise InferenceError(f"TensorRT is not installed: {error}") from error
    return tensorrt
