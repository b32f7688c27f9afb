"""Whether the clock is set, by what chronyd and systemd-timesyncd say of it."""

from __future__ import annotations

import datetime as dt
import math
import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.device import clock
from agent.device.clock import Clock, Reading, parse_tracking

WALL = 1_795_000_000.0
NOON = dt.datetime(2026, 11, 23, 12, 0, tzinfo=dt.timezone.utc)
LONG_AGO = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
SET, UNSET, SILENT = Reading("chrony", synced=True, error_s=0.002), Reading("chrony", False), Reading("none", False)


def number(value: float) -> int:
    """A number as chrony writes it: value = coefficient * 2 ** (exponent - 25)."""
    if value == 0:
        return 0
    mantissa, exponent = math.frexp(value)
    return (exponent + 1) % 128 << 25 | round(mantissa * 2**24) % 2**25


def reply(
    sequence: int,
    *,
    reference: int = 0xC0000201,
    address: bytes = bytes([192, 0, 2, 1]),
    family: int = 1,
    stratum: int = 3,
    leap: int = 0,
    heard: float = WALL - 8,
    offset: float = 0.0,
    delay: float = 0.0,
    dispersion: float = 0.0,
    status: int = 0,
) -> bytes:
    """What chronyd answers to `tracking`, by its candm.h."""
    head = struct.pack("!BBHHHH6xI8x", 6, 2, 0, 33, 5, status, sequence)
    where = struct.pack("!I16sH2xHH", reference, address, family, stratum, leap)
    moment = struct.pack("!III", 0x7FFFFFFF, int(heard), int(heard % 1 * 1e9))
    floats = (offset, 0, 0, 0, 0, 0, delay, dispersion, 16)
    return head + where + moment + struct.pack("!9I", *map(number, floats)) + bytes(4)


def test_the_bound_is_offset_and_dispersion_and_half_the_delay() -> None:
    found = parse_tracking(reply(7, offset=-0.0005, delay=0.004, dispersion=0.001), 7, WALL)
    assert found is not None
    assert (found.source, found.synced, found.reference) == ("chrony", True, "192.0.2.1")
    assert found.offset_s == pytest.approx(-0.0005)
    assert found.error_s == pytest.approx(0.0035)
    assert found.age_s == pytest.approx(8)


def test_a_reference_has_a_name_or_an_address() -> None:
    six = parse_tracking(reply(1, address=bytes.fromhex("20010db8" + 12 * "00"), family=2), 1, WALL)
    pps = parse_tracking(reply(1, reference=0x50505300, family=0), 1, WALL)
    odd = parse_tracking(reply(1, reference=0x00FFFE01, family=0), 1, WALL)
    assert [found and found.reference for found in (six, pps, odd)] == ["2001:db8::", "PPS", "00FFFE01"]


@pytest.mark.parametrize(
    "said",
    [
        {"leap": 3},
        {"reference": 0},
        {"stratum": 0},
        {"reference": 0x7F7F0101, "stratum": 8},
        {"offset": 400_000_000.0},
    ],
    ids=["unsynchronised", "no reference", "no stratum", "its own clock", "still far off"],
)
def test_a_clock_that_follows_nothing_or_is_far_off_is_not_set(said: dict[str, float]) -> None:
    found = parse_tracking(reply(1, **said), 1, WALL)  # type: ignore[arg-type]
    assert found is not None
    assert not found.synced


@given(st.floats(-1e9, 1e9).filter(lambda x: x == 0 or abs(x) > 1e-9))
def test_numbers_keep_seven_digits(value: float) -> None:
    found = parse_tracking(reply(1, offset=value), 1, WALL)
    assert found is not None
    assert found.offset_s == pytest.approx(value, rel=1e-6)


@given(st.binary(max_size=200))
def test_whatever_comes_is_a_reading_or_nothing(content: bytes) -> None:
    assert parse_tracking(content, 1, WALL) is None


@given(st.binary(min_size=76, max_size=80))
def test_whatever_a_reply_says_is_a_reading(body: bytes) -> None:
    found = parse_tracking(reply(9)[:28] + body, 9, WALL)
    assert found is not None
    assert found.synced <= (found.offset_s is not None and abs(found.offset_s) <= 1)


def test_a_reply_to_another_question_counts_for_nothing() -> None:
    assert parse_tracking(reply(1), 2, WALL) is None
    assert parse_tracking(reply(1, status=1), 1, WALL) is None


@pytest.fixture
def chronyd() -> Iterator[int]:
    """A port on which somebody answers as chronyd does."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))

    def serve() -> None:
        request, asker = server.recvfrom(1024)
        sequence = int.from_bytes(request[8:12], "big")
        if len(request) >= len(reply(0)) - 4 and request[:2] == b"\x06\x01":
            server.sendto(reply(sequence), asker)

    thread = threading.Thread(target=serve)
    thread.start()
    yield server.getsockname()[1]
    thread.join(10)
    server.close()


def test_chronyd_is_asked_on_its_command_port(chronyd: int, tmp_path: Path) -> None:
    found = clock.read(tmp_path, chronyd)
    assert (found.source, found.synced) == ("chrony", True)


def closed_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_without_chronyd_timesyncd_is_asked_and_without_it_nobody_knows(tmp_path: Path) -> None:
    assert clock.read(tmp_path, closed_port()) == Reading("none", synced=False)
    folder = tmp_path / "run" / "systemd" / "timesync"
    folder.mkdir(parents=True)
    (folder / "synchronized").touch()
    os.utime(folder / "synchronized", (WALL, WALL))
    found = clock.read(tmp_path, closed_port())
    assert (found.source, found.synced, found.error_s) == ("timesyncd", True, None)


class Bench:
    """A clock with everything in the test's hand."""

    def __init__(self, *, strict: bool, says: Reading, wall: dt.datetime = NOON) -> None:
        self.says, self.wall, self.elapsed, self.asked = says, wall, 0.0, 0
        self.clock = Clock(strict=strict, ask=self._ask, now=lambda: self.elapsed, wall=lambda: self.wall)

    def _ask(self) -> Reading:
        self.asked += 1
        return self.says

    def after(self, seconds: float) -> bool:
        self.elapsed += seconds
        self.clock.look()
        return self.clock.synced


def test_a_clock_is_set_once_it_was_synchronised_and_stays_so() -> None:
    bench = Bench(strict=False, says=UNSET)
    assert not bench.clock.synced
    bench.says = SET
    assert not bench.after(0.5), "it is asked once a second"
    assert bench.after(0.6)
    bench.says = UNSET
    assert bench.after(60), "the second is known for long when the reference is lost"
    assert bench.clock.error_s == pytest.approx(0.002 + 60e-4, abs=1e-3), "and the fraction less and less"


def test_a_clock_that_is_set_is_asked_less_often() -> None:
    bench = Bench(strict=False, says=SET)
    for _ in range(16):
        bench.after(1.0)
    assert bench.asked == 2


def test_a_clock_that_nobody_answers_for_is_believed_where_it_could_be_right() -> None:
    assert Bench(strict=False, says=SILENT).clock.synced
    assert not Bench(strict=False, says=SILENT, wall=LONG_AGO).clock.synced
    assert not Bench(strict=True, says=SILENT).clock.synced


def test_a_clock_of_1970_is_not_set_whatever_is_said() -> None:
    bench = Bench(strict=False, says=SET, wall=LONG_AGO)
    assert not bench.clock.synced
    bench.wall = NOON
    assert bench.after(1)
