"""The outbox: how much waits for the broker, since when, and what was given up."""

from __future__ import annotations

import sqlite3

from agent.device.doctor.check import Finding, Findings, Patient, fail, is_there, ok, warn
from agent.device.doctor.running import duration
from agent.relay.audit_read import AuditError, NoAuditError, open_database
from agent.relay.journal import DATABASE

#: From here on what waits is a backlog: so old, seconds, or so much of the room.
_OLD_S, _MUCH, _FULL = 3600.0, 0.5, 0.9
#: A stamp before this was made by a clock that had never been set (2020).
_TRUSTED = 1_577_836_800.0
_SEND = "see the line broker: it is sent by itself, oldest first, as soon as the broker takes it"


def examine(patient: Patient) -> Findings:
    """Depth, age and room by the journal, or else by the running agent; drops by the agent."""
    journal = patient.settings.journal
    path = journal.folder / DATABASE
    most = journal.outbox_max_mib * 2**20
    running = patient.running
    try:
        with open_database(path) as database:
            depth, size, oldest = database.execute(
                "SELECT COUNT(*), COALESCE(SUM(LENGTH(payload)), 0), MIN(at) FROM outbox"
            ).fetchone()
        age = max(0.0, patient.wall().timestamp() - oldest) if oldest is not None and oldest > _TRUSTED else 0.0
        yield _depth(depth, size / most, age)
    except (AuditError, sqlite3.Error) as error:
        if running is not None:
            yield _depth(running.outbox_events, running.outbox_bytes / most, 0.0)
        elif isinstance(error, NoAuditError) and not is_there(path):
            yield ok("", f"there is none yet in {journal.folder}")
        else:
            yield warn("", str(error), "sudo vigie doctor --only outbox")
    if running is None:
        return
    if running.held_back:
        yield fail("held back", f"{running.held_back} events are in memory alone: nothing can be written", "line disk")
    if running.evicted:
        yield warn("drops", f"{running.evicted} events were given up since the start, oldest first", _SEND)
    if running.refused_by_broker:
        what = f"{running.refused_by_broker} events were refused by the broker"
        yield fail("refused", what, "its access list does not let this device speak: see the line broker")


def _depth(depth: int, share: float, age_s: float) -> Finding:
    if not depth:
        return ok("", "empty")
    since = f", the oldest for {duration(age_s)}" if age_s else ""
    what = f"{depth} events wait{since}; {share:.0%} of its room"
    if share >= _FULL:
        return fail("", f"{what}: the oldest are given up", _SEND)
    if share >= _MUCH or age_s >= _OLD_S:
        return warn("", what, _SEND)
    return ok("", what)
