"""What every inference backend can do, and how one is chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class InferenceError(RuntimeError):
    """A model that cannot be found, trusted, loaded or run; the text says which one, why, and what to do."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a network.

    Attributes:
        name: As the network calls it.
        shape: Sizes; None where any size will do (the batch, mostly).
        dtype: Type of the elements.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]


class Backend(Protocol):
    """A network ready to run. Not thread-safe."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def run(self, batch: Array) -> list[Array]:
        """The outputs for one batch, in the order of `outputs`.

        Args:
            batch: The first input, in its shape and type. It is read only during the call.

        Raises:
            InferenceError: the batch does not fit, or the runtime failed.
        """

    def close(self) -> None:
        """Let go of memory and device; safe to call twice."""


#: Makes a backend from the bytes of an ONNX model and a number of CPU threads, or raises InferenceError.
Opener = Callable[[bytes, int], Backend]


# Each runtime is imported when it is wanted: a device does not pay for those that it does not use.
def _tensorrt(engines: Path, model: bytes, _threads: int) -> Backend:
    from agent.inference.engines import EngineCache

    engine = EngineCache(engines).find(model)
    from agent.inference.tensorrt import TensorrtBackend

    return TensorrtBackend(engine)


def _onnxruntime(model: bytes, threads: int) -> Backend:
    from agent.inference.onnx import OnnxBackend

    return OnnxBackend(model, threads)


#: Where `vigie models build` puts TensorRT engines, and where sense finds them.
ENGINES = Path("/var/cache/vigie/engines")
#: All backends, best first.
OPENERS: Mapping[str, Opener] = {"tensorrt": partial(_tensorrt, ENGINES), "onnxruntime": _onnxruntime}


def check(backend: Backend) -> None:
    """Run a network once and look at what comes out.

    Raises:
        InferenceError: it does not run, or answers with something else than finite numbers in the shapes it declared.
    """
    spec = backend.inputs[0]
    outputs = backend.run(np.zeros([size or 1 for size in spec.shape], spec.dtype))
    if len(outputs) != len(backend.outputs):
        raise InferenceError(f"self-check: {len(outputs)} outputs instead of {len(backend.outputs)}")
    for output, declared in zip(outputs, backend.outputs, strict=True):
        fits = output.ndim == len(declared.shape) and all(
            want in {None, have} for want, have in zip(declared.shape, output.shape, strict=True)
        )
        if not fits:
            raise InferenceError(f"self-check: output {declared.name} has shape {output.shape}, not {declared.shape}")
        if not np.isfinite(output).all():
            raise InferenceError(f"self-check: output {declared.name} is not finite")


def select(
    wanted: str,
    model: bytes,
    threads: int,
    openers: Mapping[str, Opener] = OPENERS,
) -> tuple[Backend, list[str]]:
    """The wanted backend, or with `auto` the first whose self-check passes.

    Args:
        wanted: Name of a backend, or `auto`.
        model: The ONNX file's content.
        threads: CPU threads of one inference.
        openers: The backends there are, best first.

    Returns:
        The backend, and for each one refused before it why, in words.

    Raises:
        InferenceError: none serves.
    """
    refused = []
    for name in openers if wanted == "auto" else (wanted,):
        try:
            backend = openers[name](model, threads)
        except InferenceError as error:
            refused.append(f"{name}: {error}")
            continue
        try:
            check(backend)
        except InferenceError as error:
            backend.close()
            refused.append(f"{name}: {error}")
            continue
        return backend, refused
    raise InferenceError("; ".join(refused))
