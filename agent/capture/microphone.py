"""The microphone: 16 kHz, block by block, of which nothing is kept; and how it is doing.

A device is read by a process of its own (`agent.capture.ear`), which is killed when it gives nothing for a while: so a
device that was unplugged and a sound server that is dead or frozen are noticed in time, and the next opening starts
from nothing and finds what is there by then.
"""

from __future__ import annotations

import fcntl
import json
import logging
import math
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Protocol

import numpy as np

from agent.capture.ear import HEADER
from agent.capture.frame import SourceError
from agent.capture.sensor import Sensor
from agent.capture.sound import BLOCK_S, Block, FileSound, Resampler, SoundSource, take_channels
from agent.contract import MicrophoneState

log = logging.getLogger(__name__)

#: Nothing from the device for so long, and it is taken for unplugged; seconds.
LOST_S = 1.5
#: A sound server takes up to two seconds to the first sample, and the process has to start.
START_S = 6.0
#: So quiet for so long, and the microphone is taken for mute: the quietest street is 30 dB above it. dBFS, seconds.
SILENT_DBFS, SILENT_S = -90.0, 10.0
#: Share of samples at full scale from which a block is taken for clipped.
CLIPPED_SHARE = 0.005
#: Share of the last blocks that are clipped, over about so many seconds, at which the gain is too high; and at which it
#: no longer is. A bang close by clips a block or two with any gain.
CLIPPING_S, CLIPPING_BEGINS, CLIPPING_ENDS = 10.0, 0.05, 0.01
#: Room between the two processes, bytes: a few blocks.
_PIPE_BYTES = 16_384
_F_SETPIPE_SZ = 1031
#: More frames in a block, or bytes in a text, no process of ours sends.
_MOST = 100_000

_HEARING = frozenset({MicrophoneState.LIVE, MicrophoneState.SILENT, MicrophoneState.CLIPPING})
_AWAY = frozenset({MicrophoneState.LOST, MicrophoneState.PAUSED, MicrophoneState.ENDED})
#: The legal moves.
MOVES: dict[MicrophoneState, frozenset[MicrophoneState]] = {
    MicrophoneState.CONNECTING: frozenset({MicrophoneState.LIVE}) | _AWAY,
    **{state: (_HEARING - {state}) | _AWAY for state in _HEARING},
    MicrophoneState.LOST: frozenset({MicrophoneState.CONNECTING, MicrophoneState.PAUSED}),
    MicrophoneState.PAUSED: frozenset({MicrophoneState.CONNECTING}),
    MicrophoneState.ENDED: frozenset({MicrophoneState.PAUSED}),
}


