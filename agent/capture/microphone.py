"""The microphone: 16 kHz mono, block by block, of which nothing is kept; and how it is doing.

PortAudio does not say that a microphone was unplugged, and it knows only the devices that were there when it started
(https://github.com/PortAudio/portaudio/issues/11). So a device is looked for by name in a fresh start of PortAudio, and
a read that gives nothing for a while means that it is gone.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import av
import numpy as np
import soundfile
from numpy.typing import NDArray

from agent.capture.frame import SourceError
from agent.capture.sensor import Sensor
from agent.contract import MicrophoneState

log = logging.getLogger(__name__)

RATE_HZ = 16_000
BLOCK_S = 0.1
#: Nothing from the device for so long, and it is taken for unplugged; seconds.
LOST_S = 1.5
#: A sound server takes up to two seconds to the first sample.
START_S = 5.0
#: So quiet for so long, and the microphone is taken for mute: the quietest street is 30 dB above it. dBFS, seconds.
SILENT_DBFS, SILENT_S = -90.0, 10.0
#: Share of samples at full scale from which a block is taken for clipping.
CLIPPING_SHARE = 0.005

Samples = NDArray[np.float32]

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


class SoundSource(Protocol):
    """Where sound comes from. One thread opens, reads and closes it."""

    def read(self) -> Samples | None:
        """The next block, (N,) float32 in -1 to 1 at 16 kHz, or None when none came for `LOST_S`.

        Raises:
            EOFError: a file has come to its end.
            SourceError: the source has failed; close it and open a new one.
        """

    def close(self) -> None:
        """Let go of the device; safe to call twice."""


class _Resampler:
    """Blocks of one rate to 16 kHz, by libswresample."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._resampler = av.AudioResampler(format="fltp", layout="mono", rate=RATE_HZ)

    def __call__(self, block: Samples) -> Samples:
        """(N,) float32 at the rate it was made for; (M,) float32 at 16 kHz, a little late."""
        if self._rate_hz == RATE_HZ:
            return block
        sound = av.AudioFrame.from_ndarray(np.ascontiguousarray(block[None, :]), format="fltp", layout="mono")
        sound.sample_rate = self._rate_hz
        planes = [frame.to_ndarray()[0].astype(np.float32) for frame in self._resampler.resample(sound)]
        return np.concatenate(planes) if planes else np.empty(0, np.float32)


