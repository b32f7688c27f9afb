"""A wire between relay and broker that keeps every byte that passes."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator


class Wiretap:
    """Listens on loopback and passes on.

    Attributes:
        port: Where to connect to.
        sent: What came from those who connected, connection after connection.
    """

    def __init__(self, target: int) -> None:
        """Listen.

        Args:
            target: Port of loopback to pass on to.
        """
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.sent = bytearray()
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._ends += [near, far]
                for source, sink, kept in ((near, far, self.sent), (far, near, bytearray())):
                    threading.Thread(target=self._pass, args=(source, sink, kept), daemon=True).start()

    @staticmethod
    def _pass(source: socket.socket, sink: socket.socket, kept: bytearray) -> None:
        with contextlib.suppress(OSError):
            while content := source.recv(65536):
                kept += content
                sink.sendall(content)
            sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Stop listening and cut every connection."""
        for end in (self._listener, *self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@contextlib.contextmanager
def wiretap(target: int) -> Iterator[Wiretap]:
    """A tapped wire to a port of loopback."""
    tap = Wiretap(target)
    try:
        yield tap
    finally:
        tap.close()
