"""TensorRT on the device: the production way.

One path serves TensorRT 8.6 to 11: tensors by name, addresses set once, `execute_async_v3` on one stream, and a single
wait for each inference. The calls are checked by mypy against the types of the real bindings (tests/rigs); no TensorRT
was at hand to run them, so the first device has to prove them: `vigie bench inference`.

An engine loads on the TensorRT version and the GPU architecture alone that built it, and nothing tells beforehand: it
is loaded, and what TensorRT's log said becomes the error.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorrt as trt

from agent.inference.backend import Array, InferenceError, TensorSpec
from agent.inference.cuda import Buffer, Cuda

_DTYPES: dict[trt.DataType, type[np.generic]] = {
    trt.DataType.FLOAT: np.float32,
    trt.DataType.HALF: np.float16,
    trt.DataType.INT8: np.int8,
    trt.DataType.INT32: np.int32,
    trt.DataType.BOOL: np.bool_,
}
#: Lines of TensorRT's log that are kept for an error message.
_LINES = 3


class Log(trt.ILogger):  # type: ignore[misc]
    """TensorRT's log: its warnings are dropped, its last errors kept for our own messages."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self._errors: list[str] = []

    def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
        """Take a line; called by TensorRT."""
        if severity in {trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR}:
            self._errors = [*self._errors[1 - _LINES :], msg.strip()]

    def error(self, what: str) -> InferenceError:
        """An error in our words and, if it said something, TensorRT's."""
        said = "; ".join(self._errors) or "it does not say why"
        self._errors = []
        return InferenceError(f"TensorRT {trt.__version__} {what}: {said}")


class TensorrtBackend:
    """An engine ready to run. Not thread-safe, but any one thread at a time may use it."""

    def __init__(self, engine: bytes) -> None:
        """Load an engine.

        Args:
            engine: As `agent.inference.engines` built it.

        Raises:
            InferenceError: there is no GPU, or TensorRT does not take the engine.
        """
        self._closed = True
        self._log = Log()
        self._cuda = Cuda()
        self._buffers: dict[str, Buffer] = {}
        self.inputs: tuple[TensorSpec, ...] = ()
        self.outputs: tuple[TensorSpec, ...] = ()
        try:
            with self._cuda.active():
                self._load(engine)
        except InferenceError:
            self._cuda.close(list(self._buffers.values()))
            raise
        self._closed = False

    def _load(self, serialized: bytes) -> None:
        self._runtime = trt.Runtime(self._log)
        engine = self._runtime.deserialize_cuda_engine(serialized)
        if engine is None:
            raise self._log.error("does not load the engine, which only serves the version and GPU that built it")
        context = engine.create_execution_context()
        if context is None:
            raise self._log.error("has no memory for the engine's activations")
        self._engine, self._context = engine, context
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        if len(inputs) != 1:
            raise InferenceError(f"the model has {len(inputs)} inputs; it must have one")
        self._input = inputs[0]
        self._outputs = [name for name in names if name not in inputs]
        specs = {name: _spec(engine, name) for name in names}
        self.inputs = (specs[self._input],)
        self.outputs = tuple(specs[name] for name in self._outputs)
        _, _, largest = engine.get_tensor_profile_shape(self._input, 0)
        #: Most items of a batch.
        self.largest_batch = int(largest[0])
        for name, spec in specs.items():
            batch, *item = spec.shape
            if None in item:
                raise InferenceError(f"{name} has the shape {spec.shape}; only its batch may be free")
            shape = (batch or self.largest_batch, *(size or 1 for size in item))
            self._buffers[name] = self._cuda.allocate(shape, spec.dtype)
            if not context.set_tensor_address(name, self._buffers[name].address):
                raise self._log.error(f"refuses the memory of {name}")
        self._count = 0

    def run(self, batch: Array) -> list[Array]:
        """The outputs for one batch, in the order of `outputs`.

        Raises:
            InferenceError: the batch does not fit, the GPU failed, or the backend is closed.
        """
        if self._closed:
            raise InferenceError("the backend is closed")
        (given,) = self.inputs
        count, *item = batch.shape if batch.ndim else (0,)
        fixed, *wanted = given.shape
        fits = count == fixed if fixed else 1 <= count <= self.largest_batch
        if not fits or item != wanted or batch.dtype != given.dtype:
            raise InferenceError(
                f"the batch is {batch.shape} {batch.dtype}; the engine takes 1 to {self.largest_batch} of "
                f"{tuple(wanted)} {given.dtype}"
            )
        with self._cuda.active():
            self._execute(batch, count)
        return [self._buffers[name].host[:count].copy() for name in self._outputs]

    def _execute(self, batch: Array, count: int) -> None:
        if count != self._count:
            if not self._context.set_input_shape(self._input, tuple(batch.shape)):
                raise self._log.error(f"refuses a batch of {count}")
            if missing := self._context.infer_shapes():
                raise self._log.error(f"does not know the shapes of {', '.join(missing)}")
            self._count = count
        source = self._buffers[self._input]
        source.host[:count] = batch
        self._cuda.upload(source, count)
        if not self._context.execute_async_v3(self._cuda.stream):
            raise self._log.error("could not run the network")
        for name in self._outputs:
            self._cuda.download(self._buffers[name], count)
        self._cuda.wait()

    def close(self) -> None:
        """Free the memory and let go of the GPU; safe to call twice."""
        if self._closed:
            return
        self._closed = True
        with self._cuda.active():
            # In this order, and while the context is there: each needs the one after it.
            del self._context, self._engine, self._runtime
        self._cuda.close(list(self._buffers.values()))


def _spec(engine: trt.ICudaEngine, name: str) -> TensorSpec:
    kind = engine.get_tensor_dtype(name)
    if kind not in _DTYPES:
        raise InferenceError(f"{name} is a {kind}, which numpy does not have")
    shape: Any = engine.get_tensor_shape(name)
    return TensorSpec(name, tuple(None if size < 0 else int(size) for size in shape), np.dtype(_DTYPES[kind]))
