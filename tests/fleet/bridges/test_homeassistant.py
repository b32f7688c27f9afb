"""Home Assistant: discovery that keeps its documented schema, states that are right after a restart, a signed pause."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract import MAX_ZONES
from agent.fleet.bridges.bridge import Publication
from agent.fleet.bridges.homeassistant import HomeAssistant
from agent.fleet.said import Device

Says = Callable[..., tuple[str, bytes]]
CONFIG = "homeassistant/device/vigie_old-port_cam-07/config"
OTHER_BOOT = "0a1b2c3d"
ON = {"crowd.gathering": ("quay", "square"), "zone.intrusion": ("lawn",), "sound.gunshot": ()}

SCHEMA = json.loads(Path(__file__).with_name("homeassistant.schema.json").read_text(encoding="utf-8"))


def pause(device: Device, close: bool) -> Publication:
    return Publication(f"signed/{device}", b"pause" if close else b"resume")


def take(bridge: HomeAssistant, *messages: tuple[str, bytes], retained: bool = False) -> list[Publication]:
    return [answer for message in messages for answer in bridge.take(*message, retained=retained)]


def configs(publications: Iterable[Publication]) -> list[dict[str, Any]]:
    return [json.loads(p.payload) for p in publications if p.topic == CONFIG]


def states(publications: Iterable[Publication]) -> dict[str, str]:
    prefix = "vigie-homeassistant/old-port/cam-07/state/"
    return {p.topic.removeprefix(prefix): p.payload.decode() for p in publications if p.topic.startswith(prefix)}


@pytest.fixture
def bridge() -> HomeAssistant:
    return HomeAssistant(pause)


def test_the_discovery_of_a_device_keeps_the_documented_schema(bridge: HomeAssistant, says: Says) -> None:
    said = take(
        bridge,
        says("birth", on=ON | {"camera.tampered": (), "person.down": ("quay",), "incident.panic": ()}),
        says("status"),
        says("health", cameras=("live", "lost"), microphone="live", detector="model", rate="full"),
        says("count/quay", count=12),
        says("state/square/crowd.gathering"),
        says("event/person.down", zone="quay"),
        says("event/sound.gunshot"),
    )
    assert all(p.retain for p in said if p.topic == CONFIG)
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    for config in configs(said):
        jsonschema.validate(config, SCHEMA)
    last = configs(said)[-1]
    components = last["components"]
    assert {
        "connection",
        "status",
        "problem",
        "pause",
        "health_cameras_0",
        "health_cameras_1",
        "people_quay",
        "crowd_gathering_quay",
        "crowd_gathering_square",
        "person_down_quay",
        "zone_intrusion_lawn",
        "sound_gunshot",
        "camera_tampered",
        "incident_panic",
    } <= components.keys()
    ids = [component["unique_id"] for component in components.values()]
    assert len(set(ids)) == len(ids)
    assert last["device"]["identifiers"] == ["vigie_old-port_cam-07"]
    assert last["device"]["sw_version"] == "1.2.3"
    assert [a["topic"] for a in last["availability"]] == [
        "vigie/v1/old-port/cam-07/status",
        "vigie-homeassistant/status",
    ]


def test_the_schema_finds_mistakes(bridge: HomeAssistant, says: Says) -> None:
    (config,) = configs(take(bridge, says("birth", on=ON)))
    for broken in (
        {key: value for key, value in config.items() if key != "origin"},
        config | {"components": {"x": {"platform": "sensor", "unique_id": "x"}}},
        config | {"components": {"x": {"state_topic": "a", "unique_id": "x"}}},
        config | {"components": {"x": {"platform": "switch", "command_topic": "a/+", "unique_id": "x"}}},
        config | {"device": {"name": "x"}},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, SCHEMA)


def test_nothing_is_told_before_the_birth_and_nothing_twice(bridge: HomeAssistant, says: Says) -> None:
    assert not take(bridge, says("status"), says("state/quay/crowd.gathering"), says("health"))
    first = take(bridge, says("birth", on=ON))
    assert len(configs(first)) == 1
    assert states(first) == {"quay/crowd.gathering": "ON", "square/crowd.gathering": "OFF"}
    assert not take(bridge, says("birth", on=ON), says("status"), says("state/quay/crowd.gathering"))


def test_a_state_of_an_earlier_boot_is_over(bridge: HomeAssistant, says: Says) -> None:
    take(bridge, says("birth", on=ON, boot=OTHER_BOOT), says("status", boot=OTHER_BOOT))
    assert states(take(bridge, says("state/quay/crowd.gathering", boot=OTHER_BOOT))) == {"quay/crowd.gathering": "ON"}
    assert states(take(bridge, says("birth", on=ON), says("status"))) == {"quay/crowd.gathering": "OFF"}
    assert states(take(bridge, says("state/quay/crowd.gathering"))) == {"quay/crowd.gathering": "ON"}
    assert states(take(bridge, says("state/quay/crowd.gathering", open=False))) == {"quay/crowd.gathering": "OFF"}


def test_what_has_no_zone_goes_on_until_its_end_is_told(bridge: HomeAssistant, says: Says) -> None:
    said = take(bridge, says("birth", on={"camera.tampered": (), "sound.siren": ()}), says("status"))
    assert not states(said)  # an earlier run may have said more than this one knows
    topic = configs(said)[-1]["components"]["camera_tampered"]["state_topic"]
    (on,) = take(bridge, says("event/camera.tampered", camera="front"))
    assert on == Publication(topic, b"ON", retain=True)
    (off,) = take(bridge, says("event/camera.tampered", camera="front", phase="ended", number=2))
    assert off == Publication(topic, b"OFF", retain=True)
    on, off = take(bridge, says("event/sound.siren", duration="<10s"))
    assert (on.topic, on.payload, off.topic, off.payload) == (on.topic, b"ON", on.topic, b"OFF")
    take(bridge, says("event/camera.tampered", camera="front", number=3))
    assert take(bridge, says("status", boot=OTHER_BOOT)) == [Publication(topic, b"OFF", retain=True)]


def test_a_component_that_is_gone_is_taken_away_first(bridge: HomeAssistant, says: Says) -> None:
    take(bridge, says("birth", on=ON), says("status"))
    said = take(bridge, says("birth", on={"sound.gunshot": ()}))
    removal, last = configs(said)
    assert removal["components"]["crowd_gathering_quay"] == {"platform": "binary_sensor"}
    assert "crowd_gathering_quay" not in last["components"]
    assert last["components"].keys() == {
        name for name, component in removal["components"].items() if len(component) > 1
    }
    assert states(said) == {"quay/crowd.gathering": "", "square/crowd.gathering": ""}


def test_a_state_of_a_zone_that_is_gone_shows_no_sensor(bridge: HomeAssistant, says: Says) -> None:
    on = ON | {"incident.panic": ()}
    said = take(bridge, says("birth", on=on), says("state/old/crowd.gathering"), says("state/quay/incident.panic"))
    components = configs(said)[-1]["components"]
    assert "crowd_gathering_old" not in components
    assert {"crowd_gathering_quay", "incident_panic_quay"} <= components.keys()


def test_what_an_earlier_run_has_told_is_taken_away_too(bridge: HomeAssistant, says: Says) -> None:
    left = {"components": {"old_quay": {"platform": "sensor", "name": "Old"}, "status": {"platform": "sensor"}}}
    assert not take(bridge, (CONFIG, json.dumps(left).encode()), retained=True)
    removal, last = configs(take(bridge, says("birth", on=ON)))
    assert removal["components"]["old_quay"] == {"platform": "sensor"}
    assert "old_quay" not in last["components"]
    # And where the birth came first.
    removal, last = configs(take(bridge, (CONFIG, json.dumps(left).encode()), retained=True))
    assert removal["components"]["old_quay"] == {"platform": "sensor"}
    assert not take(bridge, (CONFIG, json.dumps(last).encode()), retained=True)


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        ("homeassistant/device/vigie_old-port_cam-07/config", b"[]"),
        ("homeassistant/device/vigie_old-port_cam-07/config", b'{"components":{"x":{"platform":7}}}'),
        ("homeassistant/device/vigie_old-port_cam-07/config", b"[" * 100_000),
        ("homeassistant/device/vigie_OLD_cam-07/config", b"{}"),
        ("homeassistant/device/vigie_a_b_c/config", b"{}"),
        ("homeassistant/device/somebody/config", b"{}"),
        ("homeassistant/device/config", b"{}"),
        ("homeassistant/device/", b"{}"),
    ],
)
def test_other_discovery_messages_do_no_harm(bridge: HomeAssistant, topic: str, payload: bytes, says: Says) -> None:
    assert not take(bridge, (topic, payload), retained=True)
    assert len(configs(take(bridge, says("birth", on=ON)))) == 1


def test_everything_is_told_again_when_home_assistant_starts(bridge: HomeAssistant, says: Says) -> None:
    (config,) = configs(take(bridge, says("birth", on=ON)))
    take(bridge, says("status", device="new-port/cam-1"))  # without a birth
    assert configs(take(bridge, ("homeassistant/status", b"online"))) == [config]
    assert not take(bridge, ("homeassistant/status", b"offline"))
    assert not take(bridge, ("homeassistant/status", b"online"), retained=True)
    again = bridge.connected()
    assert again[0] == Publication("vigie-homeassistant/status", b"online", retain=True)
    assert configs(again) == [config]
    assert bridge.will == Publication("vigie-homeassistant/status", b"offline", retain=True)


def test_a_device_whose_birth_is_taken_away_goes(bridge: HomeAssistant, says: Says) -> None:
    take(bridge, says("birth", on=ON), says("status"))
    said = take(bridge, ("vigie/v1/old-port/cam-07/birth", b""))
    assert {p.topic for p in said} == {
        CONFIG,
        "vigie-homeassistant/old-port/cam-07/state/quay/crowd.gathering",
        "vigie-homeassistant/old-port/cam-07/state/square/crowd.gathering",
    }
    assert all(p.retain and not p.payload for p in said)
    assert not configs(take(bridge, ("homeassistant/status", b"online")))


def test_the_switch_sends_what_the_key_signs(bridge: HomeAssistant, says: Says) -> None:
    take(bridge, says("birth", on=ON))
    command = "vigie-homeassistant/old-port/cam-07/pause/set"
    assert take(bridge, (command, b"ON")) == [Publication("signed/old-port/cam-07", b"pause")]
    assert take(bridge, (command, b"OFF")) == [Publication("signed/old-port/cam-07", b"resume")]


@pytest.mark.parametrize(
    ("topic", "payload", "retained"),
    [
        ("vigie-homeassistant/old-port/cam-07/pause/set", b"ON", True),
        ("vigie-homeassistant/old-port/cam-07/pause/set", b"on", False),
        ("vigie-homeassistant/old-port/cam-07/pause/set", b"", False),
        ("vigie-homeassistant/old-port/cam-08/pause/set", b"ON", False),
        ("vigie-homeassistant/+/#/pause/set", b"ON", False),
    ],
)
def test_any_other_command_is_refused(
    bridge: HomeAssistant, says: Says, topic: str, payload: bytes, retained: bool
) -> None:
    take(bridge, says("birth", on=ON))
    assert not take(bridge, (topic, payload), retained=retained)
    assert bridge.refused == {"no command of the pause switch": 1}


def test_without_a_key_there_is_no_switch(says: Says) -> None:
    bridge = HomeAssistant(None)
    (config,) = configs(take(bridge, says("birth", on=ON)))
    assert "pause" not in config["components"]
    assert not any(name.endswith("/set") for name in bridge.filters)
    assert not take(bridge, ("vigie-homeassistant/old-port/cam-07/pause/set", b"ON"))


def test_a_bridge_of_one_site_asks_for_that_site() -> None:
    names = HomeAssistant(None, sites=["old-port"]).filters
    assert {name.split("/")[2] for name in names if name.startswith("vigie/")} == {"old-port"}


def test_a_device_cannot_have_more_zones_than_a_device_has(bridge: HomeAssistant, says: Says) -> None:
    take(bridge, says("birth", on=ON))
    for number in range(MAX_ZONES + 5):
        take(bridge, says(f"state/zone-{number}/crowd.gathering"))
    assert bridge.refused["more zones than a device can have"] == 5


def test_there_is_an_end_to_the_devices(bridge: HomeAssistant, says: Says, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.fleet.bridges.homeassistant.MAX_DEVICES", 2)
    for number in range(4):
        take(bridge, says("birth", device=f"old-port/cam-{number}"))
    assert bridge.refused["too many devices"] == 2


def test_types_in_shadow_are_not_shown(bridge: HomeAssistant, says: Says) -> None:
    topic, payload = says("birth", on=ON)
    shadow = payload.replace(b'"mode":"on"', b'"mode":"shadow"')
    (config,) = configs(take(bridge, (topic, shadow), says("event/sound.gunshot")))
    assert not [name for name in config["components"] if name.startswith(("crowd", "sound", "zone"))]


@given(st.lists(st.tuples(st.sampled_from(["birth", "status", "state/quay/sound.siren", "x"]), st.binary(max_size=50))))
def test_no_message_ends_the_bridge(messages: list[tuple[str, bytes]]) -> None:
    bridge = HomeAssistant(pause)
    for below, payload in messages:
        for topic in (f"vigie/v1/old-port/cam-07/{below}", f"homeassistant/{below}", f"vigie-homeassistant/{below}"):
            bridge.take(topic, payload, retained=True)
            bridge.take(topic, payload, retained=False)


class TestTemplates:
    """What the templates give, by the engine that Home Assistant uses; skipped where that is not installed."""

    @staticmethod
    def rendered(config: dict[str, Any], name: str, payload: bytes) -> str:
        jinja2 = pytest.importorskip("jinja2", reason="its templates are tried with jinja2, of the extra `train`")
        template = jinja2.Environment(autoescape=True).from_string(config["components"][name]["value_template"])
        return str(template.render(value_json=json.loads(payload)))

    def test_the_health_of_a_device(self, bridge: HomeAssistant, says: Says) -> None:
        _, health = says("health", cameras=("live", "lost"))
        config = configs(take(bridge, says("birth"), says("health", cameras=("live", "lost"))))[-1]
        assert self.rendered(config, "health_cameras_1", health) == "lost"
        assert self.rendered(config, "health_sense", health) == "ready"

    @pytest.mark.parametrize(("count", "shown"), [(12, "12"), ("<k", "None"), (None, "None")])
    def test_a_count_that_is_no_number_is_unknown(
        self, bridge: HomeAssistant, says: Says, count: Any, shown: str
    ) -> None:
        _, payload = says("count/quay", count=count)
        config = configs(take(bridge, says("birth"), says("count/quay", count=count)))[-1]
        assert self.rendered(config, "people_quay", payload) == shown

    def test_an_event_shows_in_its_own_zone_alone(self, bridge: HomeAssistant, says: Says) -> None:
        config = configs(take(bridge, says("birth", on={"person.down": ("quay", "lawn"), "person.running": ()})))[-1]
        _, payload = says("event/person.down", zone="quay")
        assert self.rendered(config, "person_down_quay", payload) == "ON"
        assert not self.rendered(config, "person_down_lawn", payload)
        assert not self.rendered(config, "person_running", payload)
        _, anywhere = says("event/person.running", camera="front")
        assert self.rendered(config, "person_running", anywhere) == "ON"

    def test_the_state_of_a_device(self, bridge: HomeAssistant, says: Says) -> None:
        (config,) = configs(take(bridge, says("birth")))
        for state, problem, connected, paused in (
            ("ready", "OFF", "ON", "OFF"),
            ("degraded", "ON", "ON", "OFF"),
            ("paused", "OFF", "ON", "ON"),
            ("offline", "OFF", "OFF", "OFF"),
            ("decommissioned", "OFF", "OFF", "OFF"),
        ):
            _, payload = says("status", state=state)
            assert self.rendered(config, "status", payload) == state
            assert self.rendered(config, "problem", payload) == problem
            assert self.rendered(config, "connection", payload) == connected
            assert self.rendered(config, "pause", payload) == paused
