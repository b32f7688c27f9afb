"""What the microphone gives to behaviours, twice a second: how likely each sound is, and when the last impulse began.

Sound is kept for six tenths of a second and overwritten. Each half second becomes 50 frames of the mel spectrogram, in
which phase is lost; the tagger looks at the last 96 of them, so that its windows overlap and no impulse is split by all
of them. The front end is thus computed once for every sample.

The room: the level of the background is followed over minutes, faster where it falls. A microphone whose background is
fainter than that of the recordings which the networks learnt from is amplified as far, by up to 20 dB, though
never beyond full scale. And where nothing stands out of the background, no network is asked.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from agent.capture.sound import BLOCK_S, RATE_HZ, Block
from agent.perception.logmel import BANDS, FLOOR, FRAME, FRAMES, HOP, PATCH, mel
from agent.perception.onset import AROUND, Onset, find_onset
from agent.perception.sudden import Sudden, levels, loudness, stands_out
from agent.perception.tag import CLASSES, STEP, Tagger

Floats = NDArray[np.float32]

#: Seconds from one hearing to the next.
HOP_S = STEP / RATE_HZ
#: Sound kept from before a step, samples: what an onset needs around it, which is more than the first frame does.
_KEPT = 2 * AROUND
_NEW_FRAMES = STEP // HOP
_FIRST_FRAME = STEP + FRAME - HOP
#: Level of the background that the networks know, dBFS (the median of the street recordings that they learnt from lies
#: between -45 and -25), and how far a fainter one is amplified: more would only lift the microphone's own hiss.
USUAL_DBFS, MOST_GAIN_DB = -40.0, 20.0
#: Time in which the background is followed as it falls and as it rises, and the gain after it, seconds: an event may
#: last a minute and must not become the background.
_FALL_S, _RISE_S, _GAIN_S = 10.0, 120.0, 60.0
#: The background of a hop is the level that so much of it stays below; what is fainter than this is no sound, dBFS.
BACKGROUND_SHARE, NO_SOUND_DBFS = 0.2, -90.0
#: A network that has heard something is asked on, from this probability on.
_INTERESTING = 0.2
#: Hops until the background is known; a network is asked in each of them.
_WARM_UP = 10
#: Hops whose sound a window has a part of.
_WINDOW_HOPS = 2
#: What is heard first comes straight; what follows with less than this much of its rise may be an echo. dB.
_ECHO_DB = 6.0
#: Time over which blocks tell that of the samples, seconds: a clock that is off by 100 ppm slips a millisecond in it.
_CLOCK_S = 10.0
#: An onset whose front is steep is known to so much on the clock of samples, seconds.
ONSET_ERROR_S = 1e-3


@dataclass(frozen=True, slots=True)
class Hearing:
    """One hop, as behaviours hear it. It dies with the hop.

    Attributes:
        time: End of the window, seconds on the source's clock.
        scores: (7,) float32, 0 to 1, in the order of `CLASSES`: how likely each is in the window, of the channel in
            which it is likeliest.
        onset: When the first strong impulse of the window began, on the same clock; None where there is none.
        onset_error: How far off that may be, seconds.
        quiet: Whether nothing stood out, so that no network was asked.
        sudden: Whether something in the window is louder than what was heard for a while.
    """

    time: float
    scores: Floats
    onset: float | None = None
    onset_error: float = 0.0
    quiet: bool = False
    sudden: bool = True


class SampleClock:
    """When a sample was taken, from when its blocks came.

    A block comes late by what the device and the system let it wait, never early; the promptest of the last ten seconds
    tells the time of all. What it waits at least remains unknown.
    """

    def __init__(self) -> None:
        self._offsets: deque[float] = deque(maxlen=round(_CLOCK_S / BLOCK_S))

    def update(self, samples: int, time: float) -> None:
        """Learn that the sample of this number, counted from 0, had been taken at this time."""
        self._offsets.append(time - samples / RATE_HZ)

    def time(self, sample: float) -> float:
        """When a sample was taken, seconds on the clock of the blocks."""
        return min(self._offsets) + sample / RATE_HZ

    @property
    def error(self) -> float:
        """How far off that may be, seconds: how much the promptest tenth of the blocks disagree."""
        offsets = sorted(self._offsets)
        return offsets[-1 if len(offsets) < 20 else len(offsets) // 10] - offsets[0]


def gain_for(floor_dbfs: float) -> float:
    """The gain that lifts a background to the usual one, dB, as far as that is sensible."""
    return min(max(USUAL_DBFS - floor_dbfs, 0.0), MOST_GAIN_DB)


class Room:
    """The background of one microphone, and the gain that suits it."""

    def __init__(self, gain_db: float = 0.0, floor_dbfs: float | None = None) -> None:
        """Begin with what is known.

        Args:
            gain_db: Of the site, dB; what the background asks for beyond it is added.
            floor_dbfs: Level of the background as calibrated, dBFS; None to learn it from the first seconds.
        """
        self._fixed_db = gain_db
        self.floor_dbfs = floor_dbfs
        """Level of the background before any gain; None until there was a sound."""
        self._hops = 0 if floor_dbfs is None else _WARM_UP
        self._added_db = 0.0 if floor_dbfs is None else gain_for(floor_dbfs + gain_db)

    @property
    def gain_db(self) -> float:
        """What the sound is amplified by."""
        return self._fixed_db + self._added_db

    def update(self, background_dbfs: float) -> None:
        """Learn from the background of one hop, before any gain."""
        if background_dbfs < NO_SOUND_DBFS:
            return
        self._hops += 1
        if self.floor_dbfs is None:
            self.floor_dbfs = background_dbfs
        slow = _FALL_S if background_dbfs < self.floor_dbfs else _RISE_S
        # The first seconds are an average; from then on it follows.
        self.floor_dbfs += (background_dbfs - self.floor_dbfs) * max(
            HOP_S / slow, 1 / self._hops if self._hops <= _WARM_UP else 0
        )
        self._added_db += (gain_for(self.floor_dbfs + self._fixed_db) - self._added_db) * HOP_S / _GAIN_S


class Ears:
    """Turns blocks of sound into hearings, for whoever wants them. It works in the microphone's own thread."""

    def __init__(self, tagger: Tagger, channels: int, room: Room, tell: Callable[[Hearing], None]) -> None:
        """Nothing is heard yet.

        Args:
            tagger: Names sounds.
            channels: Rows of a block.
            room: The background of the microphone; it outlives interruptions.
            tell: Gets each hearing.
        """
        self.room = room
        self._tagger = tagger
        self._tell = tell
        self._sound = np.zeros((channels, _KEPT + STEP), np.float32)
        self._mels = np.empty((channels, FRAMES, BANDS), np.float32)
        self._peaks: deque[float] = deque(maxlen=_WINDOW_HOPS)
        self._background = np.empty(BANDS, np.float32)
        self.begin()

    def begin(self, *, amid: bool = False) -> None:
        """Forget the sound: what comes next has nothing to do with what was before.

        Args:
            amid: It comes amid sounds that nobody heard; else silence was before it.
        """
        self._sound[:] = 0
        self._mels[:] = 0
        self._peaks.clear()
        self._filled = _KEPT
        self._samples = 0
        self._hops = 0
        self._open_hops = _WARM_UP
        self._clock = SampleClock()
        self._onsets: deque[Onset] = deque(maxlen=_WINDOW_HOPS + 1)
        self._sudden = Sudden(amid=amid)

    def hear(self, block: Block) -> None:
        """The next block; tells a hearing at the end of every half second."""
        if block.gap:
            self.begin(amid=True)
        samples = block.samples
        self._clock.update(self._samples + samples.shape[1], block.time)
        while samples.shape[1]:
            part = samples[:, : self._sound.shape[1] - self._filled]
            self._sound[:, self._filled : self._filled + part.shape[1]] = part
            self._filled += part.shape[1]
            self._samples += part.shape[1]
            samples = samples[:, part.shape[1] :]
            if self._filled == self._sound.shape[1]:
                hearing = self._listen()
                self._sound[:, :_KEPT] = self._sound[:, -_KEPT:]
                self._filled = _KEPT
                self._tell(hearing)

    def _listen(self) -> Hearing:
        self._hops += 1
        self._mels[:, :-_NEW_FRAMES] = self._mels[:, _NEW_FRAMES:]
        self._mels[:, -_NEW_FRAMES:] = mel(self._sound[:, -_FIRST_FRAME:])
        self._peaks.append(float(np.abs(self._sound[:, -STEP:]).max()))
        self._look_for_onset()
        loud = loudness(self._mels)
        sudden, newest = self._sudden.hear(loud), loud[:, -_NEW_FRAMES:]
        if self._stands_out(newest):
            self._open_hops = max(self._open_hops, _WINDOW_HOPS)
        self._follow_background(newest)
        time = self._clock.time(self._samples)
        if not self._open_hops:
            return Hearing(time, np.zeros(len(CLASSES), np.float32), quiet=True)
        self._open_hops -= 1
        gain = min(10 ** (self.room.gain_db / 20), max(1.0, 1 / max(*self._peaks, 1e-6)))
        scores = self._tagger.tag_spectra(np.log(self._mels * np.float32(gain) + FLOOR)).max(axis=0)
        if scores.max() >= _INTERESTING:
            self._open_hops = max(self._open_hops, 1)
        onset = self._onset()
        if onset is None:
            return Hearing(time, scores, sudden=sudden)
        error = ONSET_ERROR_S + onset.front / RATE_HZ + self._clock.error
        return Hearing(time, scores, self._clock.time(onset.place), error, sudden=sudden)

    def _look_for_onset(self) -> None:
        # Before the first sound there was none, which is no silence for it to rise from.
        heard = self._sound if self._hops > 1 else self._sound[:, _KEPT:]
        begin = self._samples - heard.shape[1]
        found = [onset for row in heard if (onset := find_onset(row)) is not None]
        if found:
            steepest = max(found, key=lambda onset: onset.rise_db)
            self._onsets.append(replace(steepest, place=begin + steepest.place))

    def _onset(self) -> Onset | None:
        """The first strong impulse of the window."""
        there = [onset for onset in self._onsets if onset.place >= self._samples - PATCH]
        least_db = max((onset.rise_db for onset in there), default=0.0) - _ECHO_DB
        return next((onset for onset in there if onset.rise_db >= least_db), None)

    def _stands_out(self, newest: Floats) -> bool:
        """Whether something is above the background, in any channel."""
        return self._hops <= 1 or stands_out(levels(newest), self._background)

    def _follow_background(self, newest: Floats) -> None:
        usual = np.median(newest, axis=(0, 1))
        if self._hops <= _WARM_UP:
            self._background[:] = (
                usual if self._hops == 1 else self._background + (usual - self._background) / self._hops
            )
        else:
            slow = np.where(usual < self._background, _FALL_S, _RISE_S)
            self._background += ((usual - self._background) * (HOP_S / slow)).astype(np.float32)
        blocks = self._sound[:, -STEP:].reshape(-1, RATE_HZ // 20)
        levels = np.einsum("bn,bn->b", blocks, blocks) / blocks.shape[1]
        power = float(np.quantile(levels, BACKGROUND_SHARE))
        if power > 0:
            self.room.update(10 * math.log10(power))
