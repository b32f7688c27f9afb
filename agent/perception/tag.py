"""Sounds that have a name: what the tagger knows, and how its network is read."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agent.inference.backend import Backend, InferenceError, select
from agent.inference.registry import Registry, SoundModel
from agent.perception.logmel import BANDS, FRAMES, PATCH, RATE, logmel
from agent.settings import InferenceSettings

#: The classes, in the order of their event types and of every network of ours.
CLASSES = ("gunshot", "explosion", "glass_break", "scream", "crowd_clamour", "siren", "horn")
#: From one patch to the next, samples: patches overlap, so that no impulse is split by all of them.
STEP = RATE // 2


def patches(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """A recording as overlapping patches, one every half second and one at its end.

    Args:
        samples: (S,) float32 at 16 kHz; what is shorter than a patch is followed by silence.

    Returns:
        (N, `PATCH`) float32, N at least 1.
    """
    samples = np.pad(samples, (0, max(0, PATCH - len(samples))))
    last = len(samples) - PATCH
    starts = [*range(0, last, STEP), last]
    return np.stack([samples[start : start + PATCH] for start in starts])


class Tagger:
    """Names what is heard, with a network of the registry."""

    def __init__(self, backend: Backend, temperature: float = 1.0) -> None:
        """Take a network into use.

        Args:
            backend: The network; closed by whoever opened it.
            temperature: Its logits are divided by this (`SoundModel.temperature`).

        Raises:
            InferenceError: it is not a tagger of this kind.
        """
        (given, *_), (answer, *_) = backend.inputs, backend.outputs
        if given.shape[1:] != (1, FRAMES, BANDS) or answer.shape[1:] != (len(CLASSES),):
            raise InferenceError(f"not a sound tagger: its input is {given.shape}, its output {answer.shape}")
        self._backend = backend
        self._temperature = np.float32(temperature)

    def tag(self, sounds: NDArray[np.float32]) -> NDArray[np.float32]:
        """How likely each class is to be heard in each patch; several may be.

        Args:
            sounds: (N, `PATCH`) float32 at 16 kHz, full scale being 1.

        Returns:
            (N, 7) float32, 0 to 1, in the order of `CLASSES`.

        Raises:
            InferenceError: the runtime failed.
        """
        return self.tag_spectra(logmel(sounds))

    def tag_spectra(self, spectra: NDArray[np.float32]) -> NDArray[np.float32]:
        """How likely each class is to be heard, from what `logmel` has made of each patch.

        Args:
            spectra: (N, 96, 64) float32.

        Returns:
            As `tag`.

        Raises:
            InferenceError: the runtime failed.
        """
        (logits, *_) = self._backend.run(spectra[:, None])
        return np.asarray(1 / (1 + np.exp(-logits / self._temperature)), np.float32)


def open_tagger(settings: InferenceSettings) -> tuple[Tagger, SoundModel, list[str]]:
    """The tagger that serves: the wanted network, or with `auto` the first that works.

    Returns:
        The tagger, the registry's entry of its network, and in words why whatever was preferred does not serve.

    Raises:
        InferenceError: none serves.
    """
    registry = Registry(settings.models)
    reasons: list[str] = []
    # detectNet of jetson-inference knows pictures alone.
    backend = "auto" if settings.backend == "jetson-inference" else settings.backend
    for model in candidates(registry, settings):
        try:
            network, refused = select(backend, registry.read(model), settings.threads)
            _check_classes(model)
            return Tagger(network, model.temperature), model, [*reasons, *refused]
        except InferenceError as error:  # noqa: PERF203 - the next one may serve
            reasons.append(f"{model.name}: {error}")
    raise InferenceError("; ".join(reasons) or "the registry has no network that tags sounds")


def candidates(registry: Registry, settings: InferenceSettings) -> tuple[SoundModel, ...]:
    """The networks that may serve, best first.

    Raises:
        InferenceError: the wanted one is not in the registry.
    """
    wanted = settings.tagger
    return registry.of(SoundModel) if wanted == "auto" else (registry.find(wanted, SoundModel),)


def _check_classes(model: SoundModel) -> None:
    if model.classes != {name: place for place, name in enumerate(CLASSES)}:
        raise InferenceError(f"its classes must be {', '.join(CLASSES)}, in this order")
