"""Files that are replaced whole or not at all, also when the power is cut: the old one stays until the new one is safe.

The new content goes to a file beside it, which is on the disk before it takes the name, and so is the name (fsync(2),
rename(2)).
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def replace_file(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Write a file, in place of one that may be there; nobody but its owner can read it before it has its mode.

    Args:
        path: The file.
        content: All of it.
        mode: Who may do what with it.

    Raises:
        OSError: it cannot be written; what was there is there still.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        part.unlink(missing_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
    _keep_names(path.parent)


def erase_file(path: Path) -> None:
    """Write over a file, and remove it. What flash memory has copied elsewhere meanwhile stays until it is reused.

    Raises:
        OSError: it cannot be written or removed.
    """
    if not path.is_symlink():
        with path.open("r+b") as file:
            file.write(bytes(path.stat().st_size))
            file.flush()
            os.fsync(file.fileno())
    path.unlink()
    _keep_names(path.parent)


def _keep_names(folder: Path) -> None:
    """Have the disk know which files there are."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
