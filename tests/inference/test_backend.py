from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from agent.inference.backend import OPENERS, Array, Backend, InferenceError, TensorSpec, check, select

Network = Callable[..., bytes]


class Faulty:
    """A runtime that answers with whatever it was told to."""

    inputs: tuple[TensorSpec, ...] = (TensorSpec("x", (None, 4), np.dtype(np.float32)),)
    outputs: tuple[TensorSpec, ...] = (TensorSpec("y", (None, 4), np.dtype(np.float32)),)

    def __init__(self, *answers: Array) -> None:
        self.answers = list(answers)
        self.closed = False

    def run(self, batch: Array) -> list[Array]:
        return self.answers

    def close(self) -> None:
        self.closed = True


def absent(model: bytes, threads: int) -> Backend:
    raise InferenceError("no such runtime on this device")


def test_auto_takes_the_first_that_works(network: Network) -> None:
    openers = {"onnxruntime": OPENERS["onnxruntime"], "late": absent}
    backend, refused = select("auto", network("Abs", (1, 4)), 1, openers)
    assert backend.run(np.full((1, 4), -2, np.float32))[0].tolist() == [[2, 2, 2, 2]]
    assert refused == []


def test_auto_says_why_the_others_were_refused_and_closes_them(network: Network) -> None:
    broken = Faulty(np.full((1, 4), np.nan, np.float32))
    good = Faulty(np.zeros((1, 4), np.float32))
    backend, refused = select(
        "auto", b"", 1, {"absent": absent, "broken": lambda *_: broken, "good": lambda *_: good, "late": absent}
    )
    assert backend is good
    assert refused == ["absent: no such runtime on this device", "broken: self-check: output y is not finite"]
    assert broken.closed
    assert not good.closed


def test_a_named_backend_is_not_replaced_by_another() -> None:
    good = Faulty(np.zeros((1, 4), np.float32))
    with pytest.raises(InferenceError, match="absent: no such runtime"):
        select("absent", b"", 1, {"good": lambda *_: good, "absent": absent})


def test_when_none_serves_every_reason_is_told(network: Network) -> None:
    with pytest.raises(InferenceError, match=r"absent: .*; onnxruntime: self-check: output y is not finite$"):
        select("auto", network("Log", (1, 4)), 1, {"absent": absent, **OPENERS})


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        ((), "0 outputs instead of 1"),
        ((np.zeros((1, 5), np.float32),), r"shape \(1, 5\)"),
        ((np.zeros(4, np.float32),), r"shape \(4,\)"),
        ((np.full((1, 4), np.inf, np.float32),), "not finite"),
    ],
)
def test_a_self_check_finds_what_is_malformed(answers: tuple[Array, ...], problem: str) -> None:
    with pytest.raises(InferenceError, match=problem):
        check(Faulty(*answers))
