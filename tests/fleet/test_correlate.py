"""Joining: what becomes an incident, what is refused, and that one device counts once."""

from __future__ import annotations

import datetime as dt
import functools
import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from agent.cli.app import app
from agent.contract import EventType
from agent.documents import schemas
from agent.fleet.correlate import Correlator, filters
from agent.fleet.incident import JOINABLE, Incident
from agent.fleet.locate import speed_of_sound
from agent.fleet.town import Plane, Town, TownError, read_town, share

ORIGIN = (43.2951, 5.3742)
SITES = {"cam-1": (0, 0), "cam-2": (200, 10), "cam-3": (190, 200), "cam-4": (5, 180), "cam-5": (100, 90)}
NOW = 1_795_780_800.0  # 2026-11-27T12:00:00Z
_numbers = itertools.count(1)


@functools.cache
def town() -> Town:
    """Five devices, a row of zones that a crowd can walk along, and a square."""
    plane = Plane(*ORIGIN)
    places = {name: plane.degrees(*at) for name, at in SITES.items()}
    return Town.model_validate(
        {
            "device": [{"name": n, "site": "port", "latitude": p[0], "longitude": p[1]} for n, p in places.items()],
            "way": [
                {"between": [f"cam-{number}/quay", f"cam-{number + 1}/quay"], "metres": 90} for number in range(1, 5)
            ],
            "square": [{"name": "market", "site": "port", "zones": ["cam-1/quay", "cam-2/quay"], "area_m2": 100}],
        }
    )


class Bench:
    """A correlator whose clock stands until it is moved."""

    def __init__(self) -> None:
        self.now = NOW
        self.correlator = Correlator(town(), lambda: self.now)

    def hear(self, device: str, label: str, at: float | None = None, site: str = "port", **data: Any) -> None:
        """An event of a device."""
        self.take(device, label, event(device, label, NOW if at is None else at, site, **data), site)

    def take(self, device: str, label: str, message: dict[str, Any], site: str = "port") -> None:
        """A message as a device sends it."""
        self.correlator.take(f"vigie/v1/{site}/{device}/event/{label}", json.dumps(message).encode(), retained=False)

    def status(self, device: str, state: str, boot: str = "0a1b2c3d") -> None:
        """A retained status."""
        payload = json.dumps({"state": state, "boot": boot, "reasons": []}).encode()
        self.correlator.take(f"vigie/v1/port/{device}/status", payload, retained=True)

    def after(self, seconds: float) -> list[Incident]:
        """What has come about after so long."""
        self.now += seconds
        return self.correlator.due()


def stamp(at: float, *, fine: bool = False) -> str:
    moment = dt.datetime.fromtimestamp(at, dt.timezone.utc)
    fraction = f".{moment.microsecond // 100:04}" if fine else ""
    return f"{moment:%Y-%m-%dT%H:%M:%S}{fraction}Z"


def event(device: str, label: str, at: float, site: str = "port", **data: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": f"0a1b2c3d-{next(_numbers):06}",
        "source": f"/vigie/{site}/{device}",
        "type": f"vigie.{label}.v1",
        "time": stamp(math.floor(at)),
        "datacontenttype": "application/json",
        "data": {
            "episode": "9b1e",
            "phase": "started",
            "zone": "quay",
            "confidence": "high",
            "clock": "synced",
            "basis": "FR-2026-04/3",
            **data,
        },
    }


def shot(bench: Bench, devices: list[str], at: tuple[float, float] = (120, 60), **data: Any) -> None:
    """A shot at a place of the plane, a second ago."""
    for device in devices:
        way = math.hypot(SITES[device][0] - at[0], SITES[device][1] - at[1])
        onset = NOW - 1 + way / speed_of_sound(15)
        told = {"onset": stamp(onset, fine=True), "onset_error": "2ms", **data}
        bench.hear(device, "sound.gunshot", onset, **{k: v for k, v in told.items() if v is not None})


