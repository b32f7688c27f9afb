"""Sounds as a street and a cheap microphone would have changed them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agent.evaluate.sounds import BLOCK, level, loudness
from agent.perception.logmel import PATCH, RATE

Samples = NDArray[np.float32]

#: What is cut out before a patch, so that its echoes reach into it: half a second.
LEAD = RATE // 2
_FFT = 32_768
_FREQUENCIES = np.fft.rfftfreq(_FFT, 1 / RATE)


def cut(samples: Samples, random: np.random.Generator, within_db: float) -> Samples:
    """A patch with some loud moment of a sound in it, and `LEAD` before, (`LEAD` + `PATCH`,) float32.

    Args:
        samples: (S,) float32.
        random: Chooses the moment, and where in the patch it comes.
        within_db: How much fainter than the loudest 20 ms the moment may be.
    """
    power = loudness(samples)
    moment = BLOCK * random.choice(np.flatnonzero(power >= power.max() * 10 ** (-within_db / 10)))
    first = int(moment - random.uniform(0.05, 0.9) * PATCH) - LEAD
    piece = np.zeros(LEAD + PATCH, np.float32)
    begin, end = max(first, 0), min(first + len(piece), len(samples))
    piece[begin - first : end - first] = samples[begin:end]
    return piece


def faster(piece: Samples, rate: float) -> Samples:
    """The same played so many times faster, pitch and all, ending at the same moment."""
    places = len(piece) - 1 - np.arange(len(piece))[::-1] * rate
    return np.asarray(np.interp(places, np.arange(len(piece)), piece, left=0.0), np.float32)


def strange(piece: Samples, random: np.random.Generator) -> Samples:
    """A sound that nobody knows: played much faster or slower, backwards, through a random filter of an octave's grain.

    Only for a lesson that needs no labels: a teacher says what it hears in anything.
    """
    piece = faster(piece, np.exp(random.uniform(-0.6, 0.6)))
    if random.random() < 0.3:
        piece = piece[::-1]
    if random.random() < 0.5:
        octaves = np.log2(np.maximum(_FREQUENCIES, 31) / 31)
        gains = np.interp(octaves, np.arange(10), random.normal(0, 8, 10))
        filtered = np.fft.irfft(np.fft.rfft(piece, _FFT) * 10 ** (gains / 20), _FFT)
        piece = filtered[: len(piece)].astype(np.float32)
    return np.ascontiguousarray(piece, np.float32)


def synthesised(random: np.random.Generator) -> Samples:
    """A whistle, wail, buzz, hiss, or a few knocks, (`LEAD` + `PATCH`,) float32."""
    time = np.arange(LEAD + PATCH) / RATE
    kind = random.integers(4)
    if kind == 3:
        piece = random.standard_normal(len(time)) * 0.01
        for begin in random.integers(LEAD // 2, len(time), random.integers(1, 6)):
            ring = np.exp(-time[: len(time) - begin] / random.uniform(0.003, 0.2))
            tone = np.sin(2 * np.pi * random.uniform(100, 5000) * time[: len(time) - begin])
            noise = random.standard_normal(len(time) - begin)
            piece[begin:] += ring * (tone * random.random() + noise * random.random())
    elif kind == 2:
        piece = random.standard_normal(len(time))
    else:
        wail = 2 ** (random.uniform(0, 1.2) * np.sin(2 * np.pi * random.uniform(0.1, 6) * time + random.uniform(0, 6)))
        phase = 2 * np.pi * np.cumsum(np.exp(random.uniform(4.6, 7.8)) * wail) / RATE
        harmonics = 1 if kind == 0 else int(random.integers(2, 20))
        fall = random.uniform(0.3, 1.5)
        piece = sum((np.sin(n * phase) / n**fall for n in range(1, harmonics + 1)), np.zeros(len(time)))
    if random.random() < 0.5:
        piece = piece * (1 + np.sin(2 * np.pi * np.exp(random.uniform(-0.7, 4)) * time)) / 2
    if random.random() < 0.5:
        begin, end = np.sort(random.uniform(LEAD / RATE, time[-1], 2))
        piece = piece * ((time > begin) & (time < end) | (random.random() < 0.2))
    return np.asarray(piece, np.float32)


def room(random: np.random.Generator) -> NDArray[np.complex64]:
    """Transfer function of a yard or street: the direct sound, then noise that dies away exponentially.

    Polack's model (1988): 60 dB in 0.1 to 1.2 s, cut after half a second, 0 to 15 dB below the direct sound.
    """
    length = RATE // 2
    decay = 10 ** (-3 * np.arange(length) / RATE / random.uniform(0.1, 1.2))
    response = (random.standard_normal(length, np.float32) * decay).astype(np.float32)
    response[: int(random.uniform(0.002, 0.02) * RATE)] = 0
    response *= 10 ** (random.uniform(-15, 0) / 20) / np.linalg.norm(response)
    response[0] = 1
    return np.asarray(np.fft.rfft(response, _FFT), np.complex64)


def microphone(random: np.random.Generator) -> Samples:
    """Amplitudes of a cheap microphone in its case: high pass, low pass, one resonance."""
    with np.errstate(divide="ignore"):
        high_pass = 1 / (1 + (random.uniform(40, 400) / _FREQUENCIES) ** 4)
    low_pass = 1 / (1 + (_FREQUENCIES / random.uniform(3000, 9000)) ** 6)
    octaves = np.log2(np.maximum(_FREQUENCIES, 1) / random.uniform(300, 4000))
    resonance = 10 ** (random.uniform(-9, 9) / 20 * np.exp(-np.square(octaves / random.uniform(0.3, 1.5))))
    return np.asarray(np.sqrt(high_pass * low_pass) * resonance, np.float32)


def mix(event: Samples, other: Samples | None, random: np.random.Generator) -> tuple[Samples, float]:
    """An event in a room, another sound behind it, both through one microphone.

    Args:
        event: (`LEAD` + `PATCH`,) float32.
        other: The same of another sound, or None for silence behind.
        random: Decides everything.

    Returns:
        The patch, (`PATCH`,) float32 with its peak near 0.7, and how much louder than the other sound the event is, dB.
    """
    if random.random() < 0.3:
        event = faster(event, random.uniform(0.9, 1.1))
    louder = random.uniform(-5, 20) if other is not None else np.inf
    transfer = room(random) if random.random() < 0.4 else np.ones(1, np.complex64)
    spectrum = np.fft.rfft(event, _FFT) * transfer
    if other is not None:
        ratio = np.sqrt(np.square(event[LEAD:]).mean() / max(np.square(other[LEAD:]).mean(), 1e-12))
        spectrum += np.fft.rfft(other, _FFT) * (ratio * 10 ** (-louder / 20))
    if random.random() < 0.5:
        spectrum *= microphone(random)
    return _recorded(np.fft.irfft(spectrum, _FFT)[LEAD : LEAD + PATCH].astype(np.float32), random), louder


def lay_over(event: Samples, street: Samples, random: np.random.Generator) -> tuple[Samples, float]:
    """An event in a room, in the midst of a street, as `agent.evaluate.street` lays it: by its loudest moments.

    Args:
        event: (`LEAD` + `PATCH`,) float32.
        street: The same of a street.
        random: Decides everything.

    Returns:
        As `mix`; the level is that of the event's loudest 20 ms over the street's mean.
    """
    if random.random() < 0.4:
        event = faster(event, random.uniform(0.88, 1.14))
    spectrum = np.fft.rfft(event, _FFT)
    if random.random() < 0.5:
        spectrum *= room(random)
    if random.random() < 0.5:
        # What was recorded with another microphone, or far away.
        spectrum *= microphone(random)
    event = np.fft.irfft(spectrum, _FFT)[LEAD : LEAD + PATCH].astype(np.float32)
    louder = random.uniform(-5, 25)
    under = max(float(np.square(street[LEAD:]).mean()), 1e-9)
    patch = street[LEAD:] + event * np.float32(np.sqrt(10 ** (louder / 10) * under / max(level(event), 1e-12)))
    if random.random() < 0.3:
        patch = np.fft.irfft(np.fft.rfft(patch, _FFT) * microphone(random), _FFT)[:PATCH].astype(np.float32)
    return _recorded(patch, random), louder


def _recorded(patch: Samples, random: np.random.Generator) -> Samples:
    """A patch near full scale, sometimes with the hiss of a microphone, sometimes overdriven."""
    patch = patch * np.float32(0.7 / max(float(np.abs(patch).max()), 1e-6))
    if random.random() < 0.4:
        patch += random.standard_normal(PATCH, np.float32) * 10 ** (random.uniform(-70, -30) / 20)
    if random.random() < 0.15:
        # Overdriven: what is above full scale is lost.
        over = 10 ** (random.uniform(3, 18) / 20) / 0.7
        patch = np.clip(patch * over, -1, 1) * 0.7
    return np.asarray(patch, np.float32)
