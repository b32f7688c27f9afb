"""A keeper: it remembers what a broker should, where the broker forgets, and says it again.

RabbitMQ keeps a retained message on the one node where it was published: a device that connects to another node, or
after that node is lost, does not get its `config/desired`, and a subscription with a wildcard gets nothing that was
retained, so that nobody can list the fleet. The keeper stands on the manager's side, writes down the last of each
retained topic that a listing needs, and

* sends `config/desired` again to a device that has just told its birth, which relay does on each connection, and all of
  them when the keeper itself connects;
* lets `vigie fleet kept` list the fleet from its file.

What it sends again is what a manager has signed: it has no key, and the device judges signature and version as always.
What is published while the keeper is away it learns at the next birth, not before.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from agent.command import DESIRED_MAX_SIZE, Desired, Reported
from agent.contract import Birth, ContractError, Status
from agent.fleet.bridges.bridge import MAX_DEVICES, Publication
from agent.fleet.said import MAX_SIZE, ROOT, Device, device_of

_DESIRED = "config/desired"
_MODELS: dict[str, type[Status | Birth | Reported | Desired]] = {
    "status": Status,
    "birth": Birth,
    "config/reported": Reported,
    _DESIRED: Desired,
}
_SCHEMA = """
CREATE TABLE IF NOT EXISTS kept (
    site TEXT NOT NULL,
    device TEXT NOT NULL,
    below TEXT NOT NULL,
    payload BLOB NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (site, device, below)
) WITHOUT ROWID;
"""


class KeepError(ValueError):
    """The file cannot be used; the text says why."""


class Keeper:
    """The keeper, as a bridge that a broker's thread feeds."""

    def __init__(self, file: Path, sites: Iterable[str] = (), now: Callable[[], float] = time.time) -> None:
        """Open its file.

        Args:
            file: SQLite; made when there is none.
            sites: Sites to keep; none: all.
            now: Seconds since 1970.

        Raises:
            KeepError: it cannot be opened.
        """
        self.filters = tuple(f"{ROOT}/{site}/+/{below}" for site in (*sites,) or ("+",) for below in _MODELS)
        self.refused: Counter[str] = Counter()
        self.will: Publication | None = None
        self._now = now
        self._lock = threading.Lock()
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
            self._file.executescript(_SCHEMA)
            self._file.execute("PRAGMA journal_mode=WAL")
            rows = self._file.execute("SELECT site, device, below, payload FROM kept").fetchall()
        except (OSError, sqlite3.Error) as error:
            raise KeepError(f"{file}: cannot be used: {error}") from error
        self._kept: dict[tuple[Device, str], bytes] = {(Device(r[0], r[1]), r[2]): bytes(r[3]) for r in rows}

    def connected(self) -> list[Publication]:
        """Every desired configuration: the node that had them may be the one that was lost."""
        with self._lock:
            return [_again(device, payload) for (device, below), payload in self._kept.items() if below == _DESIRED]

    def take(self, topic: str, payload: bytes, *, retained: bool) -> list[Publication]:
        """Remember a message; upon a birth, say what is desired of the device."""
        with self._lock:
            try:
                device, below = self._remember(topic, payload)
            except ContractError as error:
                self.refused[str(error)] += 1
                return []
            desired = self._kept.get((device, _DESIRED))
        return [_again(device, desired)] if below == "birth" and not retained and desired else []

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._file.close()

    def _remember(self, topic: str, payload: bytes) -> tuple[Device, str]:
        levels = topic.split("/")
        below = "/".join(levels[4:])
        if levels[:2] != ROOT.split("/") or below not in _MODELS:
            raise ContractError("no topic that is kept")
        device = device_of(levels[2], levels[3])
        key = (device, below)
        if not payload:
            self._kept.pop(key, None)
            self._file.execute("DELETE FROM kept WHERE site = ? AND device = ? AND below = ?", (*device, below))
            return key
        self._check(key, payload)
        if self._kept.get(key) != payload:
            self._kept[key] = payload
            row = (*device, below, payload, self._now())
            self._file.execute("INSERT OR REPLACE INTO kept VALUES (?, ?, ?, ?, ?)", row)
        return key

    def _check(self, key: tuple[Device, str], payload: bytes) -> None:
        device, below = key
        if len(payload) > (DESIRED_MAX_SIZE if below == _DESIRED else MAX_SIZE):
            raise ContractError("too large")
        if key not in self._kept and len(self._kept) >= MAX_DEVICES * len(_MODELS):
            raise ContractError("too many devices")
        try:
            document = _MODELS[below].model_validate_json(payload)
        except ValidationError:
            raise ContractError(f"no {below} message") from None
        if isinstance(document, Desired):
            if document.target != f"{device.site}/{device.name}":
                raise ContractError("a desired configuration of another device")
            before = self._kept.get(key)
            if before is not None and Desired.model_validate_json(before).version > document.version:
                raise ContractError("an older desired configuration")


def _again(device: Device, desired: bytes) -> Publication:
    return Publication(f"{ROOT}/{device.site}/{device.name}/{_DESIRED}", desired, retain=True)


def listing(file: Path) -> list[dict[str, Any]]:
    """The fleet as the keeper knows it, a row for each device.

    Raises:
        KeepError: there is no such file.
    """
    with _reading(file) as connection:
        rows = connection.execute("SELECT site, device, below, payload, at FROM kept").fetchall()
    found: dict[Device, dict[str, Any]] = {}
    for site, name, below, payload, at in rows:
        row = found.setdefault(
            Device(site, name),
            {"site": site, "device": name, "state": "unknown", "agent": None, "desired": None, "in_force": None},
        )
        document = _MODELS[below].model_validate_json(payload)
        if isinstance(document, Status):
            row |= {"state": document.state, "state_at": at}
        elif isinstance(document, Birth):
            row["agent"] = document.agent
        elif isinstance(document, Reported):
            row["in_force"] = document.in_force
        else:
            row["desired"] = document.version
    return [row for _, row in sorted(found.items())]


@contextmanager
def _reading(file: Path) -> Iterator[sqlite3.Connection]:
    try:
        connection = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)
    except sqlite3.Error as error:
        raise KeepError(f"{file}: cannot be read: {error}; does vigie fleet keep run?") from error
    try:
        yield connection
    except sqlite3.Error as error:
        raise KeepError(f"{file}: cannot be read: {error}") from error
    finally:
        connection.close()
