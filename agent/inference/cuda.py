"""The GPU, as far as inference needs it: its primary context, one stream, pinned memory.

The primary context is the one that CUDA's runtime, and so TensorRT, uses by itself (CUDA C++ programming guide,
"Driver API"). It is pushed around every call, in whatever thread makes it, and popped again. `pycuda.autoinit` would
make another one for the thread that imports it, and is never used.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from agent.inference.backend import Array, InferenceError


@dataclass(frozen=True, slots=True)
class Buffer:
    """Memory of one tensor, on both sides.

    Attributes:
        host: Page-locked, so that copies need not wait; in the tensor's shape and type.
        device: As large, on the GPU.
    """

    host: Array
    device: Any

    @property
    def address(self) -> int:
        """Of the memory on the GPU."""
        return int(self.device)


class Cuda:
    """The first GPU. Not thread-safe."""

    def __init__(self) -> None:
        """Retain the primary context, and make a stream in it.

        Raises:
            InferenceError: pycuda is not installed, or there is no GPU or no driver.
        """
        try:
            from pycuda import driver
        except ImportError as error:
            raise InferenceError(f"pycuda is not installed: {error}") from error
        self._driver: Any = driver
        try:
            driver.init()
            device = driver.Device(0)
            self._context: Any = device.retain_primary_context()
            #: Such as (8, 7).
            self.capability: tuple[int, int] = device.compute_capability()
        except driver.Error as error:
            raise InferenceError(f"CUDA: {error}") from error
        try:
            with self.active():
                self._stream: Any = driver.Stream()
        except InferenceError:
            self._context.detach()
            raise

    @property
    def stream(self) -> int:
        """Handle of the stream."""
        handle: int = self._stream.handle
        return handle

    @contextmanager
    def active(self) -> Iterator[None]:
        """Make the primary context the calling thread's.

        Raises:
            InferenceError: CUDA failed inside.
        """
        self._context.push()
        try:
            yield
        except self._driver.Error as error:
            raise InferenceError(f"CUDA: {error}") from error
        finally:
            self._driver.Context.pop()

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Buffer:
        """Memory for a tensor; needs `active`."""
        host = self._driver.pagelocked_empty(shape, dtype)
        return Buffer(host, self._driver.mem_alloc(host.nbytes))

    def upload(self, buffer: Buffer, count: int) -> None:
        """Begin to copy the first `count` items of the host's memory to the GPU; needs `active`."""
        self._driver.memcpy_htod_async(buffer.device, buffer.host[:count], self._stream)

    def download(self, buffer: Buffer, count: int) -> None:
        """Begin to copy the first `count` items back; needs `active`."""
        self._driver.memcpy_dtoh_async(buffer.host[:count], buffer.device, self._stream)

    def wait(self) -> None:
        """Until all that was begun is done; needs `active`."""
        self._stream.synchronize()

    def close(self, buffers: list[Buffer]) -> None:
        """Free the memory and let go of the context."""
        with self.active():
            for buffer in buffers:
                buffer.device.free()
            del self._stream
        self._context.detach()
