"""What commands over a clip share: it is replayed with a progress bar, and problems end the command in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli.common import fail
from agent.settings import CameraSettings, InferenceSettings, SettingsError

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


def ticks(camera: CameraSettings, inference: InferenceSettings, title: str) -> Iterator[Tick]:
    """Replay the clip that the camera names, with a progress bar on standard error.

    Ends the command with exit code 2 when a rule cannot be used, and 3 when the clip or the detector cannot.
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
    try:
        yield from track(
            replay(source, simulated or detector, watch),
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
