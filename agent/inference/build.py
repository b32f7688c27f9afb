"""Building a TensorRT engine from ONNX, with TensorRT 8.6 to 11.

Precision belongs to the model: from TensorRT 10 on, networks are strongly typed and the ONNX file has FP16 weights.
TensorRT 8.6 has no such mode; there the FP32 file is built with the flag that lets it choose FP16.
"""

from __future__ import annotations

from typing import Any, SupportsInt

import tensorrt as trt

from agent.inference.engines import EngineKey, Progress
from agent.inference.tensorrt import Log


def is_strongly_typed() -> bool:
    """Whether precision comes from the ONNX file alone, so that the FP16 file is the one to build."""
    return hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")


def build(
    model: bytes, key: EngineKey, workspace: int, timing: bytes, progress: Progress | None = None
) -> tuple[bytes, bytes]:
    """Build an engine; it takes minutes.

    Args:
        model: Content of the ONNX file; the FP16 one for that precision where `is_strongly_typed`.
        key: What the engine is for.
        workspace: Most memory that one layer may take while it is tried out, bytes.
        timing: What was measured in earlier builds, or nothing.
        progress: Told how far it is, where TensorRT tells (from version 9 on).

    Returns:
        The engine, and what has been measured.

    Raises:
        InferenceError: TensorRT cannot build it; the text has its own words.
    """
    log = Log()
    builder = trt.Builder(log)
    network = builder.create_network(_flags())
    parser = trt.OnnxParser(network, log)
    if not parser.parse(model):
        raise log.error("does not read the model")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace)
    if key.precision == "fp16" and not is_strongly_typed():
        config.set_flag(getattr(trt.BuilderFlag, "FP16"))  # noqa: B009 - gone in TensorRT 11
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        batch, *item = (int(tensor.shape[axis]) for axis in range(len(tensor.shape)))
        if batch < 0:
            least, usual, most = (trt.Dims([size, *item]) for size in key.batches)
            profile.set_shape(tensor.name, least, usual, most)
    config.add_optimization_profile(profile)
    # None where TensorRT does not take what was kept, although its types do not say so; it only saves time.
    cache = config.create_timing_cache(timing) or config.create_timing_cache(b"")
    config.set_timing_cache(cache, ignore_mismatch=False)
    if progress is not None and hasattr(trt, "IProgressMonitor"):
        config.progress_monitor = _monitor(progress)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise log.error("cannot build the engine")
    return _content(engine), _content(cache.serialize())


def _content(memory: Any) -> bytes:
    """Of an `IHostMemory`, which is a buffer although its types do not say so."""
    return bytes(memoryview(memory))


def _flags() -> int:
    """`EXPLICIT_BATCH` is needed by 8.6 and gone in 11; `STRONGLY_TYPED` is not there in 8.6, and always so in 11."""
    known = trt.NetworkDefinitionCreationFlag.__members__
    wanted = ("STRONGLY_TYPED",) if "STRONGLY_TYPED" in known else ("EXPLICIT_BATCH",)
    return sum(1 << int(known[name]) for name in wanted)


def _monitor(progress: Progress) -> trt.IProgressMonitor:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Passes on what TensorRT tells of its phases."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str, num_steps: SupportsInt) -> None:  # noqa: ARG002
            """A phase begins; called by TensorRT."""
            self._steps[phase_name] = int(num_steps)
            progress(phase_name, 0, int(num_steps))

        def step_complete(self, phase_name: str, step: SupportsInt) -> bool:
            """A step is done; called by TensorRT, which goes on if the answer is true."""
            progress(phase_name, int(step) + 1, self._steps[phase_name])
            return True

        def phase_finish(self, phase_name: str) -> None:
            """A phase ends; called by TensorRT."""
            steps = self._steps.pop(phase_name)
            progress(phase_name, steps, steps)

    return Monitor()
