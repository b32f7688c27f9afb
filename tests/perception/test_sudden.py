"""What is louder than all that was heard for a while."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agent.perception.logmel import BANDS, FRAMES
from agent.perception.sudden import Sudden, loudness

Floats = NDArray[np.float32]
QUIET, LOUD = 0.01, 1.0


def window(level: float, *, bands: int = BANDS, frames: int = 10) -> Floats:
    """A window of quiet in which some bands are at a level for some frames."""
    mel = np.full((1, FRAMES, BANDS), QUIET, np.float32)
    mel[:, :frames, :bands] = level
    return mel


def told(*windows: Floats, amid: bool = True) -> list[bool]:
    ear = Sudden(amid=amid)
    return [ear.hear(loudness(one)) for one in windows]


def test_what_is_louder_than_before_is_sudden() -> None:
    assert told(*[window(QUIET)] * 4, window(LOUD)) == [False] * 4 + [True]


def test_twice_as_loud_in_an_eighth_of_the_bands_for_a_twentieth_of_a_second_is_enough_and_less_is_not() -> None:
    quiet = [window(QUIET)] * 4
    assert told(*quiet, window(2.1 * QUIET, bands=8, frames=5))[-1]
    assert not told(*quiet, window(1.9 * QUIET, bands=8, frames=5))[-1]
    assert not told(*quiet, window(2.1 * QUIET, bands=7, frames=5))[-1]
    assert not told(*quiet, window(2.1 * QUIET, bands=8, frames=3))[-1]


def test_a_burst_stays_sudden_for_two_seconds_and_then_is_what_goes_on() -> None:
    ear = told(*[window(QUIET)] * 10, *[window(LOUD)] * 30)
    assert ear[10:16] == [True] * 6, "the first, the one that overlaps with it, and four more"
    assert not any(ear[16:])


def test_what_was_ten_seconds_ago_is_forgotten() -> None:
    def after(pause: int) -> bool:
        return told(window(QUIET), window(QUIET), window(LOUD), *[window(QUIET)] * pause, window(LOUD))[-1]

    assert not after(24)
    assert after(25)


def test_the_first_sound_is_sudden_after_silence_and_not_amid_what_nobody_heard() -> None:
    assert told(window(LOUD), window(LOUD), window(LOUD), amid=False) == [True, True, False]
    assert told(window(LOUD), window(LOUD), window(LOUD), amid=True) == [False, False, False]


def test_one_channel_is_enough() -> None:
    ear = Sudden(amid=True)
    for _ in range(4):
        ear.hear(loudness(np.concatenate([window(QUIET), window(LOUD)])))
    assert ear.hear(loudness(np.concatenate([window(LOUD), window(LOUD)])))
