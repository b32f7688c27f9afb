"""No more than two seconds of sound anywhere in a process that listens: its whole memory is searched from outside.

The sound is noise in which every sample is told from every other by its value. What is searched for is each fiftieth of
a second, as it was played and as the front end has weighted it, wherever in writable memory, freed or not.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from agent.perception.logmel import _WINDOW, HOP, RATE

SECONDS = 20
#: One sample of so many is searched for.
_EVERY = RATE // 50

LISTENS = """
import sys, threading
from pathlib import Path
from agent.capture.microphone import Microphone
from agent.capture.sound import FileSound
from agent.perception.hearing import Ears, Room
from agent.perception.tag import open_tagger
from agent.settings import InferenceSettings

tagger, _, _ = open_tagger(InferenceSettings())
searched = threading.Event()

def tell(hearing):
    if hearing.time > float(sys.argv[2]):
        print("now", flush=True)
        sys.stdin.readline()
        searched.set()
        while True:
            sys.stdin.readline()

microphone = Microphone(lambda: FileSound(Path(sys.argv[1]), replay=True), Ears(tagger, 1, Room(0, -40), tell))
microphone.start()
searched.wait()
"""


def writable_memory(pid: int) -> Iterator[NDArray[np.uint32]]:
    """All writable memory of a process, stretch by stretch, as the bits of numbers."""
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            addresses, access, *_ = line.split()
            begin, end = (int(address, 16) for address in addresses.split("-"))
            if "w" in access:
                memory.seek(begin)
                with contextlib.suppress(OSError):  # such as a device's
                    content = memory.read(end - begin)
                    yield np.frombuffer(content[: len(content) // 4 * 4], np.uint32)


def needles(sound: NDArray[np.float32]) -> NDArray[np.uint32]:
    """(N, 3, 2): two neighbours every fiftieth of a second, as played and as two frames weight them."""
    numbers = np.arange(0, len(sound) - 1, _EVERY)
    pairs = np.stack([sound[numbers], sound[numbers + 1]], axis=1)
    # Frames begin at 80 and every 160 samples from there.
    places = (numbers - HOP // 2) % HOP
    weights = [np.stack([_WINDOW[places + shift], _WINDOW[places + shift + 1]], axis=1) for shift in (0, HOP)]
    return np.stack([pairs, *(pairs * weight for weight in weights)], axis=1).view(np.uint32)


def found(memory: Iterable[NDArray[np.uint32]], sought: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """(N,): which of them are somewhere."""
    flat = sought.reshape(-1, 2)
    order = np.argsort(flat[:, 0])
    first, second = flat[order].T
    likely = np.zeros(1 << 16, bool)
    likely[first & 0xFFFF] = True
    there = np.zeros(len(flat), bool)
    for stretch in memory:
        places = np.flatnonzero(likely[stretch[:-1] & 0xFFFF])
        which = np.minimum(np.searchsorted(first, stretch[places]), len(first) - 1)
        same = (first[which] == stretch[places]) & (second[which] == stretch[places + 1])
        there[order[which[same]]] = True
    return np.asarray(there.reshape(len(sought), -1).any(axis=1))


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs Linux")
def test_no_more_than_two_seconds_of_sound_are_anywhere_in_a_process_that_listens(tmp_path: Path) -> None:
    sound = np.random.default_rng(1).normal(0, 0.1, SECONDS * RATE).astype(np.float32)
    path = tmp_path / "noise.wav"
    soundfile.write(path, sound, RATE, subtype="FLOAT")
    before = set(tmp_path.iterdir())
    process = subprocess.Popen(
        [sys.executable, "-c", LISTENS, str(path), str(SECONDS - 5)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"now\n"
        kept = np.flatnonzero(found(writable_memory(process.pid), needles(sound))) * _EVERY
    finally:
        process.kill()
        process.communicate()
    assert len(kept) * _EVERY <= 2 * RATE, f"sound of {sorted(set(kept // RATE))} s is in memory"
    assert np.count_nonzero(kept > (SECONDS - 6) * RATE) * _EVERY >= 0.5 * RATE, "what is being heard is found"
    assert set(tmp_path.iterdir()) == before