def test_a_shot_that_five_devices_hear_is_one_incident_with_its_place() -> None:
    bench = Bench()
    shot(bench, list(SITES))
    assert bench.correlator.due() == []
    (incident,) = bench.after(5)
    assert incident.topic == "vigie/v1/port/_incidents/sound.gunshot"
    assert incident.data.devices == tuple(SITES)
    assert incident.data.location is not None
    east, north = Plane(*ORIGIN).metres(incident.data.location.latitude, incident.data.location.longitude)
    assert math.hypot(east - 120, north - 60) < 10
    assert 0 < incident.data.location.semi_minor_m <= incident.data.location.semi_major_m < 60
    assert incident.time in {stamp(NOW - 2), stamp(NOW - 1)}, "a moment is known to some milliseconds, either side"
    assert bench.after(60) == []


def test_two_devices_that_hear_it_say_so_without_a_place() -> None:
    bench = Bench()
    shot(bench, ["cam-1", "cam-2"])
    (incident,) = bench.after(5)
    assert (incident.data.location, incident.data.unlocated) == (None, "few-devices")


def test_one_device_that_hears_it_is_no_incident() -> None:
    bench = Bench()
    shot(bench, ["cam-1"])
    assert bench.after(5) == []


@pytest.mark.parametrize("missing", [{"clock": "unsynced"}, {"onset": None, "onset_error": None}])
def test_without_clock_or_onset_a_device_is_joined_but_not_located_by(missing: dict[str, Any]) -> None:
    bench = Bench()
    shot(bench, ["cam-1", "cam-2"])
    shot(bench, ["cam-3"], **missing)
    (incident,) = bench.after(5)
    assert incident.data.devices == ("cam-1", "cam-2", "cam-3")
    assert incident.data.unlocated == "few-devices"


def test_a_device_counts_once_however_often_it_tells() -> None:
    bench = Bench()
    for _ in range(40):
        shot(bench, ["cam-1"])
    assert bench.after(5) == []
    shot(bench, ["cam-1"])
    assert bench.correlator.refused["too many of one device"] == 0
    for _ in range(100):
        shot(bench, ["cam-1"])
    assert bench.correlator.refused["too many of one device"] > 0


def test_shots_a_few_seconds_apart_are_two_incidents() -> None:
    bench = Bench()
    shot(bench, ["cam-1", "cam-2", "cam-3"])
    for device in ("cam-1", "cam-2", "cam-3"):
        bench.hear(device, "sound.gunshot", NOW + 3, onset=stamp(NOW + 3, fine=True), onset_error="2ms")
    assert len(bench.after(5)) == 2


def surge(bench: Bench, *numbers: int, at: float, variant: str = "surge") -> None:
    for number in numbers:
        bench.hear(f"cam-{number}", "crowd.movement", at, variant=variant, count="20-49")


def test_a_surge_that_passes_three_cameras_is_an_incident_with_its_path() -> None:
    bench = Bench()
    surge(bench, 1, at=NOW - 120)
    surge(bench, 2, at=NOW - 60)
    assert bench.after(6) == []
    surge(bench, 3, at=NOW)
    (started,) = bench.after(6)
    assert started.data.path == ("cam-1/quay", "cam-2/quay", "cam-3/quay")
    assert (started.data.phase, started.data.variant, started.time) == ("started", "surge", stamp(NOW - 120))
    surge(bench, 4, at=NOW)
    (ongoing,) = bench.after(6)
    assert (ongoing.data.phase, len(ongoing.data.path or ())) == ("ongoing", 4)
    (ended,) = bench.after(600)
    assert (ended.data.phase, ended.data.incident) == ("ended", started.data.incident)
    assert bench.after(600) == []


def test_the_order_in_which_messages_come_does_not_matter() -> None:
    bench = Bench()
    for number, minutes in ((3, 0), (1, 2), (2, 1)):
        surge(bench, number, at=NOW - 60 * minutes)
    (started,) = bench.after(6)
    assert started.data.path == ("cam-1/quay", "cam-2/quay", "cam-3/quay")


