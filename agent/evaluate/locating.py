"""How well shots are located, on simulated streets: devices, clocks and echoes as nobody's fit assumes them.

Places are drawn evenly in a square, a shot somewhere in it; every device hears it at its distance over a speed of sound
that the fit does not know exactly, on a clock that is off, with an onset that is off, and some hear an echo only, later
by an exponential of the stated mean (room acoustics: Kuttruff, "Room Acoustics", 2009, ch. 4) where the fit assumes a
Gaussian. These are the simulator's figures, never field accuracy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from agent.fleet.locate import Arrival, Place, locate, speed_of_sound

_ONSET_ERROR_S = 0.002


@dataclass(frozen=True, slots=True)
class Street:
    """What is simulated.

    Attributes:
        devices: How many hear it.
        side_m: Side of the square in which they and the shot are, metres.
        clock_error_s: Standard deviation of each clock, seconds.
        echo: Share of arrivals that are an echo.
        echo_s: Mean lateness of an echo, seconds.
        temperature_c: What the thermometer says; the air is within 3 °C of it (standard deviation).
        wind_m_s: Standard deviation of the wind along each way, m/s.
        position_error_m: Standard deviation of each surveyed coordinate, metres.
    """

    devices: int = 6
    side_m: float = 200.0
    clock_error_s: float = 0.005
    echo: float = 0.15
    echo_s: float = 0.06
    temperature_c: float = 15.0
    wind_m_s: float = 2.0
    position_error_m: float = 1.0


@dataclass(frozen=True, slots=True)
class Located:
    """How it went.

    Attributes:
        shots: How many there were.
        located: How many got a place.
        refused: Why the others did not.
        median_error_m: Of those with a place, metres.
        p90_error_m: What nine in ten of them stay below, metres.
        coverage: Share of them that lie in their ellipse.
        median_major_m: Longer half axis of the ellipse, metres.
    """

    shots: int
    located: int
    refused: dict[str, int]
    median_error_m: float | None
    p90_error_m: float | None
    coverage: float | None
    median_major_m: float | None


def evaluate(street: Street, shots: int, seed: int, done: Callable[[], None] = lambda: None) -> Located:
    """Locate simulated shots; `done` is called after each."""
    rng = np.random.default_rng(seed)
    errors, held, major = [], [], []
    refused: Counter[str] = Counter()
    for _ in range(shots):
        shot, arrivals = _hear(street, rng)
        place = locate(arrivals, street.temperature_c, position_error_m=street.position_error_m)
        if isinstance(place, Place):
            errors.append(float(np.hypot(place.x - shot[0], place.y - shot[1])))
            held.append(place.holds(*shot))
            major.append(place.semi_major_m)
        else:
            refused[place] += 1
        done()
    if not errors:
        return Located(shots, 0, dict(refused), None, None, None, None)
    return Located(
        shots,
        len(errors),
        dict(refused),
        float(np.median(errors)),
        float(np.quantile(errors, 0.9)),
        float(np.mean(held)),
        float(np.median(major)),
    )


def _hear(street: Street, rng: np.random.Generator) -> tuple[tuple[float, float], list[Arrival]]:
    """A shot's place and what the devices make of it."""
    shot = rng.uniform(0, street.side_m, 2)
    sites = rng.uniform(0, street.side_m, (street.devices, 2))
    speed = speed_of_sound(street.temperature_c + rng.normal(0, 3.0))
    heights = rng.uniform(2.0, 6.0, street.devices)
    ways = np.sqrt(np.square(sites - shot).sum(axis=1) + np.square(heights - 1.5))
    times = ways / (speed + rng.normal(0, street.wind_m_s, street.devices))
    times += rng.normal(0, street.clock_error_s, street.devices)
    times += rng.uniform(-_ONSET_ERROR_S, _ONSET_ERROR_S, street.devices)
    times += np.where(rng.random(street.devices) < street.echo, rng.exponential(street.echo_s, street.devices), 0)
    told = sites + rng.normal(0, street.position_error_m, sites.shape)
    error_s = float(np.hypot(street.clock_error_s, _ONSET_ERROR_S / np.sqrt(3)))
    return (float(shot[0]), float(shot[1])), [
        Arrival(float(x), float(y), float(time), error_s) for (x, y), time in zip(told, times, strict=True)
    ]
