"""The sd_notify protocol of systemd (man 3 sd_notify): one datagram to `$NOTIFY_SOCKET`."""

from __future__ import annotations

import contextlib
import os
import socket


def notify(state: str) -> None:
    """Tell systemd about this process, such as `READY=1` or `WATCHDOG=1`; does nothing outside of a unit."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(state.encode(), address)
