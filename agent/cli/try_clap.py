"""`vigie test clap`: does it hear, and does it tell a bang from the background."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli.common import AsJson, ConfigFile, fail, loaded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.capture.sound import Block, SoundSource

#: A clap a few metres away rises so far above what was there, dB: speech rises by less, and so does a passing car.
CLAP_DB = 20.0
#: Sound in which an impulse is looked for, samples: 0.3 s, of which 50 ms at both ends are its surroundings.
_WINDOW = 4800


def clap(
    config: ConfigFile = None,
    source: Annotated[
        str | None, typer.Option(help="device:NAME or file:PATH.  [default: the configured one]", show_default=False)
    ] = None,
    seconds: Annotated[float, typer.Option(min=1, max=600, help="How long a clap is waited for.")] = 15,
    as_json: AsJson = False,
) -> None:
    """Clap before the microphone: it says when it hears it, and how far that stands out. Exit code 1 if it hears none.

    Nothing is kept of the sound. Stop the agent first where the device can be opened only once.
    """
    from agent.capture.frame import SourceError
    from agent.capture.microphone import open_sound

    settings = loaded(config)
    chosen = source or settings.microphone.source
    if chosen is None:
        fail("no microphone is configured: name one with --source device:NAME", 2)
    loudest = 0.0
    if not as_json:
        typer.echo(f"clap within {seconds:.0f} s")
    try:
        sound = open_sound(chosen, channels=settings.microphone.channels)
        try:
            for at, rise in rises(_blocks(sound, seconds)):
                loudest = max(loudest, rise)
                if rise >= CLAP_DB:
                    _tell(as_json, {"heard": True, "after_s": round(at, 1), "rise_db": round(rise, 1)})
                    return
        finally:
            sound.close()
    except SourceError as error:
        fail(f"{error}\nvigie doctor --only mic says what to do", 3)
    _tell(as_json, {"heard": False, "rise_db": round(loudest, 1)})
    raise typer.Exit(1)


def rises(blocks: Iterator[Block]) -> Iterator[tuple[float, float]]:
    """For each impulse, the seconds of sound until then, and how far it rises above what was just before it, dB."""
    import numpy as np

    from agent.capture.sound import RATE_HZ
    from agent.perception.onset import find_onset

    heard = 0
    last = np.empty(0, np.float32)
    for block in blocks:
        # An impulse near the end of one block is found when the next one has come.
        last = np.concatenate([last, block.samples.mean(axis=0, dtype=np.float32)])[-_WINDOW:]
        heard += block.samples.shape[1]
        found = find_onset(last) if len(last) == _WINDOW else None
        if found is not None:
            yield heard / RATE_HZ, found.rise_db


def _blocks(sound: SoundSource, seconds: float) -> Iterator[Block]:
    from agent.capture.frame import SourceError

    begun: float | None = None
    while begun is None or time.monotonic() - begun < seconds:
        try:
            block = sound.read()
        except EOFError:
            return
        if block is None:
            raise SourceError("microphone: it is open, and gives no sound; is it plugged in?")
        begun = begun or time.monotonic()
        if block.samples.size:
            yield block


def _tell(as_json: bool, said: dict[str, object]) -> None:
    if as_json:
        typer.echo(json.dumps(said))
    elif said["heard"]:
        typer.echo(f"heard it after {said['after_s']} s: it rises {said['rise_db']:.0f} dB above the background")
    else:
        loudest = f"; the loudest rose by {said['rise_db']:.0f} dB" if said["rise_db"] else ""
        typer.echo(f"heard no clap{loudest}\n  → nearer, and louder? vigie test mic shows its levels")
