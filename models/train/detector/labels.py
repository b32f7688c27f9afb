"""What is known about the shared pictures: boxes that people drew, and what two teachers see where they did not.

Labels are partial: one set knows only people, another only vehicles. A box of a teacher is taken where it is sure, or
where both teachers agree; where one only guesses, nothing is learned about that class, neither that it is there nor
that it is not. Boxes drawn by people always stay.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.capture.frame import Frame
from agent.inference.backend import select
from agent.inference.registry import DetectorModel, Registry
from agent.perception.detect import ModelDetector, suppress
from agent.perception.scene import ObjectClass
from models.train.detector.network import CLASSES

_TEACHERS = ("yolox-nano", "fastestdet")
_GUESS = 0.15
_AGREED = 0.3
_SURE = 0.55
#: A guess this close to a known box is about the same object.
_SAME = 0.5
#: Of the labels of a set with people, a class is complete when nobody needs to look for it again.
_COMPLETE = {"person": {"person"}, "highway_id": {"person", "motorcycle", "car", "bus", "truck"}}
_OURS = {ObjectClass[name.upper()]: place for place, name in enumerate(CLASSES)}


@dataclass(frozen=True, slots=True)
class Picture:
    """A labelled picture.

    Attributes:
        image: (H, W, 3) uint8, BGR.
        boxes: (M, 5) float32: x0 y0 x1 y1 in pixels, class.
        unsure: (K, 5) float32: boxes in which nothing is known about a class, and the class.
    """

    image: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    unsure: NDArray[np.float32]


def training(data: Path) -> list[Path]:
    """The pictures to learn from: those with a person's label file, and the streets of the training split."""
    with (data / "street" / "manifest.csv").open(newline="", encoding="utf-8") as file:
        streets = [row["file"] for row in csv.DictReader(file) if row["split"] == "train"]
    return sorted((data / "person" / "train").glob("*.jpg")) + sorted(data / "street" / name for name in streets)


def read_image(path: Path) -> NDArray[np.uint8]:
    """A picture, (H, W, 3) uint8, BGR.

    Raises:
        ValueError: it cannot be read.
    """
    image = cv2.imread(str(path))
    if image is None:
        raise ValueError(f"{path}: no picture that can be read")
    return np.asarray(image, np.uint8)


def drawn(path: Path, width: int, height: int) -> NDArray[np.float32]:
    """The boxes that people drew, (M, 5) float32: x0 y0 x1 y1 in pixels, class.

    Args:
        path: The picture; its labels lie beside it, YOLO text: class, centre and size as parts of the picture.
        width: Pixels.
        height: Pixels.
    """
    labels = path.with_suffix(".txt")
    rows = np.loadtxt(labels, np.float32, ndmin=2) if labels.exists() and labels.stat().st_size else np.empty((0, 5))
    if not rows.size:
        return np.empty((0, 5), np.float32)
    whole = np.array([width, height], np.float32)
    centres, halves = rows[:, 1:3] * whole, rows[:, 3:5] * whole / 2
    low, high = np.clip(centres - halves, 0, whole), np.clip(centres + halves, 0, whole)
    boxes = np.concatenate([low, high, rows[:, :1]], 1).astype(np.float32)
    return boxes[((high - low) >= 2).all(1)]


def teach(paths: Iterable[Path], threads: int) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """For each picture, boxes to learn and boxes to be unsure about, (M, 5) and (K, 5) as in `Picture`.

    The first of the registry's teachers is the one that is believed; the other is there to agree. Each looks at the
    picture, at its mirror image, and at four overlapping parts of it, enlarged.

    Raises:
        InferenceError: a teacher is not in the data folder, or is another file.
    """
    registry = Registry()
    models = [model for model in registry.of(DetectorModel) if model.name in _TEACHERS]
    teachers = [ModelDetector(select("onnxruntime", registry.read(m), threads)[0], m, _GUESS) for m in models]
    for path in paths:
        image = read_image(path)
        sure, other = (_look(teacher, image) for teacher in teachers)
        known = drawn(path, image.shape[1], image.shape[0])
        complete = _COMPLETE.get(path.parent.parent.name) or _COMPLETE.get(path.name.rsplit("_", 1)[0], set())
        yield _merge(known, sure, other, {CLASSES.index(name) for name in complete})


def _look(teacher: ModelDetector, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(N, 6) float32: x0 y0 x1 y1, our class, score."""
    height, width = image.shape[:2]
    mirrored = _rows(teacher, image[:, ::-1])
    mirrored[:, [0, 2]] = width - mirrored[:, [2, 0]]
    found = [_rows(teacher, image), mirrored]
    part_height, part_width = int(height * 0.6), int(width * 0.6)
    for top in (0, height - part_height):
        for left in (0, width - part_width):
            rows = _rows(teacher, image[top : top + part_height, left : left + part_width])
            # What the cut goes through is seen whole in another part, or in the whole picture.
            first = np.array([2 if left else -1, 2 if top else -1])
            last = np.array([width if left else part_width - 2, height if top else part_height - 2])
            whole = (rows[:, :2] > first).all(1) & (rows[:, 2:4] < last).all(1)
            found.append(rows[whole] + np.array([left, top, left, top, 0, 0], np.float32))
    rows = np.concatenate(found)
    rows = rows[suppress(rows[:, :4], rows[:, 5], rows[:, 4].astype(np.uint8))]
    rows[:, 4] = [_OURS[ObjectClass(int(kind))] for kind in rows[:, 4]]
    return rows


def _rows(teacher: ModelDetector, view: NDArray[np.uint8]) -> NDArray[np.float32]:
    (found,) = teacher.detect([(0, Frame(np.ascontiguousarray(view), 0.0, 0))])
    return np.concatenate([found.boxes, found.classes[:, None], found.scores[:, None]], 1).astype(np.float32)


def _merge(
    known: NDArray[np.float32], sure: NDArray[np.float32], other: NDArray[np.float32], complete: set[int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    boxes, unsure = list(known), []
    agreed = _overlaps(sure, other).max(1, initial=0) if len(other) else np.zeros(len(sure))
    for row, backed in zip(sure, agreed, strict=True):
        if len(known) and (_iou(row[:4], known[:, :4]) * (known[:, 4] == row[4])).max() >= _SAME:
            continue
        taken = row[5] >= _SURE or (row[5] >= _AGREED and backed >= _SAME)
        if taken and int(row[4]) not in complete:
            boxes.append(row[:5])
        else:
            unsure.append(row[:5])
    for row in other[other[:, 5] >= _AGREED]:
        near = [*boxes, *unsure]
        if not near or _iou(row[:4], np.stack(near)[:, :4]).max() < _SAME:
            unsure.append(row[:5])
    return np.array(boxes, np.float32).reshape(-1, 5), np.array(unsure, np.float32).reshape(-1, 5)


def _iou(box: NDArray[np.float32], boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:4])
    inside = np.clip(high - low, 0, None).prod(1)
    areas = (boxes[:, 2:4] - boxes[:, :2]).prod(1)
    return np.asarray(inside / ((box[2:] - box[:2]).prod() + areas - inside + 1e-6), np.float32)


def _overlaps(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """(len(a), len(b)): intersection over union where the classes are the same, else 0."""
    return np.array([_iou(row[:4], b[:, :4]) * (b[:, 4] == row[4]) for row in a]).reshape(len(a), len(b))
