"""The moment at which an impulse begins: in noise, of drawn impulses and of recorded shots."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from agent.perception.hearing import ONSET_ERROR_S
from agent.perception.logmel import RATE
from agent.perception.onset import AROUND, find_onset

Floats = NDArray[np.float64]
LENGTH = 9600


def white(random: np.random.Generator) -> Floats:
    return random.standard_normal(LENGTH)


def pink(random: np.random.Generator) -> Floats:
    """Noise as streets have it: its power falls by 3 dB an octave."""
    spectrum = np.fft.rfft(random.standard_normal(LENGTH))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    sound = np.fft.irfft(spectrum, LENGTH)
    return np.asarray(sound / sound.std())


def blast(random: np.random.Generator) -> Floats:
    """The N-wave of a muzzle blast (Friedlander, 1946) with the echoes of a yard."""
    time = np.arange(3200) / RATE
    lasts = random.uniform(0.0008, 0.003)
    echoes = random.standard_normal(3200) * np.exp(-time / random.uniform(0.01, 0.05))
    return np.asarray(3 * (1 - time / lasts) * np.exp(-time / lasts) + 0.7 * echoes)


def crack(random: np.random.Generator) -> Floats:
    time = np.arange(3200) / RATE
    return np.asarray(random.standard_normal(3200) * np.exp(-time / random.uniform(0.003, 0.03)))


def ring(random: np.random.Generator) -> Floats:
    time = np.arange(3200) / RATE
    tone = np.sin(2 * np.pi * random.uniform(800, 4000) * time)
    return np.asarray(tone * np.exp(-time / random.uniform(0.005, 0.03)) * np.minimum(1, time / 0.0005))


def errors_ms(impulse: Floats, noise: Floats, snr_db: float, random: np.random.Generator) -> tuple[float, float]:
    """How far off the onset is that is found, and how far off it may be by its front; NaN if none is found.

    The ratio is that of the impulse's first 30 ms.
    """
    begin = int(random.integers(2 * AROUND, LENGTH - 2 * AROUND))
    ratio = np.square(noise).mean() / np.square(impulse[:480]).mean()
    sound = noise.copy()
    end = min(begin + len(impulse), LENGTH)
    sound[begin:end] += np.sqrt(ratio * 10 ** (snr_db / 10)) * impulse[: end - begin]
    found = find_onset((0.3 * sound / np.abs(sound).max()).astype(np.float32))
    if found is None:
        return np.nan, np.nan
    return (found.place - begin) * 1000 / RATE, 1000 * (ONSET_ERROR_S + found.front / RATE)


@pytest.mark.parametrize("make", [blast, crack, ring])
@pytest.mark.parametrize("noise", [white, pink])
def test_a_drawn_impulse_is_timed_to_half_a_millisecond(
    make: Callable[[np.random.Generator], Floats], noise: Callable[[np.random.Generator], Floats]
) -> None:
    random = np.random.default_rng(1)
    errors, bounds = np.array([errors_ms(make(random), noise(random), 10, random) for _ in range(60)]).T
    assert np.isnan(errors).mean() <= 0.02
    assert np.nanmedian(np.abs(errors)) <= 0.2
    assert np.nanquantile(np.abs(errors), 0.9) <= 0.5
    assert (np.abs(errors) > bounds).mean() <= 0.05


def recorded_shots(data: Path) -> list[Floats]:
    """Shots from a quiet beginning, cut at a twentieth of their peak; their front takes a few milliseconds at most."""
    found = []
    with (data / "audio" / "manifest.csv").open() as lines:
        files = [row["file"] for row in csv.DictReader(lines) if row["label"] == "gunshot"]
    for file in files:
        sound = soundfile.read(data / "audio" / file)[0]
        loud = np.abs(sound)
        peak = int(loud.argmax())
        if peak < 1200 or peak + 3200 > len(sound) or loud[peak - 1200 : peak - 800].max() > 0.03 * loud[peak]:
            continue
        begin = peak - 800 + int(np.flatnonzero(loud[peak - 800 : peak + 1] > 0.05 * loud[peak])[0])
        if peak - begin <= 320:
            found.append(sound[begin : begin + 3200])
    return found


def street(data: Path) -> list[Floats]:
    with (data / "audio" / "manifest.csv").open() as lines:
        kinds = {"bg_street_music", "bg_children_playing", "bg_engine_idling", "bg_air_conditioner", "bg_rct"}
        files = [row["file"] for row in csv.DictReader(lines) if row["kind"] in kinds][::5]
    sounds = [soundfile.read(data / "audio" / file)[0] for file in files]
    return [sound for sound in sounds if len(sound) > 2 * LENGTH]


def test_a_recorded_shot_in_a_recorded_street_is_timed_to_half_a_millisecond(data: Path) -> None:
    random = np.random.default_rng(1)
    shots, noises = recorded_shots(data), street(data)
    assert len(shots) >= 20
    found = []
    for _ in range(4):
        for shot in shots:
            noise = noises[random.integers(len(noises))]
            place = int(random.integers(len(noise) - LENGTH))
            found.append(errors_ms(shot, noise[place : place + LENGTH], 10, random))
    errors, bounds = np.array(found).T
    assert np.isnan(errors).mean() <= 0.02
    assert (np.abs(errors) > bounds).mean() <= 0.2, "a soft beginning that the noise covers is not seen"
    assert np.nanmedian(np.abs(errors)) <= 0.2


@pytest.mark.parametrize("noise", [white, pink])
def test_noise_alone_has_no_onset(noise: Callable[[np.random.Generator], Floats]) -> None:
    random = np.random.default_rng(1)
    assert all(find_onset((0.05 * noise(random)).astype(np.float32)) is None for _ in range(100))


@pytest.mark.parametrize("sound", [np.zeros(LENGTH), 1e-6 * np.arange(LENGTH), np.ones(LENGTH)])
def test_silence_and_what_changes_slowly_has_none(sound: Floats) -> None:
    assert find_onset(sound.astype(np.float32)) is None
