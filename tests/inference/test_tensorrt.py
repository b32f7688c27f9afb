"""TensorRT, against a stand-in that has the traps of the real one (tests/fake_jetson)."""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from agent.inference.backend import InferenceError, check, select
from agent.inference.engines import EngineCache, EngineKey, Target, construct, target
from agent.inference.registry import Registry

FAKES = Path(__file__).parents[1] / "fake_jetson"
OURS = ("agent.inference.tensorrt", "agent.inference.build")
VERSIONS = ("8.6.2", "10.3.0", "10.13.3", "11.4.0")
Network = Callable[..., bytes]


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(FAKES))
    import tensorrt

    yield tensorrt
    from pycuda import driver

    assert driver.depth() == 0, "a context was pushed and not popped"
    for name in ("tensorrt", "pycuda", "pycuda.driver", *OURS):
        sys.modules.pop(name, None)


@pytest.fixture
def driver(trt: ModuleType) -> ModuleType:
    return importlib.import_module("pycuda.driver")


def engine(model: bytes, *, batches: tuple[int, int, int] = (1, 1, 4), **options: Any) -> bytes:
    from agent.inference.build import build

    key = EngineKey(hashlib.sha256(model).hexdigest(), target(), batches=batches)
    return build(model, key, 1 << 20, b"", **options)[0]


def backend(model: bytes) -> Any:
    from agent.inference.tensorrt import TensorrtBackend

    return TensorrtBackend(engine(model))


@pytest.mark.parametrize("version", VERSIONS)
def test_one_path_serves_every_version(trt: Any, network: Network, version: str) -> None:
    trt.use(version)
    runs = backend(network("Abs", ("batch", 4)))
    assert runs.inputs[0].shape == (None, 4)
    check(runs)
    for count in (1, 3, 2, 4):
        batch = np.arange(-8, 4 * count - 8, dtype=np.float32).reshape(count, 4)
        np.testing.assert_array_equal(runs.run(batch)[0], np.abs(batch))
    runs.close()


def test_an_answer_stays_when_the_next_one_comes(trt: Any, network: Network) -> None:
    runs = backend(network("Abs", ("batch", 4)))
    first = runs.run(np.full((1, 4), -1, np.float32))[0]
    runs.run(np.full((1, 4), -2, np.float32))
    assert (first == 1).all()


def test_any_thread_may_run_it(trt: Any, network: Network) -> None:
    runs = backend(network("Abs", (1, 4)))
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.extend(runs.run(np.full((1, 4), -3, np.float32))))
    thread.start()
    thread.join()
    assert answers[0].tolist() == [[3, 3, 3, 3]]


@pytest.mark.parametrize(
    "batch",
    [
        np.zeros((5, 4), np.float32),
        np.zeros((0, 4), np.float32),
        np.zeros((1, 5), np.float32),
        np.zeros((1, 4), np.float64),
        np.zeros((), np.float32),
    ],
)
def test_a_batch_that_does_not_fit_is_refused_in_words(trt: Any, network: Network, batch: Any) -> None:
    with pytest.raises(InferenceError, match="the engine takes 1 to 4"):
        backend(network("Abs", ("batch", 4))).run(batch)


def test_an_engine_of_another_version_is_refused_with_what_tensorrt_said(trt: Any, network: Network) -> None:
    from agent.inference.tensorrt import TensorrtBackend

    made = engine(network("Abs", (1, 4)))
    trt.use("10.13.3")
    with pytest.raises(InferenceError, match=r"TensorRT 10.13.3 does not load .*Version tag does not match"):
        TensorrtBackend(made)


def test_closing_frees_all_and_is_safe_twice(trt: Any, driver: Any, network: Network) -> None:
    retained, before = driver.retained, len(driver.memory)
    runs = backend(network("Abs", (1, 4)))
    assert len(driver.memory) == before + 2
    runs.close()
    runs.close()
    assert (driver.retained, len(driver.memory)) == (retained, before)
    with pytest.raises(InferenceError, match="closed"):
        runs.run(np.zeros((1, 4), np.float32))


