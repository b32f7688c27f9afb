"""`vigie test camera` and `detector`: does it see, and does the network run."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli.common import AsJson, ConfigFile, fail, loaded, say

if TYPE_CHECKING:
    from agent.capture.frame import FrameSource
    from agent.capture.picture import Picture
    from agent.perception.scene import Detector
    from agent.settings import CameraSettings, Settings

#: A picture is judged by the frames of so many seconds, so that a turn of the focus ring shows at once.
_EACH_S = 1.0
#: Inferences that are timed.
_RUNS = 20
#: What is seen at least so surely is counted.
_SURE = 0.5


def camera(
    name: Annotated[
        str | None, typer.Argument(help="Name of the camera.  [default: the first]", show_default=False)
    ] = None,
    seconds: Annotated[float, typer.Option(min=1, max=3600, help="For how long it is looked at.")] = 10,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Open a camera and say each second what its picture is like: turn its focus ring while this runs.

    No picture is shown or kept. Exit code 1 when something is wrong with the last one, 3 when it cannot be used.
    """
    from agent.capture.frame import SourceError
    from agent.device.doctor.camera import judge, open_camera
    from agent.settings import mask_url

    chosen = _free(loaded(config), name)
    last: Picture | None = None
    try:
        for last in _looks(open_camera(chosen), seconds):
            if not as_json:
                say(_line(chosen.name, last))
    except SourceError as error:
        fail(f"{error}\nvigie doctor --only camera says what to do", 3)
    if last is None:
        fail(f"{mask_url(chosen.source)}: it is open, and no frame comes: vigie doctor --only camera", 3)
    wrong = [{"what": what, "fix": fix} for _, level, what, fix in judge(chosen, last) if level]
    if as_json:
        typer.echo(json.dumps({"camera": chosen.name, **asdict(last), "rate": last.rate, "wrong": wrong}))
    else:
        say("\n".join(f"{each['what']}\n  → {each['fix']}" for each in wrong) or "it sees")
    raise typer.Exit(1 if wrong else 0)


def detector(
    camera_name: Annotated[
        str | None,
        typer.Option("--camera", help="Also say each second whom the network sees on this camera.", show_default=False),
    ] = None,
    seconds: Annotated[float, typer.Option(min=1, max=3600, help="With --camera: for how long.")] = 10,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Load the network, check its answers on drawn pictures, and time it. Exit code 1 when no network serves.

    With `--camera` walk before it: how many of what are seen is printed, and nothing else of them.
    """
    import numpy as np

    from agent.capture.frame import Frame, SourceError
    from agent.contract import NO_CAMERA, DetectorState
    from agent.device.doctor.camera import open_camera
    from agent.perception.detect import open_detector, selftest

    settings = loaded(config)
    chosen = _free(settings, camera_name) if camera_name is not None else None
    found, state, reasons = open_detector(settings.inference)
    passed = selftest(found)
    frame = Frame(np.full((360, 640, 3), 96, np.uint8), 0.0, 0)
    times = []
    for _ in range(_RUNS):
        begun = time.perf_counter()
        found.detect([(NO_CAMERA, frame)])
        times.append(1000 * (time.perf_counter() - begun))
    middle, slow = np.quantile(times, [0.5, 0.95]).tolist()
    kind = state.name.lower()
    if as_json:
        said = {"detector": kind, "passed": passed, "ms_median": middle, "ms_p95": slow, "refused": reasons}
        typer.echo(json.dumps(said))
    else:
        say(f"{kind}: self-check {'passed' if passed else 'FAILED'}; {middle:.0f} ms a picture, p95 {slow:.0f} ms")
        for reason in reasons:
            say(f"  refused: {reason}")
    if chosen is not None:
        try:
            for seen in _seen(found, open_camera(chosen), seconds):
                say(json.dumps({"seen": seen}) if as_json else f"{chosen.name}: sees {_some(seen)}")
        except SourceError as error:
            fail(f"{error}\nvigie doctor --only camera says what to do", 3)
    if not passed or state is DetectorState.MOTION:
        fail("no network serves: vigie models list; vigie doctor --only models", 1)


def _free(settings: Settings, name: str | None) -> CameraSettings:
    """The camera that is meant, if nobody holds it."""
    from agent.device.doctor.examine import patient
    from agent.device.doctor.shutter import closed
    from agent.settings import did_you_mean

    if not settings.cameras:
        fail("no [[camera]] is configured: vigie config init writes an example", 2)
    names = [camera.name for camera in settings.cameras]
    if name is not None and name not in names:
        fail(f"no camera is called {name!r}{did_you_mean(name, names)}: there are {', '.join(names)}", 2)
    chosen = settings.cameras[names.index(name) if name else 0]
    held = patient(settings).held
    shared = chosen.source.startswith(("rtsp://", "file:", "sim:"))
    if closed(settings) or (held is not None and held.sense == "paused"):
        fail("the privacy shutter is closed: a manager has paused this device; ask for `resume` first", 3)
    if held is not None and not shared:
        fail(f"camera {chosen.name}: the running agent holds it: sudo systemctl stop vigie-sense, then again", 3)
    return chosen


def _looks(source: FrameSource, seconds: float) -> Iterator[Picture]:
    from agent.capture.picture import Look

    end = time.monotonic() + seconds
    look, due = Look(), time.monotonic() + _EACH_S
    try:
        while time.monotonic() < end:
            frame = source.read(0.5)
            if frame is not None:
                look.add(frame.image, frame.time)
            if time.monotonic() >= due:
                due += _EACH_S
                picture = look.picture()
                if picture is not None and picture.frames > 1:
                    yield picture
                    look = Look()
    except EOFError:
        pass
    finally:
        source.close()


def _line(name: str, picture: Picture) -> str:
    focus = "no edges" if picture.blur is None else f"edges {100 * picture.blur:.2f} % wide"
    return (
        f"{name}: {picture.width}x{picture.height}, {picture.rate:.0f}/s, brightness {picture.brightness / 255:.0%}, "
        f"white {picture.white:.0%}, {focus}"
    )


def _seen(found: Detector, source: FrameSource, seconds: float) -> Iterator[dict[str, int]]:
    """How many of each class are seen, each second."""
    from collections import Counter

    from agent.contract import NO_CAMERA
    from agent.perception.scene import ObjectClass

    end = due = time.monotonic()
    end += seconds
    try:
        while time.monotonic() < end:
            frame = source.read(0.5)
            if frame is None or time.monotonic() < due:
                continue
            due = time.monotonic() + _EACH_S
            (boxes,) = found.detect([(NO_CAMERA, frame)])
            sure = boxes.classes[boxes.scores >= _SURE].tolist()
            yield dict(Counter(ObjectClass(number).label for number in sure))
    except EOFError:
        pass
    finally:
        source.close()


def _some(seen: dict[str, int]) -> str:
    return ", ".join(f"{number} {label}" for label, number in sorted(seen.items())) or "nothing"
