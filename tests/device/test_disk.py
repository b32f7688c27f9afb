"""Room and wear, from what the kernel tells."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.device.disk import memory, room, wear


def test_room_is_that_of_the_folder_that_will_hold_it(tmp_path: Path) -> None:
    found, there = room(tmp_path / "not" / "yet"), room(tmp_path)
    assert found is not None
    assert there is not None
    assert found.total == there.total
    assert 0 <= found.share <= 1
    assert not found.read_only


def test_memory_is_what_programs_can_still_have(tmp_path: Path) -> None:
    assert memory(tmp_path) is None
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text(
        "MemTotal:  8000 kB\nMemFree: 10 kB\nMemAvailable: 2000 kB\nHugePages_Total: 0\n"
    )
    found = memory(tmp_path)
    assert found is not None
    assert (found.free, found.share) == (2000 * 1024, 0.25)


@pytest.mark.parametrize(
    ("life", "reserve", "used"),
    [("0x01 0x03", "0x01", 30), ("0x0b 0x01", "0x01", 100), ("0x01 0x01", "0x03", 100), ("0x00 0x00", "0x00", None)],
)
def test_wear_is_the_worse_of_both_kinds_of_cells(tmp_path: Path, life: str, reserve: str, used: int | None) -> None:
    device = tmp_path / "sys" / "block" / "mmcblk0" / "device"
    device.mkdir(parents=True)
    (device / "life_time").write_text(f"{life}\n")
    (device / "pre_eol_info").write_text(f"{reserve}\n")
    assert wear(tmp_path).get("mmcblk0") == used


def test_a_disk_that_tells_nothing_has_no_wear(tmp_path: Path) -> None:
    (tmp_path / "sys" / "block" / "mmcblk0" / "device").mkdir(parents=True)
    assert wear(tmp_path) == {}
