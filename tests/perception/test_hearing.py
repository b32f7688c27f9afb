"""From blocks of sound to hearings: windows, channels, the clock of samples, the room, and what is never kept."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.lib import tracemalloc_domain
from numpy.typing import NDArray

from agent.capture.sound import BLOCK_S, RATE_HZ, Block
from agent.inference.backend import Array, TensorSpec
from agent.perception import hearing as module
from agent.perception.hearing import HOP_S, MOST_GAIN_DB, Ears, Hearing, Room, SampleClock
from agent.perception.logmel import BANDS, FRAMES, PATCH
from agent.perception.tag import CLASSES, STEP, Tagger

Floats = NDArray[np.float32]
_BLOCK = round(RATE_HZ * BLOCK_S)


class Loudest:
    """A network whose first score is how loud the patch is, and whose others are low."""

    inputs: tuple[TensorSpec, ...] = (TensorSpec("logmel", (None, 1, FRAMES, BANDS), np.dtype(np.float32)),)
    outputs: tuple[TensorSpec, ...] = (TensorSpec("logits", (None, len(CLASSES)), np.dtype(np.float32)),)

    def __init__(self) -> None:
        self.asked: list[Array] = []

    def run(self, batch: Array) -> list[Array]:
        self.asked.append(batch.copy())
        logits = np.full((len(batch), len(CLASSES)), -9, np.float32)
        logits[:, 0] = batch.max(axis=(1, 2, 3)) - 4
        return [logits]

    def close(self) -> None:
        pass


def noise(seconds: float, level: float = 0.01, seed: int = 1, channels: int = 1) -> Floats:
    shape = (channels, round(seconds * RATE_HZ))
    return np.random.default_rng(seed).normal(0, level, shape).astype(np.float32)


def blocks(sound: Floats, *, size: int = _BLOCK, begin: float = 0.0, late: float = 0.0) -> Iterator[Block]:
    for place in range(0, sound.shape[1], size):
        part = sound[:, place : place + size]
        yield Block(part, begin + (place + part.shape[1]) / RATE_HZ + late)


def hear(sound: Floats, room: Room | None = None, network: Loudest | None = None, size: int = _BLOCK) -> list[Hearing]:
    told: list[Hearing] = []
    ears = Ears(Tagger(network or Loudest()), len(sound), room or Room(0, -40), told.append)
    for block in blocks(sound, size=size):
        ears.hear(block)
    return told


def test_there_is_a_hearing_every_half_second() -> None:
    told = hear(noise(3.2))
    assert [round(h.time, 6) for h in told] == [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
    assert HOP_S == 0.5


@pytest.mark.parametrize("size", [100, 1600, 1777, 20_000])
def test_a_window_is_what_the_tagger_makes_of_the_same_patch(size: int) -> None:
    sound = noise(3.0, 0.1)
    network = Loudest()
    told = hear(sound, network=network, size=size)
    for place, heard in enumerate(told, 1):
        end = place * STEP
        if end >= PATCH:
            expected = Tagger(Loudest()).tag(sound[:, end - PATCH : end])
            np.testing.assert_allclose(heard.scores, expected[0], atol=1e-5)


def test_a_bang_is_sudden_and_what_bangs_on_is_not() -> None:
    sound = noise(20, 0.001)
    sound[:, 4 * RATE_HZ :: RATE_HZ // 10] += 0.5
    told = [heard.sudden for heard in hear(sound) if not heard.quiet]
    assert any(told[:14]), "when it begins"
    assert not any(told[14:]), "when it has gone on for more than two seconds"


def test_after_a_gap_nobody_knows_what_is_sudden() -> None:
    told: list[Hearing] = []
    ears = Ears(Tagger(Loudest()), 1, Room(0, -40), told.append)
    for block in blocks(noise(1, 0.1)):
        ears.hear(block)
    assert told[0].sudden, "silence was before a file"
    ears.hear(Block(noise(0.1, 0.1), 1.2, gap=True))
    for block in blocks(noise(1, 0.1), begin=1.2):
        ears.hear(block)
    assert not any(heard.sudden for heard in told[2:])


def test_of_several_channels_the_likeliest_counts() -> None:
    quiet, loud = noise(2, 0.01), noise(2, 0.2)
    both = hear(np.concatenate([quiet, loud]))
    assert both[-1].scores[0] == pytest.approx(hear(loud)[-1].scores[0], rel=1e-3)


def impulse(at_s: float, seconds: float = 4.0, level: float = 0.5) -> Floats:
    sound = noise(seconds, 0.003)
    begin = round(at_s * RATE_HZ)
    bang = np.random.default_rng(2).normal(0, level, 800) * np.exp(-np.arange(800) / 200)
    sound[0, begin : begin + 800] += bang.astype(np.float32)
    return sound


@pytest.mark.parametrize("at_s", [1.3, 1.49, 1.5001, 1.47, 2.0])
def test_an_onset_is_timed_wherever_it_lies_in_its_hop(at_s: float) -> None:
    told = hear(impulse(at_s))
    with_onset = [h for h in told if h.onset is not None]
    assert with_onset
    assert with_onset[0].time - at_s <= 2 * HOP_S
    for heard in with_onset:
        assert heard.onset == pytest.approx(at_s, abs=1e-3)
        assert module.ONSET_ERROR_S <= heard.onset_error <= 2 * module.ONSET_ERROR_S


def test_the_first_of_a_shot_and_its_echo_is_its_onset() -> None:
    sound = impulse(1.3)
    sound[0] += 0.5 * impulse(1.6)[0]
    assert {round(h.onset, 3) for h in hear(sound) if h.onset is not None and h.time < 2.1} == {1.3}


def test_the_sample_clock_follows_the_promptest_block() -> None:
    clock = SampleClock()
    random = np.random.default_rng(1)
    for number in range(1, 101):
        samples = number * _BLOCK
        clock.update(samples, 50 + samples / RATE_HZ + float(random.exponential(0.005)))
    assert clock.time(16_000) == pytest.approx(51.0, abs=0.0005)
    assert clock.error < 0.002


def test_the_sample_clock_is_unsure_at_first() -> None:
    clock = SampleClock()
    clock.update(_BLOCK, 0.11)
    clock.update(2 * _BLOCK, 0.24)
    assert clock.error == pytest.approx(0.03)


def test_a_gap_begins_anew() -> None:
    told: list[Hearing] = []
    ears = Ears(Tagger(Loudest()), 1, Room(0, -40), told.append)
    for block in blocks(noise(1.3)):
        ears.hear(block)
    for block in blocks(noise(0.5, seed=2), begin=100.0):
        ears.hear(Block(block.samples, block.time, gap=block.time < 100.15))
    assert [round(h.time, 3) for h in told] == [0.5, 1.0, 100.5]


def test_no_network_is_asked_about_a_background_and_it_is_as_soon_as_something_stands_out() -> None:
    network = Loudest()
    sound = noise(20.0, 0.01)
    sound[:, 15 * RATE_HZ : 15 * RATE_HZ + 3200] *= 5
    told = hear(sound, network=network)
    asked = [h.time for h in told if not h.quiet]
    assert [t for t in asked if t > 7] == [15.5, 16.0]
    assert len(network.asked) == len(asked)
    assert all(not h.scores.any() for h in told if h.quiet)


def test_a_faint_microphone_is_amplified_within_minutes_and_never_beyond_full_scale() -> None:
    room = Room()
    hop = 10 ** (-70 / 20)
    network = Loudest()
    for minute in range(5):
        hear(noise(60, hop, seed=minute), room, network)
    assert room.floor_dbfs == pytest.approx(-70, abs=1.5)
    assert room.gain_db == pytest.approx(MOST_GAIN_DB, abs=1)
    told = hear(impulse(2.5, level=0.9), room, network)
    assert max(h.scores[0] for h in told) == pytest.approx(
        max(h.scores[0] for h in hear(impulse(2.5, level=0.9))), abs=0.05
    )


def test_an_event_does_not_become_the_background_but_another_room_does() -> None:
    room = Room(0, -60)
    for _ in range(20):
        room.update(-20)
    assert room.floor_dbfs is not None
    assert room.floor_dbfs < -50
    for _ in range(20 * 60):
        room.update(-20)
    assert room.floor_dbfs == pytest.approx(-20, abs=1)
    for _ in range(2 * 40):
        room.update(-50)
    assert room.floor_dbfs == pytest.approx(-50, abs=1)


def test_a_calibrated_room_needs_no_time_to_learn() -> None:
    assert Room(15, -55).gain_db == 15
    assert Room(0, -55).gain_db == 15
    assert Room(0, -90).gain_db == MOST_GAIN_DB
    assert Room(0, -20).gain_db == 0


def test_digital_silence_is_no_background() -> None:
    room = Room()
    hear(np.zeros((1, 5 * RATE_HZ), np.float32), room)
    assert room.floor_dbfs is None
    assert room.gain_db == 0


def test_memory_holds_less_than_a_second_of_sound_however_long_it_listens() -> None:
    told: list[Hearing] = []
    tracemalloc.start()
    try:
        ears = Ears(Tagger(Quiet()), 1, Room(0, -40), lambda hearing: told.__setitem__(slice(None), [hearing]))
        for number in range(600):
            ears.hear(Block(noise(BLOCK_S, 0.05, seed=number), number * BLOCK_S))
        gc.collect()
        arrays = tracemalloc.take_snapshot().filter_traces([tracemalloc.DomainFilter(True, tracemalloc_domain)])
    finally:
        tracemalloc.stop()
    kept = [value for value in vars(ears).values() if isinstance(value, np.ndarray) and value.shape[-1] != BANDS]
    sound = [array for array in kept if array.dtype == np.float32]
    assert sum(array.size for array in sound) <= 0.6 * RATE_HZ, "the ring, and nothing else that has samples"
    # The ring, 96 frames of 64 bands, how loud each band was of late, the background; of all arrays that there are.
    assert sum(trace.size for trace in arrays.traces) <= 4 * (0.6 * RATE_HZ + (FRAMES + 26) * BANDS) + 1_000


class Quiet(Loudest):
    """A network that remembers nothing."""

    def run(self, batch: Array) -> list[Array]:
        return [np.full((len(batch), len(CLASSES)), -9, np.float32)]