@pytest.mark.parametrize(
    "told",
    [
        [(1, 0), (2, 0), (3, 0)],  # all at once: that is no passing
        [(1, 120), (3, 60), (5, 0)],  # no way between them
        [(1, 290), (2, 0), (3, 0)],  # too slow for a crowd
    ],
)
def test_what_no_crowd_can_walk_is_no_incident(told: list[tuple[int, float]]) -> None:
    bench = Bench()
    for number, ago in told:
        surge(bench, number, at=NOW - ago)
    assert bench.after(6) == []


def test_another_sort_of_movement_does_not_go_on_with_it() -> None:
    bench = Bench()
    surge(bench, 1, at=NOW - 120)
    surge(bench, 2, at=NOW - 60, variant="dispersal")
    surge(bench, 3, at=NOW)
    assert bench.after(6) == []


def density(bench: Bench, number: int, count: str, phase: str = "started") -> None:
    bench.hear(f"cam-{number}", "crowd.density", NOW, count=count, level="medium", phase=phase)


def test_a_square_is_as_full_as_its_zones_say_together() -> None:
    bench = Bench()
    bench.status("cam-1", "ready")
    density(bench, 1, "50-99")
    density(bench, 2, "20-49")
    (started,) = bench.after(6)
    assert (started.data.square, started.data.level, started.data.count) == ("market", "medium", "50-99")
    assert started.data.silent == 1
    density(bench, 2, "100-199", "ongoing")
    (ongoing,) = bench.after(6)
    assert (ongoing.data.level, ongoing.data.count) == ("high", "100-199")
    density(bench, 1, "<k", "ended")
    density(bench, 2, "<k", "ended")
    (ended,) = bench.after(6)
    assert (ended.data.phase, ended.data.incident) == ("ended", started.data.incident)


def test_a_device_that_is_gone_says_nothing_of_its_zones() -> None:
    bench = Bench()
    for number in (1, 2):
        bench.status(f"cam-{number}", "ready")
        density(bench, number, "50-99")
    assert bench.after(6)[0].data.silent == 0
    bench.status("cam-1", "offline")
    (left,) = bench.after(0)
    assert (left.data.phase, left.data.silent) == ("ended", 1)


def test_nothing_about_single_persons_is_subscribed_to_or_taken() -> None:
    subscribed = filters(["port"])
    assert all("event/crowd." in name or "event/sound." in name or name.endswith("/status") for name in subscribed)
    assert not any("#" in name for name in subscribed)
    bench = Bench()
    for event_type in EventType:
        if event_type not in JOINABLE:
            bench.hear("cam-1", event_type.label)
    refused = "a type that is not joined, since a person could be followed by it"
    assert bench.correlator.refused == {refused: len(EventType) - len(JOINABLE)}
    assert bench.after(60) == []


