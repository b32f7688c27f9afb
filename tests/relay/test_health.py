from __future__ import annotations

import pytest

from agent.contract import CameraState, DetectorState, Kind, MicrophoneState, Observation, RateClass, SenseState
from agent.relay.health import Machine, health_of

NOON = 1_795_000_200.0
SAID = Observation(
    Kind.HEALTH,
    sense=SenseState.READY,
    cameras=(CameraState.LIVE, CameraState.LOST, CameraState.NONE, CameraState.NONE),
    microphone=MicrophoneState.SILENT,
    detector=DetectorState.MODEL,
    rate=RateClass.FULL,
)


def test_it_is_told_of_the_last_fifth_minute_and_of_the_cameras_that_there_are() -> None:
    health = health_of(SAID, 2, NOON + 7)
    assert health == health_of(SAID, 2, NOON + 250)
    assert health.time.endswith("0:00Z") or health.time.endswith("5:00Z")
    assert health.cameras == ("live", "lost")
    assert (health.sense, health.microphone, health.detector, health.rate) == ("ready", "silent", "model", "full")


def test_a_silent_sense_is_unknown_and_the_machine_is_told_of_all_the_same() -> None:
    health = health_of(None, 2, NOON, Machine(temperature_c=50.0, load=0.2, synced=True))
    assert (health.sense, health.cameras) == ("unknown", ())
    assert (health.temperature, health.load, health.clock) == ("normal", "low", "synced")


@pytest.mark.parametrize(
    ("machine", "part", "told"),
    [
        (Machine(), "temperature", "unknown"),
        (Machine(temperature_c=69.9), "temperature", "normal"),
        (Machine(temperature_c=70.0), "temperature", "warm"),
        (Machine(temperature_c=94.9), "temperature", "hot"),
        (Machine(temperature_c=95.0), "temperature", "critical"),
        (Machine(), "load", "unknown"),
        (Machine(load=0.5), "load", "medium"),
        (Machine(load=0.8), "load", "high"),
        (Machine(load=1.5), "load", "over"),
        (Machine(), "queue", "empty"),
        (Machine(waiting=1), "queue", "short"),
        (Machine(waiting=1000, filled=0.5), "queue", "long"),
        (Machine(waiting=20, filled=0.9), "queue", "full"),
        (Machine(dropped=0), "drops", "none"),
        (Machine(dropped=99), "drops", "some"),
        (Machine(dropped=100), "drops", "many"),
        (Machine(), "clock", "unsynced"),
    ],
)
def test_what_is_told_of_the_machine_is_a_class(machine: Machine, part: str, told: str) -> None:
    assert getattr(health_of(SAID, 1, NOON, machine), part) == told