class DeviceSound:
    """A microphone by part of its name, through a process that reads PortAudio."""

    def __init__(self, name: str, channels: int = 1, command: tuple[str, ...] | None = None) -> None:
        """Start to open the device; whether it can be opened is known when it is read.

        Args:
            name: Part of its name, in any case.
            channels: How many of its channels are taken; 1 mixes all that it has, unless it does so itself.
            command: What reads it, where it is not `agent.capture.ear`.
        """
        self._name = name
        self._channels = channels
        self._process = subprocess.Popen(
            command or (sys.executable, "-m", "agent.capture.ear", name, str(channels)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # PortAudio's libraries think aloud
        )
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        self._pipe: IO[bytes] = self._process.stdout
        fcntl.fcntl(self._pipe, _F_SETPIPE_SZ, _PIPE_BYTES)
        self._poll = select.poll()
        self._poll.register(self._pipe, select.POLLIN)
        self._resample: Resampler | None = None
        self._theirs = 0
        self._rate = 0

    def read(self) -> Block | None:
        """The next block, or None when the device has given nothing for `LOST_S`, at first `START_S`.

        Raises:
            SourceError: it cannot be opened, or is gone.
        """
        if self._resample is None:
            deadline = time.monotonic() + START_S
            if not self._greeted(deadline):
                return None
        else:
            deadline = time.monotonic() + LOST_S
        header = self._bytes(HEADER.size, deadline)
        if header is None:
            return None
        taken, frames, more = HEADER.unpack(header)
        if max(frames, 0 if frames else more) > _MOST:
            raise SourceError(f"microphone {self._name!r}: its process speaks another language")
        content = self._bytes(4 * self._theirs * frames or more, deadline)
        if content is None:
            return None
        if not frames:
            raise SourceError(f"microphone {self._name!r}: {content.decode(errors='replace')}; was it unplugged?")
        assert self._resample is not None  # noqa: S101 - made when it was greeted
        samples = np.frombuffer(content, np.float32).reshape(frames, self._theirs).T
        return Block(self._resample(take_channels(samples, self._channels)), taken, gap=bool(more))

    def _greeted(self, deadline: float) -> bool:
        """Read what the process says first; whether it did so in time."""
        line = b""
        while not line.endswith(b"\n"):
            byte = self._bytes(1, deadline)
            if byte is None:
                return False
            line += byte
        said = json.loads(line)
        if "error" in said:
            raise SourceError(f"microphone {self._name!r}: {said['error']}")
        self._rate, self._theirs = said["rate"], said["channels"]
        self._resample = Resampler(self._rate, self._channels)
        return True

    def _bytes(self, count: int, deadline: float) -> bytes | None:
        """So many bytes, or None when they are not there in time."""
        parts = []
        while count:
            left = deadline - time.monotonic()
            if left <= 0 or not self._poll.poll(1000 * left):
                return None
            part = os.read(self._pipe.fileno(), count)
            if not part:
                raise SourceError(f"microphone {self._name!r}: its process has ended; was it unplugged?")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def close(self) -> None:
        """End the process; safe to call twice."""
        self._process.kill()  # a stuck one heeds nothing less
        self._process.wait()
        self._pipe.close()


def open_sound(source: str, *, channels: int = 1, loop: bool = False) -> SoundSource:
    """Open a microphone or a sound file.

    Args:
        source: `device:NAME` or `file:PATH`.
        channels: How many of its channels are taken; 1 mixes all.
        loop: Begin a file again at its end.

    Raises:
        SourceError: no such kind of source, or it cannot be opened.
    """
    if source.startswith("file:"):
        return FileSound(Path(source.removeprefix("file:")), channels=channels, loop=loop)
    if source.startswith("device:"):
        return DeviceSound(source.removeprefix("device:"), channels)
    raise SourceError(f"microphone {source}: write it as device:NAME or file:PATH")


class Listener(Protocol):
    """Who is given the sound, in the microphone's own thread."""

    def begin(self) -> None:
        """Forget the sound: what comes next, if anything does, has nothing to do with what was before."""

    def hear(self, block: Block) -> None:
        """The next block."""


class Microphone(Sensor[MicrophoneState, SoundSource]):
    """One microphone: its level, how it is doing, and who listens."""

    def __init__(
        self,
        opener: Callable[[], SoundSource],
        listener: Listener | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is opened before `start`.

        Args:
            opener: Opens the source anew; raises SourceError.
            listener: Gets the sound.
            clock: Monotonic seconds.
        """
        super().__init__("microphone", opener, MicrophoneState, MOVES, clock)
        self._listener = listener
        self._loud_at = 0.0
        self._clipped = 0.0
        self.level_dbfs = -math.inf
        """Root mean square of the last block, of the loudest channel, dB of full scale."""

    def _read(self, source: SoundSource) -> None:
        self._loud_at = self._clock()
        self._clipped = 0.0
        try:
            self._follow(source)
        finally:
            if self._listener:
                self._listener.begin()  # the shutter is closed, or the device gone: nothing stays

    def _follow(self, source: SoundSource) -> None:
        while self._reading:
            self._goes_on()
            try:
                block = source.read()
            except EOFError:
                self._move(MicrophoneState.ENDED, "the file has come to its end")
                return
            if block is None:
                raise SourceError(f"microphone: no sound for {LOST_S} s; was it unplugged, or is its server frozen?")
            if not block.samples.size:
                continue
            self._judge(block)
            if self._listener:
                self._listener.hear(block)

    def _judge(self, block: Block) -> None:
        """Level and state."""
        samples = block.samples
        power = float(np.einsum("cn,cn->c", samples, samples).max()) / samples.shape[1]
        self.level_dbfs = 10 * math.log10(power) if power > 0 else -math.inf
        if self.level_dbfs > SILENT_DBFS:
            self._loud_at = self._clock()
        clipped = np.count_nonzero(np.abs(samples) >= 0.999) > CLIPPED_SHARE * samples.size
        self._clipped += (clipped - self._clipped) * BLOCK_S / CLIPPING_S
        was = self.state
        if was is MicrophoneState.CONNECTING:
            self._move(MicrophoneState.LIVE)
        if self._clipped > (CLIPPING_ENDS if was is MicrophoneState.CLIPPING else CLIPPING_BEGINS):
            self._move(MicrophoneState.CLIPPING, "the sound is clipped again and again: lower the gain")
        elif self._clock() - self._loud_at >= SILENT_S:
            self._move(MicrophoneState.SILENT, "nothing but digital silence: is it muted?")
        else:
            self._move(MicrophoneState.LIVE)
