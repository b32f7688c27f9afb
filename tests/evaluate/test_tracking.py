"""`vigie eval tracker`: what it reads, what it refuses, and that the tracker holds its own beside others."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from agent.cli.eval import app
from agent.evaluate.tracking import BESIDE, OURS, TrackingError, evaluate, read_sequences

FRAMES = 20


def write_sequence(folder: Path, det: str | None = None, gt: str | None = None) -> Path:
    """One person who walks to the right, seen in every frame."""
    folder.mkdir(parents=True)
    boxes = [(frame, 10 + 5 * frame) for frame in range(1, FRAMES + 1)]
    if det is None:
        det = "".join(f"{frame},-1,{x},20,40,100,0.9,-1,-1,-1\n" for frame, x in boxes)
    if gt is None:
        gt = "".join(f"{frame},3,{x},20,40,100,1,-1,-1,-1\n" for frame, x in boxes)
    (folder / "det.txt").write_text(det)
    (folder / "gt.txt").write_text(gt)
    return folder


def test_a_folder_of_sequences_is_read_by_name(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write_sequence(tmp_path / name)
    sequences = read_sequences(tmp_path)
    assert [sequence.name for sequence in sequences] == ["a", "b"]
    first = sequences[0]
    assert len(first.detections) == len(first.truth_ids) == len(first.truth_boxes) == FRAMES
    np.testing.assert_array_equal(first.detections[0].boxes, [(15, 20, 55, 120)])
    np.testing.assert_array_equal(first.truth_boxes[-1], [(110, 20, 150, 120)])
    assert first.truth_ids[0].tolist() == [3]


def test_a_single_sequence_and_the_layout_of_mot17_are_read_too(tmp_path: Path) -> None:
    flat = write_sequence(tmp_path / "flat")
    nested = tmp_path / "nested"
    for kind in ("det", "gt"):
        (nested / kind).mkdir(parents=True)
        (nested / kind / f"{kind}.txt").write_text((flat / f"{kind}.txt").read_text())
    assert [sequence.name for sequence in (*read_sequences(flat), *read_sequences(nested))] == ["flat", "nested"]


def test_the_frame_rate_is_that_of_seqinfo_then_of_the_option_then_of_mot15(tmp_path: Path) -> None:
    write_sequence(tmp_path / "PETS09-S2L1")
    write_sequence(tmp_path / "other")
    assert {s.name: s.fps for s in read_sequences(tmp_path)} == {"PETS09-S2L1": 7, "other": 30}
    (tmp_path / "other" / "seqinfo.ini").write_text("[Sequence]\nname=other\nframeRate=12\n")
    assert {s.name: s.fps for s in read_sequences(tmp_path, fps=5)} == {"PETS09-S2L1": 5, "other": 12}


def test_frames_without_detections_count(tmp_path: Path) -> None:
    folder = write_sequence(tmp_path / "late", det="5,-1,10,20,40,100,0.9\n", gt="9,1,10,20,40,100,1\n")
    (sequence,) = read_sequences(folder)
    assert [len(detections) for detections in sequence.detections] == [0, 0, 0, 0, 1, 0, 0, 0, 0]


def test_ignored_rows_and_other_classes_are_no_ground_truth(tmp_path: Path) -> None:
    flagged = write_sequence(tmp_path / "flagged", gt="1,1,10,20,40,100,0,-1,-1,-1\n1,2,50,20,40,100,1,-1,-1,-1\n")
    classed = write_sequence(tmp_path / "classed", gt="1,1,10,20,40,100,1,7,0.5\n1,2,50,20,40,100,1,1,0.5\n")
    for folder in (flagged, classed):
        (sequence,) = read_sequences(folder)
        assert sequence.truth_ids[0].tolist() == [2]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("1,-1,10,20,forty,100,0.9", "not numbers"),
        ("1;-1;10;20;40;100;0.9", "not numbers"),
        ("1,-1,10,20,40,100", "6 columns"),
        ("0,-1,10,20,40,100,0.9", "whole numbers from 1"),
        ("1.5,-1,10,20,40,100,0.9", "whole numbers from 1"),
        ("1,-1,nan,20,40,100,0.9", "finite"),
        ("1,-1,10,20,-40,100,0.9", "negative"),
    ],
)
@pytest.mark.parametrize("kind", ["det", "gt"])
def test_a_malformed_line_is_named_by_file_and_line(tmp_path: Path, kind: str, line: str, reason: str) -> None:
    folder = write_sequence(tmp_path / "bad")
    (folder / f"{kind}.txt").write_text(f"1,1,10,20,40,100,1\n\n{line}\n")
    with pytest.raises(TrackingError, match=rf"{kind}\.txt:3: .*{reason}"):
        read_sequences(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="no such folder"):
        read_sequences(tmp_path / "nowhere")
    with pytest.raises(TrackingError, match="no sequence"):
        read_sequences(tmp_path)
    (write_sequence(tmp_path / "half") / "gt.txt").unlink()
    with pytest.raises(TrackingError, match=r"half: no gt\.txt"):
        read_sequences(tmp_path)


def test_a_sequence_without_anything_in_it_is_refused(tmp_path: Path) -> None:
    write_sequence(tmp_path / "void", det="", gt="\n")
    with pytest.raises(TrackingError, match="both empty"):
        read_sequences(tmp_path)


@pytest.mark.parametrize("text", ["frameRate=10\n", "[Sequence]\nframeRate=fast\n", "[Sequence]\nframeRate=0\n"])
def test_a_seqinfo_that_says_nothing_is_refused(tmp_path: Path, text: str) -> None:
    (write_sequence(tmp_path / "odd") / "seqinfo.ini").write_text(text)
    with pytest.raises(TrackingError, match=r"seqinfo\.ini: .*frameRate"):
        read_sequences(tmp_path)


def test_a_perfect_detector_costs_only_the_looks_before_a_track_is_confirmed(tmp_path: Path) -> None:
    pytest.importorskip("trackers", reason="the trackers beside ours need the extra `eval`")
    frames_done: list[int] = []
    (result,) = evaluate([OURS], read_sequences(write_sequence(tmp_path / "walk")), 2, frames_done.append)
    figures = result.sequences["walk"]
    assert (figures.switches, figures.false_positives, figures.misses) == (0, 0, 2)
    assert figures.mota == pytest.approx(18 / 20)
    assert figures.idf1 == pytest.approx(36 / 38)
    assert result.overall == figures
    assert sum(frames_done) == 2 * FRAMES


def test_without_the_extra_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sequence(tmp_path / "walk")
    monkeypatch.setitem(sys.modules, "trackers", None)
    monkeypatch.delitem(sys.modules, "trackers.eval", raising=False)
    ended = CliRunner().invoke(app, ["tracker", "--mot", str(tmp_path)])
    assert ended.exit_code == 2
    assert "pip install 'vigie[eval]'" in ended.output


def test_the_command_prints_a_table_or_json(tmp_path: Path) -> None:
    pytest.importorskip("trackers", reason="the trackers beside ours need the extra `eval`")
    write_sequence(tmp_path / "walk")
    table = CliRunner().invoke(app, ["tracker", "--mot", str(tmp_path), "--beside"])
    assert table.exit_code == 0, table.output
    assert "times as fast as ByteTrackTracker" in table.stdout
    answer = json.loads(CliRunner().invoke(app, ["tracker", "--mot", str(tmp_path), "--fps", "10", "--json"]).stdout)
    assert answer["fps"] == {"walk": 10}
    assert [result["tracker"] for result in answer["trackers"]] == [OURS]
    assert answer["trackers"][0]["overall"]["misses"] == 2


def test_neither_mota_nor_idf1_is_below_the_best_of_others(data: Path) -> None:
    pytest.importorskip("trackers", reason="the trackers beside ours need the extra `eval`")
    sequences = read_sequences(data / "mot")
    ours, *others = evaluate([OURS, *BESIDE], sequences, repeats=1)
    assert ours.overall.mota >= max(other.overall.mota for other in others)
    assert ours.overall.idf1 >= max(other.overall.idf1 for other in others)
