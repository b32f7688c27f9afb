"""How well things are followed: the tracker, and others beside it, on MOTChallenge detections against ground truth.

Every tracker gets the same detections, in the same process, frame by frame and without looking ahead; only its update
is timed, and of several runs in turn the fastest of each frame counts, since whatever else a machine does only adds to
it. Only boxes of tracks matched in that very frame are counted: what is merely predicted is not claimed. MOTA
(CLEAR MOT, Bernardin and Stiefelhagen, 2008) and IDF1 (Ristani et al., 2016) come from the package `trackers`, whose
metrics are those of TrackEval, at an intersection over union of 0.5.

Ground truth is taken as TrackEval takes it for MOT15: a row whose flag is 0 is no ground truth, and a box on it counts
as false. In the nine columns of MOT16 and later only pedestrians (class 1) are ground truth; their distractors are not
taken out, which is harder than the official protocol and the same for every tracker.
"""

from __future__ import annotations

import configparser
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from agent.perception.scene import Detections, ObjectClass, Tracks
from agent.perception.track import Tracker

BESIDE = ("ByteTrackTracker", "OCSORTTracker", "CBIoUTracker", "SORTTracker")
OURS = "vigie"

_DEFAULT_FPS = 30.0
# Frames per second of MOT15, whose archive came without seqinfo.ini.
_MOT15_FPS = {
    **dict.fromkeys(("TUD-Campus", "TUD-Crossing", "TUD-Stadtmitte"), 25.0),
    **dict.fromkeys(("PETS09-S2L1", "PETS09-S2L2"), 7.0),
    **dict.fromkeys(("ETH-Bahnhof", "ETH-Crossing", "ETH-Jelmoli", "ETH-Linthescher", "ETH-Pedcross2"), 14.0),
    "ETH-Sunnyday": 14.0,
    **dict.fromkeys(("KITTI-13", "KITTI-16", "KITTI-17", "KITTI-19"), 10.0),
    **dict.fromkeys(("ADL-Rundle-1", "ADL-Rundle-3", "ADL-Rundle-6", "ADL-Rundle-8"), 30.0),
    **dict.fromkeys(("Venice-1", "Venice-2"), 30.0),
    "AVG-TownCentre": 2.5,
}

Boxes = NDArray[np.float64]
Ids = NDArray[np.int64]
# What came out of each frame, and the seconds each took.
_Run = tuple[list[tuple[Ids, Boxes]], list[float]]
# CLEAR and identity metrics as the package gives them, and the seconds all frames took.
_Score = tuple[dict[str, Any], dict[str, Any], float]


class TrackingError(ValueError):
    """Sequences that cannot be evaluated; the text says where, and what to do."""


@dataclass(frozen=True, slots=True)
class MotSequence:
    """One sequence; the lists hold one item a frame, from frame 1 on.

    Attributes:
        name: Name of its folder.
        fps: Frames per second.
        detections: What the trackers get.
        truth_ids: (N,) each, who is there.
        truth_boxes: (N, 4) each, where: x0 y0 x1 y1, pixels.
    """

    name: str
    fps: float
    detections: list[Detections]
    truth_ids: list[Ids]
    truth_boxes: list[Boxes]


@dataclass(frozen=True, slots=True)
class Figures:
    """How one tracker did.

    Attributes:
        mota: Multiple object tracking accuracy, at most 1.
        idf1: F1 of the identities, 0 to 1.
        switches: Times a person's track changed.
        false_positives: Boxes where nobody is.
        misses: Persons without a box.
        ms_per_frame: Milliseconds an update takes.
    """

    mota: float
    idf1: float
    switches: int
    false_positives: int
    misses: int
    ms_per_frame: float


@dataclass(frozen=True, slots=True)
class TrackerResult:
    """One tracker on all sequences.

    Attributes:
        tracker: Its name.
        sequences: Figures by the name of the sequence.
        overall: All sequences as one: sums, not means.
    """

    tracker: str
    sequences: dict[str, Figures]
    overall: Figures


class _Contestant(Protocol):
    """A tracker under test; `update` alone is timed."""

    def prepare(self, detections: Detections) -> Any:
        """The detections in the form that this tracker takes."""

    def update(self, time: float, prepared: Any) -> Any:
        """Take in one frame."""

    def outcome(self, updated: Any) -> tuple[Ids, Boxes]:
        """Ids (N,) and boxes (N, 4), x0 y0 x1 y1, of the tracks matched in this frame."""


