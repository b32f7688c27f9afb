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


def trip() -> bool:
    """Have systemd's watchdog end this process now, as if it had given no sign of life; whether there is a watchdog."""
    if "WATCHDOG_USEC" not in os.environ:
        return False
    notify("WATCHDOG=trigger")
    return True


def allow(seconds: float | None) -> None:
    """Have systemd's watchdog wait so long for a sign of life; None: as long as the unit says.

    Args:
        seconds: Seconds.
    """
    usual = os.environ.get("WATCHDOG_USEC")
    if usual is not None:
        notify(f"WATCHDOG_USEC={usual if seconds is None else int(seconds * 1e6)}")
