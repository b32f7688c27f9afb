"""Engines that a machine lacks: asked for, and noticed when they have come."""

from __future__ import annotations

import socket
from pathlib import Path

from agent.inference.engines import Awaited, EngineCache, EngineKey, Target

KEY = EngineKey("0" * 64, Target("10.3.0", "8.7", "36.4.3"))


def has_come(awaited: Awaited) -> bool:
    return awaited.have_come


def test_they_have_come_when_a_build_has_changed_something_and_is_over(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path / "engines")
    awaited = Awaited(cache)
    assert not has_come(awaited)
    with cache.locked():
        cache.write(KEY, b"engine", "1" * 64)
        assert not has_come(awaited), "others may follow"
    assert has_come(awaited)
    assert not has_come(Awaited(cache)), "what was there before is not news"


def test_a_build_that_fails_is_no_news(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path / "engines")
    with cache.locked():
        pass
    awaited = Awaited(cache)
    with cache.locked():
        pass
    assert not has_come(awaited)


def test_a_knock_is_an_empty_datagram(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
        door.bind(str(tmp_path / "engines.sock"))
        Awaited(EngineCache(tmp_path)).ask(tmp_path / "engines.sock")
        assert door.recv(64) == b""
