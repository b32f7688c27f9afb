"""Patches with a known content, and how well they are told apart.

They are cut from the shared data: boxes of refuse bags, painted and clean walls, and whatever else stands and moves in
streets. A picture is held back or not together with all that look like it: pictures are grouped by a difference hash
(Buchner, dHash), since some sets hold the same scene several times.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.evaluate.sound import average_precision
from agent.perception.patch import CLASSES, PatchChecker

HEAP, WRITING, NEITHER = range(len(CLASSES))
#: Of 64 bits of a hash, so many may differ within one group.
_ALIKE = 8
_HELD_BACK = 0.25
_SMALLEST_PX = 20
_RESAMPLED = 1000


class PatchError(ValueError):
    """Pictures that cannot be used; the text says which."""


@dataclass(frozen=True, slots=True)
class Patch:
    """A place in a picture, and what it shows.

    Attributes:
        picture: (H, W, 3) uint8, BGR.
        box: x0 y0 x1 y1, pixels.
        kind: Place in `CLASSES`.
        source: What it was cut from: `bag`, `tags`, `clean wall`, `person`, `vehicle`, `street`.
        held_back: Whether it is kept for tests.
    """

    picture: NDArray[np.uint8]
    box: tuple[int, int, int, int]
    kind: int
    source: str
    held_back: bool

    @property
    def image(self) -> NDArray[np.uint8]:
        """What lies in the box."""
        x0, y0, x1, y1 = self.box
        return self.picture[y0:y1, x0:x1]


@dataclass(frozen=True, slots=True)
class Told:
    """How one class is told from the others.

    Attributes:
        patches: Patches of the class.
        average_precision: Area under precision and recall.
        low: Lower end of its 95 % interval, over pictures drawn again and again.
        high: Upper end.
        recall: Part of the class that the class's probability puts above the others.
        false: Part of the patches of each other source that are taken for the class.
    """

    patches: int
    average_precision: float
    low: float
    high: float
    recall: float
    false: dict[str, float]


def read_patches(data: Path) -> Iterator[Patch]:
    """All patches of the shared data.

    Raises:
        PatchError: a folder or picture is missing.
    """
    bags = sorted((data / "bags").glob("*.jpg"))
    walls = {
        kind: sorted((data / "graffiti" / kind).glob("*.jpg"))
        for kind in ("tags", "throwups", "masterpiece", "nograffiti")
    }
    if not bags or not all(walls.values()):
        raise PatchError(f"{data}: no pictures in bags or graffiti")
    held = _held_back([*bags, *(path for paths in walls.values() for path in paths)])
    for path in bags:
        picture = _read(path)
        for _, box in _boxes(path, picture):
            yield Patch(picture, box, HEAP, "bag", path in held)
    for kind, paths in walls.items():
        clean = kind == "nograffiti"
        for path in paths:
            picture = _read(path)
            whole = (0, 0, picture.shape[1], picture.shape[0])
            source = "clean wall" if clean else kind
            yield Patch(picture, whole, NEITHER if clean else WRITING, source, path in held)
    yield from _street(data)


def _street(data: Path) -> Iterator[Patch]:
    with (data / "street" / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = [(data / "street" / row["file"], row["split"] == "val") for row in csv.DictReader(file)]
    people = [
        (path, held)
        for split, held in (("train", False), ("val", True))
        for path in sorted((data / "person" / split).glob("*.jpg"))
    ]
    for path, held in (*rows, *people[::4]):
        picture = _read(path)
        boxes = list(_boxes(path, picture))
        if boxes:
            number, box = max(boxes, key=lambda item: (item[1][2] - item[1][0]) * (item[1][3] - item[1][1]))
            yield Patch(picture, box, NEITHER, "person" if number == 0 else "vehicle", held)
        yield Patch(picture, _anywhere(path, picture), NEITHER, "street", held)


def judge(checker: PatchChecker, patches: Sequence[Patch]) -> dict[str, Told]:
    """How well the held-back patches are told apart, by class.

    Raises:
        InferenceError: the runtime failed.
    """
    held = [patch for patch in patches if patch.held_back]
    likely = np.concatenate(
        [checker.check([patch.image for patch in held[n : n + 64]]) for n in range(0, len(held), 64)], dtype=np.float64
    )
    kinds = np.array([patch.kind for patch in held])
    sources = np.array([patch.source for patch in held])
    pictures = np.unique([id(patch.picture) for patch in held], return_inverse=True)[1]
    chosen = likely.argmax(axis=1)
    told = {}
    for number, name in enumerate(CLASSES):
        low, high = _interval(likely[:, number], kinds == number, pictures)
        others = {
            str(source): float((chosen[sources == source] == number).mean())
            for source in np.unique(sources[kinds != number])
        }
        told[name] = Told(
            int((kinds == number).sum()),
            average_precision(likely[:, number], kinds == number),
            low,
            high,
            float((chosen[kinds == number] == number).mean()),
            others,
        )
    return told


def _interval(scores: NDArray[np.float64], right: NDArray[np.bool_], pictures: NDArray[np.intp]) -> tuple[float, float]:
    rng = np.random.default_rng(1)
    places = [np.flatnonzero(pictures == number) for number in range(int(pictures.max()) + 1)]
    figures = []
    for _ in range(_RESAMPLED):
        drawn = np.concatenate([places[number] for number in rng.integers(len(places), size=len(places))])
        figures.append(average_precision(scores[drawn], right[drawn]))
    low, high = np.nanpercentile(figures, [2.5, 97.5])  # a draw may lack the class
    return float(low), float(high)


def _read(path: Path) -> NDArray[np.uint8]:
    picture = cv2.imread(str(path))
    if picture is None:
        raise PatchError(f"{path}: no picture that can be read")
    return np.asarray(picture, np.uint8)


def _boxes(path: Path, picture: NDArray[np.uint8]) -> Iterator[tuple[int, tuple[int, int, int, int]]]:
    """Class and box, pixels, of each object that is large enough; YOLO text beside the picture, if there is one."""
    labels = path.with_suffix(".txt")
    whole = np.array(picture.shape[1::-1])
    for line in labels.read_text(encoding="ascii").splitlines() if labels.exists() else ():
        if not (fields := line.split()):
            continue
        centre, half = np.array(fields[1:3], float) * whole, np.array(fields[3:5], float) * whole / 2
        low, high = np.clip(np.rint([centre - half, centre + half]), 0, whole).astype(int)
        if (high - low).min() >= _SMALLEST_PX:
            yield int(fields[0]), (int(low[0]), int(low[1]), int(high[0]), int(high[1]))


def _anywhere(path: Path, picture: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """Some box, always the same for a picture."""
    rng = np.random.default_rng(int(hashlib.sha256(path.name.encode()).hexdigest()[:8], 16))
    height, width = picture.shape[:2]
    w, h = (int(rng.uniform(0.15, 0.5) * side) for side in (width, height))
    x, y = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
    return x, y, x + w, y + h


def _held_back(paths: Sequence[Path]) -> set[Path]:
    """A quarter of the pictures, with all that look like them."""
    hashes = np.array([_hash(path) for path in paths])
    group = np.arange(len(paths))
    for place, row in enumerate(hashes):
        alike = np.flatnonzero((hashes != row).sum(axis=1) <= _ALIKE)
        for other in alike[alike > place]:
            group[group == group[other]] = group[place]
    first = {number: paths[int(np.flatnonzero(group == number)[0])].name for number in set(group.tolist())}
    chosen = {
        number
        for number, name in first.items()
        if int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) < _HELD_BACK * 2**32
    }
    return {path for path, number in zip(paths, group.tolist(), strict=True) if number in chosen}


def _hash(path: Path) -> NDArray[np.bool_]:
    """Difference hash, (64,): whether each of 8 x 8 fields is darker than its neighbour to the right."""
    small = cv2.resize(cv2.cvtColor(_read(path), cv2.COLOR_BGR2GRAY), (9, 8), interpolation=cv2.INTER_AREA)
    return np.asarray((small[:, :-1] < small[:, 1:]).reshape(-1))
