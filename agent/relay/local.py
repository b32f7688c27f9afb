"""What `vigie status` reads: one JSON document for each connection to a Unix socket, with nothing about people."""

from __future__ import annotations

import contextlib
import errno
import socket
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from agent.contract import Status
from agent.device.clock import Source

_TIMEOUT_S = 2.0


class LocalError(OSError):
    """The running relay does not answer; the text says what to look at."""


class LocalStatus(BaseModel):
    """How the agent is, for a technician beside it."""

    model_config = ConfigDict(extra="forbid")

    status: Status
    broker: Literal["5", "3.1.1"] | None
    broker_reason: str
    sense: str
    cameras: list[str]
    microphone: str
    detector: str
    rate: str
    outbox_events: int
    outbox_bytes: int
    held_back: int
    released: int
    acknowledged: int
    evicted: int
    salvaged: int
    refused_by_broker: int
    clock: Literal["synced", "unsynced"]
    clock_source: Source
    clock_error_s: float | None
    counters: dict[str, int]
    uptime_s: int


class LocalServer:
    """Relay's side of the socket."""

    def __init__(self, path: Path) -> None:
        """Listen at `path`.

        Raises:
            OSError: the folder is missing or not writable.
        """
        self._path = path
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.socket.bind(str(path))
            path.chmod(0o660)
            self.socket.listen(8)
            self.socket.setblocking(False)
        except OSError:
            self.socket.close()
            raise

    def answer(self, status: LocalStatus) -> None:
        """Give whoever has connected the status, and hang up."""
        with contextlib.suppress(OSError):
            client, _ = self.socket.accept()
            with client:
                client.setblocking(False)
                client.send(status.model_dump_json().encode())

    def close(self) -> None:
        """Stop listening."""
        self.socket.close()
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()


def ask(path: Path) -> LocalStatus:
    """The status of the relay that listens at `path`.

    Raises:
        LocalError: nobody listens there, this user may not ask, or the answer is that of another version.
    """
    try:
        return LocalStatus.model_validate_json(hear(path))
    except ValidationError as error:
        raise LocalError(errno.EPROTO, f"{path}: the agent that answers there is of another version") from error


def hear(path: Path) -> bytes:
    """What the relay that listens at `path` says, of whatever version it is.

    Raises:
        LocalError: nobody listens there, or this user may not ask.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(_TIMEOUT_S)
            client.connect(str(path))
            return b"".join(iter(lambda: client.recv(65536), b""))
    except OSError as error:
        raise LocalError(
            error.errno,
            f"{path}: no agent answers there ({error.strerror or error}); is it running, and are you allowed?",
        ) from error
