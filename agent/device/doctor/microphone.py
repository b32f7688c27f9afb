"""The microphone: does it hear. What sense holds is asked of it; what nobody holds is listened to for a moment."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from agent.capture.frame import SourceError
from agent.capture.microphone import open_sound
from agent.device.doctor.check import Finding, Findings, Patient, fail, ok, warn
from agent.device.doctor.shutter import closed
from agent.perception.calibrate import Calibration, Levels
from agent.perception.hum import hum

#: For how long it is listened, seconds, from the first sound on.
LISTEN_S = 2.0
#: Blocks with a sample at full scale, percent, from which the gain is too high: a bang close by clips one or two.
_CLIPPED = 10.0
#: Hum is told where it is most of what is heard, and loud enough to be heard, dBFS.
_HUMS, _HUM_DBFS = 0.6, -60.0
#: The share of a moment that is thrown away: what a device gives first is no sound of the place, seconds.
_FIRST_S = 0.3
_UNPLUGGED = "plug it in, and see what there is: arecord -l; vigie test mic --source device:NAME"


@dataclass(frozen=True)
class Heard:
    """What a moment of sound is like; of the sound itself nothing is kept.

    Attributes:
        levels: Its levels.
        mains_hz: The mains whose hum is strongest.
        hum: Share of the sound below 1 kHz that this hum is.
    """

    levels: Levels
    mains_hz: float
    hum: float


def examine(patient: Patient) -> Findings:
    """Present by name, level, clipping, silence, hum."""
    settings = patient.settings.microphone
    if settings.source is None:
        return [ok("", "none is configured")]
    name = settings.source.removeprefix("device:")
    held = patient.held
    if held is not None and held.microphone != "none":
        return _asked(name, held.microphone)
    if closed(patient.settings):
        return [ok(name, "not opened: the privacy shutter is closed")]
    try:
        heard = listen(settings.source, settings.channels, LISTEN_S)
    except SourceError as error:
        return [_absent(name, str(error).removeprefix(f"microphone {name!r}: "))]
    return judge(name, heard)


def _asked(name: str, state: str) -> Findings:
    fixes = {
        "lost": _UNPLUGGED,
        "silent": "is it muted? alsamixer -V capture; its cable; vigie test mic",
        "clipping": "lower its gain: alsamixer -V capture; then vigie test mic --calibrate",
    }
    if state == "paused":
        return [ok(name, "the privacy shutter is closed")]
    if state in fixes:
        return [(warn if state == "clipping" else fail)(name, f"{state}, as sense says", fixes[state])]
    if state == "connecting":
        return [warn(name, "connecting, as sense says", "wait half a minute, and ask again")]
    return [ok(name, f"{state}, as sense says")]


def _absent(name: str, why: str) -> Finding:
    if "no input device" in why:
        there = why.partition("there are: ")[2]
        if there in {"", "none"}:
            return fail(name, f"no microphone is plugged in: {why}", _UNPLUGGED)
        return fail(name, why, f'set microphone.source to one of them: "device:{there.split(",")[0].strip()}"')
    return fail(name, why, _UNPLUGGED)


def listen(source: str, channels: int, seconds: float) -> Heard:
    """What is heard over some seconds.

    Raises:
        SourceError: it cannot be opened, or gives nothing.
    """
    calibration, kept = Calibration(), []
    sound = open_sound(source, channels=channels, loop=True)
    try:
        begun: float | None = None
        while begun is None or time.monotonic() - begun < seconds + _FIRST_S:
            block = sound.read()
            if block is None:
                raise SourceError(f"microphone {source}: is open, and gives no sound: is its server frozen?")
            begun = begun or time.monotonic()
            if time.monotonic() - begun >= _FIRST_S and block.samples.size:
                calibration.add(block)
                kept.append(block.samples.mean(axis=0, dtype=np.float32))
    except EOFError:
        pass
    finally:
        sound.close()
    mains, share = hum(np.concatenate(kept)) if kept else (0.0, 0.0)
    return Heard(calibration.levels(), mains, share)


def judge(name: str, heard: Heard) -> Findings:
    """What to say of what was heard."""
    levels = heard.levels
    if not levels.seconds:
        return [fail(name, "is open, and gives no sound", _UNPLUGGED)]
    if levels.median_dbfs is None and levels.peak_dbfs is None:
        fix = "is it muted? alsamixer -V capture, or pactl set-source-mute @DEFAULT_SOURCE@ 0; then its cable"
        return [fail(name, "silent: nothing but digital silence", fix)]
    level = f"background {_dbfs(levels.floor_dbfs)}, peak {_dbfs(levels.peak_dbfs)}"
    found = []
    if levels.clipped_percent >= _CLIPPED:
        fix = "lower its gain: alsamixer -V capture; then vigie test mic --calibrate"
        found.append(warn(name, f"clips in {levels.clipped_percent:.0f} % of the time; {level}", fix))
    if heard.hum > _HUMS and levels.floor_dbfs is not None and levels.floor_dbfs > _HUM_DBFS:
        fix = "keep its cable away from power lines, ground it at one end, try another power supply"
        found.append(warn(name, f"hums at {heard.mains_hz:.0f} Hz: {heard.hum:.0%} of what it hears; {level}", fix))
    return found or [ok(name, level)]


def _dbfs(value: float | None) -> str:
    return "silent" if value is None else f"{value:.0f} dBFS"
