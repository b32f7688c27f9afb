"""Prometheus: how the fleet is, in the text exposition format, on an HTTP port of this machine.

The number of series is bounded by the number of devices: labels are a site, a device, a closed set of words or an event
type, never a zone, an event or a text. What a message refers to is never a label.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format (0.0.4).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from agent.contract import Birth, ContractError, Event, Health, Notice, Status
from agent.fleet.bridges.bridge import MAX_DEVICES, Publication
from agent.fleet.said import ROOT, Device, Said, label_of, read
from agent.fleet.sequence import Sequence
from agent.fleet.verdicts import KEEP_DAYS, Tally

#: Events that wait to be kept for verdicts, at most; the oldest are not kept.
_MAX_WAITING = 10_000
_DAY_S = 86_400


@dataclass(slots=True)
class _Seen:
    """What is known of one device."""

    status: Status | None = None
    birth: Birth | None = None
    health: Health | None = None
    health_at: float = 0.0
    retention: dict[str, int] = field(default_factory=dict)
    sequence: Sequence = field(default_factory=Sequence)


_Sample = tuple[dict[str, str], float]


class Prometheus:
    """The bridge to Prometheus. The broker's thread takes messages in, those of HTTP ask for the text."""

    def __init__(
        self,
        *,
        sites: Iterable[str] = (),
        tallies: Callable[[], Iterable[Tally]] = lambda: (),
        now: Callable[[], float] = time.time,
    ) -> None:
        """A bridge that knows no device.

        Args:
            sites: Sites to measure; none: all.
            tallies: The verdicts so far.
            now: Seconds since 1970.
        """
        self._tallies = tallies
        self._now = now
        self._lock = threading.Lock()
        self._devices: dict[Device, _Seen] = {}
        self._events: Counter[tuple[str, str]] = Counter()
        self._repeated: Counter[str] = Counter()
        self._kept: deque[tuple[Event, float]] = deque(maxlen=_MAX_WAITING)
        self.refused: Counter[str] = Counter()
        """Messages that were not taken, by reason."""
        below = ("status", "birth", "health", "notice", "event/#")
        self.filters = tuple(f"{ROOT}/{site}/+/{level}" for site in (*sites,) or ("+",) for level in below)
        self.will: Publication | None = None

    def connected(self) -> list[Publication]:
        """Nothing: this bridge only listens."""
        return []

    def take(self, topic: str, payload: bytes, *, retained: bool) -> list[Publication]:
        """Count a message."""
        del retained
        with self._lock:
            try:
                said = read(topic, payload)
                if said is not None:
                    self._hear(said)
            except ContractError as error:
                self.refused[str(error)] += 1
        return []

    def kept(self) -> list[tuple[Event, float]]:
        """New events since the last call, each with the moment until which it may be kept, seconds since 1970."""
        with self._lock:
            found = [(event, at + self._days(event) * _DAY_S) for event, at in self._kept]
            self._kept.clear()
        return found

    def _days(self, event: Event) -> int:
        # Asked late: at the beginning, events come before the notice that says for how long they may be kept.
        _, _, site, name = event.source.split("/")
        seen = self._devices.get(Device(site, name))
        return min(KEEP_DAYS, seen.retention.get(label_of(event), KEEP_DAYS) if seen else KEEP_DAYS)

    def _hear(self, said: Said) -> None:
        device, document = said.device, said.document
        if document is None:
            if said.kind == "birth":
                self._devices.pop(device, None)
            return
        if device not in self._devices and len(self._devices) >= MAX_DEVICES:
            raise ContractError("too many devices")
        seen = self._devices.setdefault(device, _Seen())
        if isinstance(document, Status):
            seen.status = document
        elif isinstance(document, Birth):
            seen.birth = document
        elif isinstance(document, Health):
            seen.health, seen.health_at = document, self._now()
        elif isinstance(document, Notice):
            seen.retention = _retention(document)
        elif isinstance(document, Event):
            if seen.sequence.follow(document.id):
                self._events[device.site, label_of(document)] += 1
                self._kept.append((document, self._now()))
            else:
                self._repeated[device.site] += 1

    def text(self, *, connected: bool) -> str:
        """All metrics.

        Args:
            connected: Whether the broker is there.
        """
        tallies = list(self._tallies())
        with self._lock:
            families = [*self._families(connected), _verdicts(tallies)]
        return "".join(line for family in families for line in family)

    def _families(self, connected: bool) -> Iterator[Iterator[str]]:
        devices = {(("site", d.site), ("device", d.name)): seen for d, seen in self._devices.items()}
        statuses = [(dict(d), s.status) for d, s in devices.items() if s.status]
        healths = [(dict(d), s.health, s.health_at) for d, s in devices.items() if s.health]
        yield _family("vigie_bridge_connected", "gauge", "Whether the broker is there.", [({}, float(connected))])
        yield _family("vigie_devices", "gauge", "Devices that are known.", [({}, len(devices))])
        yield _family(
            "vigie_up",
            "gauge",
            "Whether the device is connected to the broker.",
            [(d, float(not s.is_gone)) for d, s in statuses if s.state != "decommissioned"],
        )
        yield _family(
            "vigie_status", "gauge", "1 at the state of the device.", [(d | {"state": s.state}, 1) for d, s in statuses]
        )
        yield _family(
            "vigie_status_reason",
            "gauge",
            "1 at each reason of the state.",
            [(d | {"reason": reason}, 1) for d, s in statuses for reason in dict.fromkeys(s.reasons)],
        )
        yield _family(
            "vigie_birth_info",
            "gauge",
            "What runs on the device.",
            [
                (dict(d) | {"agent": s.birth.agent, "contract": str(s.birth.contract)}, 1)
                for d, s in devices.items()
                if s.birth
            ],
        )
        yield _family(
            "vigie_health_class",
            "gauge",
            "1 at the class that a part of the device is in.",
            [(d | {"part": part, "class": word}, 1) for d, h, _ in healths for part, word in _parts(h, str)],
        )
        yield _family(
            "vigie_health_value",
            "gauge",
            "What the device tells as a number.",
            [(d | {"part": part}, number) for d, h, _ in healths for part, number in _parts(h, int, float)],
        )
        yield _family(
            "vigie_health_received_timestamp_seconds",
            "gauge",
            "When the latest health message came; its age is time() less this.",
            [(d, at) for d, _, at in healths],
        )
        yield _family(
            "vigie_events_total",
            "counter",
            "Events, each counted once.",
            [({"site": site, "type": label}, n) for (site, label), n in self._events.items()],
        )
        yield _family(
            "vigie_repeated_events_total",
            "counter",
            "Events that came again, as QoS 1 allows.",
            [({"site": site}, n) for site, n in self._repeated.items()],
        )
        yield _family(
            "vigie_events_missing",
            "gauge",
            "Running numbers of events that were left out: evicted, refused by the broker, or lost.",
            [(dict(d), s.sequence.missing) for d, s in devices.items()],
        )
        yield _family(
            "vigie_refused_messages_total",
            "counter",
            "Messages that do not keep the contract.",
            [({"reason": reason}, n) for reason, n in self.refused.items()],
        )


