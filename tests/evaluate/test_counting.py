from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from agent.evaluate.counting import TruthError, count, read_truth
from agent.replay import Tick


def test_counting_is_judged_frame_by_frame() -> None:
    ticks = [Tick(frame, frame / 10, persons, []) for frame, persons in enumerate([2, 2, 4, 9])]
    result = count(ticks, Counter({0: 2, 1: 3, 2: 3}))

    assert result.frames == 3, "the truth ends with its last frame"
    assert (round(result.mae, 3), round(result.bias, 3)) == (0.667, 0.0)


def test_boxes_to_ignore_are_no_persons(tmp_path: Path) -> None:
    path = tmp_path / "gt.txt"
    path.write_text("1,1,0,0,9,9,1,-1,-1,-1\n1,2,0,0,9,9,0,-1,-1,-1\n2,1,0,0,9,9,1,-1,-1,-1\n")

    assert read_truth(path) == {0: 1, 1: 1}


@pytest.mark.parametrize("content", ["", "1,1,0\n", "a,b,c,d,e,f,g\n"])
def test_a_truth_in_another_format_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "gt.txt"
    path.write_text(content)
    with pytest.raises(TruthError):
        read_truth(path)


def test_without_a_frame_there_is_nothing_to_compare() -> None:
    with pytest.raises(TruthError, match="no frame"):
        count([], Counter({0: 1}))
