"""A stand-in for NVIDIA's TensorRT, so far as Vigie calls it, with the traps of the real one.

Written from its Python API documentation and migration guides (docs.nvidia.com/deeplearning/tensorrt) and from the
types of its bindings. What it has of the real one:
- `use` turns it into a version: 8.6 wants EXPLICIT_BATCH and has no strong typing and no progress monitor, 11 has
  neither EXPLICIT_BATCH nor the FP16 flag;
- an engine of another version does not load: the answer is None, and the reason is in the log alone;
- a call that fails answers False or None, and does not raise;
- `execute_async_v3` only puts work into a stream; shapes and addresses must be set before; a batch beyond the profile
  is refused;
- classes that TensorRT calls back must have run their base class's `__init__`.

Its limits: engines are the ONNX files themselves, run by onnxruntime on the processor; there is no precision, no
tactic, no memory limit and no plug-in. That real TensorRT builds, loads and runs these networks, it cannot show.
"""

# mypy: disable-error-code="misc, no-any-return"

from __future__ import annotations

import enum
import json
import sys
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import onnxruntime as ort
from pycuda import driver

__version__ = "10.3.0"
_MARK = b"ENGINE"
#: Flags and limits of the last build.
built: dict[str, Any] = {}


def use(version: str) -> None:
    """Become this version."""
    module: Any = sys.modules[__name__]
    major = int(version.partition(".")[0])
    module.__version__ = version
    flags = {"EXPLICIT_BATCH": 0} if major < 10 else {"EXPLICIT_BATCH": 0, "STRONGLY_TYPED": 1}
    if major >= 11:
        del flags["EXPLICIT_BATCH"]
    module.NetworkDefinitionCreationFlag = enum.IntEnum("NetworkDefinitionCreationFlag", flags)
    module.BuilderFlag = enum.IntEnum("BuilderFlag", {"INT8": 1, "FP16": 0} if major < 11 else {"DEBUG": 2})
    if major < 9:
        vars(module).pop("IProgressMonitor", None)
    else:
        module.IProgressMonitor = _ProgressMonitor


class DataType(enum.Enum):
    FLOAT = "tensor(float)"
    HALF = "tensor(float16)"
    INT8 = "tensor(int8)"
    INT32 = "tensor(int32)"
    BOOL = "tensor(bool)"
    INT64 = "tensor(int64)"


_NUMPY = {DataType.FLOAT: np.float32, DataType.HALF: np.float16, DataType.INT64: np.int64}


class TensorIOMode(enum.Enum):
    INPUT = 1
    OUTPUT = 2


class MemoryPoolType(enum.Enum):
    WORKSPACE = 0


