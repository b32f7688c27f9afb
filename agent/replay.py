"""A clip or a recording through the very code of the live path, offline, on its own clock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from agent.behaviours.episode import EpisodeChange
from agent.behaviours.fusion import Fusion
from agent.behaviours.listen import Listening
from agent.behaviours.watch import Watch
from agent.capture.frame import FrameSource
from agent.capture.sound import BLOCK_S, RATE_HZ, Block, SoundSource
from agent.perception.hearing import Ears, Hearing, Room
from agent.perception.scene import Detector
from agent.perception.tag import Tagger
from agent.settings import MicrophoneSettings

#: A file answers at once; this is only so that a wait never lasts for good.
_READ_TIMEOUT_S = 1.0


@dataclass(frozen=True, slots=True)
class Tick:
    """What one analysed frame, or half a second of sound without a frame, has brought.

    Attributes:
        frame: Number of the frame in the clip, from 0; -1 without one.
        time: Seconds of the clip.
        persons: Persons in the picture.
        changes: Episode changes.
    """

    frame: int
    time: float
    persons: int
    changes: list[EpisodeChange]


def replay(source: FrameSource, detector: Detector, watch: Watch) -> Iterator[Tick]:
    """Watch a clip from its first to its last frame; what is open at the end, ends with the last tick.

    Raises:
        SourceError: the clip cannot be read.
    """
    tick: Tick | None = None
    while True:
        try:
            frame = source.read(_READ_TIMEOUT_S)
        except EOFError:
            break
        if frame is None:
            continue
        if tick is not None:
            yield tick
        (detections,) = detector.detect([(0, frame)])
        changes = watch.update(frame, detections)
        tick = Tick(frame.index, frame.time, watch.persons, changes)
    if tick is not None:
        tick.changes.extend(watch.close(tick.time))
        yield tick


#: Blocks of silence after a recording, so that its last sound is heard whole.
_SILENT_BLOCKS = 10


def hearings(source: SoundSource, tagger: Tagger, settings: MicrophoneSettings) -> Iterator[Hearing]:
    """Listen to a recording, or to the sound of a clip, from its beginning to its end and a second of silence.

    Raises:
        SourceError: it cannot be read.
    """
    heard: list[Hearing] = []
    ears = Ears(tagger, settings.channels, Room(settings.gain_db, settings.floor_dbfs), heard.append)
    for block in _blocks(source, settings.channels):
        ears.hear(block)
        yield from heard
        heard.clear()


def _blocks(source: SoundSource, channels: int) -> Iterator[Block]:
    time = 0.0
    with suppress(EOFError):
        while True:
            block = source.read()
            if block is not None:
                time = block.time
                yield block
    silence = np.zeros((channels, round(RATE_HZ * BLOCK_S)), np.float32)
    for number in range(1, _SILENT_BLOCKS + 1):
        yield Block(silence, time + number * BLOCK_S)


def with_sound(ticks: Iterable[Tick], heard: Iterable[Hearing], listening: Listening, fusion: Fusion) -> Iterator[Tick]:
    """Add what is heard to what is seen, each at its time, and what both say together.

    Args:
        ticks: Of the one camera; none for a recording.
        heard: Of the same file.
        listening: The rules of the microphone.
        fusion: What sound and sight may join to.
    """
    ahead = iter(heard)
    hearing = next(ahead, None)
    time = 0.0
    for tick in ticks:
        while hearing is not None and hearing.time <= tick.time:
            yield _join(Tick(-1, hearing.time, 0, []), listening.update(hearing), fusion)
            hearing = next(ahead, None)
        yield _join(tick, [], fusion)
        time = tick.time
    while hearing is not None:
        time = max(time, hearing.time)
        yield _join(Tick(-1, time, 0, []), listening.update(hearing), fusion)
        hearing = next(ahead, None)
    changes = listening.close(time) + [change for _, change in fusion.close(time)]
    if changes:
        yield Tick(-1, time, 0, changes)


def _join(tick: Tick, heard: list[EpisodeChange], fusion: Fusion) -> Tick:
    for change in heard:
        fusion.heard(change)
    for change in tick.changes:
        fusion.seen(0, change)
    tick.changes.extend(heard)
    tick.changes.extend(change for _, change in fusion.update(tick.time))
    return tick
