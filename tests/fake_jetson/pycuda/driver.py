"""A stand-in for pycuda's driver interface, with the traps of the real one.

Written from its documentation (documen.tician.de/pycuda/driver.html). What it has of the real one:
- nothing works in a thread in which no context has been pushed, and every push wants its pop;
- asynchronous copies and launches happen when the stream is synchronised, and not before: a host buffer that is read
  too early has its old content, one that is changed too early is sent changed;
- memory on the device is known by its address alone, and is gone once freed.

Its limits: one device, no errors of hardware, no time; `launch` is how the stand-in for TensorRT puts its work into a
stream. That a real GPU behaves as documented, it cannot show.
"""

# ruff: noqa: A001 - the names are pycuda's

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Devices that there are; a test may set it to 0.
devices = 1
#: Content of the device's memory by address.
memory: dict[int, NDArray[np.uint8]] = {}
streams: dict[int, Stream] = {}
retained = 0
_thread = threading.local()


class Error(Exception):
    pass


class LogicError(Error):
    pass


class MemoryError(Error):
    pass


def init() -> None:
    if not devices:
        raise LogicError("cuInit failed: no CUDA-capable device is detected")


def depth() -> int:
    """Contexts pushed in this thread."""
    return getattr(_thread, "depth", 0)


def active() -> None:
    if not depth():
        raise LogicError("invalid device context")


class Context:
    def push(self) -> None:
        _thread.depth = depth() + 1

    @staticmethod
    def pop() -> None:
        active()
        _thread.depth = depth() - 1

    def detach(self) -> None:
        global retained  # noqa: PLW0603
        retained -= 1


class Device:
    def __init__(self, number: int) -> None:
        assert number < devices

    def compute_capability(self) -> tuple[int, int]:
        return 8, 7

    def retain_primary_context(self) -> Context:
        global retained  # noqa: PLW0603
        retained += 1
        return Context()


class Stream:
    def __init__(self) -> None:
        active()
        self.handle = 0x5000 + len(streams)
        self._queue: list[Callable[[], None]] = []
        streams[self.handle] = self

    def launch(self, work: Callable[[], None]) -> None:
        self._queue.append(work)

    def synchronize(self) -> None:
        active()
        while self._queue:
            self._queue.pop(0)()


class DeviceAllocation:
    def __init__(self, size: int) -> None:
        self._address = max(memory, default=0x10000) + 0x100000
        memory[self._address] = np.zeros(size, np.uint8)

    def __int__(self) -> int:
        return self._address

    def free(self) -> None:
        active()
        del memory[self._address]


def mem_alloc(size: int) -> DeviceAllocation:
    active()
    return DeviceAllocation(size)


def pagelocked_empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    active()
    return np.full(shape, 77, dtype)


def memcpy_htod_async(target: DeviceAllocation, source: NDArray[Any], stream: Stream) -> None:
    active()
    assert source.flags.c_contiguous
    stream.launch(lambda: _copy(memory[int(target)], source.reshape(-1).view(np.uint8)))


def memcpy_dtoh_async(target: NDArray[Any], source: DeviceAllocation, stream: Stream) -> None:
    active()
    assert target.flags.c_contiguous
    stream.launch(lambda: _copy(target.reshape(-1).view(np.uint8), memory[int(source)]))


def _copy(target: NDArray[np.uint8], source: NDArray[np.uint8]) -> None:
    count = min(len(target), len(source))
    target[:count] = source[:count]
