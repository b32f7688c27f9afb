from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from agent.durable import replace_file, replace_link, sync_tree


def test_a_file_is_replaced_whole_and_has_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    replace_file(path, b"old")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    replace_file(path, b"new", 0o644)
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"new", 0o644)
    assert [file.name for file in tmp_path.iterdir()] == ["kept"]


def test_what_was_there_stays_where_the_new_one_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "kept"
    replace_file(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["kept"]


def test_a_link_left_in_the_way_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"theirs")
    (tmp_path / "kept.part").symlink_to(tmp_path / "other")
    replace_file(tmp_path / "kept", b"ours")
    assert (tmp_path / "other").read_bytes() == b"theirs"


def test_a_link_is_replaced_whole(tmp_path: Path) -> None:
    link = tmp_path / "current"
    replace_link(link, "releases/1")
    (tmp_path / "current.part").symlink_to("what a power cut left")
    replace_link(link, "releases/2")
    assert str(link.readlink()) == "releases/2"
    assert [file.name for file in tmp_path.iterdir()] == ["current"]


def test_a_tree_can_be_made_safe_and_one_that_is_not_there_cannot(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "file").write_bytes(b"content")
    sync_tree(tmp_path)
    with pytest.raises(FileNotFoundError):
        sync_tree(tmp_path / "gone")
