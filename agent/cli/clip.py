"""What commands over a clip share: it is replayed with a progress bar, and problems end the command in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli.common import fail
from agent.settings import CameraSettings, InferenceSettings, MicrophoneSettings, Settings, SettingsError

if TYPE_CHECKING:
    from agent.capture.frame import FrameSource
    from agent.perception.scene import Detector
    from agent.replay import Tick

Fps = Annotated[
    float | None,
    typer.Option(min=0.5, max=60, help="Frames analysed per second.  [default: as on a camera]", show_default=False),
]


def source_of(clip: str) -> str:
    """The source that a clip's name on the command line means: a file, unless it says `sim:`."""
    return clip if clip.startswith(("file:", "sim:")) else f"file:{clip}"


def with_fps(camera: CameraSettings, fps: float | None) -> CameraSettings:
    """The camera at this rate, if one is given."""
    return camera if fps is None else camera.model_copy(update={"fps": fps})


def ticks(
    camera: CameraSettings, inference: InferenceSettings, title: str, microphone: MicrophoneSettings | None = None
) -> Iterator[Tick]:
    """Replay the clip that the camera names, with a progress bar on standard error.

    Ends the command with exit code 2 when a rule cannot be used, and 3 when the clip or the detector cannot.

    Args:
        camera: What to watch, and with which rules.
        inference: The models.
        title: For the progress bar.
        microphone: What to listen for in its sound track; None leaves it alone.
    """
    from rich.console import Console
    from rich.progress import track

    from agent.behaviours.registry import needs
    from agent.behaviours.watch import Watch
    from agent.capture.frame import SourceError
    from agent.capture.open import open_source
    from agent.contract import DetectorState
    from agent.inference.backend import InferenceError
    from agent.perception.detect import open_detector
    from agent.perception.patch import open_checker
    from agent.perception.scene import Need
    from agent.replay import replay

    source: FrameSource
    simulated: Detector | None
    try:
        checker = open_checker(inference)[0] if Need.CHANGE in needs(camera.rules) else None
        watch = Watch(camera, checker=checker)
        if camera.source.startswith("sim:"):
            from agent.simulate.source import open_sim

            source, simulated = open_sim(camera.source, replay=True)
        else:
            source, simulated = open_source(camera.source, fps=camera.fps, loop=False, replay=True), None
        detector, state, reasons = open_detector(inference)
    except SettingsError as error:
        fail(str(error), 2)
    except (SourceError, InferenceError) as error:
        fail(str(error), 3)
    if state is not DetectorState.MODEL and simulated is None:
        for reason in reasons:
            typer.echo(f"vigie: {reason}", err=True)
    console = Console(stderr=True)
    replayed = replay(source, simulated or detector, watch)
    if microphone is not None:
        settings = Settings(cameras=(camera,), microphone=microphone, inference=inference)
        replayed = _with_sound(replayed, settings, camera.source)
    try:
        yield from track(
            replayed,
            total=source.frames_total,
            description=title,
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
    except (SourceError, InferenceError) as error:
        fail(str(error), 3)
    finally:
        source.close()


def sound_ticks(clip: str, settings: Settings, title: str) -> Iterator[Tick]:
    """Replay a recording without pictures, with a progress bar on standard error; problems end the command."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    yield from track(
        _with_sound([], settings, clip), description=title, console=console, transient=True,
        disable=not console.is_terminal,
    )  # fmt: skip


def _with_sound(seen: Iterable[Tick], settings: Settings, clip: str) -> Iterator[Tick]:
    """Add what the microphone's rules make of a file's sound."""
    from agent.behaviours.fusion import Fusion, watched_joints
    from agent.behaviours.listen import Listening
    from agent.capture.frame import SourceError
    from agent.capture.sound import FileSound
    from agent.contract import INCIDENTS
    from agent.inference.backend import InferenceError
    from agent.perception.tag import open_tagger
    from agent.replay import hearings, with_sound

    microphone = settings.microphone
    path = Path(clip.removeprefix("file:"))
    try:
        tagger, model, _ = open_tagger(settings.inference)
        listening = Listening([r for r in microphone.rules if r.event_type not in INCIDENTS], model)
        watched, missing = watched_joints(settings)
        for reason in [*listening.refused, *missing]:
            typer.echo(f"vigie: skipped: {reason}", err=True)
        source = FileSound(path, channels=microphone.channels, replay=True)
    except SettingsError as error:
        fail(str(error), 2)
    except (SourceError, InferenceError) as error:
        fail(str(error), 3)
    try:
        yield from with_sound(seen, hearings(source, tagger, microphone), listening, Fusion(watched))
    except (SourceError, InferenceError) as error:
        fail(str(error), 3)
    finally:
        source.close()
