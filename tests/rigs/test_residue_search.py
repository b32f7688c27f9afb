"""The search for residue finds what is planted, and nothing where nothing is."""

from __future__ import annotations

import base64
import json
import os
import sqlite3
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from residue import WORD, chipped, found_in, found_in_database, marked, texts

EVENT = {
    "specversion": "1.0",
    "id": "5f3a9c01-000123",
    "source": "/vigie/old-port/cam-07",
    "type": "vigie.crowd.gathering.v1",
    "time": "2026-11-23T10:15:00Z",
    "data": {"episode": "9b1e", "phase": "started", "count": "20-49", "basis": "FR-2026-04/3"},
    "digest": "4f5df6e7a7561789ac40aae45d725c40250f8cb61b37d3809d018b411e513f07",
}


@pytest.fixture(scope="module")
def frame() -> NDArray[np.uint8]:
    """A noisy grey picture, (576, 768, 3) uint8, with the bars over its top."""
    noise = np.random.default_rng(1).integers(90, 160, (576, 768, 3), dtype=np.uint8)
    return marked(noise)


def png(frame: NDArray[np.uint8]) -> bytes:
    return bytes(cv2.imencode(".png", frame[:80])[1])


def jpeg(frame: NDArray[np.uint8]) -> bytes:
    return bytes(cv2.imencode(".jpg", frame[:80])[1])


def letterboxed(frame: NDArray[np.uint8]) -> bytes:
    small = cv2.resize(frame, (416, 312), interpolation=cv2.INTER_LINEAR)
    planes: NDArray[np.float32] = small[:20].transpose(2, 0, 1).astype(np.float32) / 255
    return planes.tobytes()


def wav(_: NDArray[np.uint8]) -> bytes:
    out = BytesIO()
    soundfile.write(out, chipped(4000), 16_000, format="WAV")
    return out.getvalue()


LEAKS: dict[str, tuple[Callable[[NDArray[np.uint8]], bytes], str]] = {
    "a PNG": (png, "PNG"),
    "a JPEG": (jpeg, "JPEG"),
    "a JPEG in base64": (lambda f: base64.b64encode(jpeg(f)), "base64"),
    "pixels as they are": (lambda f: f[10].tobytes(), "bars"),
    "pixels in one channel, halved": (lambda f: cv2.resize(f, (384, 288))[4, :, 1].tobytes(), "bars"),
    "pixels as a network wants them": (letterboxed, "bars"),
    "pixels in hexadecimal": (lambda f: f[10].tobytes().hex().encode(), "hexadecimal"),
    "a WAV": (wav, "WAV"),
    "samples of 16 bits": (lambda _: (chipped(2000) * 32767).astype("<i2").tobytes(), "chips"),
    "samples as floats": (lambda _: chipped(2000).tobytes(), "chips"),
    "the word": (lambda _: f"title={WORD}".encode(), "word"),
    "the word in base64": (lambda _: base64.b64encode(f"xy title {WORD} and more".encode()), "word"),
    "something encrypted": (lambda _: os.urandom(4096), "random"),
}


@pytest.mark.parametrize("leak", LEAKS)
@pytest.mark.parametrize("before", [0, 1, 4099])
def test_what_is_planted_is_found(leak: str, before: int, frame: NDArray[np.uint8]) -> None:
    plant, clue = LEAKS[leak]
    around = (json.dumps(EVENT) * 40).encode()
    content = around[:before] + b"\n" + plant(frame) + b"\n" + around
    assert any(clue in what for what in found_in(content)), found_in(content)


def test_nothing_is_found_in_what_the_agent_says() -> None:
    log = b"2026-11-27 18:32:05,297 INFO agent.relay.process event=connected mqtt=5\n" * 200
    assert found_in(log) == []
    assert found_in((json.dumps(EVENT) + "\n").encode() * 200) == []
    assert found_in(b"\0" * 70_000) == []
    assert found_in(b"") == []
    assert texts(json.dumps(EVENT).encode()) == []


def test_a_payload_that_hides_something_in_a_text_is_odd() -> None:
    hidden = base64.b64encode(os.urandom(48)).decode()
    assert texts(json.dumps({**EVENT, "subject": hidden}).encode()) == ["an odd text at .subject"]
    assert texts(b"\xff\xd8") == ["a payload that is no JSON"]


def test_a_database_is_searched_field_by_field(tmp_path: Path, frame: NDArray[np.uint8]) -> None:
    path = tmp_path / "journal.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE audit (seq INTEGER PRIMARY KEY, hash BLOB, payload TEXT)")
        rows = [(os.urandom(32), json.dumps(EVENT)) for _ in range(500)]
        database.executemany("INSERT INTO audit (hash, payload) VALUES (?, ?)", rows)
    database.close()
    assert found_in_database(path) == []
    with sqlite3.connect(path) as database:
        database.execute("INSERT INTO audit (hash) VALUES (?)", (jpeg(frame),))
    database.close()
    assert any("JPEG" in what for what in found_in_database(path))