class _Vigie:
    def __init__(self) -> None:
        self.update = Tracker().update

    def prepare(self, detections: Detections) -> Detections:
        return detections

    def outcome(self, updated: Tracks) -> tuple[Ids, Boxes]:
        matched = updated.unseen == 0
        return updated.ids[matched], updated.boxes[matched].astype(np.float64)


class _Beside:
    """A tracker of the package `trackers` with the parameters it comes with; it counts frames, not seconds."""

    def __init__(self, name: str) -> None:
        self._tracker = getattr(_package("trackers"), name)()

    def prepare(self, detections: Detections) -> Any:
        return _package("supervision").Detections(
            xyxy=detections.boxes, confidence=detections.scores, class_id=detections.classes.astype(np.int64)
        )

    def update(self, time: float, prepared: Any) -> Any:  # noqa: ARG002 - see above
        return self._tracker.update(prepared)

    def outcome(self, updated: Any) -> tuple[Ids, Boxes]:
        matched = updated.tracker_id >= 0
        return updated.tracker_id[matched], updated.xyxy[matched].astype(np.float64)


def read_sequences(root: Path, fps: float | None = None) -> list[MotSequence]:
    """The sequences below `root`, or the one in it, by name.

    Args:
        root: Folder of folders with det.txt and gt.txt, or with det/det.txt and gt/gt.txt; or one of these folders.
        fps: Frames per second of a sequence without seqinfo.ini; without it that of MOT15's sequence of that name,
            or else 30.

    Raises:
        TrackingError: there is no sequence, or a file that is missing or malformed.
    """
    if not root.is_dir():
        raise TrackingError(f"{root}: no such folder")
    folders = [root] if _file(root, "det") or _file(root, "gt") else sorted(f for f in root.iterdir() if f.is_dir())
    if not folders:
        raise TrackingError(f"{root}: no sequence; each is a folder with det.txt and gt.txt in it")
    return [_read_sequence(folder, fps) for folder in folders]


def evaluate(
    trackers: Sequence[str],
    sequences: Sequence[MotSequence],
    repeats: int = 3,
    done: Callable[[int], None] = lambda _: None,
) -> list[TrackerResult]:
    """Run trackers over sequences.

    Args:
        trackers: `OURS` and any of `BESIDE`.
        sequences: Where to run them.
        repeats: How many times, for the sake of the time.
        done: Called with a number of frames whenever so many more are done.

    Raises:
        TrackingError: the packages of the extra `eval` are not installed.
    """
    metrics = _package("trackers.eval")
    scores: dict[str, list[_Score]] = {name: [] for name in trackers}
    for sequence in sequences:
        runs: dict[str, list[_Run]] = {name: [] for name in trackers}
        for _ in range(repeats):
            for name in trackers:
                runs[name].append(_run(_Vigie() if name == OURS else _Beside(name), sequence))
                done(len(sequence.detections))
        for name in trackers:
            scores[name].append(_score(metrics, sequence, runs[name]))
    return [_result(metrics, name, sequences, scores[name]) for name in trackers]


def _run(contestant: _Contestant, sequence: MotSequence) -> _Run:
    """What comes out of each frame, and the seconds that its update took."""
    outcomes, seconds = [], []
    for index, detections in enumerate(sequence.detections):
        prepared = contestant.prepare(detections)
        started = time.perf_counter()
        updated = contestant.update(index / sequence.fps, prepared)
        seconds.append(time.perf_counter() - started)
        outcomes.append(contestant.outcome(updated))
    return outcomes, seconds


def _score(metrics: Any, sequence: MotSequence, runs: Sequence[_Run]) -> _Score:
    """Metrics of the first run, for all are the same, and the seconds of the fastest."""
    outcomes = runs[0][0]
    ids = [ids for ids, _ in outcomes]
    pairs = zip(sequence.truth_boxes, outcomes, strict=True)
    overlap = [metrics.box_iou(truth, boxes) for truth, (_, boxes) in pairs]
    return (
        metrics.compute_clear_metrics(sequence.truth_ids, ids, overlap),
        metrics.compute_identity_metrics(sequence.truth_ids, ids, overlap),
        float(np.min([seconds for _, seconds in runs], axis=0).sum()),
    )


