"""Which devices there are, which are meant, and what a push would change."""

from __future__ import annotations

from typing import Any

import pytest

from agent.command import Reported
from agent.contract import Birth, Status
from agent.fleet.client import Message
from agent.fleet.push import Push, differences, merged
from agent.fleet.roster import Choice, Device, Roster
from agent.settings import SettingsError

SQUARE = [[0, 0], [1, 0], [1, 1], [0, 1]]
SETTINGS: dict[str, Any] = {
    "camera": [
        {
            "name": "north",
            "source": "csi://0",
            "fps": 10.0,
            "zone": [{"name": "quay", "polygon": SQUARE}],
            "rule": [{"type": "crowd.density", "zone": "quay"}],
        }
    ],
    "microphone": {},
}


def reported(**more: Any) -> Reported:
    fields = {"boot": "0a1b2c3d", "state": "applied", "config": "0" * 64, "local_version": 1, "settings": SETTINGS}
    return Reported.model_validate({**fields, "time": "2026-11-27T12:00:00Z", **more})


def kept(device: str, labels: tuple[str, ...] = (), site: str = "old-port") -> list[Message]:
    root = f"vigie/v1/{site}/{device}"
    birth = Birth(
        boot="0a1b2c3d", agent="1", contract=1, k=5, detectors=(), config="0" * 64, policy="0" * 64, labels=labels
    )
    status = Status(state="ready", boot="0a1b2c3d")
    said = {"birth": birth, "status": status, "config/reported": reported()}
    return [Message(f"{root}/{name}", model.model_dump_json().encode(), True) for name, model in said.items()]


@pytest.fixture
def roster() -> Roster:
    found = Roster()
    for message in (
        *kept("cam-08", ("quay", "north")),
        *kept("cam-07", ("quay",)),
        *kept("cam-07", site="east"),
        Message("vigie/v1/old-port/cam-09/status", b"not ours", True),
        Message("vigie/v1/old-port/cam-07/config/desired", b"", True),
        Message("other/topic", b"{}", True),
        Message("vigie/v1/old-port/cam-10/event/person.down", b"{}", False),
    ):
        found.hear(message)
    return found


@pytest.mark.parametrize(
    ("choice", "targets"),
    [
        (Choice(), ["east/cam-07", "old-port/cam-07", "old-port/cam-08", "old-port/cam-09"]),
        (Choice("old-port"), ["old-port/cam-07", "old-port/cam-08", "old-port/cam-09"]),
        (Choice(labels=frozenset({"quay"})), ["old-port/cam-07", "old-port/cam-08"]),
        (Choice(labels=frozenset({"quay", "north"})), ["old-port/cam-08"]),
        (Choice(names=frozenset({"cam-07"})), ["east/cam-07", "old-port/cam-07"]),
    ],
)
def test_devices_are_chosen_by_site_label_and_name(roster: Roster, choice: Choice, targets: list[str]) -> None:
    assert [device.target for device in roster.chosen(choice)] == targets


def test_a_device_that_says_nothing_readable_is_listed_as_unknown(roster: Roster) -> None:
    row = roster.devices["old-port", "cam-09"].row()
    assert (row["state"], row["agent"], row["config"]) == ("unknown", None, None)


def test_what_would_change_is_named_by_key() -> None:
    device = Device("old-port", "cam-07", reported=reported())
    wanted = {"camera": [{"name": "north", "fps": 5, "rule": [{"type": "crowd.gathering", "zone": "quay"}]}]}
    changes = list(differences(SETTINGS, merged(device, wanted)))
    assert changes == [
        ("camera.north.fps", 10.0, 5.0),
        ("camera.north.rule.crowd.density quay", {"type": "crowd.density", "zone": "quay"}, None),
        ("camera.north.rule.crowd.gathering quay", None, {"type": "crowd.gathering", "zone": "quay"}),
    ]
    assert list(differences(SETTINGS, merged(device, {"camera": [{"name": "north"}]}))) == []


def test_what_a_device_would_refuse_is_known_before_it_is_sent() -> None:
    with pytest.raises(SettingsError, match="no camera 'south'"):
        merged(Device("old-port", "cam-07", reported=reported()), {"camera": [{"name": "south"}]})


def test_a_push_is_over_when_the_device_speaks_of_this_very_document() -> None:
    push = Push(Device("old-port", "cam-07", reported=reported(document="1" * 64)), document="2" * 64)
    assert (push.state, push.over) == ("no answer", False)
    push.device.reported = reported(document="2" * 64, state="trial")
    assert (push.state, push.over) == ("trial", False)
    push.device.reported = reported(document="2" * 64, state="rolled_back", reason="worse")
    assert (push.state, push.reason, push.over) == ("rolled_back", "worse", True)
