"""How well objects are found: average precision as COCO takes it, and what a chosen score gives.

Average precision (Lin et al., 2014, arXiv:1405.0312): detections from the surest down, each matched to the free box of
truth that it overlaps most; precision, made to fall monotonically, read at 101 points of recall. A class is judged on
the pictures alone in which people drew its boxes.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.capture.frame import Frame
from agent.capture.open import open_source
from agent.perception.detect import ModelDetector
from agent.perception.overlap import shared_areas
from agent.perception.scene import Detections, FloatArray, ObjectClass

#: Classes of the label files, in their order.
LABELS = (
    ObjectClass.PERSON,
    ObjectClass.BICYCLE,
    ObjectClass.MOTORCYCLE,
    ObjectClass.CAR,
    ObjectClass.BUS,
    ObjectClass.TRUCK,
)
#: COCO's overlaps of AP50-95, and its limits of small, medium and large, in square pixels.
OVERLAPS = np.arange(0.5, 1.0, 0.05)
SIZES = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, np.inf)}
#: Classes that are judged, and motor vehicles as one: whether a van is a car or a truck is a matter of taste.
GROUPS: dict[str, tuple[ObjectClass, ...]] = {
    **{kind.label: (kind,) for kind in LABELS},
    "motor vehicle": (ObjectClass.MOTORCYCLE, ObjectClass.CAR, ObjectClass.BUS, ObjectClass.TRUCK),
}
#: Average precision wants to see unsure detections too.
LOWEST_SCORE = 0.01
_NO_IMAGE = np.empty((0, 0, 3), np.uint8)
_RECALLS = np.linspace(0, 1, 101)
_READ_TIMEOUT_S = 5.0


class LabelError(ValueError):
    """Labelled pictures that cannot be used; the text says which."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """A picture and what is in it.

    Attributes:
        image: (H, W, 3) uint8, BGR.
        boxes: (M, 4) float32, x0 y0 x1 y1, pixels.
        classes: (M,) uint8, `ObjectClass`.
    """

    image: NDArray[np.uint8]
    boxes: FloatArray
    classes: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Result:
    """What one detector did.

    Attributes:
        found: For each picture what is there, its image no longer kept, and what was found.
        ms_per_frame: Median milliseconds of wall time, scaling and reading the output included.
    """

    found: list[tuple[Labelled, Detections]]
    ms_per_frame: float


@dataclass(frozen=True, slots=True)
class Precision:
    """How one class is found.

    Attributes:
        boxes: Boxes of truth.
        ap50: Average precision at an overlap (intersection over union) of 0.5.
        ap50_95: Mean of those at 0.5, 0.55, … 0.95.
        recall: Part of the boxes found at an overlap of 0.5, of each size that occurs, at any score.
    """

    boxes: int
    ap50: float
    ap50_95: float
    recall: dict[str, float]


@dataclass(frozen=True, slots=True)
class Operating:
    """What one score gives.

    Attributes:
        score: Lowest score of a detection.
        precision: Part of the detections that are right.
        recall: Part of the boxes that are found.
        count_error: Mean absolute difference between detections and boxes in a picture.
    """

    score: float
    precision: float
    recall: float
    count_error: float


def folder(path: Path) -> dict[str, list[Path]]:
    """The pictures of a folder that have a label file beside them, by the set they come from.

    A folder with a manifest (manifest.csv, columns file, set, split, labels) gives its pictures of the split `val`, set
    by set; where the labels of a set are not complete the set's name says so: what is found beside them counts as
    false there, so its precision is a lower bound.

    Raises:
        LabelError: there is none.
    """
    manifest = path / "manifest.csv"
    sets: dict[str, list[Path]] = {}
    if manifest.exists():
        with manifest.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                name = row["set"] if row["labels"] == "complete" else f"{row['set']} ({row['labels']} labels)"
                if row["split"] == "val" and (path / row["file"]).with_suffix(".txt").exists():
                    sets.setdefault(name, []).append(path / row["file"])
    elif pictures := sorted(file for file in path.glob("*.jpg") if file.with_suffix(".txt").exists()):
        sets[path.resolve().name] = pictures
    if not sets:
        raise LabelError(f"{path}: no picture (.jpg) with labels (.txt) beside it")
    return dict(sorted(sets.items()))


def read(path: Path) -> Labelled:
    """A picture with its labels, YOLO text: class, centre x and y, width and height, as parts of the picture.

    Raises:
        LabelError: the picture or a line of its labels cannot be read.
    """
    image = cv2.imread(str(path))
    if image is None:
        raise LabelError(f"{path}: no picture that can be read")
    labels = path.with_suffix(".txt")
    lines = labels.read_text(encoding="ascii").splitlines()
    rows = [_row(line, f"{labels}:{number}") for number, line in enumerate(lines, start=1)]
    classes = [kind for kind, *_ in rows]
    boxes = [place for _, *place in rows]
    parts = np.array(boxes, np.float32).reshape(-1, 4)
    whole = np.array([image.shape[1], image.shape[0]] * 2, np.float32)
    centres, halves = parts[:, :2], parts[:, 2:] / 2
    corners = np.hstack([centres - halves, centres + halves]).astype(np.float32) * whole
    return Labelled(np.asarray(image, np.uint8), corners, np.array(classes, np.uint8))


def _row(line: str, where: str) -> tuple[ObjectClass, float, float, float, float]:
    try:
        kind, x, y, width, height = line.split()
        return LABELS[int(kind)], float(x), float(y), float(width), float(height)
    except (ValueError, IndexError):
        raise LabelError(f"{where}: not a class from 0 to {len(LABELS) - 1} and four numbers") from None


def people(clip: Path, truth: Path, fps: float) -> Iterator[Labelled]:
    """The frames of a clip, so many a second, with the persons of its ground truth.

    Args:
        clip: The clip.
        truth: MOTChallenge text; frame 1 is the clip's first.
        fps: Frames a second that are looked at.

    Raises:
        LabelError: a line of the ground truth is not in the format.
        SourceError: the clip cannot be read.
    """
    there: dict[int, list[list[float]]] = {}
    for number, line in enumerate(truth.read_text(encoding="ascii").splitlines(), start=1):
        fields = line.split(",")
        try:
            place, (x, y, width, height, flag) = int(fields[0]) - 1, (float(field) for field in fields[2:7])
        except (ValueError, IndexError):
            raise LabelError(f"{truth}:{number}: no MOTChallenge line: frame,id,x,y,width,height,flag") from None
        if flag:
            there.setdefault(place, []).append([x, y, x + width, y + height])
    source = open_source(f"file:{clip}", fps=fps, loop=False, replay=True)
    last = max(there, default=-1)
    try:
        while (frame := source.read(_READ_TIMEOUT_S)) is not None and frame.index <= last:
            boxes = np.array(there.get(frame.index, []), np.float32).reshape(-1, 4)
            yield Labelled(frame.image, boxes, np.zeros(len(boxes), np.uint8))
    except EOFError:
        return
    finally:
        source.close()


def find(detectors: Mapping[str, ModelDetector], pictures: Iterable[Labelled]) -> dict[str, Result]:
    """What each detector finds in each picture; they take turns, so that what else the machine does meets all.

    Raises:
        InferenceError: a runtime failed.
    """
    found: dict[str, list[tuple[Labelled, Detections]]] = {name: [] for name in detectors}
    seconds: dict[str, list[float]] = {name: [] for name in detectors}
    for number, picture in enumerate(pictures):
        frame = Frame(picture.image, float(number), number)
        truth = replace(picture, image=_NO_IMAGE)
        for name, detector in detectors.items():
            start = time.perf_counter()
            (detections,) = detector.detect([(0, frame)])
            seconds[name].append(time.perf_counter() - start)
            found[name].append((truth, detections))
    return {name: Result(found[name], float(np.median(seconds[name] or [0.0])) * 1000) for name in detectors}


def precision(found: Sequence[tuple[Labelled, Detections]], kinds: Sequence[ObjectClass]) -> Precision | None:
    """How well objects of these classes, taken as one, are found; None when there is none to find."""
    truth = [picture.boxes[np.isin(picture.classes, kinds)] for picture, _ in found]
    boxes = sum(map(len, truth))
    if not boxes:
        return None
    scores, overlaps = [], []
    for (_, detections), there in zip(found, truth, strict=True):
        wanted = np.flatnonzero(np.isin(detections.classes, kinds))
        order = wanted[np.argsort(-detections.scores[wanted], kind="stable")]
        scores.append(detections.scores[order])
        overlaps.append(iou(detections.boxes[order], there))
    ranking = np.argsort(-np.concatenate(scores), kind="stable")
    average, reached = [], {}
    for limit in OVERLAPS:
        matched = [_match(of_one, limit) for of_one in overlaps]
        right = np.concatenate([of_one >= 0 for of_one in matched])[ranking]
        average.append(_average(right, boxes))
        if limit == OVERLAPS[0]:
            reached = _recall_by_size(truth, matched)
    return Precision(boxes, average[0], float(np.mean(average)), reached)


def operating(found: Sequence[tuple[Labelled, Detections]], score: float, overlap: float) -> Operating:
    """Precision and recall of persons at a score.

    Args:
        found: What is there, and what was found.
        score: Lowest score of a detection.
        overlap: Intersection over union from which on a detection is right.
    """
    scores, right = claims(found, (ObjectClass.PERSON,), overlap)
    hits, claimed = int(right[scores >= score].sum()), int((scores >= score).sum())
    counted = [((there.classes == ObjectClass.PERSON) & (there.scores >= score)).sum() for _, there in found]
    persons = [(picture.classes == ObjectClass.PERSON).sum() for picture, _ in found]
    off = np.abs(np.subtract(counted, persons)).mean() if found else 0.0
    return Operating(score, hits / claimed if claimed else 1.0, hits / max(1, int(sum(persons))), float(off))


def claims(
    found: Sequence[tuple[Labelled, Detections]], kinds: Sequence[ObjectClass], overlap: float
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Score of every detection of these classes, taken as one, and whether it is right: (N,) float32, (N,) bool."""
    scores, right = [np.empty(0, np.float32)], [np.empty(0, np.bool_)]
    for picture, detections in found:
        wanted = np.flatnonzero(np.isin(detections.classes, kinds))
        order = wanted[np.argsort(-detections.scores[wanted], kind="stable")]
        there = picture.boxes[np.isin(picture.classes, kinds)]
        scores.append(detections.scores[order])
        right.append(_match(iou(detections.boxes[order], there), overlap) >= 0)
    return np.concatenate(scores), np.concatenate(right)