def _result(metrics: Any, tracker: str, sequences: Sequence[MotSequence], scores: Sequence[_Score]) -> TrackerResult:
    frames = [len(sequence.detections) for sequence in sequences]
    clears, identities, seconds = zip(*scores, strict=True)
    overall = metrics.aggregate_clear_metrics(list(clears)), metrics.aggregate_identity_metrics(list(identities))
    return TrackerResult(
        tracker=tracker,
        sequences={
            sequence.name: _figures(score, count)
            for sequence, score, count in zip(sequences, scores, frames, strict=True)
        },
        overall=_figures((*overall, sum(seconds)), sum(frames)),
    )


def _figures(score: _Score, frames: int) -> Figures:
    clear, identity, seconds = score
    return Figures(
        mota=float(clear["MOTA"]),
        idf1=float(identity["IDF1"]),
        switches=int(clear["IDSW"]),
        false_positives=int(clear["CLR_FP"]),
        misses=int(clear["CLR_FN"]),
        ms_per_frame=1000 * seconds / frames,
    )


def _package(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise TrackingError(f"the package {error.name} is not installed: pip install 'vigie[eval]'") from None


def _file(folder: Path, kind: str) -> Path | None:
    """det.txt or gt.txt of a sequence, in its folder as in MOT15's flat copies or in one of its own."""
    return next((path for path in (folder / f"{kind}.txt", folder / kind / f"{kind}.txt") if path.is_file()), None)


def _read_sequence(folder: Path, fps: float | None) -> MotSequence:
    tables = {}
    for kind in ("det", "gt"):
        path = _file(folder, kind)
        if path is None:
            raise TrackingError(f"{folder}: no {kind}.txt, which every sequence needs")
        tables[kind] = np.array(list(_rows(path)), np.float64).reshape(-1, 8)
    found, truth = tables["det"], tables["gt"]
    truth = truth[(truth[:, 6] != 0) & (truth[:, 7] == 1)]
    length = int(max(table[:, 0].max(initial=0) for table in tables.values()))
    if not length:
        raise TrackingError(f"{folder}: det.txt and gt.txt are both empty")
    by_frame = [[table[table[:, 0] == frame] for frame in range(1, length + 1)] for table in (found, truth)]
    return MotSequence(
        name=folder.name,
        fps=_fps(folder, fps),
        detections=[_detections(rows) for rows in by_frame[0]],
        truth_ids=[rows[:, 1].astype(np.int64) for rows in by_frame[1]],
        truth_boxes=[_corners(rows) for rows in by_frame[1]],
    )


def _rows(path: Path) -> Iterator[tuple[float, ...]]:
    """Frame, id, x, y, width, height, score or flag, and the class, or 1 where the file has none."""
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = [float(field) for field in line.split(",")]
        except ValueError:
            raise TrackingError(f"{path}:{number}: not numbers with commas between them") from None
        if len(row) < 7:
            raise TrackingError(f"{path}:{number}: {len(row)} columns, not frame,id,x,y,width,height,score or more")
        if not np.isfinite(row).all() or row[0] < 1 or row[0] % 1:
            raise TrackingError(f"{path}:{number}: frames are whole numbers from 1 on, and all numbers finite")
        if row[4] < 0 or row[5] < 0:
            raise TrackingError(f"{path}:{number}: width and height must not be negative")
        yield (*row[:7], row[7] if len(row) == 9 else 1.0)


def _corners(rows: Boxes) -> Boxes:
    return np.concatenate([rows[:, 2:4], rows[:, 2:4] + rows[:, 4:6]], axis=1)


def _detections(rows: Boxes) -> Detections:
    return Detections(
        boxes=_corners(rows).astype(np.float32),
        scores=rows[:, 6].clip(0, 1).astype(np.float32),
        classes=np.full(len(rows), ObjectClass.PERSON, np.uint8),
    )


def _fps(folder: Path, fps: float | None) -> float:
    path = folder / "seqinfo.ini"
    if not path.is_file():
        return fps or _MOT15_FPS.get(folder.name, _DEFAULT_FPS)
    parser = configparser.ConfigParser()
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
        rate = parser.getfloat("Sequence", "frameRate")
    except (configparser.Error, ValueError) as error:
        raise TrackingError(f"{path}: no frameRate in [Sequence]: {error}") from None
    if not 0 < rate < np.inf:
        raise TrackingError(f"{path}: frameRate must be above 0")
    return rate
