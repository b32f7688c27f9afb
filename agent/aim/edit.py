"""Zones as a technician draws them, and the drop-in beside the configuration that holds them.

A drop-in replaces lists whole, so it holds every camera of the device; the operator's own file, with its comments, is
never touched, and stays in force for all else. Nothing is written that the agent could not start with, and each change
can be undone.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agent.contract import EventType, Name
from agent.durable import replace_file
from agent.sense import check_rules
from agent.settings import (
    DEFAULT_CONFIG,
    CalibrationSettings,
    CameraSettings,
    Point,
    Settings,
    SettingsError,
    explain,
    layers,
    load,
    mask_url,
    origin,
)

#: Name of the drop-in; what others write later in the alphabet is stronger, and is found out when it is read again.
DROP_IN = "zz-zones.toml"
#: Changes that can be undone, and coordinates' decimals: a ten-thousandth of a picture is less than a pixel.
_UNDO, _DECIMALS = 20, 4
_WRONG_WAY = EventType.DIRECTION_WRONG_WAY.label


class DrawnZone(BaseModel):
    """One zone as it was drawn."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    was: Name | None = None
    """Its name so far, by which its rules know it; absent for a new one."""
    name: Name
    polygon: Annotated[tuple[Point, ...], Field(min_length=3, max_length=64)]
    direction: tuple[Annotated[float, Field(ge=-1, le=1)], Annotated[float, Field(ge=-1, le=1)]] | None = None
    """Allowed direction of `direction.wrong_way`; absent: no such rule."""
    calibration: CalibrationSettings | None = None


class Drawing(BaseModel):
    """All zones of one camera, as they shall be."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    camera: Name
    zones: Annotated[tuple[DrawnZone, ...], Field(max_length=16)]


def parse_drawing(document: bytes) -> Drawing:
    """What the page sent.

    Raises:
        SettingsError: it is no drawing; one line a problem.
    """
    try:
        return Drawing.model_validate_json(document)
    except ValidationError as error:
        raise SettingsError(explain(error, Drawing)) from None


def changed(camera: CameraSettings, drawing: Drawing) -> dict[str, Any]:
    """The table of a camera with its zones as drawn; rules follow a zone that is renamed, and go with one deleted.

    Args:
        camera: As it is configured.
        drawing: As it shall be.
    """
    (table,) = _tables([camera])
    names = {zone.was: zone.name for zone in drawing.zones if zone.was is not None}
    rules = []
    for rule in table.get("rule", ()):
        if rule.get("zone") is not None:
            if rule["zone"] not in names:
                continue
            rule["zone"] = names[rule["zone"]]
        rules.append(rule)
    for zone in drawing.zones:
        rules = _directed(rules, zone)
    table["zone"] = [_zone(zone) for zone in drawing.zones]
    table["rule"] = rules
    return table


def _tables(cameras: Iterable[CameraSettings]) -> list[dict[str, Any]]:
    """What was written of cameras, as JSON would have it."""
    return [camera.model_dump(mode="json", by_alias=True, exclude_unset=True) for camera in cameras]


def _directed(rules: list[dict[str, Any]], zone: DrawnZone) -> list[dict[str, Any]]:
    """The rules with the zone's direction: that of its rule, which is made or taken away if need be."""
    there = next((r for r in rules if r["type"] == _WRONG_WAY and r.get("zone") == zone.name), None)
    if zone.direction is None:
        return [rule for rule in rules if rule is not there]
    allowed = [round(value, _DECIMALS) for value in zone.direction]
    if there is None:
        return [*rules, {"type": _WRONG_WAY, "zone": zone.name, "allowed": allowed}]
    there["allowed"] = allowed
    return rules


def _zone(zone: DrawnZone) -> dict[str, Any]:
    def points(given: tuple[tuple[float, float], ...]) -> list[list[float]]:
        return [[round(x, _DECIMALS), round(y, _DECIMALS)] for x, y in given]

    table: dict[str, Any] = {"name": zone.name, "polygon": points(zone.polygon)}
    if zone.calibration is not None:
        picture, ground = points(zone.calibration.picture), points(zone.calibration.ground_m)
        table["calibration"] = {"picture": picture, "ground_m": ground}
    return table