class ILogger:
    class Severity(enum.Enum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2

    def __init__(self) -> None:
        self.is_made = True

    def log(self, severity: Severity, msg: str) -> None:
        raise NotImplementedError


class _ProgressMonitor:
    def __init__(self) -> None:
        self.is_made = True


class Dims(tuple[int, ...]):
    __slots__ = ()


def _fail(log: ILogger, words: str) -> Any:
    return log.log(ILogger.Severity.ERROR, words)


class Runtime:
    def __init__(self, log: ILogger) -> None:
        driver.active()
        assert log.is_made
        self._log = log

    def deserialize_cuda_engine(self, serialized: bytes) -> ICudaEngine | None:
        if not bytes(serialized).startswith(_MARK):
            return _fail(self._log, "Magic tag does not match")
        header, _, model = bytes(serialized)[len(_MARK) :].partition(b"\n")
        known = json.loads(header)
        if known["version"] != __version__:
            return _fail(self._log, f"Version tag does not match: {known['version']} != {__version__}")
        return ICudaEngine(self._log, model, known["profile"])


class ICudaEngine:
    def __init__(self, log: ILogger, model: bytes, profile: dict[str, list[list[int]]]) -> None:
        self._log = log
        self._profile = profile
        self.session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
        given, made = self.session.get_inputs(), self.session.get_outputs()
        self.tensors = {item.name: item for item in (*given, *made)}
        self.inputs = [item.name for item in given]
        self.num_io_tensors = len(self.tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self.inputs else TensorIOMode.OUTPUT

    def get_tensor_shape(self, name: str) -> Dims:
        return Dims(size if isinstance(size, int) else -1 for size in self.tensors[name].shape)

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType(self.tensors[name].type)

    def get_tensor_profile_shape(self, name: str, _profile: int) -> list[Dims]:
        shapes = self._profile.get(name) or [list(self.get_tensor_shape(name))] * 3
        return [Dims(shape) for shape in shapes]

    def create_execution_context(self) -> IExecutionContext | None:
        driver.active()
        return IExecutionContext(self, self._log)


class IExecutionContext:
    def __init__(self, engine: ICudaEngine, log: ILogger) -> None:
        self._engine, self._log = engine, log
        self._addresses: dict[str, int] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return address in driver.memory

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        least, _, most = self._engine.get_tensor_profile_shape(name, 0)
        if not all(low <= size <= high for low, size, high in zip(least, shape, most, strict=True)):
            _fail(self._log, f"Static dimension mismatch while setting input shape for {name}")
            return False
        self._shapes[name] = shape
        return True

    def infer_shapes(self) -> list[str]:
        return [name for name in self._engine.inputs if name not in self._shapes]

    def execute_async_v3(self, stream_handle: int) -> bool:
        driver.active()
        if self.infer_shapes() or set(self._addresses) != set(self._engine.tensors):
            _fail(self._log, "Neither address nor shape may be missing")
            return False
        shapes = dict(self._shapes)
        driver.streams[stream_handle].launch(lambda: self._run(shapes))
        return True

    def _run(self, shapes: dict[str, tuple[int, ...]]) -> None:
        feed = {}
        for name, shape in shapes.items():
            dtype = np.dtype(_NUMPY[self._engine.get_tensor_dtype(name)])
            size = int(np.prod(shape)) * dtype.itemsize
            feed[name] = driver.memory[self._addresses[name]][:size].view(dtype).reshape(shape)
        made = [name for name in self._engine.tensors if name not in self._engine.inputs]
        for name, output in zip(made, self._engine.session.run(made, feed), strict=True):
            content = np.ascontiguousarray(output).reshape(-1).view(np.uint8)
            driver.memory[self._addresses[name]][: len(content)] = content


class Builder:
    def __init__(self, log: ILogger) -> None:
        assert log.is_made
        self._log = log

    def create_network(self, flags: int = 0) -> SimpleNamespace:
        built.clear()
        built["network"] = flags
        return SimpleNamespace(model=None, num_inputs=0)

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig()

    def create_optimization_profile(self) -> IOptimizationProfile:
        return IOptimizationProfile()

    def build_serialized_network(self, network: SimpleNamespace, config: IBuilderConfig) -> memoryview | None:
        if __version__.startswith("8") and not built["network"] & 1:
            return _fail(self._log, "The network needs EXPLICIT_BATCH")
        if any(-1 in shape for shape in network.shapes.values()) and not config.profile:
            return _fail(self._log, "Network has dynamic or shape inputs, but no optimization profile has been defined")
        if config.progress_monitor is not None:
            assert config.progress_monitor.is_made
            config.progress_monitor.phase_start("Building", "", 2)
            assert all(config.progress_monitor.step_complete("Building", step) for step in range(2))
            config.progress_monitor.phase_finish("Building")
        built.update(flags=config.flags, pools=config.pools, timing=config.timing)
        header = json.dumps({"version": __version__, "profile": config.profile})
        return memoryview(_MARK + header.encode() + b"\n" + network.model)


class OnnxParser:
    def __init__(self, network: SimpleNamespace, log: ILogger) -> None:
        self._network, self._log = network, log

    def parse(self, model: bytes) -> bool:
        try:
            session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
        except Exception as error:  # noqa: BLE001 - onnxruntime's have no base class
            _fail(self._log, f"Failed to parse the ONNX model: {error}")
            return False
        self._network.model = model
        self._network.shapes = {
            item.name: [size if isinstance(size, int) else -1 for size in item.shape] for item in session.get_inputs()
        }
        self._network.num_inputs = len(self._network.shapes)
        tensors = [SimpleNamespace(name=name, shape=Dims(shape)) for name, shape in self._network.shapes.items()]
        self._network.get_input = tensors.__getitem__
        return True


class IOptimizationProfile:
    def __init__(self) -> None:
        self.shapes: dict[str, list[list[int]]] = {}

    def set_shape(self, name: str, least: Dims, usual: Dims, most: Dims) -> None:
        self.shapes[name] = [list(least), list(usual), list(most)]


class IBuilderConfig:
    known: ClassVar[bytes] = b"measured"

    def __init__(self) -> None:
        self.flags: list[int] = []
        self.pools: dict[MemoryPoolType, int] = {}
        self.profile: dict[str, list[list[int]]] = {}
        self.timing = b""
        self.progress_monitor: Any = None

    def set_flag(self, flag: int) -> None:
        self.flags.append(flag)

    def set_memory_pool_limit(self, pool: MemoryPoolType, size: int) -> None:
        self.pools[pool] = size

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        self.profile = profile.shapes
        return 0

    def create_timing_cache(self, content: bytes) -> SimpleNamespace | None:
        if content not in {b"", self.known}:
            return None
        return SimpleNamespace(content=content, serialize=lambda: memoryview(self.known))

    def set_timing_cache(self, cache: SimpleNamespace, ignore_mismatch: bool) -> bool:
        self.timing = cache.content
        return not ignore_mismatch


use(__version__)
