"""A tagger that hears by loudness alone walks through a street."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from agent.evaluate import street
from agent.evaluate.imitated import IMITATED, imitate
from agent.evaluate.operating import Operating
from agent.evaluate.sounds import Sound
from agent.evaluate.street import BANDS_DB, Fold, length, walk
from agent.perception.logmel import BANDS, FRAMES, RATE
from agent.perception.tag import CLASSES, Tagger

GUNSHOT = CLASSES.index("gunshot")


class Ear:
    """A backend to which everything that rises far above the median is a gunshot."""

    name = "ear"

    class _Port:
        def __init__(self, shape: tuple[int, ...]) -> None:
            self.shape = shape

    inputs = (_Port((1, 1, FRAMES, BANDS)),)
    outputs = (_Port((1, len(CLASSES))),)

    def run(self, patches: np.ndarray) -> tuple[np.ndarray]:
        levels = patches[:, 0].mean(axis=2)
        logits = np.full((len(patches), len(CLASSES)), -9, np.float32)
        logits[:, GUNSHOT] = 4 * (levels.max(axis=1) - np.median(levels, axis=1)) - 4
        return (logits,)

    def close(self) -> None: ...


@pytest.fixture
def sounds(tmp_path: Path) -> list[Sound]:
    random = np.random.default_rng(1)
    shot = np.zeros(RATE, np.float32)
    shot[4000:4800] = random.standard_normal(800) * 0.2
    made = {"street": (random.standard_normal(20 * RATE) * 0.01).astype(np.float32), "shot": shot}
    for name, samples in made.items():
        soundfile.write(tmp_path / f"{name}.wav", samples, RATE)
    return [
        Sound(file=f"{name}.wav", label=label, kind=kind, recording=name, use="ship", seconds=len(made[name]) / RATE)
        for name, label, kind in (("street", "background", "bg_street"), ("shot", "gunshot", "gunshot"))
    ]


def test_a_street_is_heard_once_and_events_by_how_loud_they_are(
    tmp_path: Path, sounds: list[Sound], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(street, "_IMITATIONS", 2)
    point = Operating(1.0, np.full(len(CLASSES), 0.5))
    tested = {0: Fold(Tagger(Ear()), point, sounds)}  # type: ignore[arg-type]
    told: list[None] = []
    figures = walk(tmp_path, tested, lambda: told.append(None))
    assert len(told) == length(tested)
    alarms = figures.false_alarms["gunshot"]
    assert alarms.count == 0
    assert alarms.hours == pytest.approx(20 / 3600)
    heard = figures.heard["gunshot"]
    assert [one.of for one in heard] == [1] * (len(BANDS_DB) - 1)
    assert heard[-1].heard == 1
    assert sum(one.of for one in figures.heard["siren"]) == 0
    assert set(figures.fooled) == set(IMITATED)


@pytest.mark.parametrize("kind", IMITATED)
def test_an_imitation_is_a_bang_and_no_two_are_alike(kind: str) -> None:
    random = np.random.default_rng(1)
    first, second = imitate(kind, random), imitate(kind, random)
    assert np.abs(first).max() == pytest.approx(0.7)
    assert not np.array_equal(first, second)
    assert not first[: RATE // 10].any()
    assert np.array_equal(first, imitate(kind, np.random.default_rng(1)))
