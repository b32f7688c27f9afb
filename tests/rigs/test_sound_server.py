"""A microphone on a sound server that is killed or frozen: PulseAudio with a null sink, whose monitor is heard."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from parts import wait_for

from agent.capture.microphone import Microphone, open_sound
from agent.capture.sound import RATE_HZ
from agent.contract import MicrophoneState

pytestmark = [pytest.mark.rig, pytest.mark.timeout(120)]


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
        return subprocess.Popen(["paplay", f"--server=unix:{self.socket}", "-d", "mic", str(sound)])

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


@pytest.fixture
def server(require: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SoundServer]:
    require("pulseaudio", "paplay")
    made = SoundServer(tmp_path)
    monkeypatch.setenv("PULSE_SERVER", f"unix:{made.socket}")
    monkeypatch.setenv("PULSE_SOURCE", "mic.monitor")
    try:
        made.start()
        yield made
    finally:
        made.kill()


@pytest.fixture
def tone(tmp_path: Path) -> Path:
    """A minute of 440 Hz at -9 dBFS."""
    path = tmp_path / "tone.wav"
    moments = np.arange(60 * RATE_HZ) / RATE_HZ
    soundfile.write(path, (0.5 * np.sin(2 * np.pi * 440 * moments)).astype(np.float32), RATE_HZ)
    return path


@pytest.mark.parametrize("failure", ["killed", "frozen"])
def test_a_microphone_is_heard_lost_and_heard_again(server: SoundServer, tone: Path, failure: str) -> None:
    microphone = Microphone(lambda: open_sound("device:pulse"))
    microphone.start()
    player = server.play(tone)
    try:
        wait_for(lambda: microphone.state is MicrophoneState.LIVE, 20, f"live ({microphone.reason})")
        wait_for(lambda: -12 < microphone.level_dbfs < -6, 10, "the tone's level, -9 dBFS")
        if failure == "killed":
            server.kill()
            player.wait(10)
        else:
            server.signal(signal.SIGSTOP)
        wait_for(lambda: microphone.state is MicrophoneState.LOST, 3, "lost within 3 s")
        if failure == "killed":
            server.start()
        else:
            # It stays frozen through several attempts to open it again.
            wait_for(lambda: microphone.reconnects >= 2, 40, "tried again")
            server.signal(signal.SIGCONT)
        wait_for(lambda: microphone.state is MicrophoneState.LIVE, 40, "live again")
        player.kill()
        player.wait(10)
        player = server.play(tone)
        wait_for(lambda: -12 < microphone.level_dbfs < -6, 15, "the tone again")
    finally:
        microphone.close()
        player.kill()
        player.wait(10)


def test_a_name_that_no_device_has_is_refused_with_those_there_are(server: SoundServer) -> None:
    from agent.capture.frame import SourceError

    source = open_sound("device:no-such-thing")
    with pytest.raises(SourceError, match=r"no input device has 'no-such-thing'.*pulse"):
        source.read()
    source.close()
