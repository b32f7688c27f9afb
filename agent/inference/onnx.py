"""The embedded default: onnxruntime on the CPU."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from agent.inference.backend import Array, InferenceError, TensorSpec

_FATAL = 4
#: onnxruntime's errors have no base class of their own.
_ERRORS = (
    ort_errors.EPFail,
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NoModel,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)
_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}


class OnnxBackend:
    """A network in an onnxruntime session."""

    def __init__(self, model: bytes, threads: int) -> None:
        """Load a network.

        Args:
            model: The ONNX file's content.
            threads: CPU threads of one inference.

        Raises:
            InferenceError: it is no ONNX model, or one that onnxruntime cannot run.
        """
        ort.disable_telemetry_events()
        # What goes wrong is raised, and said once by us.
        ort.set_default_logger_severity(_FATAL)
        options = ort.SessionOptions()
        options.log_severity_level = _FATAL
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        # A camera's processor has other work between two frames than to wait for the next in a busy loop.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except _ERRORS as error:
            raise InferenceError(f"onnxruntime cannot load the model: {_first_line(error)}") from error
        self._session: ort.InferenceSession | None = session
        self.inputs = tuple(_spec(item) for item in session.get_inputs())
        self.outputs = tuple(_spec(item) for item in session.get_outputs())
        if len(self.inputs) != 1:
            raise InferenceError(f"the model has {len(self.inputs)} inputs; it must have one")

    def run(self, batch: Array) -> list[Array]:
        """The outputs for one batch, in the order of `outputs`.

        Raises:
            InferenceError: the batch does not fit, or the runtime failed, or the backend is closed.
        """
        if self._session is None:
            raise InferenceError("the backend is closed")
        try:
            outputs = self._session.run(None, {self.inputs[0].name: batch})
        except _ERRORS as error:
            raise InferenceError(f"onnxruntime: {_first_line(error)}") from error
        return [np.asarray(output) for output in outputs]

    def close(self) -> None:
        """Free the session; safe to call twice."""
        self._session = None


def _spec(item: ort.NodeArg) -> TensorSpec:
    dtype = _DTYPES.get(item.type)
    if dtype is None:
        raise InferenceError(f"{item.name} is a {item.type}; known are {', '.join(_DTYPES)}")
    return TensorSpec(item.name, tuple(n if isinstance(n, int) else None for n in item.shape), np.dtype(dtype))


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].removeprefix("[ONNXRuntimeError] : ")
