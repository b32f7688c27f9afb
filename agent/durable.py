"""Files that are replaced whole or not at all, also when the power is cut: the old one stays until the new one is safe.

The new content goes to a file beside it, which is on the disk before it takes the name, and so is the name (fsync(2),
rename(2)).
"""

from __future__ import annotations

import contextlib
import ctypes
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
    sync_folder(path.parent)


def replace_link(path: Path, target: str) -> None:
    """Make a symbolic link, in place of one that may be there.

    Args:
        path: The link.
        target: What it names, as it stands in the link.

    Raises:
        OSError: it cannot be made; what was there is there still.
    """
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    part.symlink_to(target)
    part.replace(path)
    sync_folder(path.parent)


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
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder safe.

    Raises:
        OSError: the disk did not take them.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Make all below a folder safe, by one syncfs(2): thousands of fsync(2) would each wait for the disk.

    Raises:
        OSError: the disk did not take it all (told since Linux 5.8).
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
    finally:
        os.close(descriptor)
