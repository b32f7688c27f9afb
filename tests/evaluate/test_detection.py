from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.evaluate.detection import LabelError, Labelled, folder, iou, operating, people, precision, read
from agent.perception.scene import Detections, ObjectClass

PERSON = (ObjectClass.PERSON,)
CAR = (ObjectClass.CAR,)


def labelled(*boxes: tuple[float, float, float, float], kind: ObjectClass = ObjectClass.PERSON) -> Labelled:
    return Labelled(
        np.empty((0, 0, 3), np.uint8), np.array(boxes, np.float32).reshape(-1, 4), np.full(len(boxes), kind, np.uint8)
    )


def found(
    *boxes: tuple[float, float, float, float], scores: tuple[float, ...], kind: ObjectClass = ObjectClass.PERSON
) -> Detections:
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        np.full(len(boxes), kind, np.uint8),
    )


A, B = (0.0, 0.0, 20.0, 20.0), (100.0, 100.0, 150.0, 160.0)


def test_finding_everything_is_an_average_precision_of_one() -> None:
    result = precision([(labelled(A, B), found(A, B, scores=(0.9, 0.8)))], PERSON)
    assert result is not None
    assert (result.boxes, result.ap50, result.ap50_95) == (2, 1.0, 1.0)
    assert result.recall == {"small": 1.0, "medium": 1.0}


def test_half_of_the_boxes_is_half_the_average_precision() -> None:
    result = precision([(labelled(A, B), found(A, scores=(0.9,)))], PERSON)
    assert result is not None
    assert result.ap50 == pytest.approx(51 / 101)  # the points of recall 0, 0.01, … 0.5
    assert result.recall == {"small": 1.0, "medium": 0.0}


def test_a_false_alarm_counts_by_its_rank() -> None:
    wrong = (300.0, 300.0, 320.0, 320.0)
    pictures = [labelled(A), labelled(B)]
    first = [(pictures[0], found(wrong, A, scores=(0.9, 0.5))), (pictures[1], found(B, scores=(0.4,)))]
    last = [(pictures[0], found(wrong, A, scores=(0.1, 0.5))), (pictures[1], found(B, scores=(0.4,)))]
    worse, better = precision(first, PERSON), precision(last, PERSON)
    assert worse is not None
    assert better is not None
    assert worse.ap50 == pytest.approx(2 / 3)
    assert better.ap50 == 1.0


def test_one_object_is_found_once() -> None:
    result = precision([(labelled(A), found(A, A, scores=(0.9, 0.8)))], PERSON)
    assert result is not None
    assert operating([(labelled(A), found(A, A, scores=(0.9, 0.8)))], 0.5, 0.5).precision == 0.5


def test_a_loose_box_counts_only_where_loose_is_enough() -> None:
    loose = (0.0, 0.0, 20.0, 13.2)  # an overlap of 0.66
    result = precision([(labelled(A), found(loose, scores=(0.9,)))], PERSON)
    assert result is not None
    assert result.ap50 == 1.0
    assert result.ap50_95 == pytest.approx(0.4)  # 0.5, 0.55, 0.6 and 0.65 of ten


def test_a_class_that_does_not_occur_has_no_figures() -> None:
    assert precision([(labelled(A), found(A, scores=(0.9,), kind=ObjectClass.CAR))], CAR) is None


def test_a_higher_score_finds_fewer() -> None:
    pairs = [(labelled(A, B), found(A, B, (300.0, 0.0, 310.0, 10.0), scores=(0.9, 0.3, 0.2)))]
    low, high = operating(pairs, 0.1, 0.4), operating(pairs, 0.5, 0.4)
    assert low.precision == pytest.approx(2 / 3)
    assert low.recall == 1.0
    assert (low.count_error, high.count_error) == (1, 1)
    assert (high.precision, high.recall) == (1.0, 0.5)


boxes = st.lists(st.tuples(*[st.floats(0, 100, width=32)] * 2, *[st.floats(1, 50, width=32)] * 2), max_size=6)


@given(boxes, boxes)
def test_overlap_is_a_part_and_the_same_both_ways(a: list[tuple[float, ...]], b: list[tuple[float, ...]]) -> None:
    one, other = (np.array([(x, y, x + w, y + h) for x, y, w, h in of], np.float32).reshape(-1, 4) for of in (a, b))
    there, back = iou(one, other), iou(other, one)
    assert ((there >= 0) & (there <= 1 + 1e-6)).all()
    np.testing.assert_allclose(there, back.T, atol=1e-6)


def picture(path: Path, labels: str | None) -> None:
    cv2.imwrite(str(path), np.zeros((100, 200, 3), np.uint8))
    if labels is not None:
        path.with_suffix(".txt").write_text(labels)


def test_labels_are_parts_of_the_picture(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg", "3 0.5 0.5 0.5 0.2\n")
    read_back = read(tmp_path / "a.jpg")
    np.testing.assert_allclose(read_back.boxes, [[50, 40, 150, 60]])
    assert read_back.classes.tolist() == [ObjectClass.CAR]


@pytest.mark.parametrize("line", ["9 0.5 0.5 0.5 0.5", "0 0.5 0.5", "person 1 1 1 1", "0 a b c d"])
def test_a_bad_label_is_named_by_its_line(tmp_path: Path, line: str) -> None:
    picture(tmp_path / "a.jpg", f"0 0.5 0.5 0.1 0.1\n{line}\n")
    with pytest.raises(LabelError, match=r"a\.txt:2"):
        read(tmp_path / "a.jpg")


def test_a_picture_without_labels_is_not_judged(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="no picture"):
        folder(tmp_path)
    picture(tmp_path / "a.jpg", "")
    picture(tmp_path / "b.jpg", None)
    assert folder(tmp_path) == {tmp_path.name: [tmp_path / "a.jpg"]}


def test_a_manifest_chooses_held_back_pictures_and_names_partial_labels(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        picture(tmp_path / f"{name}.jpg", "")
    rows = "file,set,split,labels\na.jpg,road,val,complete\nb.jpg,yard,val,partial\nc.jpg,road,train,complete\n"
    (tmp_path / "manifest.csv").write_text(rows)
    assert folder(tmp_path) == {"road": [tmp_path / "a.jpg"], "yard (partial labels)": [tmp_path / "b.jpg"]}


def test_a_clip_gives_the_frames_of_its_truth(data: Path) -> None:
    frames = people(data / "clips" / "pets2009_s2l1.mp4", data / "mot" / "PETS09-S2L1" / "gt.txt", fps=0.5)
    first = next(frames)
    assert first.image.shape == (576, 768, 3)
    assert len(first.boxes) == (first.classes == ObjectClass.PERSON).sum() > 0


def test_a_bad_truth_is_named_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "gt.txt").write_text("1,1,0,0,10,10,1\nnonsense\n")
    with pytest.raises(LabelError, match=r"gt\.txt:2"):
        next(people(tmp_path / "no.mp4", tmp_path / "gt.txt", fps=1))