def iou(a: FloatArray, b: FloatArray) -> FloatArray:
    """Intersection over union, (len(a), len(b)), of boxes x0 y0 x1 y1."""
    inside, areas, sizes = shared_areas(a, b)
    return np.asarray(inside / np.maximum(areas[:, None] + sizes - inside, 1e-9), np.float32)


def _match(overlaps: FloatArray, limit: float) -> NDArray[np.intp]:
    """For each detection, from the surest down, its box of truth, or -1."""
    matched = np.full(len(overlaps), -1)
    if not overlaps.size:
        return matched
    free = overlaps.copy()
    for row in range(len(free)):
        best = int(free[row].argmax())
        if free[row, best] >= limit:
            matched[row] = best
            free[:, best] = -1
    return matched


def _average(right: NDArray[np.bool_], boxes: int) -> float:
    hits = np.cumsum(right)
    precisions = hits / np.arange(1, len(hits) + 1)
    falling = np.maximum.accumulate(precisions[::-1])[::-1]
    places = np.searchsorted(hits / boxes, _RECALLS, side="left")
    return float(np.mean([falling[place] if place < len(falling) else 0.0 for place in places]))


def _recall_by_size(truth: Sequence[FloatArray], matched: Sequence[NDArray[np.intp]]) -> dict[str, float]:
    areas = np.concatenate([(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in truth])
    hit = np.concatenate([np.isin(np.arange(len(boxes)), of_one) for boxes, of_one in zip(truth, matched, strict=True)])
    sizes = {name: (areas >= least) & (areas < most) for name, (least, most) in SIZES.items()}
    return {name: float(hit[chosen].mean()) for name, chosen in sizes.items() if chosen.any()}