class LocalZones:
    """The zones of this device's own files."""

    def __init__(self, config: Path | None) -> None:
        """Read them.

        Args:
            config: As for `agent.settings.load`.

        Raises:
            SettingsError: the configuration cannot be used.
        """
        self._config = config
        path = config or Path(os.environ.get("VIGIE_CONFIG") or DEFAULT_CONFIG)
        self.path = path.with_name(path.name + ".d") / DROP_IN
        """The drop-in."""
        self.settings = load(config)
        self._before: list[bytes | None] = []

    @property
    def can_undo(self) -> bool:
        """Whether there is something to undo."""
        return bool(self._before)

    def check(self, drawing: Drawing) -> list[dict[str, Any]]:
        """The tables of all cameras with the drawing.

        Raises:
            SettingsError: no such camera, or the agent could not start with it.
        """
        names = [camera.name for camera in self.settings.cameras]
        if drawing.camera not in names:
            raise SettingsError([f"camera: none is called {drawing.camera}; there are: {', '.join(names)}"])
        tables = _tables(self.settings.cameras)
        place = names.index(drawing.camera)
        tables[place] = changed(self.settings.cameras[place], drawing)
        whole = self.settings.model_dump(mode="json", by_alias=True, exclude_unset=True) | {"camera": tables}
        try:
            wanted = Settings(**whole)
        except ValidationError as error:
            raise SettingsError(explain(error, Settings)) from None
        check_rules(wanted)
        return tables

    def save(self, drawing: Drawing) -> None:
        """Write the drop-in, and read the configuration again; what does not come out as drawn is taken back.

        Raises:
            SettingsError: it cannot be written, or is not in force then; nothing has changed.
        """
        tables = self.check(drawing)
        before = self._read()
        self._replace(drop_in(tables))
        try:
            settings = self._as_written(tables)
        except SettingsError:
            self._replace(before)
            raise
        self.settings = settings
        self._before = [*self._before, before][-_UNDO:]

    def _as_written(self, tables: list[dict[str, Any]]) -> Settings:
        """The configuration as it is read now, if its cameras are these."""
        settings = load(self._config)
        wanted = [CameraSettings.model_validate(table) for table in tables]
        if [c.model_dump() for c in settings.cameras] != [c.model_dump() for c in wanted]:
            stronger = origin(layers(self._config), ["camera"])
            raise SettingsError([f"camera: {stronger} is stronger than {self.path}: change the zones there"])
        return settings

    def undo(self) -> None:
        """Put back what was there before the last change.

        Raises:
            SettingsError: there is nothing to undo, or it cannot be written.
        """
        if not self._before:
            raise SettingsError(["there is nothing to undo"])
        self._replace(self._before[-1])
        self._before.pop()
        self.settings = load(self._config)

    def _read(self) -> bytes | None:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SettingsError([f"{self.path}: cannot be read: {error.strerror}"]) from error

    def _replace(self, content: bytes | None) -> None:
        try:
            if content is None:
                self.path.unlink(missing_ok=True)
                return
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # An address of a camera may hold a password: then it is for the agent's own group alone.
            secret = any(mask_url(camera.source) != camera.source for camera in self.settings.cameras)
            replace_file(self.path, content, 0o640 if secret else 0o644)
        except OSError as error:
            raise SettingsError([f"{self.path}: cannot be written: {error.strerror}"]) from error


_HEAD = """\
# Zones as drawn with `vigie aim`. This file replaces every [[camera]] of the configuration beside it, since lists are
# replaced whole; delete it, and what is written there is in force again.
"""


def drop_in(tables: list[dict[str, Any]]) -> bytes:
    """The drop-in as TOML.

    Args:
        tables: Of each camera, as JSON would have it.
    """
    lines = [_HEAD]
    for table in tables:
        lines += ["[[camera]]", *_pairs(table, leave=("zone", "rule")), ""]
        for zone in table.get("zone", ()):
            lines += ["[[camera.zone]]", *_pairs(zone, leave=("calibration",))]
            if zone.get("calibration"):
                lines += ["[camera.zone.calibration]", *_pairs(zone["calibration"])]
            lines.append("")
        for rule in table.get("rule", ()):
            lines += ["[[camera.rule]]", *_pairs(rule), ""]
    return "\n".join(lines).encode()


def _pairs(table: dict[str, Any], leave: tuple[str, ...] = ()) -> list[str]:
    return [f"{_key(k)} = {toml(v)}" for k, v in table.items() if k not in leave and v is not None]


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else toml(key)


def toml(value: Any) -> str:
    """A value as TOML: what JSON has, but null."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(k)} = {toml(v)}" for k, v in value.items() if v is not None) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    return repr(value)
