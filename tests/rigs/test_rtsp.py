"""A camera on a real RTSP server that dies and freezes."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from parts import free_port, wait_for
from rtsp_camera import Server, require_rtsp_server

from agent.capture.camera import Camera
from agent.capture.frame import SourceError
from agent.capture.open import open_source
from agent.contract import CameraState

pytestmark = [pytest.mark.rig, pytest.mark.timeout(180)]


@pytest.fixture
def server() -> Iterator[Server]:
    require_rtsp_server()
    made = Server()
    try:
        made.start()
        yield made
    finally:
        made.kill()


@pytest.fixture
def camera(server: Server) -> Iterator[Camera]:
    made = Camera(
        "rig",
        lambda: open_source(server.url, fps=10, loop=False, replay=False),
        fps=10,
        wake=threading.Event(),
    )
    made.start()
    try:
        yield made
    finally:
        made.close()


def becomes(camera: Camera, *states: CameraState) -> Callable[[], bool]:
    return lambda: camera.state in states


def connections(port: int) -> int:
    """Established connections to a port of this machine, as their clients have them in /proc/net/tcp."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(remote.endswith(f":{port:04X}") and state == "01" for _, _, remote, state, *_ in rows)


def test_a_server_that_dies_is_lost_and_found_again(server: Server, camera: Camera) -> None:
    wait_for(becomes(camera, CameraState.LIVE), 30, "live")
    frame = wait_for(camera.take, 10, "a frame")
    assert frame.image.shape == (240, 320, 3)
    server.kill()
    wait_for(becomes(camera, CameraState.LOST), 15, "lost")
    assert "secret" not in camera.reason
    server.start()
    wait_for(becomes(camera, CameraState.LIVE), 60, "live again")
    wait_for(camera.take, 10, "a frame of the new server")
    assert camera.reconnects >= 1


def test_a_server_that_freezes_is_lost_and_found_again(server: Server, camera: Camera) -> None:
    wait_for(becomes(camera, CameraState.LIVE), 30, "live")
    server.signal(signal.SIGSTOP)
    try:
        wait_for(becomes(camera, CameraState.STALLED, CameraState.LOST), 5, "no longer live")
    finally:
        server.signal(signal.SIGCONT)
    wait_for(becomes(camera, CameraState.LIVE), 60, "live again")


def test_pause_hangs_up_and_resume_connects_again(server: Server, camera: Camera) -> None:
    wait_for(becomes(camera, CameraState.LIVE), 30, "live")
    assert connections(server.port) == 1
    camera.pause()
    wait_for(becomes(camera, CameraState.PAUSED), 15, "paused")
    wait_for(lambda: not connections(server.port), 5, "nobody is connected to the camera during a pause")
    camera.resume()
    wait_for(becomes(camera, CameraState.LIVE), 30, "live again")


def test_a_camera_that_is_not_there_says_so_without_its_password() -> None:
    with pytest.raises(SourceError, match="cannot connect") as refusal:
        open_source(f"rtsp://user:secret@127.0.0.1:{free_port()}/live", fps=10, loop=False, replay=False)
    assert "secret" not in str(refusal.value)
