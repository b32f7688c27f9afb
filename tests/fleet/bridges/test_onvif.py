"""ONVIF: topics and payloads as the Core Specification writes them, and properties that end."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract import PERSON_TYPES, EventType
from agent.fleet.bridges.bridge import Publication
from agent.fleet.bridges.onvif import Onvif, local_topic

Says = Callable[..., tuple[str, bytes]]
ROOT = "vigie-cam-07/onvif-ej"
TAMPERED = f"{ROOT}/VideoSource/GlobalSceneChange/AnalyticsService/&front"
OTHER_BOOT = "0a1b2c3d"

# ONVIF Core Specification, "JSON Event Payload": MESSAGE, TIMEINFO, SOURCE, DATA and SIMPLEITEM of its grammar.
ITEMS = {"type": "object", "additionalProperties": {"type": "string"}, "propertyNames": {"not": {"const": "ObjectId"}}}
SCHEMA = {
    "type": "object",
    "required": ["UtcTime", "Source"],
    "properties": {
        "UtcTime": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$"},
        "Source": ITEMS,
        "Data": ITEMS,
    },
    "additionalProperties": False,
}
# "Topic Structure": TopicPrefix "/" PayloadPrefix "/" LocalTopic "/&" SVALUE *("/" SVALUE)
TOPIC = re.compile(r"[^#+&]+/onvif-ej/[A-Z]\w+(/(tns:)?\w+)*/&[^#+&/]+(/[^#+&/]+)*")


def take(bridge: Onvif, *messages: tuple[str, bytes], retained: bool = False) -> list[Publication]:
    return [answer for message in messages for answer in bridge.take(*message, retained=retained)]


def data(publication: Publication) -> dict[str, str]:
    found: dict[str, str] = json.loads(publication.payload)["Data"]
    return found


@pytest.fixture
def bridge() -> Onvif:
    return Onvif()


@pytest.mark.parametrize("event_type", EventType)
def test_every_type_is_told_as_the_specification_writes_it(event_type: EventType, bridge: Onvif, says: Says) -> None:
    place = {"camera": "front"} if event_type is EventType.CAMERA_TAMPERED else {"zone": "quay"}
    said = take(bridge, says("status"), says(f"event/{event_type.label}", **place))
    assert len(said) == 1
    assert TOPIC.fullmatch(said[0].topic)
    document = json.loads(said[0].payload)
    jsonschema.validate(document, SCHEMA)
    assert said[0].topic.endswith("/&" + "/".join(document["Source"].values()))
    assert said[0].retain == (event_type not in PERSON_TYPES)
    assert document["Data"]["vigie:EventId"] == "5f3a9c01-000001"


@pytest.mark.parametrize(
    ("label", "place", "topic", "item"),
    [
        ("zone.intrusion", {"zone": "lawn"}, "RuleEngine/FieldDetector/ObjectsInside/&cam-07/lawn", "IsInside"),
        ("sound.gunshot", {}, "AudioAnalytics/Audio/DetectedSound/&cam-07/cam-07/sound.gunshot", "isSoundDetected"),
        ("camera.tampered", {"camera": "front"}, "VideoSource/GlobalSceneChange/AnalyticsService/&front", "State"),
        ("crowd.gathering", {"zone": "quay"}, "RuleEngine/tns:vigie/CrowdGathering/&cam-07/quay", "State"),
        ("person.down", {"camera": "front"}, "RuleEngine/tns:vigie/PersonDown/&front/person.down", "State"),
    ],
)
def test_a_type_has_its_topic(
    bridge: Onvif, says: Says, label: str, place: dict[str, Any], topic: str, item: str
) -> None:
    (said,) = take(bridge, says(f"event/{label}", **place))
    assert said.topic == f"{ROOT}/{topic}"
    assert data(said)[item] == "true"


def test_loitering_and_abandoned_objects_have_no_state(bridge: Onvif, says: Says) -> None:
    (loitering,) = take(bridge, says("event/person.loitering", zone="quay"))
    assert loitering.topic == f"{ROOT}/RuleEngine/LoiteringDetector/ObjectIsLoitering/&cam-07/quay"
    assert data(loitering)["Since"] == "2026-11-23T10:15:00Z"
    (abandoned,) = take(bridge, says("event/object.abandoned", zone="quay"))
    assert abandoned.topic == f"{ROOT}/RuleEngine/ObjectAbandoned/&cam-07/quay"


def test_the_classes_of_an_event_have_names_of_vigies_own(bridge: Onvif, says: Says) -> None:
    event = says("event/crowd.movement", zone="quay", variant="surge", level="high", count="20-49")
    (said,) = take(bridge, event)
    assert data(said) == {
        "State": "true",
        "vigie:Level": "high",
        "vigie:Variant": "surge",
        "vigie:Count": "20-49",
        "vigie:Confidence": "high",
        "vigie:Clock": "synced",
        "vigie:Basis": "DEMO",
        "vigie:EventId": "5f3a9c01-000001",
        "vigie:Device": "old-port/cam-07",
    }


def test_a_property_ends_with_its_episode(bridge: Onvif, says: Says) -> None:
    take(bridge, says("event/camera.tampered", camera="front"))
    (ended,) = take(bridge, says("event/camera.tampered", camera="front", phase="ended", number=2))
    assert (ended.topic, data(ended)["State"], ended.retain) == (TAMPERED, "false", True)


def test_what_is_over_when_it_is_told_goes_on_and_off(bridge: Onvif, says: Says) -> None:
    on, off = take(bridge, says("event/sound.siren", duration="<10s"))
    assert (data(on)["isSoundDetected"], on.retain) == ("true", False)
    assert (data(off)["isSoundDetected"], off.retain) == ("false", True)


def test_what_another_boot_has_left_is_deleted(bridge: Onvif, says: Says) -> None:
    take(bridge, says("status", boot=OTHER_BOOT), says("event/camera.tampered", camera="front", boot=OTHER_BOOT))
    assert take(bridge, says("status")) == [Publication(TAMPERED, b"", retain=True)]
    assert not take(bridge, says("status"))
    # What that boot has still in its outbox is over as well.
    on, off = take(bridge, says("event/camera.tampered", camera="front", boot=OTHER_BOOT, number=2))
    assert (data(on)["State"], on.retain, data(off)["State"], off.retain) == ("true", False, "false", True)


def test_a_new_bridge_knows_what_an_old_one_has_left(says: Says) -> None:
    (left,) = take(Onvif(), says("event/camera.tampered", camera="front", boot=OTHER_BOOT))
    bridge = Onvif()
    assert not take(bridge, (left.topic, left.payload))  # its own word comes back
    assert not take(bridge, (left.topic, left.payload), retained=True)
    assert take(bridge, says("status")) == [Publication(TAMPERED, b"", retain=True)]
    # And where the status came first.
    bridge = Onvif()
    take(bridge, says("status"))
    assert take(bridge, (left.topic, left.payload), retained=True) == [Publication(TAMPERED, b"", retain=True)]


@pytest.mark.parametrize(
    "payload",
    [b"", b"[]", b"{}", b'{"Data":7}', b'{"Data":{"vigie:Device":7}}', b'{"Data":{"vigie:Device":"x"}}', b"[" * 60_000],
)
def test_events_of_other_producers_are_left_alone(bridge: Onvif, says: Says, payload: bytes) -> None:
    take(bridge, says("status"))
    assert not take(bridge, (f"{ROOT}/VideoSource/MotionAlarm/&1", payload), retained=True)


def test_what_pretends_to_be_of_another_device_is_left_alone(bridge: Onvif, says: Says) -> None:
    (left,) = take(Onvif(), says("event/camera.tampered", camera="front", boot=OTHER_BOOT))
    take(bridge, says("status"))
    assert not take(bridge, (f"other/onvif-ej/{left.topic}", left.payload), retained=True)


def test_people_are_an_occupancy_counter_as_long_as_there_is_a_number(bridge: Onvif, says: Says) -> None:
    topic = f"{ROOT}/RuleEngine/CountAggregation/OccupancyCounter/&cam-07/quay"
    (said,) = take(bridge, says("count/quay", count=12))
    assert (said.topic, data(said)["Count"], said.retain) == (topic, "12", True)
    assert take(bridge, says("count/quay", count="<k")) == [Publication(topic, b"", retain=True)]
    assert not take(bridge, says("count/quay", count="<k"), says("count/quay"))


def test_the_prefix_tells_devices_apart(says: Says) -> None:
    bridge = Onvif(prefix="city/{site}/{device}", sites=["old-port"])
    assert bridge.filters[-1] == "city/+/+/onvif-ej/#"
    assert bridge.filters[0] == "vigie/v1/old-port/+/status"
    (said,) = take(bridge, says("event/sound.siren"))
    assert said.topic.startswith("city/old-port/cam-07/onvif-ej/")


@pytest.mark.parametrize(
    "prefix", ["", "x", "{site}", "+/{device}", "{device}/#", "{other}{device}", "{", "vigie/v1/{device}"]
)
def test_another_prefix_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="prefix"):
        Onvif(prefix=prefix)


def test_there_is_an_end_to_what_is_kept_in_mind(bridge: Onvif, says: Says, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.fleet.bridges.onvif.MAX_DEVICES", 1)
    monkeypatch.setattr("agent.fleet.bridges.onvif._MAX_OPEN", 1)
    assert take(bridge, says("event/crowd.gathering", zone="quay"))
    assert not take(bridge, says("event/crowd.gathering", zone="lawn"), says("status", device="old-port/cam-08"))
    assert bridge.refused == {"more properties than a device can have": 1, "too many devices": 1}


@given(st.text(max_size=30), st.binary(max_size=80), st.booleans())
def test_no_message_ends_the_bridge(below: str, payload: bytes, retained: bool) -> None:
    bridge = Onvif()
    for topic in (f"vigie/v1/old-port/cam-07/{below}", f"vigie-cam-07/onvif-ej/{below}", below):
        assert isinstance(bridge.take(topic, payload, retained=retained), list)


def test_no_local_topic_serves_two_types_but_sounds() -> None:
    names = [local_topic(t.label).name for t in EventType if not t.label.startswith("sound.")]
    assert len(set(names)) == len(names)
