"""A disk that is full: nothing is released that is not written, alarms are kept, and it heals by itself."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from parts import audit_verdict, audited, mosquitto, start_vigie, subscriber, wait_for
from test_delivery import Feeder, configuration

from agent import pipe
from agent.relay.local import LocalStatus, ask
from tests.conftest import lacking

pytestmark = [pytest.mark.rig, pytest.mark.timeout(120)]


@pytest.fixture
def small_disk(require: Callable[..., None], tmp_path: Path) -> Iterator[Path]:
    """A file system of its own: room for what relay holds back, and not for long."""
    require("mount", "mosquitto")
    if os.geteuid() != 0:
        lacking("mounting a small disk needs root")
    folder = tmp_path / "journal"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "vigie-rig", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_relay_outlives_a_full_disk_and_delivers_what_it_held_back(small_disk: Path, tmp_path: Path) -> None:
    sense_end, relay_end = pipe.pair()
    with mosquitto(tmp_path / "broker") as broker, subscriber(broker.port) as reader, sense_end, relay_end:
        config = configuration(tmp_path, broker.port)
        relay = start_vigie("relay", config, relay_end)
        feeder = Feeder(sense_end)

        def status() -> LocalStatus | None:
            with contextlib.suppress(OSError):
                return ask(tmp_path / "status.sock")
            return None

        def reasons() -> tuple[str, ...]:
            found = status()
            return found.status.reasons if found else ()

        try:
            wait_for(reader.state, 20, "the first status")
            ballast = small_disk / "ballast"
            with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while file.write(bytes(4096)):
                    pass
            feeder.start()
            wait_for(lambda: "disk" in reasons(), 30, "status says that the disk is full")
            feeder.stop.set()
            feeder.join(10)
            assert relay.poll() is None, "relay is alive on a full disk"
            held = status()
            assert held is not None
            assert held.held_back > 0
            ballast.unlink()
            wait_for(lambda: "disk" not in reasons() and reasons() is not None, 30, "the disk has room again")
            wait_for(
                lambda: audited(small_disk, "released") == audited(small_disk, "acknowledged") or None,
                30,
                "all acknowledged",
            )
        finally:
            feeder.stop.set()
            relay.terminate()
            relay.wait(20)
        released = audited(small_disk, "released")
        assert len(released) >= held.held_back
        wait_for(lambda: reader.ids() == released, 10, "all delivered")
        verdict = audit_verdict(config, reader)
        assert verdict["problems"] == []
        assert verdict["complete_up_to"] is not None
