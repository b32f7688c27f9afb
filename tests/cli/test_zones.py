"""`vigie zones show`: where zones lie, in a terminal of 80 by 24 and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent.cli.app import app


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "vigie.toml"
    path.write_text(
        '[[camera]]\nname = "north"\nsource = "csi://0"\n'
        '[[camera.zone]]\nname = "square"\npolygon = [[0, 0], [1, 0], [1, 1], [0, 1]]\n'
        '[[camera.zone]]\nname = "left-half"\npolygon = [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]\n'
        "[camera.zone.calibration]\npicture = [[0, 0.2], [0.5, 0.2], [0.5, 1], [0, 1]]\n"
        "ground_m = [[0, 0], [6, 0], [6, 4], [0, 4]]\n"
        '[[camera.rule]]\ntype = "crowd.gathering"\nzone = "left-half"\n[[camera.rule]]\ntype = "camera.tampered"\n'
        '[[camera]]\nname = "south"\nsource = "csi://1"\n'
    )
    return path


def vigie(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["zones", "show", *map(str, arguments)], env={"COLUMNS": "80"})
    return result.exit_code, result.output


def test_zones_are_drawn_in_80_by_24(config: Path) -> None:
    code, output = vigie("-c", config, "--camera", "north")
    lines = output.splitlines()
    assert code == 0
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    row = lines[8]
    assert row.startswith("|" + "b" * 24 + "a" * 24 + "|")
    assert any("b left-half, 30 m2" in line for line in lines)
    assert any("crowd.gathering" in line for line in lines)
    assert any("no rule" in line for line in lines)
    assert any("camera.tampered" in line for line in lines)


def test_every_camera_is_shown(config: Path) -> None:
    code, output = vigie("-c", config)
    assert code == 0
    assert "north" in output
    assert "south" in output
    assert "no zones" in output


def test_json_has_polygons_rules_and_areas(config: Path) -> None:
    code, output = vigie("-c", config, "--json")
    north, south = json.loads(output)
    assert code == 0
    square, left = north["zones"]
    assert (square["area_m2"], left["area_m2"]) == (None, 30.0)
    assert left["polygon"][1] == [0.5, 0.0]
    assert [rule["type"] for rule in left["rules"]] == ["crowd.gathering"]
    assert [rule["type"] for rule in north["rules"]] == ["camera.tampered"]
    assert south["zones"] == []


def test_an_unknown_camera_is_refused_with_the_known_ones(config: Path) -> None:
    code, output = vigie("-c", config, "--camera", "west")
    assert code == 2
    assert "no camera west; there are: north, south" in output


def test_many_zones_fit_beside_the_picture(tmp_path: Path) -> None:
    zones = "".join(
        f'[[camera.zone]]\nname = "zone-{n}"\npolygon = [[0, {n / 10}], [1, {n / 10}], [1, {n / 10 + 0.1}]]\n'
        for n in range(8)
    )
    path = tmp_path / "vigie.toml"
    path.write_text(f'[[camera]]\nname = "north"\nsource = "csi://0"\n{zones}')
    code, output = vigie("-c", path)
    assert code == 0
    assert "zone-7" in output
    assert len(output.splitlines()) <= 24
