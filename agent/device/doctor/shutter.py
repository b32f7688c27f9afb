"""The privacy shutter while no agent runs: what a manager has paused, the doctor does not open either."""

from __future__ import annotations

import sqlite3

from agent.relay.audit_read import AuditError, open_database
from agent.relay.journal import DATABASE
from agent.settings import Settings


def closed(settings: Settings) -> bool:
    """Whether a pause is in force by the journal; what cannot be read is no pause."""
    try:
        with open_database(settings.journal.folder / DATABASE) as database:
            return database.execute("SELECT 1 FROM holder").fetchone() is not None
    except (AuditError, sqlite3.Error):
        return False
