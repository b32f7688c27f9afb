"""How fast each backend runs a network, and beside it a plain onnxruntime loop on the same input.

Both loops run in this process, turn by turn; so what else the machine does hits both, and the ratio of neighbouring
turns holds where a bare time would not. Memory is measured in fresh processes, since one that has run a network before
gives its freed memory to the next.
"""

from __future__ import annotations

import multiprocessing
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from agent.inference.backend import OPENERS, Array, InferenceError, Opener, TensorSpec, select

#: Calls of one loop before it is the other's turn.
TURN = 5
#: Calls before anything is measured: buffers are made, and caches filled.
WARM_UP = 10


class _Runs(Protocol):
    def run(self, batch: Array) -> list[Array]: ...


@dataclass(frozen=True, slots=True)
class Speed:
    """Of one loop.

    Attributes:
        inferences_per_s: Inputs a second; a batch of four counts as four.
        p50_ms: Median time of a call, whole batch, milliseconds.
        p95_ms: Its 95th percentile.
        p99_ms: Its 99th percentile.
        memory_mib: Resident memory that a process has more once the network has run: runtime library, network and
            buffers. Memory of an accelerator of its own is not in it.
    """

    inferences_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    memory_mib: float


@dataclass(frozen=True, slots=True)
class InferenceBench:
    """One backend with one batch size.

    Attributes:
        backend: Its name.
        batch: Inputs in one call.
        calls: Calls measured in each loop.
        served: The backend, as the agent calls it.
        bare: The plain onnxruntime loop.
        ratio: Rate of the backend as a share of the bare loop's, by the wall clock; median over pairs of turns.
    """

    backend: str
    batch: int
    calls: int
    served: Speed
    bare: Speed
    ratio: float


@dataclass(frozen=True, slots=True)
class Skipped:
    """What was not measured, and why; `batch` is None where the backend does not serve at all."""

    backend: str
    batch: int | None
    reason: str


def measure(
    model: bytes,
    batches: Sequence[int],
    threads: int,
    calls: int,
    advance: Callable[[int], None] = lambda _: None,
    openers: Mapping[str, Opener] = OPENERS,
) -> tuple[list[InferenceBench], list[Skipped]]:
    """Run a network on every backend that serves.

    Args:
        model: The ONNX file's content.
        batches: Batch sizes to try.
        threads: CPU threads of one inference.
        calls: Calls to measure in each loop, rounded up to whole turns.
        advance: Told, for a progress bar, how many of the `len(openers) * len(batches)` steps are done.
        openers: The backends there are.

    Returns:
        What was measured, and what was not.
    """
    results: list[InferenceBench] = []
    skipped: list[Skipped] = []
    for name, opener in openers.items():
        try:
            backend, _ = select(name, model, threads, openers)
        except InferenceError as error:
            skipped.append(Skipped(name, None, str(error).removeprefix(f"{name}: ")))
            advance(len(batches))
            continue
        with closing(backend):
            for size in batches:
                try:
                    batch = _batch(backend.inputs[0], size)
                    ours, bare, ratio = _race(backend, _Bare(model, threads), batch, -(-calls // TURN))
                except InferenceError as error:
                    skipped.append(Skipped(name, size, str(error)))
                else:
                    served = _speed(ours, size, _memory_mib(opener, model, threads, batch))
                    reference = _speed(bare, size, _memory_mib(_Bare, model, threads, batch))
                    results.append(InferenceBench(name, size, ours.size, served, reference, ratio))
                advance(1)
    return results, skipped


class _Bare:
    """onnxruntime and nothing else, with the session options of our backend."""

    def __init__(self, model: bytes, threads: int) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        # Threads that wait in a busy loop would take the other loop's time.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    def run(self, batch: Array) -> list[Array]:
        outputs: list[Array] = self._session.run(None, {self._input: batch})
        return outputs


def _batch(spec: TensorSpec, size: int) -> Array:
    """Noise in the shape that the network wants; the same in every run.

    Raises:
        InferenceError: the network does not take batches of this size.
    """
    first, *rest = spec.shape
    if first not in {None, size}:
        raise InferenceError(f"the model takes batches of {first} only")
    noise = np.random.default_rng(1).integers(0, 256, (size, *(length or 1 for length in rest)))
    return noise.astype(spec.dtype)


def _race(ours: _Runs, bare: _Runs, batch: Array, turns: int) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Seconds of each call, (turns, TURN), of both loops, and the ratio of their rates."""
    for runs in (ours, bare):
        for _ in range(WARM_UP):
            runs.run(batch)
    times = np.array([[_turn(ours, batch), _turn(bare, batch)] for _ in range(turns)])
    by_turn = times.sum(axis=2)
    return times[:, 0], times[:, 1], float(np.median(by_turn[:, 1] / by_turn[:, 0]))


def _turn(runs: _Runs, batch: Array) -> list[float]:
    seconds = []
    for _ in range(TURN):
        begun = time.perf_counter()
        runs.run(batch)
        seconds.append(time.perf_counter() - begun)
    return seconds


def _speed(seconds: NDArray[np.float64], size: int, memory_mib: float) -> Speed:
    p50, p95, p99 = (1000 * np.percentile(seconds, [50, 95, 99])).tolist()
    return Speed(float(size * seconds.size / seconds.sum()), p50, p95, p99, memory_mib)


def _memory_mib(opener: Callable[[bytes, int], _Runs], model: bytes, threads: int, batch: Array) -> float:
    # A forked process would begin with this one's memory.
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_resident_added_mib, (opener, model, threads, batch))


def _resident_added_mib(opener: Callable[[bytes, int], _Runs], model: bytes, threads: int, batch: Array) -> float:
    before = _resident_pages()
    runs = opener(model, threads)
    for _ in range(WARM_UP):
        runs.run(batch)
    return (_resident_pages() - before) * resource.getpagesize() / 2**20


def _resident_pages() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
