"""The technician's view in a real browser, beside a real agent and broker: drawn, saved, recorded, closed in time."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import socketserver
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from parts import mosquitto, start_vigie, subscriber, wait_for
from test_notice_page import axe

from agent.demo.configuration import write_configuration
from agent.settings import load

__all__ = ["axe"]
pytestmark = [pytest.mark.rig, pytest.mark.timeout(400)]


class _Forward(socketserver.BaseRequestHandler):
    """One connection that is forwarded."""

    def handle(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as far, contextlib.suppress(OSError):
            far.connect(self.server.far)  # type: ignore[attr-defined]
            back = threading.Thread(target=self._copy, args=(far, self.request))
            back.start()
            self._copy(self.request, far)
            back.join()

    @staticmethod
    def _copy(source: socket.socket, to: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(65536):
                to.sendall(chunk)
        with contextlib.suppress(OSError):
            to.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def forwarded(path: Path) -> Iterator[int]:
    """A port of loopback whose bytes go to a Unix socket, as `ssh -L` does it; the port."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Forward) as server:
        server.far = str(path)  # type: ignore[attr-defined]
        server.daemon_threads = True
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield server.server_address[1]
        server.shutdown()
        serving.join()


def entries(folder: Path) -> list[dict[str, Any]]:
    """What the audit log says of the view."""
    with contextlib.closing(sqlite3.connect(f"file:{folder}/journal.sqlite?mode=ro", uri=True)) as database:
        return [json.loads(body) for (body,) in database.execute("SELECT body FROM audit WHERE kind = 'aiming'")]


@contextlib.contextmanager
def view(config: Path, socket_path: Path, seconds: int) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`vigie aim --here`, and the token that it prints."""
    command = [sys.executable, "-m", "agent", "aim", "--here", "-c", str(config), "--socket", str(socket_path)]
    with subprocess.Popen([*command, "--seconds", str(seconds)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip().partition("token=")[2]
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


def test_a_polygon_is_drawn_saved_recorded_and_survives_a_restart(
    axe: Path, require: Callable[..., None], tmp_path: Path, data: Path
) -> None:
    require("mosquitto")
    shutil.copy(Path(__file__).with_name("aim.cjs"), tmp_path)
    page = tmp_path / "aim.sock"
    with mosquitto(tmp_path / "broker") as broker, subscriber(broker.port) as reader:
        mqtt = {"host": "127.0.0.1", "port": broker.port, "tls": False}
        config = write_configuration(tmp_path, f"file:{data}/clips/pets2009_s2l1.mp4", None, mqtt)
        text = config.read_text().replace('"square-cam"\n', '"square-cam"\nloop = true\nfps = 4\n')
        config.write_text(text)
        agent = start_vigie("run", config)
        try:
            wait_for(lambda: reader.state() in {"ready", "degraded"}, 40, "the agent is up")
            before = load(config)
            with view(config, page, 400) as (process, token), forwarded(page) as port:
                assert token
                wait_for(lambda: "aiming" in reader.reasons(), 10, "the status says that somebody aims")
                done = subprocess.run(
                    ["node", tmp_path / "aim.cjs", f"http://localhost:{port}/?token={token}", "/usr/bin/chromium"],
                    env={**os.environ, "NODE_PATH": str(axe / "node_modules")},
                    capture_output=True,
                    text=True,
                    check=False,
                    timeout=240,
                )
                assert done.returncode == 0, done.stderr
                found = json.loads(done.stdout)
                assert process.wait(20) == 0  # ended from the page
            assert found["without"] == found["again"] == 403
            assert found["status"] == 200
            assert found["url"] == f"http://localhost:{port}/"  # the token has left the address
            assert {url.partition("?")[0].rsplit("/", 1)[0] for url in found["requests"]} == {
                f"http://localhost:{port}"
            }
            assert found["pictures"] == 0
            assert found["lit"]
            assert "ramp" in found["saved"]
            assert "a to z" in found["problems"]
            assert found["violations"] == []
            assert found["passes"] > 20
            assert found["overflow"] == []
            assert [e for e in found["errors"] if "403" not in e and "422" not in e and "404" not in e] == []

            assert [entry["state"] for entry in entries(tmp_path / "journal")][:3] == ["begin", "look", "save"]
            wait_for(lambda: entries(tmp_path / "journal")[-1]["state"] == "end", 10, "the end is recorded")
            wait_for(lambda: "aiming" not in reader.reasons(), 40, "the status says that nobody aims")
            kept = tmp_path / "journal" / "configuration.json"
            wait_for(lambda: json.loads(kept.read_text())["local_version"] == 2, 40, "the agent has begun anew")
            after = load(config)
            assert config.read_text() == text  # the operator's own file is as it was
            assert {zone.name for zone in after.cameras[0].zones} == {"square", "lawn", "path", "ramp"}
            ramp = next(zone for zone in after.cameras[0].zones if zone.name == "ramp")
            assert ramp.calibration is not None
            assert ramp.polygon[3] == pytest.approx((0.09, 0.9), abs=0.01)
            assert after.cameras[0].rules[: len(before.cameras[0].rules)] == before.cameras[0].rules
            assert any(rule.type == "direction.wrong_way" and rule.zone == "ramp" for rule in after.cameras[0].rules)
            wait_for(lambda: reader.state() in {"ready", "degraded"}, 40, "the agent is up again")
        finally:
            agent.terminate()
            agent.wait(30)


def test_the_view_closes_after_its_time_and_not_without_relay(
    require: Callable[..., None], tmp_path: Path, data: Path
) -> None:
    require("mosquitto")
    page = tmp_path / "aim.sock"
    with mosquitto(tmp_path / "broker") as broker, subscriber(broker.port) as reader:
        mqtt = {"host": "127.0.0.1", "port": broker.port, "tls": False}
        config = write_configuration(tmp_path, "sim:crowd?people=3&seconds=600", None, mqtt)
        with view(config, page, 5) as (process, token):
            assert token == ""
            assert process.wait(20) == 3  # nobody would know of it
        agent = start_vigie("run", config)
        try:
            wait_for(lambda: reader.state() in {"ready", "degraded"}, 40, "the agent is up")
            with view(config, page, 5) as (process, token):
                assert token
                assert process.wait(20) == 0
            assert not page.exists()
            wait_for(
                lambda: [entry["state"] for entry in entries(tmp_path / "journal")] == ["begin", "end"], 10, "recorded"
            )
        finally:
            agent.terminate()
            agent.wait(30)
