"""The pipe between the processes: whole packets, never waiting, and no strangers."""

from __future__ import annotations

import os
import socket
import stat
import time
from pathlib import Path

import pytest

from agent import pipe
from agent.contract import OBSERVATION_SIZE, ContractError, Kind, Observation, Pause, SenseState, parse_control
from agent.pipe import PipeError

HEALTH = Observation(Kind.HEALTH, sense=SenseState.READY)


def test_an_observation_goes_up_and_a_control_message_down() -> None:
    sense, relay = pipe.pair()
    with sense, relay:
        assert pipe.send(sense, HEALTH)
        assert pipe.receive(relay) == HEALTH.pack()
        relay.send(Pause().model_dump_json().encode())
        message = pipe.receive_control(sense)
        assert message is not None
        assert parse_control(message) == Pause()


def test_nothing_is_none_and_the_end_is_empty() -> None:
    sense, relay = pipe.pair()
    with sense, relay:
        assert pipe.receive(relay) is None
        assert pipe.receive_control(sense) is None
        sense.close()
        assert pipe.receive(relay) == b""


def test_a_full_pipe_makes_nobody_wait() -> None:
    sense, relay = pipe.pair()
    with sense, relay:
        sent = 0
        while pipe.send(sense, HEALTH):
            sent += 1
        assert sent
        assert pipe.receive(relay) == HEALTH.pack()
        assert pipe.send(sense, HEALTH)


def test_a_packet_that_is_too_long_stays_too_long() -> None:
    sense, relay = pipe.pair()
    with sense, relay:
        sense.send(HEALTH.pack() + bytes(1000))
        message = pipe.receive(relay)
        assert message is not None
        assert len(message) == OBSERVATION_SIZE + 1
        with pytest.raises(ContractError):
            Observation.unpack(message)
        assert pipe.receive(relay) is None


def test_sending_to_a_dead_relay_is_an_error() -> None:
    sense, relay = pipe.pair()
    relay.close()
    with sense, pytest.raises(OSError, match="Broken pipe"):
        pipe.send(sense, HEALTH)


def test_relay_listens_and_sense_connects(tmp_path: Path) -> None:
    path = tmp_path / "pipe.sock"
    with pipe.listen(path) as server:
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        with pipe.connect(path) as sense:
            relay, _ = server.accept()
            with relay:
                pipe.check_peer(relay, frozenset())
                assert pipe.peer_uid(relay) == os.geteuid()
                assert pipe.send(sense, HEALTH)
                assert pipe.receive(relay) == HEALTH.pack()


def test_two_relays_do_not_share_a_socket(tmp_path: Path) -> None:
    path = tmp_path / "pipe.sock"
    with pipe.listen(path), pytest.raises(PipeError, match="another relay listens there"):
        pipe.listen(path)


def test_a_socket_left_by_a_dead_relay_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "pipe.sock"
    pipe.listen(path).close()
    assert path.is_socket()
    with pipe.listen(path), pipe.connect(path):
        pass


def test_a_missing_relay_and_a_missing_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(PipeError, match="relay does not answer: No such file"):
        pipe.connect(tmp_path / "pipe.sock")
    with pytest.raises(PipeError, match="cannot listen: No such file"):
        pipe.listen(tmp_path / "none" / "pipe.sock")


def test_a_stranger_is_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    monkeypatch.setattr(pipe, "peer_uid", lambda _: 4242)
    with theirs:
        pipe.check_peer(ours, frozenset({4242}))
        with pytest.raises(PipeError, match="user 4242 may not use the pipe"):
            pipe.check_peer(ours, frozenset())
        assert ours.fileno() == -1


@pytest.mark.parametrize(("later_s", "waited_s"), [(0.25, 0.25), (-5, 0.0), (3600, 1.0)])
def test_the_kernel_tells_how_long_a_message_has_waited(
    later_s: float, waited_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    sense, relay = pipe.pair()
    with sense, relay:
        pipe.stamp(relay)
        assert pipe.receive_stamped(relay) == (None, 0.0)
        assert pipe.send(sense, HEALTH)
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + later_s)
        message, waited = pipe.receive_stamped(relay)
        assert message == HEALTH.pack()
        assert waited == pytest.approx(waited_s, abs=0.05)
        sense.close()
        assert pipe.receive_stamped(relay)[0] == b""
