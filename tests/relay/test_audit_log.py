"""How the audit log grows, is pruned, and goes on after a crash, another key or an older agent."""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.contract import AuditHead, EventData, EventType
from agent.relay.audit import AuditKind, Entry
from agent.relay.audit_check import Verdict, verify, verify_database
from agent.relay.audit_log import AuditLog
from agent.relay.audit_read import HeldHead, database_items, open_database, read_export, write_export
from agent.relay.gate import Release
from agent.relay.journal import Journal, JournalError, JournalFullError
from agent.relay.keys import read_private_key

NOON = dt.datetime(2026, 11, 23, 12, 0, tzinfo=dt.timezone.utc)
KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
DATA = EventData(episode="9b1e", phase="started", zone="quay", confidence="high", clock="synced", basis="FR-1")
RELEASE = Release(EventType.CROWD_DENSITY, DATA, "2026-11-23T12:00:00Z", alarm=False)


def in_memory(max_bytes: int) -> tuple[sqlite3.Connection, AuditLog]:
    database = sqlite3.connect(":memory:", isolation_level=None)
    database.execute("CREATE TABLE outbox (event_id TEXT, payload BLOB)")
    return database, AuditLog(database, KEY, "/vigie/old-port/cam-07", max_bytes, lambda: NOON)


def checked(database: sqlite3.Connection, heads: list[AuditHead]) -> Verdict:
    """What the check of the database says; the export must get the same verdict."""
    held = [HeldHead(f"line {number}", head) for number, head in enumerate(heads, 1)]
    verdict = verify_database(database, KEY.public_key(), held)
    file = io.BytesIO()
    write_export(database, file)
    file.seek(0)
    assert verify(*read_export(file), KEY.public_key(), held)[0] == verdict
    return verdict


