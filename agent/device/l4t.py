"""Which Linux for Tegra (L4T) a Jetson runs, and so which JetPack; anything else is no Jetson.

`/etc/nv_tegra_release` says it in its first line: `# R36 (release), REVISION: 4.3, GCID: …`. Where that file is
missing, as after some upgrades, the version of the package nvidia-l4t-core does. An L4T that nobody here has heard of
is still an L4T: it is named as it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

#: JetPack of an L4T, by release and first number of the revision (developer.nvidia.com, JetPack archive).
_JETPACK = {(36, 3): "6.0", (36, 4): "6.1 or 6.2", (36, 5): "6.2.2", (38, 2): "7.0", (38, 4): "7.1", (39, 2): "7.2"}


@dataclass(frozen=True, slots=True)
class L4t:
    """A release of Linux for Tegra.

    Attributes:
        release: Such as 36.
        revision: Such as `4.3`.
    """

    release: int
    revision: str

    def __str__(self) -> str:
        return f"{self.release}.{self.revision}"

    @property
    def jetpack(self) -> str | None:
        """The JetPack it belongs to, or None when it is not known."""
        return _JETPACK.get((self.release, int(self.revision.partition(".")[0])))


def l4t(root: Path = Path("/")) -> L4t | None:
    """What this machine runs; None when it is no Jetson.

    Args:
        root: Of the file system.
    """
    release = _first_line(root / "etc" / "nv_tegra_release")
    if found := re.match(r"# R(\d+) \(release\), REVISION: (\d+(?:\.\d+)*)", release):
        return L4t(int(found[1]), found[2])
    package = root / "var" / "lib" / "dpkg" / "info" / "nvidia-l4t-core.list"
    if package.exists():
        status = _text(root / "var" / "lib" / "dpkg" / "status")
        if found := re.search(
            r"^Package: nvidia-l4t-core\n(?:.+\n)*?Version: (\d+)\.(\d+(?:\.\d+)*)", status, re.MULTILINE
        ):
            return L4t(int(found[1]), found[2])
    return None


def _first_line(path: Path) -> str:
    return _text(path).partition("\n")[0]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
