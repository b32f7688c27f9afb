"""Zones as drawn become a drop-in with which the agent starts, or nothing changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.aim.edit import Drawing, LocalZones, drop_in, parse_drawing, toml
from agent.settings import SettingsError, load, read_toml

SQUARE = [[0.1, 0.1], [0.5, 0.1], [0.5, 0.5]]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "vigie.toml"
    path.write_text(
        "# An operator's remark\n"
        '[[camera]]\nname = "north"\nsource = "rtsp://user:secret@192.0.2.1/a"\nfps = 5\n'
        '[[camera.zone]]\nname = "quay"\npolygon = [[0, 0], [1, 0], [1, 1]]\n'
        '[[camera.rule]]\ntype = "crowd.gathering"\nzone = "quay"\nmin_persons = 12\nhold_s = 20.5\n'
        '[[camera.rule]]\ntype = "camera.tampered"\n'
        '[[camera]]\nname = "south"\nsource = "csi://0"\n'
    )
    return path


def drawing(*zones: dict[str, Any], camera: str = "north") -> Drawing:
    return parse_drawing(json.dumps({"camera": camera, "zones": zones}).encode())


def quay(**other: Any) -> dict[str, Any]:
    return {"was": "quay", "name": "quay", "polygon": SQUARE, **other}


def test_a_saved_zone_is_in_force_and_the_operators_file_is_as_it_was(config: Path) -> None:
    text = config.read_text()
    zones = LocalZones(config)
    ramp = {"name": "ramp", "polygon": SQUARE, "direction": [0.6, -0.8]}
    zones.save(drawing(quay(), ramp))
    cameras = load(config).cameras
    assert config.read_text() == text
    assert [zone.name for zone in cameras[0].zones] == ["quay", "ramp"]
    assert cameras[0].source == "rtsp://user:secret@192.0.2.1/a"
    assert (cameras[0].fps, cameras[1].name, cameras[1].source) == (5, "south", "csi://0")
    gathering, tampered, wrong_way = cameras[0].rules
    assert gathering.parameters == {"min_persons": 12, "hold_s": 20.5}
    assert tampered.zone is None
    assert (wrong_way.zone, wrong_way.parameters["allowed"]) == ("ramp", [0.6, -0.8])
    assert zones.path.stat().st_mode & 0o777 == 0o640  # the address holds a password


def test_a_renamed_zone_keeps_its_rules_and_a_deleted_one_takes_them_along(config: Path) -> None:
    zones = LocalZones(config)
    zones.save(drawing(quay() | {"name": "pier"}))
    assert [(rule.type, rule.zone) for rule in load(config).cameras[0].rules] == [
        ("crowd.gathering", "pier"),
        ("camera.tampered", None),
    ]
    zones.save(drawing())
    assert [rule.type for rule in load(config).cameras[0].rules] == ["camera.tampered"]


def test_each_change_can_be_undone(config: Path) -> None:
    before = load(config)
    zones = LocalZones(config)
    zones.save(drawing(quay()))
    once = load(config)
    zones.save(drawing())
    zones.undo()
    assert load(config) == once == zones.settings
    zones.undo()
    assert load(config) == before
    assert not zones.path.exists()
    assert not zones.can_undo
    with pytest.raises(SettingsError, match="nothing to undo"):
        zones.undo()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (quay(polygon=[[0.1, 0.1], [0.2, 0.2], [0.3, 0.3]]), "has no area"),
        (quay(direction=[0, 0]), "a direction has a length"),
        (quay(name="ramp") | {"was": "quay", "name": "quay"}, None),
        (
            quay(
                calibration={
                    "picture": [[0.1, 0.1], [0.2, 0.1], [0.3, 0.1], [0.4, 0.1]],
                    "ground_m": [[0, 0], [5, 0], [5, 5], [0, 5]],
                }
            ),
            "nearly on one line",
        ),
    ],
)
def test_what_the_agent_could_not_start_with_is_not_written(
    config: Path, given: dict[str, Any], said: str | None
) -> None:
    zones = LocalZones(config)
    if said is None:
        zones.save(drawing(given))
        return
    with pytest.raises(SettingsError, match=said):
        zones.save(drawing(given))
    assert not zones.path.exists()


def test_two_zones_of_one_name_are_refused(config: Path) -> None:
    zones = LocalZones(config)
    with pytest.raises(SettingsError, match="must be unique"):
        zones.save(drawing(quay(), {"name": "quay", "polygon": SQUARE}))


def test_a_stronger_file_is_named_and_nothing_changes(config: Path) -> None:
    folder = config.with_name("vigie.toml.d")
    folder.mkdir()
    stronger = folder / "zzz.toml"
    stronger.write_text('[[camera]]\nname = "north"\nsource = "csi://0"\n')
    zones = LocalZones(config)
    with pytest.raises(SettingsError, match=r"zzz\.toml is stronger"):
        zones.save(drawing({"name": "quay", "polygon": SQUARE}))
    assert not zones.path.exists()


def test_an_unknown_camera_is_named(config: Path) -> None:
    with pytest.raises(SettingsError, match="none is called west; there are: north, south"):
        LocalZones(config).save(drawing(camera="west"))


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(st.binary(max_size=300) | JSON.map(lambda value: json.dumps(value).encode()))
def test_whatever_the_page_sends_is_a_drawing_or_refused_in_words(document: bytes) -> None:
    try:
        found = parse_drawing(document)
    except SettingsError:
        return
    assert len(found.zones) <= 16


FRACTION = st.floats(0, 1)


@settings(max_examples=40)
@given(
    st.fixed_dictionaries(
        {
            "camera": st.just("north"),
            "zones": st.lists(
                st.fixed_dictionaries(
                    {
                        "was": st.none() | st.just("quay"),
                        "name": st.from_regex(r"[a-z0-9-]{1,8}", fullmatch=True),
                        "polygon": st.lists(st.tuples(FRACTION, FRACTION), min_size=2, max_size=5),
                        "direction": st.none() | st.tuples(st.floats(-2, 2), st.floats(-2, 2)),
                    }
                ),
                max_size=3,
            ),
        }
    )
)
def test_a_drawing_is_saved_as_it_is_or_not_at_all(
    tmp_path_factory: pytest.TempPathFactory, table: dict[str, Any]
) -> None:
    path = tmp_path_factory.mktemp("drawn") / "vigie.toml"
    path.write_text(
        '[[camera]]\nname = "north"\nsource = "csi://0"\n[[camera.zone]]\nname = "quay"\npolygon = [[0,0],[1,0],[1,1]]'
    )
    zones = LocalZones(path)
    before = load(path)
    try:
        zones.save(parse_drawing(json.dumps(table).encode()))
    except SettingsError:
        assert load(path) == before
        return
    assert [zone.name for zone in load(path).cameras[0].zones] == [zone["name"] for zone in table["zones"]]


VALUES = st.recursive(
    st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**60), 2**60)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4),
)  # fmt: skip


@settings(max_examples=60)
@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), VALUES, max_size=4))
def test_what_is_written_reads_as_it_was(tmp_path_factory: pytest.TempPathFactory, table: dict[str, Any]) -> None:
    path = tmp_path_factory.mktemp("toml") / "one.toml"
    path.write_bytes(drop_in([table | {"zone": [], "rule": []}]))
    assert read_toml(path)["camera"] == [{k: v for k, v in table.items() if k not in {"zone", "rule"}}]
    assert toml(True) == "true"
