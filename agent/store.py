"""The models on this machine: which files of the registry are here, and how the others get here.

Only for the command line: it reaches the network, so nothing that senses may import it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from agent.download import DownloadError, Progress, fetch
from agent.inference.backend import InferenceError
from agent.inference.registry import Model, ModelFile, Registry, verified
from agent.settings import mask_url


@dataclass(frozen=True, slots=True)
class FileState:
    """How one file of a network is on this machine.

    Attributes:
        file: What the registry says of it.
        path: Where it is; None when it is absent.
        state: Whether its content is the registered one.
        size: Its bytes, as found or else as registered; None when nobody knows.
        reason: Why it is refused, in words; empty when it is not.
    """

    file: ModelFile
    path: Path | None
    state: Literal["verified", "absent", "refused"]
    size: int | None
    reason: str = ""


def states(registry: Registry, model: Model) -> list[FileState]:
    """How each file of a network is; all its content is read."""
    return [_state(file, registry.path(file)) for file in model.files]


def _state(file: ModelFile, path: Path | None) -> FileState:
    if path is None:
        return FileState(file, None, "absent", file.size)
    try:
        content = verified(path, file)
    except InferenceError as error:
        return FileState(file, path, "refused", path.stat().st_size if path.is_file() else None, str(error))
    return FileState(file, path, "verified", len(content))


def pull(registry: Registry, file: ModelFile, folder: Path | None, progress: Progress) -> tuple[Path, str | None]:
    """Fetch a file, unless it is here and verified.

    Args:
        registry: Where it will be looked for.
        file: The file.
        folder: Where it goes, whatever is elsewhere. None: to `registry.target`.
        progress: Told how far it is.

    Returns:
        Where it is, and the address it came from; None when it was there already.

    Raises:
        DownloadError: it could not be fetched, or another file of its name would be taken before it.
    """
    path = folder / file.file if folder else registry.path(file) or registry.target / file.file
    if path.exists() and _state(file, path).state == "verified":
        return path, None
    path = (folder or registry.target) / file.file
    source = fetch(list(_sources(file)), path, file.sha256, file.size, progress)
    first = registry.path(file)
    if folder is None and first is not None and first != path and _state(file, first).state == "refused":
        raise DownloadError(f"{path} is verified, but {first} is taken before it and is not: remove that one")
    return path, mask_url(source)


def _sources(file: ModelFile) -> Iterator[str]:
    """The addresses of a file: the mirror's, if there is one, then the official one."""
    mirror = os.environ.get("VIGIE_MODEL_MIRROR")
    if mirror and "://" in mirror:
        if urlsplit(mirror).scheme not in {"file", "http", "https"}:
            known = "a folder, or an address that begins with file:, http: or https:"
            raise DownloadError(f"VIGIE_MODEL_MIRROR is {mask_url(mirror)}; it must be {known}")
        yield f"{mirror.rstrip('/')}/{file.file}"
    elif mirror:
        yield (Path(mirror).expanduser().absolute() / file.file).as_uri()
    if file.url:
        yield file.url
