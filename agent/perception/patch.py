"""What a changed patch of a picture shows: a bag or heap, writing on a wall, or neither.

A change model tells where something stays that was not there before; this tells what kind of thing it is, from the
patch alone. It looks at surfaces and things, and is never asked about people.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.inference.backend import Backend, InferenceError, select
from agent.inference.registry import PatchModel, Registry
from agent.settings import InferenceSettings

#: The classes, in the order of every network of ours.
CLASSES = ("heap", "writing", "neither")


class PatchChecker:
    """Names patches, with a network of the registry."""

    def __init__(self, backend: Backend, model: PatchModel) -> None:
        """Join a network to its registry entry.

        Args:
            backend: The network; closed by whoever opened it.
            model: Its entry.

        Raises:
            InferenceError: the network's input or output is not what the entry says.
        """
        (given, *_), (answer, *_) = backend.inputs, backend.outputs
        spec = model.input
        if set(model.classes) != set(CLASSES):
            raise InferenceError(f"the registry says {model.name} knows {', '.join(model.classes)}, not {CLASSES}")
        if given.shape[1:] != (3, spec.height, spec.width) or answer.shape[1:] != (len(CLASSES),):
            raise InferenceError(f"{model.file}: not a patch checker: {given.shape} to {answer.shape}")
        self._backend = backend
        self._spec = spec
        self._order = [model.classes[name] for name in CLASSES]

    def check(self, patches: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """How likely each patch shows each class.

        Args:
            patches: N pictures of any size, (H, W, 3) uint8, BGR; each is stretched to the network's square.

        Returns:
            (N, 3) float32, rows that sum to 1, in the order of `CLASSES`.

        Raises:
            InferenceError: the runtime failed.
        """
        if not patches:
            return np.empty((0, len(CLASSES)), np.float32)
        size = (self._spec.width, self._spec.height)
        images = np.stack([cv2.resize(patch, size, interpolation=cv2.INTER_AREA) for patch in patches])
        if self._spec.colour == "rgb":
            images = images[..., ::-1]
        batch = np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32) * (self._spec.white / 255)
        (logits, *_) = self._backend.run(batch.astype(np.float32))
        likely = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray((likely / likely.sum(axis=1, keepdims=True))[:, self._order], np.float32)


def open_checker(settings: InferenceSettings) -> tuple[PatchChecker | None, list[str]]:
    """The first patch checker of the registry that works, or None; and in words why others do not serve.

    Behaviours that ask it do without where there is none.
    """
    reasons: list[str] = []
    wanted = "auto" if settings.backend == "jetson-inference" else settings.backend  # that one runs detectors alone
    try:
        registry = Registry(settings.models)
    except InferenceError as error:
        return None, [str(error)]
    for model in registry.of(PatchModel):
        try:
            backend, refused = select(wanted, registry.read(model), settings.threads)
            checker = PatchChecker(backend, model)
        except InferenceError as error:
            reasons.append(f"model {model.name}: {error}")
            continue
        return checker, reasons + [f"model {model.name}: {reason}" for reason in refused]
    return None, [*reasons, "no patch checker serves: what has changed is told by its shape alone"]
