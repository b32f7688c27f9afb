"""How warm and how busy this machine is, and since when it runs, by what Linux tells of it.

Temperatures: `/sys/class/thermal/thermal_zone*/temp`, thousandths of a degree (kernel, sysfs-class-thermal); load: the
second figure of `/proc/loadavg`, the mean number of tasks that ran or waited over five minutes (proc(5)), or the same
of sysinfo(2), since relay's unit hides the file (`ProcSubset=pid`).
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

#: A zone that is off cannot be read, or says -256 °C as on a Jetson.
_OFF_C = -256.0


def temperature_c(root: Path = Path("/")) -> float | None:
    """Of the hottest thermal zone, °C; None where none can be read.

    Args:
        root: Of the file system.
    """
    zones = [_degrees(zone / "temp") for zone in (root / "sys" / "class" / "thermal").glob("thermal_zone*")]
    return max((degrees for degrees in zones if degrees > _OFF_C), default=None)


def _degrees(path: Path) -> float:
    try:
        return int(path.read_text()) / 1000
    except (OSError, ValueError):
        return _OFF_C


def boot_id(root: Path = Path("/")) -> str | None:
    """Which start of this machine it is, as a random id; None where it is not told.

    `$MACHINE_BOOT` comes from the unit (`%b`), whose sandbox hides `/proc/sys`.

    Args:
        root: Of the file system.
    """
    try:
        known = (root / "proc" / "sys" / "kernel" / "random" / "boot_id").read_text()
    except OSError:
        known = os.environ.get("MACHINE_BOOT", "")
    return known.strip().replace("-", "") or None


def load(root: Path = Path("/")) -> float | None:
    """Of all processor cores, 1 being as many tasks as cores; None where it cannot be read.

    Args:
        root: Of the file system.
    """
    try:
        tasks = float((root / "proc" / "loadavg").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        if root != Path("/"):
            return None
        told = (ctypes.c_ulong * 64)()  # the uptime, three loads in 65536ths, and what does not matter here
        if ctypes.CDLL(None).sysinfo(told):
            return None
        tasks = told[2] / 65536
    return tasks / (os.cpu_count() or 1)
