"""`vigie zones`: where the zones of this device lie, in a terminal of 80 by 24."""

from __future__ import annotations

import json
import string
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.common import AsJson, ConfigFile, fail, loaded
from agent.settings import CameraSettings

if TYPE_CHECKING:
    from rich.text import Text

app = typer.Typer(no_args_is_help=True, help="See the zones of this device.")

#: Characters of a picture, which is drawn 16 by 9 since a character is twice as high as wide, and of what is beside it.
_COLUMNS, _ROWS, _BESIDE = 48, 14, 28
_STYLES = ("cyan", "magenta", "yellow", "green", "blue", "red")


@app.callback()
def _zones() -> None:
    """Keep `vigie zones ACTION` a group, whatever number of actions there is."""


@app.command()
def show(
    config: ConfigFile = None,
    camera: Annotated[str | None, typer.Option(help="This camera alone.")] = None,
    as_json: AsJson = False,
) -> None:
    """Draw the zones of each camera, with their rules and areas. Where zones overlap, the smallest is on top.

    Example: `vigie zones show --camera north`. To change them over the camera's view: `vigie aim`.
    """
    settings = loaded(config)
    cameras = [c for c in settings.cameras if camera in {None, c.name}]
    if not cameras:
        names = ", ".join(c.name for c in settings.cameras) or "none; vigie config wizard asks for one"
        fail(f"no camera {camera or 'is configured'}; there are: {names}", 2)
    if as_json:
        typer.echo(json.dumps([_table(item) for item in cameras], indent=2))
        return

    from rich.console import Console

    console = Console(width=80, highlight=False)
    for item in cameras:
        for line in drawn(item):
            console.print(line, no_wrap=True, overflow="ellipsis")


def _table(camera: CameraSettings) -> dict[str, Any]:
    return {
        "camera": camera.name,
        "zones": [
            {
                **zone.model_dump(mode="json"),
                "area_m2": _area_m2(camera, index),
                "rules": [rule.model_dump(mode="json") for rule in camera.rules if rule.zone == zone.name],
            }
            for index, zone in enumerate(camera.zones)
        ],
        "rules": [rule.model_dump(mode="json") for rule in camera.rules if rule.zone is None],
    }


def _area_m2(camera: CameraSettings, index: int) -> float | None:
    """Area on the ground, square metres; None where it is not calibrated, or reaches to the horizon."""
    from agent.behaviours.zone import Calibration, Zone

    zone = camera.zones[index]
    if zone.calibration is None:
        return None
    try:
        points = zone.calibration
        area = Zone(zone.name, zone.polygon, Calibration(points.picture, points.ground_m)).area_m2
    except ValueError:
        return None
    return None if area is None else round(area, 1)


def drawn(camera: CameraSettings) -> list[Text]:
    """A camera's picture with its zones, and what they are beside it; at most 80 wide."""
    import numpy as np
    from rich.text import Text

    from agent.behaviours.zone import Zone

    x, y = np.meshgrid((np.arange(_COLUMNS) + 0.5) / _COLUMNS, (np.arange(_ROWS) + 0.5) / _ROWS)
    places = np.column_stack([x.ravel(), y.ravel()]).astype(np.float32)
    inside = [Zone(zone.name, zone.polygon).contains(places) for zone in camera.zones]
    picture = np.full(_COLUMNS * _ROWS, -1)
    for index in sorted(range(len(inside)), key=lambda i: -int(inside[i].sum())):
        picture[inside[index]] = index
    beside = _beside(camera)
    lines = [Text(f"{camera.name}", "bold")]
    frame = "+" + "-" * _COLUMNS + "+"
    for row in range(-1, max(_ROWS, len(beside) - 1) + 1):
        line = Text()
        if row in {-1, _ROWS}:
            line.append(frame)
        elif row > _ROWS:
            line.append(" " * len(frame))
        else:
            line.append("|")
            for index in picture[row * _COLUMNS : (row + 1) * _COLUMNS].tolist():
                line.append(*_letter(index))
            line.append("|")
        if row + 1 < len(beside):
            line.append("  ").append_text(beside[row + 1])
        lines.append(line)
    return lines


def _letter(index: int) -> tuple[str, str]:
    return (" ", "") if index < 0 else (string.ascii_lowercase[index % 26], _STYLES[index % len(_STYLES)])


def _beside(camera: CameraSettings) -> list[Text]:
    """What each zone is: its letter, name, area and rules."""
    from rich.text import Text

    lines = []
    for index, zone in enumerate(camera.zones):
        area = _area_m2(camera, index)
        told = f" {zone.name}" + (f", {area:g} m2" if area is not None else "")
        lines.append(Text(told[: _BESIDE - 1], "bold"))
        lines[-1] = Text().append(*_letter(index)).append_text(lines[-1])
        rules = [rule for rule in camera.rules if rule.zone == zone.name]
        lines += [Text(f"  {rule.type}"[:_BESIDE]) for rule in rules] or [Text("  no rule", "dim")]
    whole = [rule.type for rule in camera.rules if rule.zone is None]
    if whole:
        lines += [Text("the camera itself", "bold"), *(Text(f"  {name}"[:_BESIDE]) for name in whole)]
    return lines or [Text("no zones", "dim")]
