"""Relay's ear for the technician's view: everything is recorded before it is answered, whatever ends it."""

from __future__ import annotations

import json
import selectors
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import pipe
from agent.relay.journal import JournalFullError
from agent.relay.word import Aiming
from agent.word import MAX_WORD, Answer, Begin, Look, Save, WordError, parse_word, word_socket


class Bench:
    """An ear, and what it has recorded."""

    def __init__(self, folder: Path) -> None:
        self.recorded: list[dict[str, object]] = []
        self.full = False
        self.forbidden: str | None = None
        self.selector = selectors.DefaultSelector()
        self.path = folder / "word.sock"
        self.ear = Aiming(self.path, self.selector, self._record, lambda: self.forbidden)

    def _record(self, body: str) -> None:
        if self.full:
            raise JournalFullError("full")
        self.recorded.append(json.loads(body))

    def turn(self) -> None:
        for key, _ in self.selector.select(1):
            key.data()

    def say(self, view: socket.socket, packet: bytes) -> Answer:
        view.send(packet)
        self.turn()
        return Answer.model_validate_json(view.recv(MAX_WORD))

    def connect(self) -> socket.socket:
        view = pipe.connect(self.path)
        view.settimeout(5)
        self.turn()
        return view

    @property
    def states(self) -> list[object]:
        return [entry["state"] for entry in self.recorded]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.ear.close()
    made.selector.close()


BEGIN = Begin(minutes=10).model_dump_json().encode()


def test_begin_looks_saves_and_the_end_are_recorded(bench: Bench) -> None:
    with bench.connect() as view:
        assert bench.say(view, BEGIN).answer == "recorded"
        assert bench.say(view, Look(uid=0).model_dump_json().encode()).answer == "recorded"
        assert bench.say(view, Save(uid=4_000_000_000).model_dump_json().encode()).answer == "recorded"
    bench.turn()
    assert bench.states == ["begin", "look", "save", "end"]
    assert bench.recorded[1]["by"] == "root"
    assert bench.recorded[2]["by"] == "user 4000000000"
    assert (bench.ear.active, bench.ear.saved) == (False, True)


def test_nothing_is_looked_at_while_the_shutter_is_closed(bench: Bench) -> None:
    bench.forbidden = "the privacy shutter is closed"
    with bench.connect() as view:
        assert bench.say(view, BEGIN) == Answer(answer="refused", reason="the privacy shutter is closed")
    assert bench.recorded == []
    assert not bench.ear.active


def test_without_a_record_there_is_no_view(bench: Bench) -> None:
    bench.full = True
    with bench.connect() as view:
        assert bench.say(view, BEGIN).answer == "refused"
    assert not bench.ear.active


def test_an_end_that_finds_the_disk_full_is_recorded_later(bench: Bench) -> None:
    with bench.connect() as view:
        bench.say(view, BEGIN)
        bench.full = True
    bench.turn()
    assert bench.ear.active
    bench.full = False
    bench.ear.settle()
    assert bench.states == ["begin", "end"]


def test_relay_ends_a_view_by_hanging_up(bench: Bench) -> None:
    with bench.connect() as view:
        bench.say(view, BEGIN)
        bench.ear.end()
        assert view.recv(MAX_WORD) == b""
    assert bench.states == ["begin", "end"]


def test_there_is_one_view_at_a_time(bench: Bench) -> None:
    with bench.connect() as view, bench.connect() as second:
        assert Answer.model_validate_json(second.recv(MAX_WORD)).reason == "another view is open"
        assert bench.say(view, BEGIN).answer == "recorded"
        assert bench.say(view, BEGIN).answer == "refused"
    bench.turn()


@pytest.mark.parametrize("packet", [b"{}", b"\xff", b'{"word":"begin","minutes":11}', b'{"word":"look"}', b"[]" * 200])
def test_what_is_no_word_is_refused_and_not_recorded(bench: Bench, packet: bytes) -> None:
    with bench.connect() as view:
        assert bench.say(view, packet).answer == "refused"
    bench.turn()
    assert bench.recorded == []


@given(st.binary(max_size=MAX_WORD))
def test_any_packet_is_a_word_or_refused(packet: bytes) -> None:
    try:
        word = parse_word(packet)
    except WordError:
        return
    assert parse_word(word.model_dump_json().encode()) == word


def test_it_stands_beside_the_status_socket() -> None:
    assert word_socket(Path("/run/vigie/status.sock")) == Path("/run/vigie/word.sock")
