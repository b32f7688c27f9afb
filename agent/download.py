"""Fetching a file whose SHA-256 is known beforehand: all of it or nothing, and never twice what has arrived already.

What arrives is kept in a hidden file beside its target until its hash is right. A cut connection is taken up where it
broke, in this run or a later one, as long as the server says that the content is still the same (`If-Range`, RFC 9110,
section 13.1.5). `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` are honoured. Nothing that senses may import this module.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http.client
import json
import os
import random
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from agent import __version__
from agent.settings import mask_url

#: Called with the bytes that are here, and the bytes that there will be where that is known.
Progress = Callable[[int, "int | None"], None]

#: Most bytes that a file may have whose size is not known beforehand.
LARGEST = 256 << 20
_CHUNK = 64 << 10
_SILENCE_S = 30.0
#: Attempts that bring no byte, one after the other, before a source is given up.
_ATTEMPTS = 5
_LONGEST_PAUSE_S = 60.0
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})


class DownloadError(RuntimeError):
    """A file that could not be fetched; the text says from where and why. What was there before still is."""


class _TransientError(Exception):
    """Something that may be over in a moment."""

    def __init__(self, reason: str, *, pause: float = 0.0, restart: bool = False) -> None:
        super().__init__(reason)
        self.pause = pause
        self.restart = restart


def fetch(
    sources: Sequence[str],
    target: Path,
    sha256: str,
    size: int | None,
    progress: Progress,
    pause: Callable[[float], None] = time.sleep,
) -> str:
    """Fetch a file and put it in its place.

    Args:
        sources: Addresses to try in turn: `file:`, `http:` or `https:`.
        target: Where it goes; replaced in one step, and only by the right content.
        sha256: What its hash must be.
        size: Its bytes, or None when they are not known; then it may have at most `LARGEST`.
        progress: Told how far it is.
        pause: Waits for some seconds between two attempts.

    Returns:
        The source that had it.

    Raises:
        DownloadError: no source has it, or it cannot be stored here.
    """
    reasons = []
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _opened(target, sha256, size, progress) as part:
            if part.is_right():
                part.install()
                return part.origin
            for source in sources:
                try:
                    _receive(source, part, pause)
                    part.check()
                except DownloadError as error:
                    reasons.append(f"{mask_url(source)}: {error}")
                    continue
                part.install()
                return source
    except OSError as error:
        raise DownloadError(f"{error.filename or target.parent}: {error.strerror or error}") from error
    raise DownloadError("; ".join(reasons) or "there is no address to fetch it from")


class _Part:
    """What has arrived of a file so far, and from where."""

    def __init__(self, file: IO[bytes], target: Path, sha256: str, size: int | None, progress: Progress) -> None:
        self._file = file
        self._target = target
        self._note = target.with_name(f".{target.name}.part.json")
        self._sha256 = sha256
        self._size = size
        self._limit = size or LARGEST
        self._total = size
        self._progress = progress
        #: Source of the bytes, and the ETag or date by which the server knows them; empty where it gave none.
        self.origin = self.validator = ""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            note = json.loads(self._note.read_text(encoding="utf-8"))
            self.origin, self.validator = str(note["origin"]), str(note["validator"])

    @property
    def have(self) -> int:
        """Bytes that have arrived."""
        return self._file.seek(0, os.SEEK_END)

    def begin(self, origin: str, validator: str, start: int, offered: int | None) -> int | None:
        """Take what a source offers, from a byte on; what is there from this byte on is dropped.

        Returns:
            The bytes that there will be, as far as anybody knows.

        Raises:
            DownloadError: it is not what was asked for, is too large, or does not fit on the disk.
        """
        if offered is not None and self._size is not None and offered != self._size:
            raise DownloadError(f"it has {offered} bytes there, the registry says {self._size}: another file")
        self._total = offered or self._size
        if self._total is not None:
            folder = self._target.parent
            missing, free = self._total - start, shutil.disk_usage(folder).free
            if self._total > self._limit:
                raise DownloadError(f"{_mb(self._total)} are more than the {_mb(self._limit)} that are allowed")
            if missing > free:
                raise DownloadError(f"{folder} has {_mb(free)} free, {_mb(missing)} are needed: make room")
        self._file.truncate(start)
        self.origin, self.validator = origin, validator
        self._note.write_text(json.dumps({"origin": origin, "validator": validator}), encoding="utf-8")
        self._progress(start, self._total)
        return self._total

    def add(self, chunk: bytes) -> None:
        """Keep what arrived.

        Raises:
            DownloadError: it is more than was announced or is allowed.
        """
        have = self.have + len(chunk)
        if have > (self._total or self._limit):
            self.drop()
            raise DownloadError(f"more than {self._total or self._limit} bytes arrived")
        self._file.write(chunk)
        self._progress(have, self._total)

    def drop(self) -> None:
        """Forget what has arrived."""
        self._file.truncate(0)
        self.origin = self.validator = ""

    def remove(self) -> None:
        """Leave no trace of an attempt that brought nothing."""
        self._note.unlink(missing_ok=True)
        _path(self._target).unlink(missing_ok=True)

    def is_right(self) -> bool:
        """Whether the right content has arrived, all of it."""
        return bool(self.have) and self._digest() == self._sha256

    def check(self) -> None:
        """Refuse wrong content.

        Raises:
            DownloadError: its hash is not the registered one; it is dropped.
        """
        digest = self._digest()
        if digest != self._sha256:
            self.drop()
            raise DownloadError(
                f"refused, nothing was replaced: its SHA-256 is {digest}, the registry has {self._sha256}"
            )

    def install(self) -> None:
        """Put the content in its place in one step, such that a power cut leaves the old or the new file."""
        os.fchmod(self._file.fileno(), 0o644)
        self._file.flush()
        os.fsync(self._file.fileno())
        _path(self._target).replace(self._target)
        self._note.unlink(missing_ok=True)
        folder = os.open(self._target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _digest(self) -> str:
        self._file.seek(0)
        digest = hashlib.sha256()
        while chunk := self._file.read(_CHUNK):
            digest.update(chunk)
        return digest.hexdigest()


@contextlib.contextmanager
def _opened(target: Path, sha256: str, size: int | None, progress: Progress) -> Iterator[_Part]:
    """The part of a file that earlier runs left, locked against a second run; an empty one does not stay.

    Raises:
        DownloadError: another run is at it.
    """
    path = _path(target)
    with path.open("ab+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The run that held the lock until now may just have moved the file to its place.
            mine = os.path.samestat(os.fstat(file.fileno()), path.stat())
        except (BlockingIOError, FileNotFoundError):
            mine = False
        if not mine:
            raise DownloadError(f"{target}: is being fetched by another run; wait for its end")
        part = _Part(file, target, sha256, size, progress)
        try:
            yield part
        finally:
            if not part.have:
                part.remove()


def _path(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")


def _receive(source: str, part: _Part, pause: Callable[[float], None]) -> None:
    """Bring all of a source's content into `part`, in as many attempts as bring something.

    Raises:
        DownloadError: the source does not have it, or does not answer.
    """
    if urlsplit(source).scheme == "file":
        _copy(Path(urllib.request.url2pathname(urlsplit(source).path)), source, part)
        return
    failures = most = 0
    while (error := _attempt(source, part)) is not None:
        failures = 1 if part.have > most else failures + 1
        most = max(most, part.have)
        if error.restart:
            part.drop()
        if failures == _ATTEMPTS:
            raise DownloadError(f"{error}, {failures} times in a row") from error
        # A fleet that lost its line at one time does not come back at one time.
        backoff = 2**failures * random.uniform(0.5, 1)  # noqa: S311 - spreads load, guards nothing
        pause(min(_LONGEST_PAUSE_S, max(error.pause, backoff)))


def _attempt(source: str, part: _Part) -> _TransientError | None:
    """One attempt, and why another one is worth while; None when all is there."""
    try:
        _request(source, part)
    except _TransientError as error:
        return error
    return None


def _copy(path: Path, source: str, part: _Part) -> None:
    try:
        file = path.open("rb")
    except OSError as error:
        raise DownloadError(_words(error)) from error
    with file:
        part.begin(source, "", 0, os.fstat(file.fileno()).st_size)
        while chunk := file.read(_CHUNK):
            part.add(chunk)


def _request(source: str, part: _Part) -> None:
    """One request, for what is missing.

    Raises:
        DownloadError: it is refused for good.
        _TransientError: it failed, and may not the next time.
    """
    headers = {"User-Agent": f"vigie/{__version__}"}
    start = part.have if part.validator and part.origin == source else 0
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": part.validator}
    with _open(source, headers) as response:
        if response.status == http.HTTPStatus.PARTIAL_CONTENT:
            given = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
            if not start or given is None or int(given[1]) != start:
                raise _TransientError("the server answered with another part of the file", restart=True)
            offered: int | None = int(given[2])
        else:
            start, offered = 0, response.length
        total = part.begin(source, _validator(response), start, offered)
        while chunk := _read(response):
            part.add(chunk)
    if total is not None and part.have < total:
        raise _TransientError(f"the connection was cut after {part.have} of {total} bytes")


def _open(source: str, headers: dict[str, str]) -> http.client.HTTPResponse:
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    request = urllib.request.Request(source, headers=headers)  # noqa: S310 - this opener speaks HTTP and nothing else
    try:
        response: http.client.HTTPResponse = opener.open(request, timeout=_SILENCE_S)
    except urllib.error.HTTPError as error:
        with error:
            answer = f"the server answered {error.code} {error.reason}"
            if error.code in _TRANSIENT:
                raise _TransientError(answer, pause=_retry_after(error.headers)) from error
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise _TransientError(answer, restart=True) from error
            raise DownloadError(answer) from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise DownloadError(f"the server's certificate is not trusted: {error.reason.verify_message}") from error
        raise _TransientError(f"no connection: {_words(error.reason)}") from error
    except (ValueError, http.client.InvalidURL) as error:
        raise DownloadError(f"its address or the proxy's cannot be used: {error}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _TransientError(f"no answer: {_words(error)}") from error
    return response


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read1(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _TransientError(f"the connection was cut: {_words(error)}") from error


def _validator(response: http.client.HTTPResponse) -> str:
    """By what the server can tell whether its content is still the same; a weak ETag cannot."""
    tag: str = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified", "")


def _retry_after(headers: Any) -> float:
    seconds = headers.get("Retry-After", "")
    return float(seconds) if re.fullmatch(r"\d{1,6}", seconds) else 0.0


def _words(error: object) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
