"""The process that reads the microphone, so that one which hangs can be killed: PortAudio in, blocks on a pipe out.

PortAudio knows only the devices that were there when it started (https://github.com/PortAudio/portaudio/issues/11),
does not say that one is gone, and a sound server that is frozen freezes whoever reads from it, inside the library. So
each opening of a microphone is a process of its own, told to end by being killed. Callbacks are not used: they need
memory that is writable and executable, which the service may not have.

This module imports little: it must start fast and stay small. It keeps no sound but the block in its hands.

On standard output: one line of JSON, `{"rate": …, "channels": …}` or `{"error": …}`; then each block as `HEADER` and
its samples, float32, channel by channel within each moment. A header of no frames announces the text of an error.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import struct
import sys
import time
from typing import Any

#: When the last sample was taken, monotonic seconds; frames; 1 where sound was lost before, or the size of a text.
HEADER = struct.Struct("<dII")
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4
_RATE_HZ = 16_000
_BLOCK_S = 0.1


def _write(message: bytes) -> None:
    while message:
        message = message[os.write(1, message) :]


def _open(sounddevice: Any, name: str, channels: int) -> tuple[Any, int, int]:
    """A stream of the first device with this name in its name, its rate in Hz, its channels.

    Raises:
        LookupError: there is no such device, or it has too few channels.
        PortAudioError: it cannot be opened.
    """
    inputs = [device for device in sounddevice.query_devices() if device["max_input_channels"] > 0]
    found = next((device for device in inputs if name.lower() in device["name"].lower()), None)
    if found is None:
        there = ", ".join(repr(device["name"]) for device in inputs) or "none"
        raise LookupError(f"no input device has {name!r} in its name; there are: {there}")
    most = int(found["max_input_channels"])
    if most < channels:
        raise LookupError(f"{found['name']!r} has {most} channels, not {channels}: set microphone.channels")
    own = int(found["default_samplerate"])
    ways = [(rate, count) for count in dict.fromkeys((channels, most)) for rate in dict.fromkeys((_RATE_HZ, own))]
    for rate, count in ways[:-1]:
        try:
            sounddevice.check_input_settings(found["index"], channels=count, dtype="float32", samplerate=rate)
        except sounddevice.PortAudioError:
            continue
        break
    else:
        rate, count = ways[-1]
    stream = sounddevice.RawInputStream(
        device=found["index"], channels=count, dtype="float32", samplerate=rate, latency=2 * _BLOCK_S
    )
    stream.start()
    return stream, rate, count


def main(name: str, channels: int) -> int:
    """Read a microphone until killed.

    Args:
        name: Part of the device's name, in any case.
        channels: How many are wanted.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    libc.prctl(_PR_SET_DUMPABLE, 0)  # a core dump would keep sound
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever reads decides when to stop
    try:
        import sounddevice
    except OSError:
        _write(json.dumps({"error": "PortAudio is missing: apt install libportaudio2"}).encode() + b"\n")
        return 1
    try:
        stream, rate, count = _open(sounddevice, name, channels)
    except (LookupError, sounddevice.PortAudioError) as error:
        _write(json.dumps({"error": str(error)}).encode() + b"\n")
        return 1
    _write(json.dumps({"rate": rate, "channels": count}).encode() + b"\n")
    frames, amid = round(rate * _BLOCK_S), True  # nobody knows what sounded before
    try:
        while True:
            samples, lost = stream.read(frames)
            # What waits in the buffer was taken after the block; the next sample of it may come at any moment.
            taken = time.monotonic() - stream.read_available / rate
            _write(HEADER.pack(taken, frames, lost or amid) + bytes(samples))
            amid = False
    except sounddevice.PortAudioError as error:
        text = str(error).encode()
        _write(HEADER.pack(0.0, 0, len(text)) + text)
    except BrokenPipeError:
        pass
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
