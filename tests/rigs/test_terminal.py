"""The whole diagnosis in a terminal of 80 by 24, as a phone or a serial line has it, and the same as JSON.

tmux is the terminal: what it captures is what the technician sees.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from parts import mosquitto, start_vigie, wait_for

from agent.demo.configuration import write_configuration
from agent.relay.local import ask

pytestmark = [pytest.mark.rig, pytest.mark.timeout(400)]

WIDTH, HEIGHT = 80, 24
ROOT = Path(__file__).parents[2]


class Terminal:
    """A tmux of its own, with one shell in it."""

    def __init__(self, folder: Path) -> None:
        self._number = 0
        self._tmux = ["tmux", "-S", str(folder / "tmux.sock"), "-f", "/dev/null"]
        vigie = f'vigie() {{ {shlex.quote(sys.executable)} -m agent "$@"; }}'
        start = folder / "bashrc"
        start.write_text(
            f"PS1='$ '\nexport PYTHONPATH={shlex.quote(str(ROOT))} VIGIE_CONFIG={folder}/vigie.toml\n{vigie}\n"
        )
        size = ["-x", str(WIDTH), "-y", str(HEIGHT)]
        environment = {**os.environ, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
        command = [*self._tmux, "new-session", "-d", *size, f"bash --noprofile --rcfile {start}"]
        subprocess.run(command, check=True, env=environment, cwd=folder)
        wait_for(lambda: "$" in self.screen(), 10, "the prompt")

    def screen(self) -> str:
        """What is on the screen; lines that the terminal had to break are joined."""
        return self._do("capture-pane", "-p", "-J").rstrip("\n ")

    def type(self, *words: str) -> None:
        self._do("send-keys", *words)

    def run(self, command: str, seconds: float = 80) -> tuple[int, str]:
        """Run a command; its exit code, and the screen after it without the line that it was typed in."""
        self._number += 1  # so that the end of the command before is not taken for that of this one
        self.type("clear; " + command + f'; echo "[{self._number} $?]"', "Enter")
        done = re.compile(rf"^(.*)\n\[{self._number} (\d+)\]\n\$$", re.DOTALL)
        found = wait_for(lambda: done.match("\n" + self.screen()), seconds, f"{command} ends")
        return int(found[2]), found[1].lstrip("\n")

    def _do(self, *words: str) -> str:
        return subprocess.run([*self._tmux, *words], check=True, capture_output=True, text=True).stdout

    def close(self) -> None:
        self._do("kill-server")


@pytest.fixture
def terminal(require: Callable[..., None], tmp_path: Path) -> Iterator[Terminal]:
    require("tmux", "mosquitto")
    made = Terminal(tmp_path)
    try:
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def agent(folder: Path, data: Path, port: int) -> Iterator[Path]:
    """The whole agent on a clip that begins again."""
    source = f"file:{data}/clips/pets2009_s2l1.mp4"
    config = write_configuration(folder, source, None, {"host": "127.0.0.1", "port": port, "tls": False})
    config.write_text(config.read_text().replace('name = "square-cam"', 'name = "square-cam"\nloop = true\nfps = 4'))
    process = start_vigie("run", config)
    try:
        yield config
    finally:
        process.terminate()
        process.wait(30)


def state(folder: Path) -> str | None:
    with contextlib.suppress(OSError):
        return ask(folder / "status.sock").status.state
    return None


def said(config: Path, *words: str, lines: bool = False) -> Any:
    """What a command says as JSON."""
    command = [sys.executable, "-m", "agent", *words, "--json"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "VIGIE_CONFIG": str(config)},
    )
    assert done.stdout, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()] if lines else json.loads(done.stdout)


def fits(screen: str, *words: str) -> None:
    """It is all on one screen, no line was broken by the terminal, and these words are on it."""
    lines = screen.splitlines()
    assert len(lines) < HEIGHT, screen
    assert max(map(len, lines)) <= WIDTH, screen
    for word in words:
        assert word in screen, screen


def uptime(screen: str) -> tuple[str, int] | None:
    """The screen of the live status, and for how long the agent is up by it; None where it is not whole."""
    found = re.search(r"up for\D+(\d+) s", screen)
    return (screen, int(found[1])) if found and screen.rstrip().endswith("┘") else None


def test_a_whole_diagnosis_fits_a_small_terminal(terminal: Terminal, data: Path, tmp_path: Path) -> None:
    with mosquitto(tmp_path / "broker") as broker, agent(tmp_path, data, broker.port) as config:
        wait_for(lambda: state(tmp_path) in {"ready", "degraded"}, 60, "the agent is up")
        code, screen = terminal.run("vigie doctor --within 60", 70)
        assert code == 4, screen  # the demonstration's permissions end tomorrow
        fits(screen, "ok   config", "ok   camera", "as sense says", "ok   broker", "warn policy", "→")
        assert "fail" not in screen.replace("0 fail", "")

        code, screen = terminal.run("vigie status")
        fits(screen, "square-cam live", "connected, MQTT 5", "degraded" if code else "ready")

        terminal.type("clear; vigie status --watch", "Enter")
        first = wait_for(lambda: uptime(terminal.screen()), 30, "the live status")
        fits(first[0], "square-cam live")
        wait_for(lambda: (now := uptime(terminal.screen())) and now[1] > first[1], 20, "it is alive")
        terminal.type("C-c")

        code, screen = terminal.run("vigie test end-to-end --seconds 90", 100)
        assert code == 0, screen
        fits(screen, "seen, and", "s to the broker")

        terminal.type("clear; vigie events --local --past 3", "Enter")
        wait_for(lambda: re.search(r"^\d{4}-\d\d-\d\d ", terminal.screen(), re.MULTILINE), 30, "what was sent")
        terminal.type("C-c")

        for command, word in (
            ("vigie test broker", "MQTT 5"),
            ("vigie test detector", "self-check passed"),
            ("vigie test camera --seconds 2.5", "it sees"),
            ("vigie logs bundle --out help.tar.gz", "doctor.json"),
            ("vigie doctor --only camera,broker --within 60", "camera"),
        ):
            code, screen = terminal.run(command)
            assert code == 0, screen
            fits(screen, word)

        assert said(config, "doctor", "--within", "50")["worst"] == "warn"
        assert said(config, "status")["cameras"] == ["live"]
        assert said(config, "test", "broker")["failed"] is None
        assert said(config, "test", "detector")["passed"]
        assert said(config, "test", "end-to-end", "--seconds", "90")["to_broker_s"] < 10
        assert said(config, "logs", "bundle", "--out", str(tmp_path / "again.tar.gz"))["files"]
        with tarfile.open(tmp_path / "help.tar.gz") as archive:
            assert "manifest.json" in archive.getnames()


def test_a_device_on_which_much_is_wrong_fits_too(terminal: Terminal, tmp_path: Path) -> None:
    mqtt: dict[str, object] = {"host": "127.0.0.1", "port": 1, "tls": False}
    write_configuration(tmp_path, "rtsp://127.0.0.1:1/live", "device:no-such-microphone", mqtt)
    code, screen = terminal.run("vigie doctor --only agent,camera,mic,broker --within 60", 70)
    assert code == 1
    fits(screen, "fail camera", "fail microphone", "fail broker", "warn agent", "3 fail, 1 warn")
    code, screen = terminal.run("vigie doctor --help")
    assert code == 0
    assert "two subjects alone" in screen
    code, screen = terminal.run("vigie status")
    assert code == 3
    assert "sudo systemctl start vigie.target" in screen
