"""What listening costs: one channel on its whole way from blocks to hearings, and the front end beside librosa's.

The sound is made up: noise with something loud in it all the time, so that a network is asked in every hop; then noise
alone. Both front ends get the same samples in this process, turn by turn.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.capture.sound import BLOCK_S, RATE_HZ, Block
from agent.perception.hearing import HOP_S, Ears, Hearing, Room
from agent.perception.logmel import BANDS, FLOOR, FRAME, HOP, logmel
from agent.perception.tag import STEP, open_tagger
from agent.settings import InferenceSettings

#: Hops of one loop before it is the other's turn.
_TURN = 20
_BLOCK = round(RATE_HZ * BLOCK_S)


@dataclass(frozen=True, slots=True)
class SoundBench:
    """What a second of one channel costs, by processor time; medians over turns.

    Attributes:
        model: Name of the network.
        seconds: Of sound, in each loop.
        busy_percent: Of one core, while something is heard all the time.
        quiet_percent: Of one core, while nothing stands out of the background.
        front_ms: Our front end, of half a second of sound.
        librosa: Version of librosa; None where it is not installed.
        librosa_ms: Its front end, of the same.
        ratio: How many times as fast as librosa's ours is, median over turns.
    """

    model: str
    seconds: float
    busy_percent: float
    quiet_percent: float
    front_ms: float
    librosa: str | None
    librosa_ms: float | None
    ratio: float | None


def measure(inference: InferenceSettings, seconds: float, advance: Callable[[int], None]) -> SoundBench:
    """Measure.

    Args:
        inference: Model, backend and threads.
        seconds: Of sound that each loop gets.
        advance: Told of turns that are done.

    Raises:
        InferenceError: no network tags sounds.
    """
    tagger, model, _ = open_tagger(inference)
    random = np.random.default_rng(1)
    busy = Ears(tagger, 1, Room(0, -40), _forget)
    quiet = Ears(tagger, 1, Room(0, -40), _forget)
    theirs = _librosa()
    costs: list[tuple[float, float]] = []
    fronts: list[tuple[float, float]] = []
    for turn in range(round(seconds / HOP_S / _TURN) + 1):
        noise = random.normal(0, 0.01, (1, _TURN * STEP)).astype(np.float32)
        loud = noise * (1 + 30 * (np.arange(noise.shape[1]) // STEP % 2))
        hops = [noise[0, place : place + STEP - HOP + FRAME] for place in range(0, noise.shape[1] - STEP, STEP)]
        now = (_listen(busy, loud.astype(np.float32)), _listen(quiet, noise))
        front = (_time(logmel, hops), _time(theirs[1], hops) if theirs else 0.0)
        if turn:  # the first one warms up, and lets the background be learned
            costs.append(now)
            fronts.append(front)
        advance(1)
    return SoundBench(
        model=model.name,
        seconds=len(costs) * _TURN * HOP_S,
        busy_percent=median(cost for cost, _ in costs) * 100,
        quiet_percent=median(cost for _, cost in costs) * 100,
        front_ms=median(ours for ours, _ in fronts) * 1e3,
        librosa=theirs[0] if theirs else None,
        librosa_ms=median(cost for _, cost in fronts) * 1e3 if theirs else None,
        ratio=median(cost / ours for ours, cost in fronts) if theirs else None,
    )


def turns(seconds: float) -> int:
    """How often `measure` advances."""
    return round(seconds / HOP_S / _TURN) + 1


def _forget(hearing: Hearing) -> None:
    del hearing


def _listen(ears: Ears, sound: NDArray[np.float32]) -> float:
    """Processor seconds for each second of sound, block by block as a microphone gives it."""
    begin = time.process_time()
    for place in range(0, sound.shape[1], _BLOCK):
        ears.hear(Block(sound[:, place : place + _BLOCK], place / RATE_HZ))
    return float((time.process_time() - begin) / (sound.shape[1] / RATE_HZ))


def _time(front_end: Callable[[NDArray[np.float32]], Any], hops: list[NDArray[np.float32]]) -> float:
    """Processor seconds for each hop."""
    begin: float = time.process_time()
    for hop in hops:
        front_end(hop)
    return (time.process_time() - begin) / len(hops)


def _librosa() -> tuple[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]] | None:
    """Version and front end of librosa with our parameters, where it is installed.

    Its triangles are straight in hertz and not in mel, which costs the same.
    """
    if importlib.util.find_spec("librosa") is None:
        return None
    import librosa

    def front_end(samples: NDArray[np.float32]) -> NDArray[np.float32]:
        spectrum = librosa.feature.melspectrogram(
            y=samples, sr=RATE_HZ, n_fft=512, win_length=FRAME, hop_length=HOP, window="hann", center=False,
            power=1.0, n_mels=BANDS, fmin=125.0, fmax=7500.0, htk=True, norm=None,
        )  # fmt: skip
        return np.asarray(np.log(spectrum + FLOOR).T, np.float32)

    return librosa.__version__, front_end
