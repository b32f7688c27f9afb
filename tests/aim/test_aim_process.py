"""The loop behind the page: it shows what it sees by the device's own files, and each step is recorded first."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.aim.edit import LocalZones
from agent.aim.process import Aim, AimError, Relay
from agent.aim.server import Desk, Server, listen
from agent.aim.session import Session
from agent.aim.view import LEVEL_FLOOR_DBFS, SoundView, page_bytes
from agent.demo.configuration import write_configuration
from agent.perception.hearing import Hearing
from agent.perception.tag import CLASSES
from agent.policy import load_policy
from agent.relay.word import Aiming
from agent.word import Begin, word_socket


class Ear:
    """Relay's ear, in a thread of its own."""

    def __init__(self, path: Path) -> None:
        import selectors

        self.recorded: list[dict[str, object]] = []
        self.forbidden: str | None = None
        self._selector = selectors.DefaultSelector()
        self._aiming = Aiming(
            path, self._selector, lambda body: self.recorded.append(json.loads(body)), lambda: self.forbidden
        )
        self._stop = threading.Event()
        self.hang_up, self.hung_up = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while not self._stop.is_set():
            for key, _ in self._selector.select(0.02):
                key.data()
            if self.hang_up.is_set():
                self._aiming.end()
                self.hung_up.set()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._aiming.close()
        self._selector.close()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = write_configuration(tmp_path, "sim:crowd?people=6&seconds=600", None, {"host": "localhost", "tls": False})
    path.write_text(path.read_text() + '[inference]\ndetector = "motion"\n')
    return path


@pytest.fixture
def ear(tmp_path: Path) -> Iterator[Ear]:
    made = Ear(word_socket(tmp_path / "status.sock"))
    yield made
    made.close()


@pytest.fixture
def relay(ear: Ear, tmp_path: Path) -> Iterator[Relay]:
    made = Relay(word_socket(tmp_path / "status.sock"))
    yield made
    made.close()


def opened(config: Path, relay: Relay, session: Session) -> Aim:
    zones = LocalZones(config)
    assert relay.say(Begin(minutes=10)) is None
    return Aim(zones, load_policy(zones.settings.policy_file), session, relay)


def test_the_view_runs_until_its_time_is_over_and_tells_each_token(
    config: Path, relay: Relay, ear: Ear, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)
    now = [0.0]
    session = Session(600, lambda: now[0])
    aim = opened(config, relay, session)
    told: list[str] = []
    seen: list[dict[str, Any]] = []

    def tell(token: str) -> None:
        told.append(token)
        if len(told) == 1:
            assert session.redeem(token)
            assert aim.looks(0) is None

    step = aim.step

    def stepped() -> None:
        step()
        seen.append(json.loads(aim.view()))
        if len(told) == 2 and any(camera["markers"] for camera in seen[-1]["cameras"]):
            now[0] = 600.0

    monkeypatch.setattr(aim, "step", stepped)
    listener = listen(tmp_path / "aim.sock")
    with listener:
        aim.run(Server(listener, Desk(session, aim)), tell)
    assert len(set(told)) == 2
    (camera,) = seen[-1]["cameras"]
    assert camera["name"] == "square-cam"
    assert camera["persons"].keys() == {"square", "lawn", "path"}
    assert all(0 <= column < 96 for _, column, _ in camera["markers"])
    assert set(seen[-1]) == {"cameras", "sound", "refused"}
    assert [entry["state"] for entry in ear.recorded][:2] == ["begin", "look"]


def test_relay_that_hangs_up_ends_the_view(config: Path, relay: Relay, ear: Ear) -> None:
    opened(config, relay, Session(600))
    before = relay.gone
    ear.hang_up.set()
    ear.hung_up.wait(10)
    assert (before, relay.gone) == (False, True)


def test_zones_are_saved_once_that_is_recorded(config: Path, relay: Relay, ear: Ear) -> None:
    aim = opened(config, relay, Session(600))
    document = json.dumps({"camera": "square-cam", "zones": [{"name": "ramp", "polygon": [[0, 0], [1, 0], [1, 1]]}]})
    assert aim.save(document.encode(), 0) == []
    assert [zone["name"] for zone in aim.zones()["cameras"][0]["zones"]] == ["ramp"]
    assert ear.recorded[-1] == {"state": "save", "by": "root"}
    assert aim.undo(0) == []
    assert len(aim.zones()["cameras"][0]["zones"]) == 3
    assert aim.save(b"{}", 0)
    recorded = len(ear.recorded)
    ear.forbidden = "the privacy shutter is closed"
    (problem,) = aim.save(document.encode(), 0)
    assert "could not be recorded" in problem
    assert len(ear.recorded) == recorded
    assert len(aim.zones()["cameras"][0]["zones"]) == 3


def test_without_relay_there_is_no_view(tmp_path: Path) -> None:
    with pytest.raises(AimError, match="nobody would know"):
        Relay(tmp_path / "word.sock")


def test_the_sound_is_told_in_steps() -> None:
    view = SoundView()
    view.hear(Hearing(0.0, np.array([0.04, 0.46, 1, 0, 0, 0, 0], np.float32)))
    told = view.document("live", -31.9)
    assert told["level_dbfs"] == -33
    assert told["bars"] == dict(zip(CLASSES, (0, 5, 10, 0, 0, 0, 0), strict=True))
    assert view.document("silent", float("-inf"))["level_dbfs"] == LEVEL_FLOOR_DBFS
    assert page_bytes([], told, []) == page_bytes([], view.document("live", -34.2), [])
