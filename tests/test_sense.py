"""Sense: what it sends, what it refuses, and that a full or broken pipe never stops it."""

from __future__ import annotations

import datetime as dt
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent import pipe
from agent.behaviours.episode import EpisodeChange
from agent.contract import (
    MAX_AGE_MS,
    MAX_SLOTS,
    CameraState,
    ControlCode,
    EventType,
    Kind,
    Observation,
    Phase,
    ReplyCode,
    SenseState,
)
from agent.policy import DetectorPolicy, Policy
from agent.sense import BACKLOG, STUCK_S, Outlet, Sense, SenseError
from agent.settings import CameraSettings, Settings

TODAY = dt.date(2026, 11, 23)


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def no_relay() -> socket.socket:
    raise ConnectionRefusedError(111, "nobody listens")


@pytest.fixture
def ends() -> tuple[socket.socket, socket.socket]:
    return pipe.pair()


def change(phase: Phase, *, zone: str = "quay", time: float = 100.0) -> EpisodeChange:
    return EpisodeChange(EventType.ZONE_INTRUSION, zone, phase, time)


def received(end: socket.socket) -> list[Observation]:
    messages = []
    while message := pipe.receive(end):
        messages.append(Observation.unpack(message))
    return messages


def test_the_phases_of_an_episode_share_a_slot_which_is_then_free_again(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    sense_end, relay_end = ends
    with relay_end, Clocked(Outlet(no_relay, sense_end, ["quay", "lawn"], Clock())) as outlet:
        outlet.episode(0, change(Phase.STARTED))
        outlet.episode(0, change(Phase.STARTED, zone="lawn"))
        outlet.episode(0, change(Phase.ENDED))
        outlet.episode(1, change(Phase.STARTED))
        outlet.flush()
        sent = [(o.zone, o.phase, o.slot) for o in received(relay_end)]
    assert sent == [(0, Phase.STARTED, 0), (1, Phase.STARTED, 1), (0, Phase.ENDED, 0), (0, Phase.STARTED, 0)]


class Clocked:
    """Closes an outlet at the end of a test."""

    def __init__(self, outlet: Outlet) -> None:
        self.outlet = outlet

    def __enter__(self) -> Outlet:
        return self.outlet

    def __exit__(self, *_: object) -> None:
        self.outlet.close()


def test_age_is_measured_when_the_observation_leaves(ends: tuple[socket.socket, socket.socket]) -> None:
    sense_end, relay_end = ends
    clock = Clock()
    with relay_end, Clocked(Outlet(no_relay, sense_end, ["quay"], clock)) as outlet:
        outlet.episode(0, change(Phase.STARTED, time=clock.now - 1.5))
        clock.now += 2
        outlet.episode(0, change(Phase.ONGOING, time=0.0 - MAX_AGE_MS))
        outlet.flush()
        assert [o.age_ms for o in received(relay_end)] == [3500, MAX_AGE_MS]


def test_a_relay_that_does_not_read_costs_the_oldest_observations_and_is_counted(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    sense_end, relay_end = ends
    with relay_end, Clocked(Outlet(no_relay, sense_end, ["quay"], Clock())) as outlet:
        for _ in range(5000):
            outlet.tell(Observation(Kind.HEALTH, sense=SenseState.READY))
            outlet.flush()
        assert outlet.dropped > 0
        queued = len(received(relay_end))
        outlet.flush()
        assert queued + len(received(relay_end)) >= BACKLOG


def test_slots_run_out_without_harm(ends: tuple[socket.socket, socket.socket]) -> None:
    sense_end, relay_end = ends
    zones = [f"z{i}" for i in range(MAX_SLOTS)]
    with relay_end, Clocked(Outlet(no_relay, sense_end, zones, Clock())) as outlet:
        for zone in zones:
            outlet.episode(0, change(Phase.STARTED, zone=zone))
        outlet.episode(1, change(Phase.STARTED, zone="z0"))
        assert outlet.dropped == 1


def test_sense_connects_again_when_relay_comes_back_and_keeps_what_it_had(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    sense_end, relay_end = ends
    clock = Clock()
    fresh: list[socket.socket] = []
    with Clocked(Outlet(lambda: fresh.pop() if fresh else no_relay(), sense_end, ["quay"], clock)) as outlet:
        relay_end.close()
        outlet.episode(0, change(Phase.STARTED))
        outlet.flush()
        outlet.flush()
        again, other = pipe.pair()
        fresh.append(again)
        clock.now += 60
        outlet.flush()
        with other:
            assert [o.phase for o in received(other)] == [Phase.STARTED]


def camera(*types: str) -> CameraSettings:
    return CameraSettings.model_validate(
        {
            "name": "north",
            "source": "sim:empty",
            "zone": [{"name": "quay", "polygon": [[0, 0], [1, 0], [1, 1]]}],
            "rule": [{"type": t, "zone": "quay"} for t in types],
        }
    )


def test_a_rule_without_a_policy_entry_is_refused_in_words() -> None:
    policy = Policy(
        detectors=(
            DetectorPolicy(
                type="crowd.gathering",
                purpose="crowd safety",
                legal_basis="FR-2026-04/3",
                body="the city",
                contact="dpo@city.example",
                retention_days=30,
                until=TODAY,
            ),
        )
    )
    allowed, refused = policy.permitted(camera("crowd.gathering", "person.loitering"), TODAY)
    assert [rule.type for rule in allowed] == ["crowd.gathering"]
    assert "person.loitering" in refused[0]
    allowed, refused = policy.permitted(camera("crowd.gathering"), TODAY + dt.timedelta(days=1))
    assert not allowed
    assert "ended on 2026-11-23" in refused[0]


def test_sense_without_a_camera_says_what_to_do() -> None:
    with pytest.raises(SenseError, match="vigie config init"):
        Sense(Settings(), Policy(), Outlet(no_relay, None, [], Clock()))


def running(sources: int, ends: tuple[socket.socket, socket.socket]) -> Sense:
    """Sense over simulated cameras without pictures, one zone each."""
    cameras = [
        {
            "name": f"c{i}",
            "source": f"sim:crowd?people=8&seed={i}&detections=1&seconds=600",
            "zone": [{"name": f"z{i}", "polygon": [[0, 0], [1, 0], [1, 1], [0, 1]]}],
            "rule": [{"type": "crowd.gathering", "zone": f"z{i}", "min_persons": 3, "hold_s": 0.5}],
        }
        for i in range(sources)
    ]
    allowed = Policy.model_validate(
        {
            "detector": [
                {
                    "type": "crowd.gathering",
                    "purpose": "crowd safety",
                    "legal_basis": "X",
                    "body": "the city",
                    "contact": "dpo@city.example",
                    "retention_days": 30,
                    "until": "2999-01-01",
                }
            ]
        }
    )
    settings = Settings.model_validate({"camera": cameras, "inference": {"detector": "motion"}})
    return Sense(settings, allowed, Outlet(no_relay, ends[0], settings.zone_names, time.monotonic))


def stepped(sense: Sense, relay_end: socket.socket, done: Callable[[list[Observation]], object]) -> list[Observation]:
    """Turn the loop until what it has sent is enough."""
    seen: list[Observation] = []
    deadline = time.monotonic() + 20
    while not done(seen):
        assert time.monotonic() < deadline
        sense.step()
        seen += received(relay_end)
    return seen


def test_four_cameras_are_watched_at_once(ends: tuple[socket.socket, socket.socket]) -> None:
    sense = running(4, ends)
    for camera in sense.cameras:
        camera.start()
    try:
        seen = stepped(sense, ends[1], lambda seen: len({o.zone for o in seen if o.phase is Phase.STARTED}) == 4)
    finally:
        for camera in sense.cameras:
            camera.close()
        ends[0].close()
        ends[1].close()
    started = {(o.zone, o.camera) for o in seen if o.phase is Phase.STARTED}
    assert started == {(0, 0), (1, 1), (2, 2), (3, 3)}


def test_pause_ends_the_episodes_and_closes_the_cameras_and_resume_opens_them(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    sense = running(1, ends)
    camera = sense.cameras[0]
    camera.start()
    relay_end = ends[1]
    try:
        stepped(sense, relay_end, lambda seen: any(o.phase is Phase.STARTED for o in seen))
        relay_end.send(b'{"control": "pause"}')
        seen = stepped(sense, relay_end, lambda seen: any(o.kind is Kind.REPLY for o in seen))
        assert any(o.phase is Phase.ENDED for o in seen)
        assert seen[-1].control is ControlCode.PAUSE
        assert seen[-1].reply is ReplyCode.DONE
        stepped(sense, relay_end, lambda _: camera.state is CameraState.PAUSED)
        relay_end.send(b'{"control": "resume"}')
        stepped(sense, relay_end, lambda seen: any(o.phase is Phase.STARTED for o in seen))
        relay_end.send(b'{"control": "selftest"}')
        seen = stepped(sense, relay_end, lambda seen: any(o.kind is Kind.REPLY for o in seen))
        assert seen[-1].reply is ReplyCode.DONE
    finally:
        camera.close()
        ends[0].close()
        relay_end.close()


@pytest.mark.parametrize(
    "message",
    [b"", b"pause", b'{"control": "enable", "detector": "face"}', b'{"control": "pause", "x": 1}', b"\xff" * 5000],
)
def test_a_hostile_relay_gets_nothing_but_the_closed_set_obeyed(
    ends: tuple[socket.socket, socket.socket], message: bytes
) -> None:
    sense = running(1, ends)
    with ends[0], ends[1]:
        ends[1].send(message or b" ")
        sense.step()
        assert not [o for o in received(ends[1]) if o.kind is Kind.REPLY]
        assert sense.cameras[0].state is CameraState.CONNECTING


def test_a_permission_that_ends_at_midnight_is_not_used_after_it(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    sense = running(2, ends)
    today = [dt.datetime(2026, 11, 23, 23, 59).astimezone()]
    sense._wall = lambda: today[0]
    basis = {
        "type": "crowd.gathering",
        "purpose": "crowd safety",
        "legal_basis": "X",
        "body": "the city",
        "contact": "dpo@city.example",
        "retention_days": 30,
    }
    sense._policy = Policy.model_validate(
        {
            "detector": [
                {**basis, "zones": ["z0"], "until": "2026-11-23"},
                {**basis, "zones": ["z1"], "until": "2999-01-01"},
            ]
        }
    )
    for camera in sense.cameras:
        camera.start()
    try:
        stepped(sense, ends[1], lambda seen: len({o.zone for o in seen if o.phase is Phase.STARTED}) == 2)
        today[0] += dt.timedelta(minutes=2)
        seen = stepped(sense, ends[1], lambda seen: any(o.phase is Phase.STARTED for o in seen))
    finally:
        for camera in sense.cameras:
            camera.close()
        ends[0].close()
        ends[1].close()
    assert {o.zone for o in seen if o.phase is Phase.ENDED} == {0, 1}
    assert {o.zone for o in seen if o.phase is Phase.STARTED} == {1}


def blocked(sense: Sense, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a camera look as if its thread never came back from a read."""
    monkeypatch.setattr(type(sense.cameras[0]), "blocked_s", STUCK_S + 1)


def test_a_camera_thread_that_hangs_trips_the_watchdog_which_gets_no_sign_of_life_any_more(
    ends: tuple[socket.socket, socket.socket], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sense = running(1, ends)
    with ends[0], ends[1], socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "30000000")
        sense.step()
        assert systemd.recv(64) == b"WATCHDOG=1"
        blocked(sense, monkeypatch)
        for _ in range(3):
            sense._health_at = 0.0
            sense.step()
        assert systemd.recv(64) == b"WATCHDOG=trigger"
        with pytest.raises(BlockingIOError):
            systemd.recv(64)


def test_without_a_watchdog_the_process_ends_itself_to_be_replaced(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    sense = running(1, ends)
    with ends[0], ends[1]:
        blocked(sense, monkeypatch)
        sense.step()
        assert sense._spent()
