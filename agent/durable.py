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
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
