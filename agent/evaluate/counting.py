"""How well people are counted: confirmed tracks against MOTChallenge ground truth, frame by frame."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from agent.replay import Tick


class TruthError(ValueError):
    """A ground truth that cannot be used; the text says where."""


@dataclass(frozen=True, slots=True)
class Counting:
    """Persons counted against persons there.

    Attributes:
        frames: Frames compared.
        truth: Mean persons there.
        counted: Mean persons counted.
        mae: Mean absolute error, persons.
        bias: Mean of counted less there, persons.
    """

    frames: int
    truth: float
    counted: float
    mae: float
    bias: float


def read_truth(path: Path) -> Counter[int]:
    """Persons in each frame, by its number from 0.

    Args:
        path: MOTChallenge text: frame (from 1), id, x, y, width, height, and 1, or 0 for a box to ignore.

    Raises:
        TruthError: it cannot be read, or has a line that is not in the format.
    """
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TruthError(f"{path}: cannot be read: {error}") from error
    persons: Counter[int] = Counter()
    for number, line in enumerate(lines, start=1):
        fields = line.split(",")
        try:
            frame, considered = int(fields[0]), float(fields[6])
        except (ValueError, IndexError):
            raise TruthError(f"{path}:{number}: no MOTChallenge line: frame,id,x,y,width,height,considered") from None
        if considered:
            persons[frame - 1] += 1
    if not persons:
        raise TruthError(f"{path}: names no person")
    return persons


def count(ticks: Iterable[Tick], truth: Counter[int]) -> Counting:
    """Compare the persons of each analysed frame with the truth, up to the truth's last frame.

    Raises:
        TruthError: no frame was analysed.
    """
    last = max(truth)
    pairs = [(tick.persons, truth[tick.frame]) for tick in ticks if tick.frame <= last]
    if not pairs:
        raise TruthError("the clip has no frame to compare")
    errors = [counted - there for counted, there in pairs]
    frames = len(pairs)
    return Counting(
        frames=frames,
        truth=sum(there for _, there in pairs) / frames,
        counted=sum(counted for counted, _ in pairs) / frames,
        mae=sum(map(abs, errors)) / frames,
        bias=sum(errors) / frames,
    )
