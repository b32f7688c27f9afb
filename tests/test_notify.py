"""What systemd is told."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from agent.notify import allow


def test_the_watchdog_waits_longer_for_a_while_and_then_as_the_unit_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.delenv("WATCHDOG_USEC", raising=False)
        allow(120)
        with pytest.raises(BlockingIOError):
            systemd.recv(64)
        monkeypatch.setenv("WATCHDOG_USEC", "30000000")
        allow(120)
        allow(None)
        assert [systemd.recv(64), systemd.recv(64)] == [b"WATCHDOG_USEC=120000000", b"WATCHDOG_USEC=30000000"]
