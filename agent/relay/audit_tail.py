"""What is added to the audit log, as it comes: by a reader beside the agent, who changes nothing."""

from __future__ import annotations

import datetime as dt
import json
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.relay.audit import Entry
from agent.relay.audit_read import AuditError, database_head, entries_after, open_database

#: Events whose delivery is waited for; of more than these the oldest is forgotten.
_REMEMBERED = 1000


@dataclass(frozen=True, slots=True)
class Added:
    """An entry that is new.

    Attributes:
        entry: The entry.
        released: For the delivery of an event, what it is about; None for every other entry, and where the event is
            older than the tail.
        after_s: For such a delivery, how long it took since the event was released, seconds.
    """

    entry: Entry
    released: dict[str, Any] | None = None
    after_s: float | None = None


class Tail:
    """Follows one log; a log that begins anew is followed from its first entry."""

    def __init__(self, path: Path, past: int = 0) -> None:
        """Begin at the end.

        Args:
            path: The journal's database.
            past: So many of the last entries are given first.

        Raises:
            AuditError: it cannot be read.
        """
        self._path = path
        with open_database(path) as database:
            head = database_head(database)
        self._log, self._end = head.log, max(0, head.size - past)
        self._waiting: OrderedDict[str, tuple[str, dict[str, Any]]] = OrderedDict()

    def new(self) -> list[Added]:
        """What was added since the last call.

        Raises:
            AuditError: it cannot be read any more.
        """
        with open_database(self._path) as database:
            log = database_head(database).log
            if log != self._log:
                self._log, self._end = log, 0
            entries = entries_after(database, self._end)
        if entries:
            self._end = entries[-1].seq
        return [self._follow(entry) for entry in entries]

    def _follow(self, entry: Entry) -> Added:
        if entry.event is None:
            return Added(entry)
        if entry.kind in {"released", "salvaged"}:
            self._waiting[entry.event] = entry.at, _body(entry)
            if len(self._waiting) > _REMEMBERED:
                self._waiting.popitem(last=False)
        elif entry.kind == "acknowledged" and entry.event in self._waiting:
            at, body = self._waiting.pop(entry.event)
            return Added(entry, body, (_moment(entry.at) - _moment(at)).total_seconds())
        return Added(entry)


def _body(entry: Entry) -> dict[str, Any]:
    try:
        body = json.loads(entry.body or "")
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise AuditError(f"entry {entry.seq} is no event: it was changed")
    return body


def _moment(at: str) -> dt.datetime:
    try:
        return dt.datetime.strptime(at, "%Y-%m-%dT%H:%M:%S.%f%z")
    except ValueError:
        raise AuditError(f"{at!r} is no time of an audit log: it was changed") from None
