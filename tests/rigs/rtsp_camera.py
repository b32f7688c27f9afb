"""A network camera: GStreamer's RTSP server as a process that can be killed and frozen."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
from pathlib import Path

from parts import free_port, wait_for

from tests.conftest import lacking

PYTHON = "/usr/bin/python3"
PROBE = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"


class Server:
    """The RTSP server as a process."""

    def __init__(self, clip: Path | None = None) -> None:
        """Nothing runs yet.

        Args:
            clip: H.264 in MP4; None for a test picture.
        """
        self._clip = [str(clip)] if clip else []
        self.port = free_port()
        self.url = f"rtsp://user:secret@127.0.0.1:{self.port}/live"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it listens."""
        script = Path(__file__).with_name("rtsp_server.py")
        self.process = subprocess.Popen(
            [PYTHON, str(script), str(self.port), *self._clip], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

        def listens() -> bool:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return True
            return False

        wait_for(listens, 20, "the RTSP server listens")

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """Kill -9, if it runs."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None


def require_rtsp_server() -> None:
    """Skip the test, or fail it where VIGIE_REQUIRE_RIGS=1, when the server cannot run here."""
    if not Path(PYTHON).exists() or subprocess.run([PYTHON, "-c", PROBE], capture_output=True, check=False).returncode:
        reason = "this rig needs GStreamer's RTSP server for the system's Python (see tests/rigs/README.md)"
        lacking(reason)
