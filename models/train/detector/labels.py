"""What is known about the shared pictures: boxes that people drew, and what two teachers see where they did not.

Labels are partial: one set knows only people, another only vehicles. Where nobody drew, a teacher's box is learned as
far as it can be trusted, so that a guess is learned as a guess: neither as an object nor as its absence.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.capture.frame import Frame
from agent.inference.backend import select
from agent.inference.registry import DetectorModel, Registry
from agent.perception.detect import ModelDetector, suppress
from agent.perception.overlap import overlaps
from agent.perception.scene import ObjectClass
from models.train.detector.network import CLASSES

#: The first is the one that is believed more; the other is there to agree.
_TEACHERS = ("yolox-nano", "fastestdet")
_GUESS = 0.1
#: How often boxes of such scores are right: logistic regression on the boxes drawn in `person/train` and `highway_id`.
_BELIEF, _BACKING = 1.5, 0.5
#: A box less likely than this is not there.
_LEAST = 0.1
#: A box this close to another is about the same object.
_SAME = 0.5
#: A teacher may see what those who drew have missed.
_MISSED = 0.5
#: Of the labels of a set with people, a class is complete when nobody needs to look for it again.
_COMPLETE = {"person": {"person"}, "highway_id": {"person", "motorcycle", "car", "bus", "truck"}}
#: One teacher's car is another's truck.
_VEHICLES = tuple(CLASSES.index(name) for name in ("car", "bus", "truck"))
_OURS = {ObjectClass[name.upper()]: place for place, name in enumerate(CLASSES)}


@dataclass(frozen=True, slots=True)
class Picture:
    """A labelled picture.

    Attributes:
        image: (H, W, 3) uint8, BGR.
        boxes: (M, 6) float32: x0 y0 x1 y1 in pixels, class, trust: how likely the box is right, 0 to 1.
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


def look(paths: Iterable[Path], threads: int) -> Iterator[tuple[NDArray[np.float32], ...]]:
    """For each picture, what each teacher sees there, (N, 6) float32: x0 y0 x1 y1 in pixels, class, score.

    Each teacher looks at the picture, at its mirror image, and at four overlapping parts of it, enlarged.

    Raises:
        InferenceError: a teacher is not in the data folder, or is another file.
    """
    registry = Registry()
    models = {model.name: model for model in registry.of(DetectorModel)}
    teachers = [
        ModelDetector(select("onnxruntime", registry.read(models[name]), threads)[0], models[name], _GUESS)
        for name in _TEACHERS
    ]
    for path in paths:
        image = read_image(path)
        yield tuple(_look(teacher, image) for teacher in teachers)


def label(path: Path, seen: Sequence[NDArray[np.float32]]) -> Picture:
    """A picture with all that is known about it.

    Args:
        path: The picture.
        seen: What each teacher sees there, as from `look`.
    """
    image = read_image(path)
    known = drawn(path, image.shape[1], image.shape[0])
    complete = _COMPLETE.get(path.parent.parent.name) or _COMPLETE.get(path.name.rsplit("_", 1)[0], set())
    return Picture(image, *_merge(known, _trusted(*seen), {CLASSES.index(name) for name in complete}))


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


def _trusted(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, 6): boxes of both teachers, each object of a class once; class, and how likely the box is right."""
    same = overlaps(first[:, :4], second[:, :4]) * (first[:, None, 4] == second[:, 4])
    backed = (same * (same >= _SAME)).argmax(1) if len(second) else np.zeros(len(first), np.intp)
    rows = []
    for row, likeness, place in zip(first, same, backed, strict=True):
        backing = second[place, 5] if len(second) and likeness[place] >= _SAME else _GUESS
        rows.append([*row[:5], _trust(row[5], backing)])
    alone = second[(same < _SAME).all(0)]
    rows += [[*row[:5], _trust(_GUESS, row[5])] for row in alone]
    trusted = np.array(rows, np.float32).reshape(-1, 6)
    return trusted[trusted[:, 5] >= _LEAST]


def _trust(first: float, second: float) -> float:
    return float(1 / (1 + np.exp(-(_BELIEF * _logit(first) + _BACKING * _logit(second)))))


def _logit(score: float) -> float:
    return float(np.log(score / (1 - score)))


def _merge(
    known: NDArray[np.float32], claims: NDArray[np.float32], complete: set[int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Boxes and unsure boxes, as in `Picture`, from the drawn boxes, (M, 5), and what the teachers claim, (N, 6)."""
    boxes, unsure = [np.append(row, 1) for row in known], list[NDArray[np.float32]]()
    for row in claims[np.argsort(-claims[:, 5], kind="stable")]:
        near = np.array(boxes, np.float32).reshape(-1, 6)
        rivals = near[(overlaps(row[None, :4], near[:, :4])[0] >= _SAME) & _alike(row[4], near[:, 4])]
        if len(rivals):
            # A car, a bus or a truck: who drew it knew which, a teacher does not.
            if (rivals[:, 5] < 1).all() and (rivals[:, 4] != row[4]).all():
                unsure.append(row[:5])
        elif int(row[4]) not in complete:
            boxes.append(row)
        elif row[5] >= _MISSED:
            unsure.append(row[:5])
    return np.array(boxes, np.float32).reshape(-1, 6), np.array(unsure, np.float32).reshape(-1, 5)


def _alike(kind: float, others: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.asarray((others == kind) | (np.isin(others, _VEHICLES) & (kind in _VEHICLES)), np.bool_)
