"""Settings: layers, names, bounds, and messages that help."""

from __future__ import annotations

import pwd
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract import MAX_ZONES, EventType
from agent.settings import Settings, SettingsError, layers, load, mask_url, origin, parse_schedule

TRIANGLE = [[0, 0], [1, 0], [1, 1]]


def written(folder: Path, text: str, name: str = "vigie.toml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def problems(path: Path) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(path)
    return [line.removeprefix(f"{path}: ") for line in caught.value.problems]


def test_without_any_file_everything_has_a_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("agent.settings.DEFAULT_CONFIG", tmp_path / "none.toml")
    assert load() == Settings()


def test_file_then_drop_ins_then_environment_then_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, '[mqtt]\nhost = "a"\nport = 1\nkeepalive_s = 10\ninflight = 1\n')
    written(tmp_path, "[mqtt]\nport = 2\nkeepalive_s = 20\ninflight = 2\n", "vigie.toml.d/10-first.toml")
    written(tmp_path, "[mqtt]\nkeepalive_s = 25\ninflight = 3\n", "vigie.toml.d/20-second.toml")
    monkeypatch.setenv("VIGIE_MQTT__INFLIGHT", "4")
    monkeypatch.setenv("VIGIE_MQTT__KEEPALIVE_S", "30")
    mqtt = load(path, {"mqtt": {"inflight": 5}}).mqtt
    assert (mqtt.host, mqtt.port, mqtt.keepalive_s, mqtt.inflight) == ("a", 2, 30, 5)


def test_every_value_knows_where_it_came_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, '[mqtt]\nhost = "a"\nport = 1\n')
    drop_in = written(tmp_path, "[mqtt]\nport = 2\n", "vigie.toml.d/x.toml")
    monkeypatch.setenv("VIGIE_LOG_LEVEL", "debug")
    found = layers(path, {"device": {"site": "harbour"}})
    assert origin(found, ["mqtt", "host"]) == str(path)
    assert origin(found, ["mqtt", "port"]) == str(drop_in)
    assert origin(found, ["log_level"]) == "environment"
    assert origin(found, ["device", "site"]) == "command line"
    assert origin(found, ["device", "name"]) is None


def test_the_file_is_named_by_the_environment_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIGIE_CONFIG", str(written(tmp_path, 'log_level = "error"')))
    assert load().log_level == "error"


def test_lists_and_tables_in_the_environment_are_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIGIE_CAMERA", '[{"name": "one", "source": "sim:walkers"}]')
    monkeypatch.setenv("vigie_device__site", "harbour")
    settings = load(written(tmp_path, ""))
    assert (settings.cameras[0].name, settings.device.site) == ("one", "harbour")