def mutated(change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    message = event("cam-1", "sound.gunshot", NOW)
    change(message)
    return message


@pytest.mark.parametrize(
    "message",
    [
        mutated(lambda m: m.update(source="/vigie/port/cam-2")),
        mutated(lambda m: m.update(type="vigie.sound.explosion.v1")),
        mutated(lambda m: m.update(time="2026-11-27T11:00:00Z")),
        mutated(lambda m: m.update(time="2026-11-27T13:00:00Z")),
        mutated(lambda m: m.update(time="2026-13-27T12:00:00Z")),
        mutated(lambda m: m["data"].update(onset="2026-11-27T11:59:00.0000Z", onset_error="2ms")),
        mutated(lambda m: m["data"].update(face="x")),
        mutated(lambda m: m["data"].update(zone="x" * 70_000)),
    ],
)
def test_a_message_that_cannot_be_is_refused_and_counted(message: dict[str, Any]) -> None:
    bench = Bench()
    bench.take("cam-1", "sound.gunshot", message)
    assert sum(bench.correlator.refused.values()) == 1


def test_strangers_repetitions_and_retained_events_are_refused() -> None:
    bench = Bench()
    bench.hear("cam-9", "sound.gunshot")
    bench.hear("cam-1", "sound.gunshot", site="elsewhere")
    message = event("cam-1", "sound.gunshot", NOW)
    bench.take("cam-1", "sound.gunshot", message)
    bench.take("cam-1", "sound.gunshot", message)
    payload = json.dumps(event("cam-1", "sound.gunshot", NOW)).encode()
    bench.correlator.take("vigie/v1/port/cam-1/event/sound.gunshot", payload, retained=True)
    assert bench.correlator.refused == {
        "a device that is not in the map": 2,
        "an event that came before": 1,
        "an event is never retained": 1,
    }


@given(st.binary(max_size=300), st.sampled_from(["event/sound.gunshot", "status", "event/x", "cmd/pause", ""]))
def test_no_payload_ends_it(payload: bytes, below: str) -> None:
    bench = Bench()
    bench.correlator.take(f"vigie/v1/port/cam-1/{below}", payload, retained=False)
    assert bench.after(60) == []


def test_every_incident_fits_the_published_schema_and_names_nobody() -> None:
    bench = Bench()
    shot(bench, list(SITES))
    shot(bench, ["cam-1", "cam-2"], onset=None, onset_error=None)
    for number in (1, 2, 3):
        surge(bench, number, at=NOW - 180 + 60 * number)
    density(bench, 1, ">=200")
    incidents = bench.after(6)
    assert {incident.type.split(".")[3] for incident in incidents} == {"gunshot", "movement", "density"}
    for incident in incidents:
        jsonschema.validate(json.loads(incident.to_json()), schemas()["incident"])
        assert "9b1e" not in incident.to_json().decode(), "an episode of a device is not told again"


def test_a_map_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "map.toml"
    with pytest.raises(TownError, match="cannot be read"):
        read_town(path)
    path.write_text('[[device]]\nname = "cam-1"\nsite = "port"\nlatitude = 43.3\nlongitude = 5.4\n')
    assert read_town(path).sites == ("port",)
    for more, said in (
        ('[[way]]\nbetween = ["cam-1/a", "cam-2/b"]\nmetres = 5\n', "not in the map: cam-2/b"),
        ('[[device]]\nname = "cam-1"\nsite = "port"\nlatitude = 43.3\nlongitude = 5.4\n', "occur twice: cam-1"),
        ('[[square]]\nname = "s"\nsite = "x"\nzones = ["cam-1/a"]\narea_m2 = 9\n', "zones of another site"),
        ("[[device]]\n", "Field required"),
        ("[[", "no TOML"),
    ):
        bad = tmp_path / "bad.toml"
        bad.write_text(path.read_text() + more)
        with pytest.raises(TownError, match=said):
            read_town(bad)


def test_each_site_belongs_to_one_instance() -> None:
    sites = [f"site-{number}" for number in range(50)]
    parts = [share(sites, number, 3) for number in (1, 2, 3)]
    assert sorted(site for part in parts for site in part) == sorted(sites)
    assert all(len(part) > 5 for part in parts)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--map", "/nonexistent.toml"], "cannot be read"),
        (["--site", "elsewhere"], "not in"),
        (["--share", "3/2"], "is not like 2/3"),
        (["--share", "x"], "is not like 2/3"),
    ],
)
def test_the_command_says_what_is_wrong(tmp_path: Path, options: list[str], said: str) -> None:
    path = tmp_path / "map.toml"
    path.write_text('[[device]]\nname = "cam-1"\nsite = "port"\nlatitude = 43.3\nlongitude = 5.4\n')
    result = CliRunner().invoke(app, ["fleet", "correlate", "--map", str(path), *options])
    assert result.exit_code == 2, result.output
    assert said in result.output
