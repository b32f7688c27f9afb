from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.device.machine import boot_id, load, temperature_c


def test_the_hottest_zone_counts_and_one_that_is_off_does_not(tmp_path: Path) -> None:
    for number, text in enumerate(["51500", "-256000", "not now", "88250"]):
        zone = tmp_path / "sys" / "class" / "thermal" / f"thermal_zone{number}"
        zone.mkdir(parents=True)
        (zone / "temp").write_text(f"{text}\n")
    assert temperature_c(tmp_path) == 88.25


def test_load_is_a_share_of_all_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "loadavg").write_text("9.00 3.00 1.00 2/345 6789\n")
    assert load(tmp_path) == 0.5


def test_what_cannot_be_read_is_unknown(tmp_path: Path) -> None:
    assert temperature_c(tmp_path) is None
    assert load(tmp_path) is None


def test_load_is_known_where_proc_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = load()
    monkeypatch.setattr(Path, "read_text", lambda *_: "")
    hidden = load()
    assert seen is not None
    assert hidden == pytest.approx(seen, abs=0.1)


def test_a_start_of_the_machine_has_an_id_from_the_kernel_or_else_from_the_unit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MACHINE_BOOT", raising=False)
    assert boot_id(tmp_path) is None
    monkeypatch.setenv("MACHINE_BOOT", "0f" * 16)
    assert boot_id(tmp_path) == "0f" * 16
    folder = tmp_path / "proc" / "sys" / "kernel" / "random"
    folder.mkdir(parents=True)
    (folder / "boot_id").write_text("12345678-1234-1234-1234-123456789abc\n")
    assert boot_id(tmp_path) == "12345678123412341234123456789abc"