class FileSound:
    """A sound file at its own pace."""

    def __init__(
        self,
        path: Path,
        *,
        loop: bool = False,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        """Open the file.

        Raises:
            SourceError: it cannot be read, or there is nothing in it.
        """
        self._path = path
        self._loop = loop
        self._clock = clock
        self._wait = wait
        self._next_at: float | None = None
        try:
            self._file = soundfile.SoundFile(path)
        except (soundfile.LibsndfileError, OSError) as error:
            raise SourceError(f"file:{path}: cannot be read as sound: {error}") from error
        if not self._file.frames:
            self._file.close()
            raise SourceError(f"file:{path}: has no sound in it")
        self._blocks = self._play()

    def _play(self) -> Iterator[Samples]:
        while True:
            self._file.seek(0)
            to_rate = _Resampler(self._file.samplerate)
            for channels in self._file.blocks(round(self._file.samplerate * BLOCK_S), dtype="float32", always_2d=True):
                yield to_rate(channels.mean(axis=1))
            if not self._loop:
                return

    def read(self) -> Samples | None:
        """The next block, when it is due.

        Raises:
            EOFError: the file has come to its end.
            SourceError: it cannot be read.
        """
        try:
            block = next(self._blocks)
        except StopIteration:
            raise EOFError(f"file:{self._path}: has come to its end") from None
        except soundfile.LibsndfileError as error:
            raise SourceError(f"file:{self._path}: {error}") from error
        now = self._clock()
        due = now if self._next_at is None else self._next_at
        self._next_at = due + BLOCK_S
        if due > now:
            self._wait(due - now)
        return block

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self._file.close()


class DeviceSound:
    """A microphone by part of its name, through PortAudio, with blocking reads.

    Callbacks are not used: they need memory that is writable and executable, which the service may not have.
    """

    def __init__(self, name: str) -> None:
        """Open the device.

        Args:
            name: Part of its name, in any case.

        Raises:
            SourceError: PortAudio is missing, there is no such device, or it cannot be opened.
        """
        try:
            import sounddevice
        except OSError as error:
            raise SourceError("microphone: PortAudio is missing: apt install libportaudio2") from error
        self._name = name
        # PortAudio lists devices only when it starts; start it anew to find one that was plugged in since.
        sounddevice._terminate()  # noqa: SLF001 - there is no public way
        sounddevice._initialize()  # noqa: SLF001
        try:
            inputs = [d for d in sounddevice.query_devices() if d["max_input_channels"] > 0]
            found = next((d for d in inputs if name.lower() in d["name"].lower()), None)
            if found is None:
                there = ", ".join(repr(d["name"]) for d in inputs) or "none"
                raise SourceError(f"microphone: no input device has {name!r} in its name; there are: {there}")
            self._rate = RATE_HZ
            try:
                sounddevice.check_input_settings(found["index"], channels=1, dtype="float32", samplerate=RATE_HZ)
            except sounddevice.PortAudioError:
                self._rate = int(found["default_samplerate"])
            self._stream: Any = sounddevice.InputStream(
                device=found["index"], channels=1, dtype="float32", samplerate=self._rate, latency=2 * BLOCK_S
            )
            self._stream.start()
        except sounddevice.PortAudioError as error:
            raise SourceError(f"microphone {name!r}: cannot be opened: {error}") from error
        self._error: type[Exception] = sounddevice.PortAudioError
        self._to_rate = _Resampler(self._rate)
        self._patience_s = START_S

    def read(self) -> Samples | None:
        """The next block, or None when the device has been mute for `LOST_S`.

        Raises:
            SourceError: the device is gone.
        """
        deadline = time.monotonic() + self._patience_s
        try:
            # To read what is not there yet could wait for ever on a device that is gone.
            while not (there := self._stream.read_available):
                if not self._stream.active:
                    raise SourceError(f"microphone {self._name!r}: the stream has stopped; was it unplugged?")
                if time.monotonic() > deadline:
                    return None
                time.sleep(BLOCK_S / 5)
            block: Samples = self._stream.read(there)[0][:, 0]
            self._patience_s = LOST_S
        except self._error as error:
            raise SourceError(f"microphone {self._name!r}: {error}") from error
        return self._to_rate(block)

    def close(self) -> None:
        """Let go of the device; safe to call twice."""
        try:
            self._stream.abort(ignore_errors=True)
            self._stream.close(ignore_errors=True)
        except self._error:
            log.warning("sensor=microphone event=close_failed device=%r", self._name)


def open_sound(source: str, *, loop: bool = False) -> SoundSource:
    """Open a microphone or a sound file.

    Args:
        source: `device:NAME` or `file:PATH`.
        loop: Begin a file again at its end.

    Raises:
        SourceError: no such kind of source, or it cannot be opened.
    """
    if source.startswith("file:"):
        return FileSound(Path(source.removeprefix("file:")), loop=loop)
    if source.startswith("device:"):
        return DeviceSound(source.removeprefix("device:"))
    raise SourceError(f"microphone {source}: write it as device:NAME or file:PATH")


class Microphone(Sensor[MicrophoneState, SoundSource]):
    """One microphone: its level, and how it is doing."""

    def __init__(self, opener: Callable[[], SoundSource], clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing is opened before `start`.

        Args:
            opener: Opens the source anew; raises SourceError.
            clock: Monotonic seconds.
        """
        super().__init__("microphone", opener, MicrophoneState, MOVES)
        self._clock = clock
        self.level_dbfs = -math.inf
        """Root mean square of the last block, dB of full scale."""

    def _read(self, source: SoundSource) -> None:
        loud_at = self._clock()
        while self._reading:
            try:
                block = source.read()
            except EOFError:
                self._move(MicrophoneState.ENDED, "the file has come to its end")
                return
            if block is None:
                raise SourceError(f"microphone: no sound for {LOST_S} s; was it unplugged?")
            if not len(block):
                continue
            power = float(np.dot(block, block)) / len(block)
            self.level_dbfs = 10 * math.log10(power) if power > 0 else -math.inf
            now = self._clock()
            if self.state is MicrophoneState.CONNECTING:
                self._move(MicrophoneState.LIVE)
            if self.level_dbfs > SILENT_DBFS:
                loud_at = now
            if np.count_nonzero(np.abs(block) >= 0.999) > CLIPPING_SHARE * len(block):
                self._move(MicrophoneState.CLIPPING, "the sound is clipped: lower the gain")
            elif now - loud_at >= SILENT_S:
                self._move(MicrophoneState.SILENT, "nothing but digital silence: is it muted?")
            elif self.level_dbfs > SILENT_DBFS or self.state is not MicrophoneState.SILENT:
                self._move(MicrophoneState.LIVE)
