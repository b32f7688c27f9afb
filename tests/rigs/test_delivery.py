"""No event is lost: 10,000 of them through mosquitto, while broker and relay are killed three times each.

The audit log is consistent after it all, and complete by the heads that a subscriber has kept.
"""

from __future__ import annotations

import datetime as dt
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from parts import audit_verdict, audited, mosquitto, resident_mib, start_vigie, subscriber, wait_for

from agent import pipe
from agent.contract import MAX_ZONES, Confidence, EventType, Kind, Observation, Phase, SenseState

pytestmark = [pytest.mark.rig, pytest.mark.timeout(240)]

EVENTS = 10_000


def configuration(folder: Path, port: int) -> Path:
    """A relay that lets alarms through as fast as they come, but one in a tenth of a second and zone."""
    until = dt.datetime.now(dt.timezone.utc).date() + dt.timedelta(days=1)
    (folder / "policy.toml").write_text(
        "[[policy.detector]]\n"
        'type = "person.down"\npurpose = "rig"\nlegal_basis = "RIG"\nbody = "the rig"\n'
        f'contact = "the rig"\nretention_days = 1\nuntil = {until}\n'
        'below_flow = "rig"\n[policy.gate]\nbits_per_minute = 1e6\nburst_bits = 1e6\n'
    )
    zones = "".join(
        f'[[camera.zone]]\nname = "quay-{zone}"\npolygon = [[0, 0], [1, 0], [1, 1]]\n' for zone in range(MAX_ZONES)
    )
    config = folder / "vigie.toml"
    config.write_text(
        f"""
policy_file = "{folder}/policy.toml"
log_level = "warning"
[mqtt]
host = "127.0.0.1"
port = {port}
tls = false
backoff_min_s = 0.1
backoff_max_s = 0.5
inflight = 200
[journal]
folder = "{folder}/journal"
[audit]
head_every_s = 10
[pipe]
max_rate = 10000
max_burst = 100000
status_socket = "{folder}/status.sock"
[[camera]]
name = "north"
source = "sim:empty"
{zones}"""
    )
    return config


class Feeder(threading.Thread):
    """The sense process of this rig: alarms that start and end, as fast as relay takes them."""

    def __init__(self, end: socket.socket) -> None:
        super().__init__(daemon=True)
        self._end = end
        self.stop = threading.Event()

    def run(self) -> None:
        """Send until it is enough."""
        number = 0
        self._put(Observation(Kind.HEALTH, sense=SenseState.READY))
        while not self.stop.is_set():
            for phase in (Phase.STARTED, Phase.ENDED):
                self._put(
                    Observation(
                        Kind.EPISODE,
                        type=EventType.PERSON_DOWN,
                        phase=phase,
                        zone=number % MAX_ZONES,
                        camera=0,
                        slot=number % 64,
                        confidence=Confidence.HIGH,
                    )
                )
            number += 1
            self.stop.wait(0.0015)

    def _put(self, observation: Observation) -> None:
        while not self.stop.is_set() and not pipe.send(self._end, observation):
            self.stop.wait(0.01)


def wait_for_releases(journal: Path, wanted: int) -> None:
    """Until so many events have been released."""
    wait_for(lambda: len(audited(journal, "released")) >= wanted, 90, f"{wanted} released")


def test_the_ids_delivered_are_the_ids_released_less_the_evicted(require: Callable[..., None], tmp_path: Path) -> None:
    require("mosquitto")
    journal = tmp_path / "journal"
    sense_end, relay_end = pipe.pair()
    with mosquitto(tmp_path / "broker") as broker, subscriber(broker.port) as reader, sense_end, relay_end:
        config = configuration(tmp_path, broker.port)
        relay = start_vigie("relay", config, relay_end)
        feeder = Feeder(sense_end)
        try:
            wait_for(reader.state, 20, "the first status")
            feeder.start()
            for share in range(1, 7):
                wait_for_releases(journal, EVENTS * share // 7)
                if share % 2:
                    relay.kill()
                    relay.wait(10)
                    relay = start_vigie("relay", config, relay_end)
                else:
                    broker.kill()
                    broker.start()
            wait_for_releases(journal, EVENTS)
            feeder.stop.set()
            feeder.join(10)
            memory = resident_mib(relay.pid)
            wait_for(
                lambda: audited(journal, "released") == audited(journal, "acknowledged") | audited(journal, "evicted"),
                60,
                "everything acknowledged",
            )
        finally:
            feeder.stop.set()
            relay.terminate()
            relay.wait(20)
        released, evicted = audited(journal, "released"), audited(journal, "evicted")
        wait_for(lambda: len(reader.ids()) >= len(released - evicted), 20, "everything delivered")
        assert reader.ids() == released - evicted
        verdict = audit_verdict(config, reader)
        assert verdict["problems"] == []
        assert verdict["complete_up_to"]["size"] > 3 * EVENTS, "the last head covers what all events left in the log"
        assert len(released) >= EVENTS
        assert memory <= 80