def _verdicts(tallies: list[Tally]) -> Iterator[str]:
    samples: list[_Sample] = []
    for tally in tallies:
        place = {"site": tally.site, "type": tally.type}
        samples += [
            (place | {"verdict": "true"}, tally.true_alarms),
            (place | {"verdict": "false"}, tally.false_alarms),
        ]
    return _family("vigie_verdicts", "gauge", "What operators said of events (vigie fleet verdict).", samples)


def _parts(health: Health, *kinds: type) -> Iterator[tuple[str, Any]]:
    """The fields of a health message that are of these kinds, those of a list by their place in it."""
    for name, value in health.model_dump(exclude={"time"}, exclude_none=True).items():
        many = {f"{name}_{i}": item for i, item in enumerate(value)} if isinstance(value, tuple) else {name: value}
        yield from ((part, item) for part, item in many.items() if isinstance(item, kinds))


def _family(name: str, kind: str, about: str, samples: Iterable[_Sample]) -> Iterator[str]:
    """One metric as text."""
    yield f"# HELP {name} {about}\n# TYPE {name} {kind}\n"
    for labels, value in samples:
        inner = ",".join(f'{key}="{_escaped(word)}"' for key, word in labels.items())
        yield f"{name}{{{inner}}} {value:.16g}\n" if inner else f"{name} {value:.16g}\n"


def _escaped(word: str) -> str:
    return word.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _retention(notice: Notice) -> dict[str, int]:
    """For how many days the events of each type may be kept: the least that a permission of it says."""
    found: dict[str, int] = {}
    for detector in notice.detectors:
        label = label_of(detector)
        found[label] = min(found.get(label, detector.retention_days), detector.retention_days)
    return found


@contextlib.contextmanager
def exporting(host: str, port: int, text: Callable[[], str]) -> Iterator[int]:
    """Serve `/metrics`, and nothing else, for as long as the context lasts; the port.

    Args:
        host: Address to listen at.
        port: Port, 0 for one that is free.
        text: All metrics.

    Raises:
        OSError: the address or the port cannot be had.
    """
    server = _Server((host, port), _Handler)
    server.text = text
    thread = threading.Thread(target=server.serve_forever, name="http", daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    """A server that knows where the metrics come from."""

    daemon_threads = True
    text: Callable[[], str]


class _Handler(BaseHTTPRequestHandler):
    """Answers GET /metrics."""

    timeout = 10
    server: _Server

    def do_GET(self) -> None:
        """Give the metrics."""
        if self.path.partition("?")[0] != "/metrics":
            self.send_error(404)
            return
        body = self.server.text().encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - named by the base class
        """Say nothing: every scrape would be a line."""
