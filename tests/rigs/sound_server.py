"""PulseAudio without a sound card: what is played into its null sink is what a microphone hears."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from parts import wait_for


class SoundServer:
    """PulseAudio as a process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "pulse.sock"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it listens."""
        for name in ("run", "home"):
            (self.folder / name).mkdir(mode=0o700, exist_ok=True)
        self.socket.unlink(missing_ok=True)
        modules = (
            f"module-native-protocol-unix socket={self.socket} auth-anonymous=1",
            "module-null-sink sink_name=mic rate=16000 channels=1",
        )
        self.process = subprocess.Popen(
            [
                *("pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--disable-shm=yes"),
                *(argument for module in modules for argument in ("-L", module)),
            ],
            env={**os.environ, "XDG_RUNTIME_DIR": f"{self.folder}/run", "HOME": f"{self.folder}/home"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for(self.socket.exists, 15, "the sound server listens")

    def play(self, sound: Path) -> subprocess.Popen[bytes]:
        """Play a file into the microphone."""
        command = ["paplay", f"--server=unix:{self.socket}", "--latency-msec=20", "-d", "mic", str(sound)]
        return subprocess.Popen(command)

    def signal(self, number: signal.Signals) -> None:
        """Freeze it or let it go on."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """Kill -9, if it runs."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(10)
            self.process = None


@contextlib.contextmanager
def sound_server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SoundServer]:
    """A running server whose microphone is this process's and its children's; killed at the end."""
    made = SoundServer(folder)
    monkeypatch.setenv("PULSE_SERVER", f"unix:{made.socket}")
    monkeypatch.setenv("PULSE_SOURCE", "mic.monitor")
    try:
        made.start()
        yield made
    finally:
        made.kill()
