"""A microphone on a sound server that is killed or frozen: PulseAudio with a null sink, whose monitor is heard."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from parts import Subscriber, mosquitto, start_vigie, subscriber, wait_for
from sound_server import SoundServer, sound_server

from agent.capture.microphone import Microphone, open_sound
from agent.capture.sound import RATE_HZ
from agent.contract import MicrophoneState

pytestmark = [pytest.mark.rig, pytest.mark.alone, pytest.mark.timeout(120)]


@pytest.fixture
def server(require: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SoundServer]:
    require("pulseaudio", "paplay")
    with sound_server(tmp_path, monkeypatch) as made:
        yield made


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


log = logging.getLogger(__name__)

#: A real recording of shots, by an independent recordist, that no network of ours learnt from.
SHOT = "audio/gunshot/21203e069d4ef6.ogg"


def noise(seconds: float) -> NDArray[np.float64]:
    """Faint noise, so that the microphone does not seem to be mute."""
    return np.random.default_rng(1).normal(0, 0.003, round(seconds * RATE_HZ))


@pytest.fixture
def street(tmp_path: Path) -> Path:
    """Five minutes of the street."""
    path = tmp_path / "street.wav"
    soundfile.write(path, noise(300), RATE_HZ)
    return path


@pytest.fixture
def shot(data: Path, tmp_path: Path) -> Path:
    """A shot after three seconds of the street: what comes in the first second of a microphone is not sudden."""
    path = tmp_path / "shot.wav"
    soundfile.write(path, np.concatenate([noise(3), soundfile.read(data / SHOT)[0]]), RATE_HZ)
    return path


def configuration(folder: Path, port: int) -> Path:
    """An agent that has a camera without anything to see, and listens for shots."""
    (folder / "policy.toml").write_text(
        "[[policy.detector]]\ntype = 'sound.gunshot'\npurpose = 'Test of the microphone'\nlegal_basis = 'TEST'\n"
        "body = 'The tester'\ncontact = 'The tester'\nretention_days = 1\n"
        f"until = {dt.datetime.now(dt.timezone.utc).date() + dt.timedelta(days=2)}\nonset = true\n"
    )
    path = folder / "vigie.toml"
    path.write_text(
        f"policy_file = '{folder}/policy.toml'\n[device]\nsite = 'rig'\nname = 'ear'\n"
        f"[mqtt]\nhost = '127.0.0.1'\nport = {port}\ntls = false\n[journal]\nfolder = '{folder}/journal'\n"
        f"[pipe]\nsocket = '{folder}/pipe.sock'\nstatus_socket = '{folder}/status.sock'\n"
        "[microphone]\nsource = 'device:pulse'\n[[microphone.rule]]\ntype = 'sound.gunshot'\n"
    )
    return path


@contextlib.contextmanager
def agent(folder: Path) -> Iterator[Subscriber]:
    """A running agent and somebody who reads what it tells a real broker."""
    with mosquitto(folder / "broker") as broker, subscriber(broker.port) as reader:
        process = start_vigie("run", configuration(folder, broker.port))
        try:
            wait_for(lambda: reader.state() in {"ready", "degraded"}, 40, "the agent is up")
            yield reader
        finally:
            process.terminate()
            process.wait(30)


def phases(reader: Subscriber, phase: str) -> list[dict[str, Any]]:
    return [event for event in reader.events() if event["data"]["phase"] == phase]


def heard(reader: Subscriber, server: SoundServer, street: Path, shot: Path) -> float:
    """Play a shot once the microphone is well; how long after the shot itself it was told, seconds."""
    with contextlib.ExitStack() as players:

        def play(sound: Path) -> None:
            player = server.play(sound)
            players.callback(player.wait, 10)
            players.callback(player.kill)

        play(street)
        wait_for(lambda: reader.state() == "ready", 60, f"the microphone is well ({reader.reasons()})")
        wait_for(lambda: len(phases(reader, "ended")) == len(phases(reader, "started")), 15, "the last one is over")
        before = len(phases(reader, "started"))
        play(shot)
        wait_for(lambda: len(phases(reader, "started")) > before, 15, "a shot")
        came = time.time()
        event = phases(reader, "started")[-1]
        assert event["type"] == "vigie.sound.gunshot.v1"
        began = dt.datetime.fromisoformat(event["data"]["onset"].replace("Z", "+00:00")).timestamp()
        log.info("told %.2f s after the shot, which is known to %s", came - began, event["data"]["onset_error"])
        return came - began


def test_a_shot_is_told_in_time_and_again_after_the_server_was_killed_and_frozen(
    server: SoundServer, street: Path, shot: Path, require: Callable[..., None], tmp_path: Path
) -> None:
    require("mosquitto")
    with agent(tmp_path) as reader:
        assert heard(reader, server, street, shot) <= 1.5
        server.kill()
        wait_for(lambda: "microphone" in reader.reasons(), 3, "its death is told")
        server.start()
        assert heard(reader, server, street, shot) <= 1.5
        server.signal(signal.SIGSTOP)
        wait_for(lambda: "microphone" in reader.reasons(), 3, "that it froze is told")
        server.signal(signal.SIGCONT)
        assert heard(reader, server, street, shot) <= 1.5