def test_a_refused_engine_leaves_no_context_behind(trt: Any, driver: Any) -> None:
    from agent.inference.tensorrt import TensorrtBackend

    retained = driver.retained
    with pytest.raises(InferenceError, match="Magic tag"):
        TensorrtBackend(b"nonsense")
    assert driver.retained == retained


def test_without_a_stream_no_context_stays(driver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from agent.inference.cuda import Cuda

    def none() -> None:
        raise driver.MemoryError("cuStreamCreate failed: out of memory")

    monkeypatch.setattr(driver, "Stream", none)
    retained = driver.retained
    with pytest.raises(InferenceError, match="out of memory"):
        Cuda()
    assert driver.retained == retained


def test_without_a_gpu_the_reason_is_told(trt: Any, driver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "devices", 0)
    with pytest.raises(InferenceError, match="no CUDA-capable device"):
        target()


def test_without_tensorrt_another_backend_serves_and_says_why(network: Network) -> None:
    _, refused = select("auto", network("Abs", (1, 4)), 1)
    assert refused == ["tensorrt: TensorRT is not installed: No module named 'tensorrt'"]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_flags_are_those_of_the_version(trt: Any, network: Network, version: str) -> None:
    trt.use(version)
    engine(network("Abs", ("batch", 4)))
    old = version.startswith("8")
    assert trt.built["network"] == (1 if old else 2)
    assert trt.built["flags"] == ([0] if old else [])
    assert trt.built["pools"] == {trt.MemoryPoolType.WORKSPACE: 1 << 20}


def test_a_build_tells_how_far_it_is(trt: Any, network: Network) -> None:
    told: list[tuple[str, int, int]] = []
    engine(network("Abs", (1, 4)), progress=lambda *step: told.append(step))
    assert told == [("Building", 0, 2), ("Building", 1, 2), ("Building", 2, 2), ("Building", 2, 2)]


def test_a_model_that_tensorrt_does_not_read_is_refused_in_its_words(trt: Any) -> None:
    with pytest.raises(InferenceError, match="does not read the model: Failed to parse"):
        engine(b"no model")


HERE = Target("10.3.0", "8.7", "36.4.3")
KEY = EngineKey("a" * 64, HERE)


def test_every_part_of_the_key_changes_the_name() -> None:
    others = [
        EngineKey("b" * 64, HERE),
        EngineKey("a" * 64, Target("10.13.3", "8.7", "36.4.3")),
        EngineKey("a" * 64, Target("10.3.0", "11.0", "36.4.3")),
        EngineKey("a" * 64, Target("10.3.0", "8.7", "36.5")),
        EngineKey("a" * 64, HERE, "fp32"),
        EngineKey("a" * 64, HERE, batches=(1, 2, 4)),
    ]
    assert len({key.name for key in (KEY, *others)}) == 7


def test_an_engine_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path / "engines")
    path = cache.write(KEY, b"content", "c" * 64)
    assert cache.read(KEY) == b"content"
    assert cache.built_from(KEY) == "c" * 64
    assert sorted(file.name for file in path.parent.iterdir()) == [
        path.with_suffix(".engine").name,
        f"{path.stem}.json",
    ]
    assert json.loads(path.with_suffix(".json").read_text())["target"]["tensorrt"] == "10.3.0"


def test_a_missing_engine_says_how_to_build_it(tmp_path: Path) -> None:
    with pytest.raises(InferenceError, match=r"no engine for TensorRT 10.3.0, .* 8.7, L4T 36.4.3 .*vigie models build"):
        EngineCache(tmp_path).read(KEY)


@pytest.mark.parametrize("damage", ["engine", "json", "list"])
def test_a_damaged_engine_is_not_loaded(tmp_path: Path, damage: str) -> None:
    cache = EngineCache(tmp_path)
    path = cache.write(KEY, b"content", "c" * 64)
    if damage == "engine":
        path.write_bytes(b"contenT")
    else:
        path.with_suffix(".json").write_text("{" if damage == "json" else "[]")
    with pytest.raises(InferenceError, match=r"run `vigie models build`"):
        cache.read(KEY)
    assert cache.built_from(KEY) is None


