"""The narrow pipe between sense and relay: AF_UNIX SOCK_SEQPACKET, one message a packet.

Relay listens, sense connects, and each checks with SO_PEERCRED who is at the other end. `vigie run` gives both its
children the ends of a socketpair instead; the parent keeps them open too, so either child can die and come back
without a message getting lost.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from pathlib import Path

from agent.contract import CONTROL_MAX_SIZE, OBSERVATION_SIZE, Observation

_UCRED = struct.Struct("3i")
_TIMESPEC = struct.Struct("qq")
_SO_TIMESTAMPNS = 35


class PipeError(OSError):
    """The pipe cannot be opened, or a stranger is at its other end."""


def pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of a new pipe: sense's, then relay's."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def listen(path: Path) -> socket.socket:
    """A listening socket at `path`, which only this user and its group can connect to.

    Raises:
        PipeError: the folder is missing, or another process listens there.
    """
    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        if path.is_socket():
            if _alive(path):
                raise PipeError(errno.EADDRINUSE, f"{path}: another relay listens there")
            path.unlink()
        server.bind(str(path))
        path.chmod(0o660)
        server.listen(4)
    except OSError as error:
        server.close()
        if isinstance(error, PipeError):
            raise
        raise PipeError(error.errno, f"{path}: cannot listen: {error.strerror}") from error
    return server


def _alive(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def connect(path: Path) -> socket.socket:
    """A connection to the relay that listens at `path`.

    Raises:
        PipeError: nobody listens there.
    """
    client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        client.connect(str(path))
    except OSError as error:
        client.close()
        raise PipeError(error.errno, f"{path}: relay does not answer: {error.strerror}") from error
    return client


def peer_uid(connection: socket.socket) -> int:
    """User id of the process at the other end, from the kernel (SO_PEERCRED)."""
    _, uid, _ = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return int(uid)


def check_peer(connection: socket.socket, allowed: frozenset[int]) -> None:
    """Close a connection whose other end is none of the `allowed` users, this process's own user or root.

    Raises:
        PipeError: a stranger is at the other end.
    """
    uid = peer_uid(connection)
    if uid not in allowed | {0, os.geteuid()}:
        connection.close()
        raise PipeError(errno.EACCES, f"user {uid} may not use the pipe")


def send(connection: socket.socket, observation: Observation) -> bool:
    """Send without waiting; False when the pipe is full, so that a slow relay never stops the frame loop.

    Raises:
        OSError: the other end is gone.
    """
    try:
        connection.send(observation.pack(), socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    return True


def stamp(connection: socket.socket) -> None:
    """Have the kernel note when each message came, for `receive_stamped`."""
    connection.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)


def receive_stamped(connection: socket.socket) -> tuple[bytes | None, float]:
    """As `receive`, and for how long the message has waited in the pipe, seconds.

    What is older than a second, or comes from a clock that was set meanwhile, counts as no more than that second.
    """
    try:
        message, stamps, _, _ = connection.recvmsg(
            OBSERVATION_SIZE + 1, socket.CMSG_SPACE(_TIMESPEC.size), socket.MSG_DONTWAIT
        )
    except BlockingIOError:
        return None, 0.0
    except ConnectionError:
        return b"", 0.0
    for level, kind, content in stamps:
        if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
            seconds, nanoseconds = _TIMESPEC.unpack(content)
            return message, min(max(time.time() - seconds - nanoseconds / 1e9, 0.0), 1.0)
    return message, 0.0


def receive(connection: socket.socket) -> bytes | None:
    """The next raw observation packet, None when there is none now, empty when the other end is gone.

    A packet longer than an observation comes back one byte too long, so that the contract refuses it.
    """
    try:
        return connection.recv(OBSERVATION_SIZE + 1, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return None
    except ConnectionError:
        return b""


def receive_control(connection: socket.socket) -> bytes | None:
    """The next raw control packet; None and empty as in `receive`."""
    try:
        return connection.recv(CONTROL_MAX_SIZE + 1, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return None
    except ConnectionError:
        return b""
