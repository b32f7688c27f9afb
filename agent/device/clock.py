"""Whether this machine's clock is set, by what, and how far off it may be.

chronyd answers that on its loopback command port (UDP 323, `cmdport`), to anybody, without a process being started: so
relay can ask from its sandbox, which forbids adjtimex(2) (`ProtectClock=`) and chronyd's Unix socket, which is root's
alone. The packets are those of the command protocol, version 6, that chrony has had since 1.27 (its `candm.h`); the
error bound is the one of its manual (chronyc(1), `tracking`): offset + root dispersion + half the root delay.

systemd-timesyncd says when it last set the clock, and not how well: the file `/run/systemd/timesync/synchronized`
(systemd-timesyncd.service(8)).
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import math
import secrets
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Source = Literal["chrony", "timesyncd", "none"]

#: A clock whose reference is lost goes wrong by less than this share of the time; a plain crystal does.
_DRIFT = 1e-4
#: No clock that was ever set is before this: a Jetson whose battery is empty starts in 1970.
BEGINNING = dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)
#: A clock that is further off is being set, and not synchronised yet: events are stamped to the second.
MOST_OFF_S = 1.0
_PORT = 323
_TIMEOUT_S = 0.1
_VERSION, _REQUEST, _REPLY, _TRACKING, _TRACKED = 6, 1, 2, 33, 5
#: Version, type, two bytes reserved, command, attempt, sequence, eight bytes of padding.
_ASK = struct.Struct("!BBHHHI8x")
#: Version, type, two bytes reserved, command, kind of reply, status, six bytes of padding, sequence, eight of padding.
_HEAD = struct.Struct("!BBHHHH6xI8x")
#: Reference id, its address (16 bytes, family, padding), stratum, leap status, time of the last update (seconds in two
#: halves, nanoseconds), and nine numbers in chrony's own floating point.
_BODY = struct.Struct("!I16sH2xHHIII9I")
_NOT_SYNCHRONISED = 3
#: Reference id of a chronyd that follows its own clock (`local`): 127.127.1.1.
_ITSELF = 0x7F7F0101
_NO_HIGH = 0x7FFFFFFF


@dataclass(frozen=True, slots=True)
class Reading:
    """What is known of the clock at one moment.

    Attributes:
        source: Who says so; `none`: nobody does.
        synced: Whether it follows a reference.
        reference: What it follows: an address, or a name such as `PPS`; None: unknown, or nothing.
        offset_s: True time less the clock's, as estimated, seconds; None: unknown.
        error_s: How far off the clock may be, seconds; None: unknown.
        age_s: Since the reference was last heard, seconds; None: unknown, or never.
    """

    source: Source
    synced: bool
    reference: str | None = None
    offset_s: float | None = None
    error_s: float | None = None
    age_s: float | None = None


def read(root: Path = Path("/"), port: int = _PORT) -> Reading:
    """What chronyd says, or else systemd-timesyncd.

    Args:
        root: Of the file system.
        port: chronyd's command port.
    """
    return chrony(port) or _timesyncd(root) or Reading("none", synced=False)


def chrony(port: int = _PORT) -> Reading | None:
    """What chronyd says; None where none answers.

    Args:
        port: Its command port.
    """
    sequence = secrets.randbits(32)
    # As long as the reply, or chronyd does not answer: nobody can be flooded with its help.
    request = _ASK.pack(_VERSION, _REQUEST, 0, _TRACKING, 0, sequence).ljust(_HEAD.size + _BODY.size, b"\0")
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
            asker.settimeout(_TIMEOUT_S)
            asker.connect(("127.0.0.1", port))
            asker.send(request)
            return parse_tracking(asker.recv(1024), sequence, time.time())
    except OSError:
        return None


def parse_tracking(reply: bytes, sequence: int, wall: float) -> Reading | None:
    """What a reply to `tracking` says; None where it is none.

    Args:
        reply: The packet.
        sequence: Number of the request.
        wall: The clock, seconds since 1970.
    """
    if len(reply) < _HEAD.size + _BODY.size:
        return None
    version, kind, _, command, form, status, echoed = _HEAD.unpack_from(reply)
    if (version, kind, command, form, status, echoed) != (_VERSION, _REPLY, _TRACKING, _TRACKED, 0, sequence):
        return None
    reference, address, family, stratum, leap, high, low, nanoseconds, *floats = _BODY.unpack_from(reply, _HEAD.size)
    offset_s, _, _, _, _, _, delay_s, dispersion_s, _ = map(_float, floats)
    follows = leap != _NOT_SYNCHRONISED and stratum > 0 and reference not in {0, _ITSELF}
    if not follows:
        return Reading("chrony", synced=False)
    heard = ((0 if high == _NO_HIGH else high) << 32) + low + nanoseconds / 1e9
    return Reading(
        "chrony",
        synced=abs(offset_s) <= MOST_OFF_S,
        reference=_address(address, family) or _name(reference),
        offset_s=offset_s,
        error_s=abs(offset_s) + abs(dispersion_s) + abs(delay_s) / 2,
        age_s=max(0.0, wall - heard),
    )


def _float(bits: int) -> float:
    """A number of chrony's: seven bits of exponent, 25 of coefficient, both in two's complement."""
    exponent, coefficient = bits >> 25, bits & 0x1FF_FFFF
    return math.ldexp(coefficient - (coefficient >> 24 << 25), exponent - (exponent >> 6 << 7) - 25)


def _address(content: bytes, family: int) -> str | None:
    if family == 1:
        return str(ipaddress.IPv4Address(content[:4]))
    return str(ipaddress.IPv6Address(content)) if family == 2 else None


def _name(reference: int) -> str:
    """A reference that has no address, such as `PPS` or `GPS`."""
    text = reference.to_bytes(4, "big").rstrip(b"\0").decode("ascii", "replace")
    return text if text.isprintable() and text.isascii() else f"{reference:08X}"


def _timesyncd(root: Path) -> Reading | None:
    try:
        set_at = (root / "run" / "systemd" / "timesync" / "synchronized").stat().st_mtime
    except OSError:
        return None
    return Reading("timesyncd", synced=True, age_s=max(0.0, time.time() - set_at))


def _utc() -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc)


class Clock:
    """The clock as relay trusts it: not set until it was once synchronised, and set from then on.

    A clock that was set goes on well enough to name the second when its reference is lost; by how much it may be off
    is told by `error_s`.
    """

    #: How often it is looked at before the first synchronisation, and afterwards, seconds.
    _EVERY_S, _LATER_S = 1.0, 16.0

    def __init__(
        self,
        *,
        strict: bool,
        ask: Callable[[], Reading] = read,
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], dt.datetime] = _utc,
    ) -> None:
        """Look at it.

        Args:
            strict: Whether a clock that nobody answers for is not set; else it is set if it could be right.
            ask: What is known of it.
            now: Monotonic time, seconds.
            wall: UTC, aware.
        """
        self._strict = strict
        self._ask = ask
        self._now = now
        self._wall = wall
        self._set = False
        self._due = -math.inf
        self._known: tuple[float, float] | None = None
        """The last error that was known, and when."""
        self.reading = Reading("none", synced=False)
        """What was known at the last look."""
        self.look()

    def look(self) -> None:
        """Ask again, where it is time to."""
        if self._now() < self._due:
            return
        self.reading = self._ask()
        if self.reading.error_s is not None:
            self._known = self.reading.error_s, self._now()
        self._set = self._set or (self.reading.synced and self._wall() > BEGINNING)
        self._due = self._now() + (self._LATER_S if self._set else self._EVERY_S)

    @property
    def synced(self) -> bool:
        """Whether the clock was set."""
        if self._set or self._strict or self.reading.source != "none":
            return self._set
        return self._wall() > BEGINNING

    @property
    def error_s(self) -> float | None:
        """How far off it may be, seconds, also when its reference is lost; None: that was never known."""
        if self._known is None:
            return None
        error_s, since = self._known
        return error_s + _DRIFT * (self._now() - since)