@given(st.lists(st.sampled_from(["release", "deliver", "publish", "commit", "reopen", "idle"]), max_size=120))
@settings(max_examples=60, deadline=None)
def test_whatever_happens_the_log_is_consistent_bounded_and_complete(steps: list[str]) -> None:
    """Released events wait until they are delivered; the log holds about 25 entries and is pruned all the time."""
    database, log = in_memory(max_bytes=4000)
    log.append("opened", [(None, "5f3a9c01")])
    log.seal()
    heads: list[AuditHead] = []
    waiting: list[str] = []
    for number, step in enumerate(steps):
        event = f"5f3a9c01-{number:06d}"
        if step == "release":
            log.append("released", [(event, f'{{"id":"{event}"}}')])
            database.execute("INSERT INTO outbox VALUES (?, ?)", (event, f'{{"id":"{event}"}}'.encode()))
            waiting.append(event)
        elif step == "deliver" and waiting:
            delivered = waiting.pop(len(waiting) // 2)
            log.append("acknowledged", [(delivered, None)])
            database.execute("DELETE FROM outbox WHERE event_id = ?", (delivered,))
        elif step == "publish":
            heads.append(log.publish())
        elif step == "reopen":
            log.seal()
            log = AuditLog(database, KEY, "/vigie/old-port/cam-07", 4000, lambda: NOON)
        elif step == "idle":
            log.append("status", [(None, '{"state":"ready"}')])
        log.prune()
        log.seal()
    verdict = checked(database, heads)
    assert verdict.problems == ()
    assert verdict.entries + verdict.pruned == log.state.tree.end
    assert heads == [] or verdict.complete is not None or verdict.unprovable == len(heads)
    least = 200 * (len(waiting) + 2)
    assert log.state.kept_bytes + log.state.pruned_bytes <= max(4000, least) * 1.25
    reopened = AuditLog(database, KEY, "/vigie/old-port/cam-07", 4000, lambda: NOON)
    assert reopened.state == log.state, "what is counted in memory is what is stored"


def test_heads_from_before_the_pruning_can_still_be_checked() -> None:
    database, log = in_memory(max_bytes=40_000)
    heads = []
    for number in range(60):
        log.append("status", [(None, f'{{"number":{number}}}')] * 7)
        heads.append(log.publish())
        log.prune()
        log.seal()
    verdict = checked(database, heads)
    assert verdict.head.kept_from > heads[10].size
    assert (verdict.complete, verdict.unprovable) == (heads[-1], 0)


def test_the_oldest_heads_can_no_longer_be_checked_when_their_hashes_take_too_much_room() -> None:
    database, log = in_memory(max_bytes=10_000)
    heads = []
    for number in range(200):
        log.append("status", [(None, f'{{"number":{number}}}')])
        heads.append(log.publish())
        log.prune()
        log.seal()
    verdict = checked(database, heads)
    assert verdict.problems == ()
    assert verdict.complete == heads[-1]
    assert 0 < verdict.unprovable < len(heads)
    assert log.state.pruned_bytes <= 3000
    assert log.state.kept_bytes + log.state.pruned_bytes <= 10_000


class Shelf:
    """The journal of one device, and what the check says of its database."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "journal.sqlite"
        self._journal: Journal | None = None

    def open(self, **more: Any) -> Journal:
        self.close()
        limits: dict[str, Any] = {"outbox_max_bytes": 10**6, "outbox_max_age_s": 3600.0, "audit_max_bytes": 10**7}
        self._journal = Journal(self.folder, "old-port", "cam-07", wall=lambda: NOON, **{**limits, **more})
        return self._journal

    def close(self) -> None:
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def verdict(self, path: Path | None = None, key: Path | None = None) -> Verdict:
        public = read_private_key(key or self.folder / "audit.key").public_key()
        with open_database(path or self.path) as database:
            return verify_database(database, public)

    def entries(self, *kinds: AuditKind) -> list[Entry]:
        with open_database(self.path) as database:
            return [e for e in database_items(database) if isinstance(e, Entry) and (not kinds or e.kind in kinds)]

    def tamper(self, statement: str) -> None:
        with contextlib.closing(sqlite3.connect(self.path)) as database:
            database.execute(statement)
            database.commit()


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    device = Shelf(tmp_path / "journal")
    try:
        yield device
    finally:
        device.close()


def test_the_log_is_consistent_while_the_agent_writes_it_and_after_it_stopped(shelf: Shelf) -> None:
    journal = shelf.open()
    journal.release([RELEASE, RELEASE])
    rows = journal.waiting(0, 10)
    journal.attempted(rows)
    journal.acknowledged([rows[0].seq])
    assert shelf.verdict().problems == ()
    shelf.close()
    verdict = shelf.verdict()
    assert verdict.problems == ()
    assert verdict.entries == 7
    assert verdict.head.source == "/vigie/old-port/cam-07"


def test_a_killed_process_leaves_a_log_that_is_consistent(shelf: Shelf) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from tests.relay.test_audit_log import Shelf, RELEASE\n"
        "journal = Shelf(Path(sys.argv[1])).open()\n"
        "journal.release([RELEASE] * 3)\n"
        "journal._database.execute('BEGIN IMMEDIATE')\n"
        "journal._audit.append('status', [(None, 'x')])\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(shelf.folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert shelf.verdict().entries == 4
    journal = shelf.open()
    assert not journal.damaged
    assert shelf.verdict().problems == ()


def test_a_full_disk_leaves_the_log_as_it_was_and_it_goes_on_when_there_is_room(shelf: Shelf) -> None:
    journal = shelf.open()
    (pages,) = journal._database.execute("PRAGMA page_count").fetchone()
    journal._database.execute(f"PRAGMA max_page_count = {pages}")
    before = journal._audit.state
    with pytest.raises(JournalFullError):
        journal.release([RELEASE] * 200)
    with pytest.raises(JournalFullError):
        journal.record("birth", "x" * 100_000)
    assert journal._audit.state == before
    journal._database.execute("PRAGMA max_page_count = 1000000")
    journal.release([RELEASE] * 200)
    assert shelf.verdict().problems == ()
    assert not shelf.open().damaged


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM audit WHERE seq = (SELECT MAX(seq) FROM audit)",
        "DELETE FROM tree",
        "UPDATE tree SET head = REPLACE(head, '\"size\":', '\"size\":1')",
        "UPDATE tree SET nodes = x'00'",
        "UPDATE tree SET nodes = 'text'",
        "UPDATE tree SET head = 'x'",
    ],
)
def test_a_log_that_is_not_what_the_key_signed_is_set_aside_and_its_events_are_carried_over(
    shelf: Shelf, statement: str
) -> None:
    (event,) = shelf.open().release([RELEASE])
    shelf.close()
    shelf.tamper(statement)
    journal = shelf.open()
    assert journal.damaged
    assert [row.event_id for row in journal.waiting(0, 10)] == [event.id]
    assert len(list(shelf.folder.glob("journal-damaged-*.sqlite"))) == 1
    (told,) = shelf.entries("replaced")
    assert "journal-damaged-20261123T120000Z" in json.loads(told.body or "")["kept_as"]
    (salvaged,) = shelf.entries("salvaged")
    assert salvaged.body == event.to_json().decode(), "what may still leave is in the new log word for word"
    assert shelf.verdict().problems == ()


def test_with_another_key_another_log_begins_and_the_old_one_is_kept(shelf: Shelf, tmp_path: Path) -> None:
    shelf.open().release([RELEASE])
    shelf.close()
    (shelf.folder / "audit.key").rename(tmp_path / "old.key")
    assert shelf.open().damaged
    shelf.close()
    (aside,) = shelf.folder.glob("journal-damaged-*.sqlite")
    old, new = shelf.verdict(aside, tmp_path / "old.key"), shelf.verdict()
    assert (old.problems, new.problems) == ((), ())
    assert old.head.log != new.head.log
    assert "is signed by another key" in shelf.verdict(aside).problems[0]


def test_a_database_that_cannot_be_replaced_for_want_of_room_stays_where_it_was(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    (event,) = shelf.open().release([RELEASE])
    shelf.close()
    shelf.tamper("DELETE FROM tree")

    def full(*args: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(AuditLog, "seal", full)
        with pytest.raises(JournalFullError, match="the disk is full"):
            shelf.open()
    assert not list(shelf.folder.glob("journal-damaged-*"))
    assert [row.event_id for row in shelf.open().waiting(0, 10)] == [event.id]


OLD_SCHEMA = """
CREATE TABLE audit (seq INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, kind TEXT NOT NULL, event_id TEXT,
    body TEXT);
CREATE TABLE outbox (seq INTEGER PRIMARY KEY AUTOINCREMENT, event_id TEXT NOT NULL UNIQUE, topic TEXT NOT NULL,
    payload BLOB NOT NULL, alarm INTEGER NOT NULL, at REAL NOT NULL);
INSERT INTO audit VALUES (41, '2026-11-22T12:00:00.000000Z', 'opened', NULL, '00000001');
INSERT INTO audit VALUES (43, '2026-11-22T12:00:01.000000Z', 'released', '00000001-000001', '{"id":"00000001-000001"}');
INSERT INTO audit VALUES (44, '2026-11-22T12:00:02.000000Z', 'salvaged', '00000000-000009', NULL);
INSERT INTO outbox VALUES (7, '00000001-000001', 't', CAST('{"id":"00000001-000001"}' AS BLOB), 0, 0.0);
INSERT INTO outbox VALUES (8, '00000000-000009', 't', CAST('{"id":"00000000-000009"}' AS BLOB), 1, 0.0);
"""


@pytest.fixture
def older(shelf: Shelf) -> Shelf:
    """A journal that an agent without a chain has left."""
    shelf.folder.mkdir()
    with contextlib.closing(sqlite3.connect(shelf.path)) as database:
        database.executescript(OLD_SCHEMA)
    return shelf


def test_an_older_journal_is_chained_at_the_first_start_without_loss(older: Shelf) -> None:
    journal = older.open()
    assert not journal.damaged
    assert [row.event_id for row in journal.waiting(0, 10)] == ["00000001-000001", "00000000-000009"]
    assert [(e.seq, e.at[:19], e.kind, e.event, e.body) for e in older.entries()] == [
        (1, "2026-11-22T12:00:00", "opened", None, "00000001"),
        (2, "2026-11-22T12:00:01", "released", "00000001-000001", '{"id":"00000001-000001"}'),
        (3, "2026-11-22T12:00:02", "salvaged", "00000000-000009", None),
        (4, "2026-11-23T12:00:00", "salvaged", "00000000-000009", '{"id":"00000000-000009"}'),
        (5, "2026-11-23T12:00:00", "migrated", None, '{"entries":3}'),
        (6, "2026-11-23T12:00:00", "opened", None, journal.boot),
    ]
    assert older.verdict().problems == ()


def test_a_migration_that_the_disk_has_no_room_for_changes_nothing_and_is_tried_again(
    older: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(AuditLog, "seal", full)
        with pytest.raises(JournalFullError, match="the disk is full; free some space"):
            older.open()
    assert not older.open().damaged
    assert len(older.entries()) == 6


def test_a_message_that_says_the_same_again_is_recorded_by_the_number_of_the_first(shelf: Shelf) -> None:
    journal = shelf.open()
    long, short = json.dumps({"agent": "x" * 300}), '{"state":"ready"}'
    for body in (long, long, long.replace("x", "y"), short, short):
        journal.record("birth" if len(body) > 100 else "status", body)
    birth = [entry.body for entry in shelf.entries("birth")]
    assert birth == [long, '{"again":2}', long.replace("x", "y")]
    assert [entry.body for entry in shelf.entries("status")] == [short, short]
    for _ in range(200):
        journal.record("status", "{}")
    journal._audit._max_bytes = 10_000
    journal.record("birth", long.replace("x", "y"))
    journal.record("birth", long.replace("x", "y"))
    assert shelf.entries("birth")[-1].body == long.replace("x", "y"), "the first was pruned, so it is told in full"


def test_a_changed_configuration_names_the_one_before_even_if_that_is_long_ago(shelf: Shelf) -> None:
    journal = shelf.open(audit_max_bytes=20_000)
    for digest in ("a" * 64, "a" * 64, "b" * 64):
        journal.note_in_force("configuration", digest)
    for _ in range(500):
        journal.record("status", "{}")
    journal = shelf.open(audit_max_bytes=20_000)
    journal.note_in_force("configuration", "b" * 64)
    journal.note_in_force("configuration", "c" * 64)
    (change,) = shelf.entries("configuration")
    assert json.loads(change.body or "") == {"new": "c" * 64, "old": "b" * 64}
    assert shelf.verdict().problems == ()


def test_a_published_head_is_no_entry_and_signs_all_there_are(shelf: Shelf) -> None:
    journal = shelf.open()
    first, second = journal.publish_head(), journal.publish_head()
    assert (first.size, first.root) == (second.size, second.root)
    assert first.size == len(shelf.entries())


def test_entries_that_somebody_meddled_with_do_not_stop_the_agent_and_stay_evidence(shelf: Shelf) -> None:
    journal = shelf.open(audit_max_bytes=20_000)
    journal.note_in_force("policy", "a" * 64)
    for _ in range(50):
        journal.record("status", "{}")
    shelf.close()
    shelf.tamper("UPDATE audit SET body = x'ff', at = x'00' WHERE seq % 7 = 2")
    shelf.tamper("UPDATE audit SET kind = CAST(x'ff' AS TEXT) WHERE seq % 7 = 3")
    shelf.tamper("UPDATE audit SET body = '[]', previous = 'x' WHERE kind = 'policy'")
    journal = shelf.open(audit_max_bytes=20_000)
    assert not journal.damaged
    journal.note_in_force("policy", "b" * 64)
    for _ in range(200):
        journal.record("status", "{}")
    assert shelf.verdict().head.kept_from > 50
    assert "do not give the Merkle root" in "".join(shelf.verdict().problems)


def broken_key(text: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.touch(0o600)
        path.write_text(text)

    return write


def open_to_others(path: Path) -> None:
    path.write_text("x")
    path.chmod(0o640)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (open_to_others, "others can read the private key: chmod 600"),
        (broken_key("no key"), "is no unencrypted private key in PEM"),
        (lambda _: None, "the private key cannot be read: No such file or directory"),
    ],
)
def test_a_key_that_is_named_must_be_usable(
    shelf: Shelf, tmp_path: Path, spoil: Callable[[Path], None], words: str
) -> None:
    spoil(tmp_path / "credential")
    with pytest.raises(JournalError, match=words):
        shelf.open(key_file=tmp_path / "credential")
    assert not shelf.open().damaged, "the lock is free again"


def test_the_key_is_made_once_for_its_owner_alone_and_a_named_one_is_used(shelf: Shelf, tmp_path: Path) -> None:
    shelf.open()
    shelf.close()
    made = shelf.folder / "audit.key"
    content = made.read_bytes()
    assert made.stat().st_mode & 0o777 == 0o600
    made.rename(tmp_path / "credential")
    assert not shelf.open(key_file=tmp_path / "credential").damaged
    assert not made.exists()
    assert (tmp_path / "credential").read_bytes() == content


def test_a_key_that_cannot_be_written_for_want_of_room_is_a_full_disk(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(JournalFullError, match="the disk is full"):
            shelf.open()
    assert not list(shelf.folder.glob("audit.key*"))
