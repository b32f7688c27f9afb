"""How much room there is, in memory and on a disk, and how worn the disk is.

Wear: an eMMC tells in tenths how much of its life is used, and in words of the standard how much of its reserve
(JEDEC eMMC 5.0, EXT_CSD 267 to 269; kernel, sysfs of mmc). An NVMe disk tells it to its own program alone.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Room:
    """How full a file system is.

    Attributes:
        free: Bytes that an ordinary user may still write.
        total: Bytes.
        read_only: Whether it is mounted so that nobody can write.
    """

    free: int
    total: int
    read_only: bool

    @property
    def share(self) -> float:
        """Share that is free."""
        return self.free / self.total if self.total else 0.0


def room(folder: Path) -> Room | None:
    """Of the file system where a folder is, or will be; None where that cannot be told."""
    try:
        found = os.statvfs(nearest(folder))
    except OSError:
        return None
    read_only = bool(found.f_flag & os.ST_RDONLY)
    return Room(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize, read_only)


def nearest(folder: Path) -> Path:
    """The folder itself, or the first one above it that is there and that this user may look at."""
    for path in (folder, *folder.parents):
        try:
            path.stat()
        except OSError:
            continue
        return path
    return folder


def memory(root: Path = Path("/")) -> Room | None:
    """Memory that programs can still have (`MemAvailable`, proc(5)); None where it cannot be read.

    Args:
        root: Of the file system.
    """
    try:
        lines = (root / "proc" / "meminfo").read_text().splitlines()
        values = {key: int(rest.split()[0]) * 1024 for key, _, rest in (line.partition(":") for line in lines)}
        return Room(values["MemAvailable"], values["MemTotal"], read_only=False)
    except (OSError, ValueError, IndexError, KeyError):
        return None


def wear(root: Path = Path("/")) -> dict[str, int]:
    """For each eMMC how much of its life is used at most, percent; 100 where its reserve is nearly gone.

    Args:
        root: Of the file system.
    """
    found = {}
    for device in (root / "sys" / "block").glob("mmcblk*/device"):
        try:
            used = max(int(part, 16) for part in (device / "life_time").read_text().split())
            reserve = int((device / "pre_eol_info").read_text(), 16)
        except (OSError, ValueError):
            continue
        if used:  # 0: not told
            found[device.parent.name] = 100 if reserve >= 3 else min(100, 10 * used)
    return found
