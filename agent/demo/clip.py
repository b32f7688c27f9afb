"""The clip of `make run`: Debian's `vtest.avi` (PETS 2009 S2.L1, 768x576, 10 frames a second, 79.5 s).

It lies in the package opencv-doc and comes from whatever mirror this machine's apt uses, without root: apt works on
lists of its own in the cache folder, and `dpkg -x` unpacks. Nothing is installed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

PACKAGE = "opencv-doc"
_MEMBER = Path("usr/share/doc/opencv-doc/examples/data/vtest.avi")


class ClipError(RuntimeError):
    """The clip cannot be had here; the text says why."""


def cache_folder() -> Path:
    """Where the clip is kept: `$VIGIE_CACHE`, else `~/.cache/vigie`."""
    named = os.environ.get("VIGIE_CACHE")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "vigie"


def fetch(progress: Callable[[int, int], None], folder: Path | None = None) -> Path:
    """The clip's path, fetched at the first call.

    Args:
        progress: Called with the bytes that are here and the bytes there will be.
        folder: Cache folder; by default `cache_folder()`.

    Raises:
        ClipError: no apt on this machine, no network, no such package, no space.
    """
    folder = folder or cache_folder()
    clip = folder / "vtest.avi"
    if clip.exists():
        return clip
    for program in ("apt-get", "dpkg"):
        if shutil.which(program) is None:
            raise ClipError(f"{program} is missing: this is no Debian or Ubuntu")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix="fetch-") as scratch:
            unpacked = _unpack(_download(Path(scratch), progress), Path(scratch) / "tree")
            unpacked.replace(clip)
    except OSError as error:
        raise ClipError(f"{folder}: {error.strerror}") from error
    return clip


def _download(scratch: Path, progress: Callable[[int, int], None]) -> Path:
    """The package file in `scratch`; the machine's own package lists serve if it has any, else fresh ones."""
    own = ["-o", f"Dir::State::Lists={scratch}/lists", "-o", f"Dir::Cache={scratch}/cache"]
    (scratch / "lists" / "partial").mkdir(parents=True)
    (scratch / "cache" / "archives" / "partial").mkdir(parents=True)
    for options, update in (([], False), (own, True)):
        if update:
            _run(["apt-get", *options, "-q", "update"], scratch)
        listed = subprocess.run(
            ["apt-get", *options, "--print-uris", "-q", "download", PACKAGE],
            cwd=scratch,
            capture_output=True,
            text=True,
            check=False,
        )
        match = re.search(r"'[^']+' (\S+\.deb) (\d+)", listed.stdout)
        if listed.returncode == 0 and match:
            return _follow(["apt-get", *options, "-q", "download", PACKAGE], scratch, int(match[2]), progress)
    raise ClipError(f"apt knows no package {PACKAGE} here")


def _follow(command: list[str], scratch: Path, total: int, progress: Callable[[int, int], None]) -> Path:
    """Run the download and report how the file grows."""
    with subprocess.Popen(command, cwd=scratch, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as apt:
        while apt.poll() is None:
            progress(sum(f.stat().st_size for f in scratch.glob("*.deb*")), total)
            time.sleep(0.1)
        message = apt.stderr.read() if apt.stderr else ""
    debs = list(scratch.glob("*.deb"))
    if apt.returncode != 0 or not debs:
        raise ClipError(f"apt-get download {PACKAGE}: {_last_line(message)}")
    progress(total, total)
    return debs[0]


def _unpack(deb: Path, tree: Path) -> Path:
    _run(["dpkg", "-x", str(deb), str(tree)], deb.parent)
    if not (tree / _MEMBER).exists():
        raise ClipError(f"{deb.name} has no {_MEMBER.name}")
    return tree / _MEMBER


def _run(command: list[str], cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ClipError(f"{' '.join(command[:1])}: {_last_line(done.stderr)}")


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["failed without a word"])[-1]
