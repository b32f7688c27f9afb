from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from agent.evaluate.patches import HEAP, NEITHER, WRITING, Patch, PatchError, judge, read_patches
from agent.inference.backend import InferenceError, TensorSpec
from agent.inference.registry import PatchModel
from agent.perception.patch import CLASSES, PatchChecker

FLOAT = np.dtype(np.float32)
MODEL = PatchModel.model_validate(
    {
        "name": "colours",
        "version": "1",
        "task": "check-patch",
        "decoder": "softmax",
        "classes": {"neither": 0, "heap": 1, "writing": 2},
        "input": {"width": 8, "height": 8, "colour": "bgr", "white": 1, "letterbox": 0},
        "file": "colours.onnx",
        "sha256": "0" * 64,
        "source": "here",
        "licence": "Apache-2.0",
    }
)


class Colours:
    """Says of each patch how blue, green and red it is."""

    inputs: tuple[TensorSpec, ...] = (TensorSpec("patches", (None, 3, 8, 8), FLOAT),)
    outputs: tuple[TensorSpec, ...] = (TensorSpec("logits", (None, 3), FLOAT),)

    def run(self, batch: np.ndarray) -> list[np.ndarray]:
        return [batch.mean((2, 3)) * 20]

    def close(self) -> None: ...


def plain(blue: int, green: int, red: int) -> np.ndarray:
    return np.full((30, 40, 3), (blue, green, red), np.uint8)


def test_probabilities_come_in_our_order_for_patches_of_any_size() -> None:
    checker = PatchChecker(Colours(), MODEL)
    likely = checker.check([plain(255, 0, 0), plain(0, 255, 0)[:9], plain(0, 0, 255)[:, :5]])
    assert [CLASSES[place] for place in likely.argmax(axis=1)] == ["neither", "heap", "writing"]
    np.testing.assert_allclose(likely.sum(axis=1), 1, rtol=1e-6)
    assert checker.check([]).shape == (0, 3)


def test_another_network_is_refused() -> None:
    other = Colours()
    other.outputs = (TensorSpec("logits", (None, 7), FLOAT),)
    with pytest.raises(InferenceError, match="not a patch checker"):
        PatchChecker(other, MODEL)


def test_a_registry_entry_that_lacks_a_class_is_refused() -> None:
    with pytest.raises(InferenceError, match="knows neither, heap"):
        PatchChecker(Colours(), MODEL.model_copy(update={"classes": {"neither": 0, "heap": 1}}))


def test_what_is_taken_for_what_is_counted_by_source() -> None:
    def patch(kind: int, source: str, *colour: int) -> Patch:
        return Patch(plain(*colour), (0, 0, 40, 30), kind, source, held_back=True)

    patches = [
        patch(HEAP, "bag", 0, 255, 0),
        patch(HEAP, "bag", 0, 250, 0),
        patch(WRITING, "tags", 0, 0, 255),
        patch(NEITHER, "street", 255, 0, 0),
        patch(NEITHER, "street", 0, 255, 0),
    ]
    told = judge(PatchChecker(Colours(), MODEL), patches)
    assert told["heap"].recall == 1.0
    assert told["heap"].false == {"street": 0.5, "tags": 0.0}
    assert told["writing"].average_precision == 1.0
    assert told["neither"].recall == 0.5
    assert told["heap"].low <= told["heap"].average_precision <= told["heap"].high


def test_pictures_that_look_alike_are_held_back_together(data: Path) -> None:
    patches = list(read_patches(data))
    kinds = {patch.kind for patch in patches}
    assert kinds == {HEAP, WRITING, NEITHER}
    held = np.mean([patch.held_back for patch in patches if patch.source in {"tags", "clean wall"}])
    assert 0.1 < held < 0.4

    def look(patch: Patch) -> bytes:
        return bytes(cv2.resize(patch.picture, (4, 4), interpolation=cv2.INTER_AREA))

    sides = [{look(patch) for patch in patches if patch.held_back is side} for side in (True, False)]
    assert not sides[0] & sides[1]


def test_missing_pictures_are_named(tmp_path: Path) -> None:
    with pytest.raises(PatchError, match="bags or graffiti"):
        next(read_patches(tmp_path))
