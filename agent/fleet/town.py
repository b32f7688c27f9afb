"""The map that joining needs: where devices hang, which zones a crowd can walk between, which zones make a square."""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from agent.contract import Name
from agent.fleet.incident import MAX_PLACES, PlaceName

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: Mean radius of the earth, metres (IUGG).
_EARTH_M = 6_371_008.8


class TownError(ValueError):
    """A map that cannot be used; the text says what is wrong where."""


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class MappedDevice(_Table):
    """One device."""

    name: Name
    site: Name
    latitude: Annotated[float, Field(ge=-85, le=85)]
    """Of its microphone, degrees north (WGS 84)."""
    longitude: Annotated[float, Field(ge=-180, le=180)]
    """Degrees east."""


class Way(_Table):
    """Two zones between which a crowd can walk."""

    between: tuple[PlaceName, PlaceName]
    metres: Annotated[float, Field(gt=0, le=2000)]
    """From the middle of one to the middle of the other."""


class Square(_Table):
    """Zones that are told as one; they must not overlap."""

    name: Name
    site: Name
    zones: Annotated[tuple[PlaceName, ...], Field(min_length=1, max_length=MAX_PLACES)]
    area_m2: Annotated[float, Field(gt=0, le=10_000_000)]
    """Of all its zones together."""


class Town(_Table):
    """The map: `[[device]]`, `[[way]]` and `[[square]]`."""

    device: tuple[MappedDevice, ...]
    way: tuple[Way, ...] = ()
    square: tuple[Square, ...] = ()

    @model_validator(mode="after")
    def _names_exist(self) -> Town:
        names = [device.name for device in self.device]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"devices that occur twice: {', '.join(twice)}")
        sites = {device.name: device.site for device in self.device}
        places = [*(place for way in self.way for place in way.between), *(z for s in self.square for z in s.zones)]
        if unknown := sorted({place for place in places if place.split("/")[0] not in sites}):
            raise ValueError(f"places of devices that are not in the map: {', '.join(unknown)}")
        for way in self.way:
            one, other = (sites[place.split("/")[0]] for place in way.between)
            if one != other:
                raise ValueError(f"a way leads from site {one} to site {other}: {' to '.join(way.between)}")
        for square in self.square:
            if foreign := [place for place in square.zones if sites[place.split("/")[0]] != square.site]:
                raise ValueError(f"square {square.name} has zones of another site: {', '.join(foreign)}")
        return self

    @property
    def sites(self) -> tuple[str, ...]:
        """All sites, in order."""
        return tuple(sorted({device.site for device in self.device}))

    def only(self, sites: Iterable[str]) -> Town:
        """The map of these sites."""
        kept = frozenset(sites)
        at = {device.name: device.site for device in self.device}
        return Town(
            device=tuple(device for device in self.device if device.site in kept),
            way=tuple(way for way in self.way if at[way.between[0].split("/")[0]] in kept),
            square=tuple(square for square in self.square if square.site in kept),
        )


def read_town(path: Path) -> Town:
    """The map in a TOML file.

    Raises:
        TownError: it cannot be read, or something in it is wrong.
    """
    try:
        return Town.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise TownError(f"{path}: cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TownError(f"{path}: is no TOML: {error}") from error
    except ValidationError as error:
        lines = (f"{path}: {'.'.join(map(str, one['loc'])) or 'map'}: {one['msg']}" for one in error.errors())
        raise TownError("\n".join(lines)) from error


def share(sites: Iterable[str], number: int, of: int) -> tuple[str, ...]:
    """The sites of instance `number` (from 1) of `of`: each site belongs to one of them, whoever asks."""
    return tuple(s for s in sites if int.from_bytes(hashlib.sha256(s.encode()).digest()[:8], "big") % of == number - 1)


class Plane:
    """Metres east and north of a point; within 5 km at most 60° north it is a metre off at most."""

    def __init__(self, latitude: float, longitude: float) -> None:
        self._latitude, self._longitude = latitude, longitude
        self._north = math.radians(1) * _EARTH_M
        self._east = self._north * math.cos(math.radians(latitude))

    def metres(self, latitude: float, longitude: float) -> tuple[float, float]:
        """East and north of the point."""
        return (longitude - self._longitude) * self._east, (latitude - self._latitude) * self._north

    def degrees(self, east: float, north: float) -> tuple[float, float]:
        """Latitude and longitude, to 1e-5 degrees: a metre."""
        return round(self._latitude + north / self._north, 5), round(self._longitude + east / self._east, 5)
