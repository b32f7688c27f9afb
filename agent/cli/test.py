"""`vigie test`: try one part of a device where it hangs."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli import try_camera, try_clap, try_delivery
from agent.cli.common import AsJson, ConfigFile, examples, fail, loaded
from agent.settings import DEFAULT_CONFIG

if TYPE_CHECKING:
    from agent.perception.calibrate import Levels

app = typer.Typer(no_args_is_help=True, help="Try one part of the device.")
app.command(epilog=examples({"vigie test camera quay --seconds 60": "a minute to turn the focus ring"}))(
    try_camera.camera
)
app.command(
    epilog=examples(
        {
            "vigie test detector": "does the network run, and how fast",
            "vigie test detector --camera quay": "walk before it: it counts whom it sees",
        }
    )
)(try_camera.detector)
app.command(epilog=examples({"vigie test clap --source device:USB": "any microphone by a part of its name"}))(
    try_clap.clap
)
app.command(epilog=examples({"sudo vigie test broker": "each step, with its time"}))(try_delivery.broker)
app.command(epilog=examples({"sudo vigie test end-to-end": "from your walk to the broker"}))(try_delivery.end_to_end)


@app.command(
    epilog=examples(
        {
            "vigie test mic": "its levels, over five seconds",
            "vigie test mic --calibrate": "a minute of the place as it usually is, and what suits it into a drop-in",
        }
    )
)
def mic(
    config: ConfigFile = None,
    source: Annotated[
        str | None, typer.Option(help="device:NAME or file:PATH.  [default: the configured one]", show_default=False)
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(min=1, max=3600, help="How long to listen.  [default: 5, to calibrate 60]")
    ] = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Learn the level of the background here, and write it to a drop-in.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Write it without asking.")] = False,
    as_json: AsJson = False,
) -> None:
    """Listen to the microphone and show its levels; nothing is kept but those numbers.

    To calibrate, let the place be as it usually is for a minute: the level of the background and the gain that suits it
    go into a drop-in beside the configuration. Stop the agent first where the device can be opened only once.
    """
    from agent.capture.frame import SourceError
    from agent.perception.hearing import gain_for

    settings = loaded(config)
    chosen = source or settings.microphone.source
    if chosen is None:
        fail("no microphone is configured: name one with --source device:NAME", 2)
    try:
        levels = _listen(chosen, settings.microphone.channels, seconds or (60 if calibrate else 5), quiet=as_json)
    except SourceError as error:
        fail(str(error), 3)
    gain_db = 0.0 if levels.floor_dbfs is None else gain_for(levels.floor_dbfs)
    if as_json:
        typer.echo(json.dumps({"source": chosen, **asdict(levels), "gain_db": gain_db}))
    else:
        _print(chosen, levels, gain_db)
    if not calibrate:
        return
    if levels.floor_dbfs is None:
        fail("there was nothing but digital silence: is it muted?", 1)
    path = _drop_in(config)
    text = f"[microphone]\nfloor_dbfs = {levels.floor_dbfs:.1f}\ngain_db = {gain_db:.1f}\n"
    typer.echo(f"\n{path}:\n{text}", err=True)
    if not yes:
        typer.confirm("Write it?", abort=True, err=True)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        fail(f"{path}: cannot be written: {error.strerror}", 3)


def _drop_in(config: Path | None) -> Path:
    path = config or Path(os.environ.get("VIGIE_CONFIG") or DEFAULT_CONFIG)
    return path.with_name(path.name + ".d") / "microphone.toml"


def _listen(source: str, channels: int, seconds: float, *, quiet: bool) -> Levels:
    """Levels over a time, or to the end of a file.

    Raises:
        SourceError: it cannot be opened, or gives nothing.
    """
    from rich.console import Console
    from rich.progress import Progress

    from agent.capture.frame import SourceError
    from agent.capture.microphone import open_sound
    from agent.perception.calibrate import Calibration

    calibration = Calibration()
    sound = open_sound(source, channels=channels)
    console = Console(stderr=True)
    shown = Progress(console=console, transient=True, disable=quiet or not console.is_terminal)
    try:
        with shown:
            task = shown.add_task("listening", total=seconds)
            begun: float | None = None
            while begun is None or time.monotonic() - begun < seconds:
                try:
                    block = sound.read()
                except EOFError:
                    break
                if block is None:
                    raise SourceError(f"microphone {source}: gives nothing; is it plugged in?")
                begun = begun or time.monotonic()
                calibration.add(block)
                shown.update(task, completed=time.monotonic() - begun)
    finally:
        sound.close()
    return calibration.levels()


def _print(source: str, levels: Levels, gain_db: float) -> None:
    from rich.console import Console
    from rich.table import Table

    def decibels(value: float | None) -> str:
        return "digital silence" if value is None else f"{value:.1f} dBFS"

    table = Table("microphone", source)
    table.add_row("listened", f"{levels.seconds:.1f} s, {levels.channels} channel{'s' if levels.channels > 1 else ''}")
    table.add_row("background, a fifth of the time below", decibels(levels.floor_dbfs))
    table.add_row("middle level", decibels(levels.median_dbfs))
    table.add_row("peak", decibels(levels.peak_dbfs))
    table.add_row("blocks clipped", f"{levels.clipped_percent:.1f} %")
    table.add_row("sound lost in between", f"{levels.gaps} times")
    table.add_row("gain that suits the background", f"{gain_db:.1f} dB")
    Console().print(table)