def test_variables_of_others_are_nobodys_business(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CAMERA", "DEVICE", "MQTT", "LOG_LEVEL"):
        monkeypatch.setenv(name, "/dev/video0")
    assert load(written(tmp_path, "")) == Settings()


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("VIGIE_MQT__HOST", "a", "environment: VIGIE_MQT__HOST is no setting; did you mean 'VIGIE_MQTT'"),
        ("VIGIE_MQTT__HOTS", "a", "environment: mqtt.hots: unknown key; did you mean 'host'?"),
        ("VIGIE_MQTT__PORT", "many", "environment: mqtt.port: Input should be a valid integer"),
        ("VIGIE_CAMERA", "front", 'environment: error parsing value for field "cameras"'),
    ],
)
def test_a_wrong_variable_is_named(
    variable: str, value: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    (line,) = problems(written(tmp_path, ""))
    assert line.startswith(message)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[mqqt]", "mqqt: unknown key; did you mean 'mqtt'?"),
        ("[mqtt]\nhots = 'a'", "mqtt.hots: unknown key; did you mean 'host'?"),
        ("[[camera]]\nname='a'\nsource='s'\nfsp=3", "camera[0].fsp: unknown key; did you mean 'fps'?"),
        (
            f"[[camera]]\nname='a'\nsource='s'\n[[camera.zone]]\nname='z'\npolygn={TRIANGLE}\npolygon={TRIANGLE}",
            "camera[0].zone[0].polygn: unknown key; did you mean 'polygon'?",
        ),
        (
            "[[camera]]\nname='a'\nsource='s'\n[[camera.rule]]\ntype='crowd.gatherin'",
            "camera[0].rule[0].type: no event type is called 'crowd.gatherin'; did you mean 'crowd.gathering'?",
        ),
        ("[camera]\nname='a'", "camera: must be a list: write [[camera]] instead of [camera]"),
        ("[[camera]]\nname='a'", "camera[0].source: is missing"),
        (
            "[[camera]]\nname='Front Door'\nsource='s'",
            "camera[0].name: a name has a to z, 0 to 9 and '-' (not at its ends), at most 32 of them",
        ),
        (
            "[[camera]]\nname='a'\nsource='s'\n[[camera.rule]]\ntype='sound.horn'\nschedule='08:00-09:00'",
            "camera[0].rule[0].schedule: must be a list",
        ),
        (
            "[[camera]]\nname='a'\nsource='s'\n[[camera.rule]]\ntype='sound.horn'\nschedule=['8-9']",
            "camera[0].rule[0].schedule: '8-9' is no schedule; write it as 'Mon-Fri 22:00-06:00' or '08:00-20:00'",
        ),
        ("[mqtt]\nport = 70000", "mqtt.port: Input should be less than or equal to 65535"),
        ("[mqtt]\ntls=false\nhost='far'", "mqtt: tls = false is only for a broker on this machine (localhost)"),
        ("[mqtt]\ncert_file='/c'", "mqtt: cert_file and key_file belong together"),
        ("[mqtt]\nbackoff_min_s=9\nbackoff_max_s=3", "mqtt: backoff_min_s is longer than backoff_max_s"),
    ],
)
def test_a_problem_says_where_and_what(text: str, problem: str, tmp_path: Path) -> None:
    assert problems(written(tmp_path, text)) == [problem]


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    assert len(problems(written(tmp_path, "nonsense = 1\n[mqtt]\nport = 0\n[device]\nsite = 'A B'"))) == 3


def camera(name: str = "north", **more: Any) -> dict[str, Any]:
    return {"name": name, "source": "sim:walkers", **more}


def zone(name: str) -> dict[str, Any]:
    return {"name": name, "polygon": TRIANGLE}


@pytest.mark.parametrize(
    ("cameras", "problem"),
    [
        ([camera("a"), camera("a")], "camera names must be unique on the device: a"),
        ([camera("a", zone=[zone("z")]), camera("b", zone=[zone("z")])], "zone names must be unique on the device: z"),
        ([camera(zone=[zone(f"z{i}") for i in range(MAX_ZONES + 1)])], "at most 64 zones"),
        ([camera(f"c{i}") for i in range(5)], "at most 4 items"),
        ([camera(zone=[zone("quay")], rule=[{"type": "sound.horn", "zone": "qay"}])], "did you mean 'quay'"),
        ([camera(rule=[{"type": "sound.horn", "zone": "qay"}])], "this camera has: none"),
        ([camera(zone=[{"name": "z", "polygon": [[0, 0], [0.5, 0.5], [1, 1]]}])], "the polygon has no area"),
    ],
)
def test_cameras_zones_and_rules_fit_together(cameras: list[dict[str, Any]], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Settings.model_validate({"camera": cameras})


def test_zones_are_numbered_over_all_cameras_in_their_order() -> None:
    settings = Settings.model_validate(
        {"camera": [camera("a", zone=[zone("x"), zone("y")]), camera("b", zone=[zone("z")])]}
    )
    assert settings.zone_names == ("x", "y", "z")


def test_the_zones_of_a_type_are_those_that_its_rules_name() -> None:
    rules = [
        {"type": "crowd.density", "zone": "y"},
        {"type": "crowd.density", "zone": "x"},
        {"type": "crowd.gathering", "zone": "x"},
        {"type": "camera.tampered"},
    ]
    other = camera("b", zone=[zone("z")], rule=[{"type": "crowd.density", "zone": "z"}])
    settings = Settings.model_validate({"camera": [camera("a", zone=[zone("x"), zone("y")], rule=rules), other]})
    assert settings.zones_of(EventType.CROWD_DENSITY) == ("x", "y", "z")
    assert settings.zones_of(EventType.CROWD_GATHERING) == ("x",)
    assert settings.zones_of(EventType.CAMERA_TAMPERED) == settings.zones_of(EventType.PERSON_DOWN) == ()


@pytest.mark.parametrize(
    ("text", "problem"),
    [(b"[mqtt", "no TOML"), (b"\xff", "no TOML")],
)
def test_a_file_that_is_no_toml_is_named(text: bytes, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "vigie.toml"
    path.write_bytes(text)
    assert problems(path)[0].startswith(problem)


def test_a_missing_file_is_named_with_the_way_to_one(tmp_path: Path) -> None:
    assert problems(tmp_path / "none.toml") == ["there is no such file; vigie config init writes a first one"]


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("rtsp://user:secret@cam:554/stream", "rtsp://***@cam:554/stream"),
        ("rtsp://user:se@cr/et@[::1]:554/stream", "rtsp://***@[::1]:554/stream"),
        ("rtsp://cam/stream?token=secret", "rtsp://cam/stream***"),
        ("rtsp://cam/user=admin&password=secret&channel=1", "rtsp://cam/***"),
        ("rtsp://cam/stream", "rtsp://cam/stream"),
        ("rtsp://[cam/stream", "rtsp://[cam/stream"),
        ("v4l2:/dev/video0", "v4l2:/dev/video0"),
        ("csi://0", "csi://0"),
    ],
)
def test_an_address_loses_its_secrets(url: str, masked: str) -> None:
    assert mask_url(url) == masked


