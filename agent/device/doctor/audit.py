"""The audit log: is its chain whole. Of a long log as much is checked as there is time for, and that is said."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from agent.device.doctor.check import Finding, Findings, Patient, fail, is_there, ok, warn
from agent.relay.audit_check import verify_database
from agent.relay.audit_read import AuditError, Item, NoAuditError, database_head, open_database
from agent.relay.journal import DATABASE, KEY
from agent.relay.keys import KeyFileError, read_private_key

#: For how long it is checked, seconds.
_CHECK_S = 5.0
_BROKEN = (
    "keep it for the officer: vigie audit export --out FILE; compare with heads held elsewhere: vigie audit verify"
)


class _OutOfTimeError(Exception):
    def __init__(self, entries: int) -> None:
        self.entries = entries


def examine(patient: Patient) -> Findings:
    """Verify the chain, its Merkle tree and its signature, as `vigie audit verify` does."""
    folder = patient.settings.journal.folder
    path = folder / DATABASE
    try:
        key = read_private_key(patient.settings.audit.key_file or folder / KEY).public_key()
        with open_database(path) as database:
            yield _checked(database, key)
    except (KeyFileError, NoAuditError) as error:
        if is_there(path):
            yield warn("", str(error), "sudo vigie doctor --only audit")
        else:
            yield ok("", "there is no log yet: the agent has not run here")
    except (AuditError, sqlite3.Error) as error:
        yield fail("", str(error), _BROKEN)


def _checked(database: sqlite3.Connection, key: Ed25519PublicKey) -> Finding:
    head = database_head(database)
    try:
        verdict = verify_database(database, key, (), _in_time)
    except _OutOfTimeError as out:
        return ok("", f"the first {out.entries} of {head.size} entries are consistent; there was no time for more")
    if verdict.problems:
        more = f" (and {len(verdict.problems) - 1} more)" if len(verdict.problems) > 1 else ""
        return fail("chain", f"is broken: {verdict.problems[0]}{more}", _BROKEN)
    return ok("", f"consistent, {verdict.entries} entries, signed")


def _in_time(items: Iterator[Item]) -> Iterator[Item]:
    end = time.monotonic() + _CHECK_S
    for number, item in enumerate(items):
        if number % 256 == 0 and time.monotonic() > end:
            raise _OutOfTimeError(number)
        yield item
