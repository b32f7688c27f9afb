"""Prometheus: text that its format allows, series that are bounded, and what an operator needs to see."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract import Event, Notice
from agent.fleet.bridges.prometheus import Prometheus, exporting
from agent.fleet.verdicts import KEEP_DAYS, Tally

Says = Callable[..., tuple[str, bytes]]
DAY_S = 86_400
# Lines of the text format 0.0.4: https://prometheus.io/docs/instrumenting/exposition_formats/
NAME = "[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\"n])*"'
SAMPLE = re.compile(rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*)?\}})? ([-+0-9.e]+)")


def samples(text: str) -> dict[str, float]:
    """Every sample by its series; fails where the text is not of the format."""
    found: dict[str, float] = {}
    known: set[str] = set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in known
            assert kind in {"counter", "gauge"}
            assert kind != "counter" or name.endswith("_total")
            known.add(name)
        elif not line.startswith("# HELP "):
            match = SAMPLE.fullmatch(line)
            assert match, line
            assert match[1] in known
            series = line.rpartition(" ")[0]
            assert series not in found
            found[series] = float(match[3])
    assert text.endswith("\n")
    return found


def take(bridge: Prometheus, *messages: tuple[str, bytes]) -> dict[str, float]:
    for topic, payload in messages:
        assert not bridge.take(topic, payload, retained=False)
    return samples(bridge.text(connected=True))


def test_the_health_of_a_device(says: Says) -> None:
    found = take(
        Prometheus(now=lambda: 1000.0),
        says("birth"),
        says("status", state="degraded", reasons=("camera", "disk")),
        says("health", sense="degraded", cameras=("live", "lost"), rate="low"),
    )
    device = 'site="old-port",device="cam-07"'
    assert found["vigie_bridge_connected"] == 1
    assert found["vigie_devices"] == 1
    assert found[f"vigie_up{{{device}}}"] == 1
    assert found[f'vigie_status{{{device},state="degraded"}}'] == 1
    assert found[f'vigie_status_reason{{{device},reason="disk"}}'] == 1
    assert found[f'vigie_birth_info{{{device},agent="1.2.3",contract="1"}}'] == 1
    assert found[f'vigie_health_class{{{device},part="cameras_1",class="lost"}}'] == 1
    assert found[f'vigie_health_class{{{device},part="rate",class="low"}}'] == 1
    assert found[f"vigie_health_received_timestamp_seconds{{{device}}}"] == 1000
    assert found[f"vigie_events_missing{{{device}}}"] == 0


def test_a_device_that_is_offline_is_not_up(says: Says) -> None:
    found = take(Prometheus(), says("status"), says("status", state="offline"))
    assert found['vigie_up{site="old-port",device="cam-07"}'] == 0
    assert not [series for series in found if 'state="ready"' in series]


def test_events_are_counted_once_and_missing_ones_are_seen(says: Says) -> None:
    events = [says("event/sound.siren", number=number) for number in (4, 5, 5, 8)]
    found = take(Prometheus(), *events, says("event/sound.siren", device="old-port/cam-08"))
    assert found['vigie_events_total{site="old-port",type="sound.siren"}'] == 4
    assert found['vigie_repeated_events_total{site="old-port"}'] == 1
    assert found['vigie_events_missing{site="old-port",device="cam-07"}'] == 2


def test_verdicts_are_a_metric() -> None:
    bridge = Prometheus(tallies=lambda: [Tally("old-port", "sound.siren", 10, 3, 4)])
    found = take(bridge)
    assert found['vigie_verdicts{site="old-port",type="sound.siren",verdict="true"}'] == 3
    assert found['vigie_verdicts{site="old-port",type="sound.siren",verdict="false"}'] == 4


def test_a_device_whose_birth_is_taken_away_goes(says: Says) -> None:
    found = take(Prometheus(), says("birth"), says("status"), ("vigie/v1/old-port/cam-07/birth", b""))
    assert found["vigie_devices"] == 0
    assert not [series for series in found if "cam-07" in series]


def test_bad_messages_are_counted_by_reason(says: Says) -> None:
    topic, payload = says("status")
    found = take(Prometheus(), (topic, b"{"), (topic, b"x"), (topic.replace("cam", "CAM"), payload))
    assert found['vigie_refused_messages_total{reason="no status message: json_invalid"}'] == 2
    assert found['vigie_refused_messages_total{reason="a level of the topic is no name"}'] == 1


def test_there_is_an_end_to_the_devices(says: Says, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.fleet.bridges.prometheus.MAX_DEVICES", 3)
    found = take(Prometheus(), *(says("status", device=f"old-port/cam-{n}") for n in range(10)))
    assert found["vigie_devices"] == 3
    assert found['vigie_refused_messages_total{reason="too many devices"}'] == 7


@given(st.lists(st.tuples(st.text(max_size=20), st.binary(max_size=60)), max_size=10))
def test_whatever_comes_the_text_keeps_its_format(messages: list[tuple[str, bytes]]) -> None:
    take(Prometheus(), *((f"vigie/v1/old-port/{below}", payload) for below, payload in messages))


def notice(days: int) -> tuple[str, bytes]:
    table = {
        "source": "/vigie/old-port/cam-07",
        "agent": "1.2.3",
        "contract": 1,
        "config": "0" * 64,
        "policy": "0" * 64,
        "k": 5,
        "detectors": (
            {
                "type": "vigie.sound.siren.v1",
                "mode": "on",
                "zones": (),
                **dict.fromkeys(("purpose", "body", "contact"), "x"),
                "basis": "DEMO",
                "retention_days": days,
                "until": "2026-12-31",
            },
        ),
        "models": (),
        "audit_head": "x",
        "register_entries": (),
    }
    return "vigie/v1/old-port/cam-07/notice", Notice.model_validate(table).model_dump_json(exclude_none=True).encode()


@pytest.mark.parametrize(("days", "kept"), [(2, 2), (3650, KEEP_DAYS), (None, KEEP_DAYS)])
def test_an_event_is_kept_as_long_as_its_policy_allows(says: Says, days: int | None, kept: int) -> None:
    bridge = Prometheus(now=lambda: 1000.0)
    take(bridge, says("event/sound.siren"), *((notice(days),) if days is not None else ()))
    ((event, until),) = bridge.kept()
    assert isinstance(event, Event)
    assert until == 1000 + kept * DAY_S
    assert not bridge.kept()


def test_the_metrics_are_served_and_nothing_else(says: Says) -> None:
    bridge = Prometheus()
    take(bridge, says("status"))
    with exporting("127.0.0.1", 0, lambda: bridge.text(connected=False)) as port:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
            assert samples(answer.read().decode())["vigie_bridge_connected"] == 0
        with pytest.raises(urllib.error.HTTPError, match="404") as refused:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10)
        refused.value.close()
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10)