def test_what_serves_no_more_is_removed(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path)
    before = Target("10.3.0", "8.7", "36.4.2")
    other = cache.write(EngineKey("a" * 64, before), b"old", "c" * 64)
    cache.keep_timing(before, b"old")
    cache.keep_timing(HERE, b"new")
    ours = [cache.write(key, b"content", "c" * 64) for key in (KEY, EngineKey("b" * 64, HERE))]
    nameless = tmp_path / "x.engine"
    nameless.write_bytes(b"half")
    assert cache.forget_others(HERE) == sorted([other, nameless])
    assert cache.read(KEY) == b"content"
    assert cache.timing(HERE) == b"new"
    assert sorted(tmp_path.iterdir()) == sorted(
        [*ours, *(path.with_suffix(".json") for path in ours), *tmp_path.glob("*.timing")]
    )
    assert cache.timing(before) == b""


def test_one_build_at_a_time(tmp_path: Path) -> None:
    first, second = EngineCache(tmp_path), EngineCache(tmp_path)
    with first.locked(), pytest.raises(InferenceError, match="another build"), second.locked():
        pass


def registry(folder: Path, model: bytes, half: bytes | None) -> Registry:
    (folder / "m.onnx").write_bytes(model)
    fp16 = ""
    if half is not None:
        (folder / "m-fp16.onnx").write_bytes(half)
        fp16 = f'fp16 = {{ file = "m-fp16.onnx", sha256 = "{hashlib.sha256(half).hexdigest()}" }}'
    (folder / "registry.toml").write_text(
        f"""
[[model]]
name = "m"
version = "1"
task = "check-patch"
decoder = "softmax"
classes = {{ bag = 0 }}
input = {{ width = 4, height = 4, colour = "bgr", white = 255, letterbox = 0 }}
file = "m.onnx"
sha256 = "{hashlib.sha256(model).hexdigest()}"
source = "here"
licence = "Apache-2.0"
{fp16}
"""
    )
    return Registry(folder)


@pytest.mark.parametrize(
    ("version", "has_half", "is_half_built"),
    [("8.6.2", True, False), ("10.3.0", True, True), ("10.3.0", False, False), ("11.4.0", True, True)],
)
def test_the_file_that_is_built_has_the_precision_that_the_version_wants(
    trt: Any, network: Network, tmp_path: Path, version: str, has_half: bool, is_half_built: bool
) -> None:
    trt.use(version)
    model, half = network("Abs", ("batch", 4)), network("Neg", ("batch", 4))
    known = registry(tmp_path, model, half if has_half else None)
    cache = EngineCache(tmp_path / "engines")
    path, is_new = construct(cache, known, known.models[0], target(), "fp16", 1 << 20, lambda *_: None, again=False)
    assert is_new
    assert path.read_bytes().endswith(half if is_half_built else model)
    assert cache.find(model) == path.read_bytes()
    again = construct(cache, known, known.models[0], target(), "fp16", 1 << 20, lambda *_: None, again=False)
    assert again == (path, False)


def test_what_was_measured_helps_the_next_build(trt: Any, network: Network, tmp_path: Path) -> None:
    known = registry(tmp_path, network("Abs", ("batch", 4)), None)
    cache = EngineCache(tmp_path / "engines")
    for before in (b"", b"measured"):
        construct(cache, known, known.models[0], target(), "fp16", 1 << 20, lambda *_: None, again=True)
        assert trt.built["timing"] == before


def test_damaged_measurements_do_not_stand_in_the_way(trt: Any, network: Network, tmp_path: Path) -> None:
    known = registry(tmp_path, network("Abs", ("batch", 4)), None)
    cache = EngineCache(tmp_path / "engines")
    cache.keep_timing(target(), b"damaged")
    construct(cache, known, known.models[0], target(), "fp16", 1 << 20, lambda *_: None, again=True)
    assert cache.timing(target()) == b"measured"


def test_an_engine_that_cannot_serve_gives_its_memory_back(
    trt: Any, driver: Any, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    retained, before = driver.retained, len(driver.memory)
    monkeypatch.setattr(trt.IExecutionContext, "set_tensor_address", lambda _self, name, _address: name == "x")
    with pytest.raises(InferenceError, match="refuses the memory of y"):
        backend(network("Abs", (1, 4)))
    assert (driver.retained, len(driver.memory)) == (retained, before)