@given(st.text(min_size=1), st.text(min_size=1))
def test_no_password_survives(user: str, password: str) -> None:
    assert mask_url(f"rtsp://{user}:{password}@cam.example/s").startswith("rtsp://***@cam.example")


def test_the_published_digest_knows_no_password() -> None:
    def of(source: str, **more: Any) -> str:
        return Settings.model_validate({"camera": [{"name": "a", "source": source, **more}]}).digest()

    assert of("rtsp://u:one@cam/s") == of("rtsp://u:two@cam/s")
    assert of("rtsp://cam/s") != of("rtsp://cam/t")
    assert of("rtsp://cam/s") != of("rtsp://cam/s", fps=5)


@pytest.mark.parametrize(
    ("text", "days", "begin", "end"),
    [
        ("08:00-20:00", range(7), 480, 1200),
        ("Mon-Fri 22:00-06:00", range(5), 1320, 360),
        ("sat,Sun 8:30-24:00", {5, 6}, 510, 1440),
        ("Fri-Mon 00:00-12:00", {4, 5, 6, 0}, 0, 720),
    ],
)
def test_a_schedule_is_days_and_minutes(text: str, days: Any, begin: int, end: int) -> None:
    assert parse_schedule(text) == (frozenset(days), begin, end)


@pytest.mark.parametrize("text", ["", "8-9", "08:00-08:00", "25:00-26:00", "Mon 08:60-09:00", "Mo 08:00-09:00"])
def test_anything_else_is_no_schedule(text: str) -> None:
    with pytest.raises(ValueError, match="is no schedule"):
        parse_schedule(text)


def test_what_the_technicians_view_writes_may_hold_cameras_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "vigie.toml"
    config.write_text("")
    drawn = tmp_path / "vigie.toml.d" / "zz-zones.toml"
    drawn.parent.mkdir()
    drawn.write_text('[[camera]]\nname = "north"\nsource = "csi://0"\n')
    me = pwd.getpwuid(drawn.stat().st_uid).pw_name
    monkeypatch.setattr("agent.settings.AIM_USER", me)
    assert load(config).cameras[0].name == "north"
    drawn.write_text('[mqtt]\nhost = "elsewhere.example"\n')
    with pytest.raises(SettingsError, match=r"zz-zones\.toml: belongs to .*, so it may hold \[\[camera\]\]"):
        load(config)
