"""The networks: are they those of the registry, has this TensorRT an engine of them, and do they run."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import TypeVar

import numpy as np

from agent.device.doctor.check import Finding, Findings, Patient, fail, ok, warn
from agent.device.l4t import l4t
from agent.inference import backend as backends
from agent.inference.backend import Backend, InferenceError, select
from agent.inference.engines import EngineCache
from agent.inference.registry import DetectorModel, Model, PatchModel, Registry, SoundModel
from agent.perception.scene import Need
from agent.settings import Settings
from agent.store import states

_Kind = TypeVar("_Kind", bound=Model)
#: Runs of a network after its self-check, of which the middle one counts.
_RUNS = 5
_INSTALL = "sudo apt install python3-libnvinfer; pycuda into a venv that has --system-site-packages: docs/models.md"


def examine(patient: Patient) -> Findings:
    """Hashes of what is used, engines, a self-check of the detector with the time of one inference."""
    settings = patient.settings
    if settings.inference.detector == "motion":
        yield ok("detector", "moving blobs, as the settings say: there is no network to check")
        return
    try:
        registry = Registry(settings.inference.models)
    except InferenceError as error:
        yield fail("registry", str(error), "name the folder of registry.toml: inference.models")
        return
    detector = yield from _first(registry, DetectorModel, settings.inference.detector)
    if detector is None:
        yield fail("detector", "no network of the registry is here: moving blobs stand in", "vigie models list, pull")
    else:
        yield from _detector(patient, registry, detector)
    for kind, wanted, needed in (
        (SoundModel, settings.inference.tagger, _hears(settings)),
        (PatchModel, "auto", _looks_for_change(settings)),
    ):
        found = (yield from _first(registry, kind, wanted)) if needed else None
        if found is not None:
            yield ok(found.task, found.name)
        elif needed:
            known = ", ".join(model.name for model in registry.of(kind)) or "none"
            yield warn(kind.__name__, f"no such network is here; the registry has: {known}", "vigie models pull NAME")


def _first(registry: Registry, kind: type[_Kind], wanted: str) -> Generator[Finding, None, _Kind | None]:
    """The network that sense loads, by what the settings want; each one that it must pass over is told."""
    try:
        models = registry.of(kind) if wanted == "auto" else (registry.find(wanted, kind),)
    except InferenceError as error:
        yield fail(wanted, str(error), "vigie models list names those there are")
        return None
    for model in models:
        if registry.path(model) is None:
            continue
        refused = [file for file in states(registry, model) if file.state == "refused"]
        for file in refused:
            fix = f"rm {file.path}; vigie models pull {model.name}" if file.file.url else "install the agent anew"
            yield fail(model.name, file.reason, fix)
        if not refused:
            return model
    return None


def _detector(patient: Patient, registry: Registry, model: DetectorModel) -> Findings:
    settings = patient.settings.inference
    accelerated = settings.backend == "tensorrt" or l4t(patient.root) is not None
    if accelerated and settings.backend in {"auto", "tensorrt"}:
        try:
            EngineCache(backends.ENGINES).find(registry.read(model))
        except InferenceError as error:
            stale = any(backends.ENGINES.glob("*.engine"))
            why = (
                "the engines here are of another TensorRT, L4T or GPU: " if stale and "no engine" in str(error) else ""
            )
            absent = "not installed" in str(error)
            fix = _INSTALL if absent else "sudo systemctl start vigie-engines: it takes minutes"
            yield fail("engine", f"{why}{error}", fix)
        else:
            yield ok("engine", f"{model.name}: for this TensorRT, L4T and GPU")
            if patient.held is not None:  # a second one would take the memory that sense needs
                kind = patient.held.detector
                yield ok("detector", f"{model.name}: {kind}, as sense says")
                return
    try:
        runs, refused = select(settings.backend, registry.read(model), settings.threads)
    except InferenceError as error:
        yield fail("detector", f"{model.name}: self-check failed: {error}", "vigie test detector; vigie models verify")
        return
    try:
        milliseconds = time_of(runs)
    finally:
        runs.close()
    yield ok("detector", f"{model.name} on {name_of(runs)}: {milliseconds:.0f} ms an inference")
    if refused and not accelerated and settings.backend != "auto":
        yield warn("backend", "; ".join(refused), "vigie test detector")


def time_of(runs: Backend) -> float:
    """The middle time of a few inferences of one picture, milliseconds."""
    spec = runs.inputs[0]
    batch = np.zeros([size or 1 for size in spec.shape], spec.dtype)
    times = []
    for _ in range(_RUNS):
        begun = time.perf_counter()
        runs.run(batch)
        times.append(1000 * (time.perf_counter() - begun))
    return float(np.median(times))


def name_of(runs: Backend) -> str:
    """Which backend it is, as the settings call it."""
    return type(runs).__name__.removesuffix("Backend").lower().replace("onnx", "onnxruntime")


def _hears(settings: Settings) -> bool:
    return settings.microphone.source is not None and bool(settings.microphone.rules)


def _looks_for_change(settings: Settings) -> bool:
    from agent.behaviours.registry import needs

    return Need.CHANGE in needs(rule for camera in settings.cameras for rule in camera.rules)
