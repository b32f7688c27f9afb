"""How a Jetson is powered, and whether something slows it down, by files alone.

Power mode: `nvpmodel` keeps the number of the present one in `/var/lib/nvpmodel/status` (`pmode:0002`) and all of them,
with the board's own default, in `/etc/nvpmodel.conf`. Throttling: a cooling device of the kernel that slows something
down has a state above zero (kernel, sysfs-class-thermal; fans are none), and the over-current counters of Orin stand
under hwmon (`oc*_event_cnt`, Jetson Linux Developer Guide, "Jetson Orin power and performance").
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

#: Cooling devices that slow a processor down, by their type; all else turns a fan or switches a charger.
_SLOWS = re.compile(r"throttle|cpufreq|devfreq|hot-surface|processor", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class PowerMode:
    """A mode of nvpmodel.

    Attributes:
        number: As `nvpmodel -m` takes it.
        name: Such as `15W` or `MAXN`.
    """

    number: int
    name: str

    @property
    def watts(self) -> float:
        """By its name; the unlimited one has no number in it."""
        found = re.search(r"(\d+)\s*W", self.name)
        return float(found[1]) if found else math.inf


def power_modes(root: Path = Path("/")) -> tuple[PowerMode, PowerMode] | None:
    """The present mode and the board's own; None where nvpmodel does not say.

    Args:
        root: Of the file system.
    """
    config = _text(root / "etc" / "nvpmodel.conf")
    modes = {int(n): PowerMode(int(n), name) for n, name in re.findall(r"POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)", config)}
    default = re.search(r"PM_CONFIG\s+DEFAULT=(\d+)", config)
    present = re.search(r"pmode:(\d+)", _text(root / "var" / "lib" / "nvpmodel" / "status")) or default
    if present is None or default is None:
        return None
    try:
        return modes[int(present[1])], modes[int(default[1])]
    except KeyError:
        return None


def throttled(root: Path = Path("/")) -> list[str]:
    """What slows the machine down now because of heat, by the names of the kernel's cooling devices.

    Args:
        root: Of the file system.
    """
    found = set()
    for device in (root / "sys" / "class" / "thermal").glob("cooling_device*"):
        name, state = _text(device / "type"), _number(device / "cur_state")
        if state > 0 and _SLOWS.search(name) and "fan" not in name.lower():
            found.add(name)
    return sorted(found)


def over_currents(root: Path = Path("/")) -> int:
    """How often the machine was slowed down since its start because it drew too much current.

    Args:
        root: Of the file system.
    """
    return sum(max(0, _number(path)) for path in (root / "sys" / "class" / "hwmon").glob("hwmon*/oc*_event_cnt"))


def _number(path: Path) -> int:
    try:
        return int(_text(path))
    except ValueError:
        return -1


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
