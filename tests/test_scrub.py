"""Nothing passes into a support file that is not of our own source, the configuration's names, or a short number."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.scrub import MASK, scrub, vocabulary

WORDS = vocabulary(names=["quay", "cam-07"])


@pytest.mark.parametrize(
    "line",
    [
        "2026-11-28 00:48:04,017 INFO agent.capture.sensor sensor=camera:quay event=live reason=''",
        "2026-11-28 00:48:06,557 INFO agent.sense event=stopped frames=22 frames_per_s=4.5 camera_drops=0 seconds=4.9",
        "INFO agent.relay.process event=ready boot=7fcee015 outbox=0",
        "child=sense event=died code=2 restart_in_s=0.5",
    ],
)
def test_what_we_wrote_ourselves_passes(line: str) -> None:
    assert scrub(line, WORDS) == line


@pytest.mark.parametrize(
    "secret",
    [
        "Marguerite Dupont",
        "m.dupont@ville-exemple.fr",
        "rtsp://***@10.20.30.40:554/Streaming",
        "10.20.30.40",
        "/home/dupont/vigie.toml",
        "+33612345678",
        "0612345678",
        "b4n4n4Xq9",
        "AA:BB:CC:11:22:33",
    ],
)
def test_what_somebody_put_there_is_masked(secret: str) -> None:
    line = scrub(
        f"2026-11-28 00:48:04,017 WARNING agent.sense event=lost reason='cannot connect to {secret}: no route'", WORDS
    )
    assert MASK in line
    assert "cannot connect" in line
    assert all(part not in line for part in secret.split())


@given(st.lists(st.text(string.ascii_letters + string.digits + ".:/@-_=+'\"", min_size=1), max_size=12))
def test_no_word_passes_that_is_not_known(words: list[str]) -> None:
    unknown = {w for w in scrub(" ".join(words), frozenset()).replace("=", " ").split() if any(c.isalpha() for c in w)}
    for word in unknown:
        core = word.strip(".,:;!?'\"()[]<>+-")
        digits = core.rstrip(string.ascii_letters)
        is_number = bool(digits) and digits[-1].isdigit() and len(core) - len(digits) <= 3
        is_boot = set(core) <= set(string.hexdigits.lower() + "-")
        assert is_number or is_boot, word


@given(st.text())
def test_no_line_breaks_it(line: str) -> None:
    scrub(line, WORDS)
