"""What a check of the audit log catches: every attack of the list, and ten thousand changes at random."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import io
import json
import random
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.contract import AuditHead
from agent.relay.audit import Entry, chain_start, head_line, lenient, sign_head
from agent.relay.audit_check import Verdict, verify, verify_database
from agent.relay.audit_log import AuditLog
from agent.relay.audit_read import AuditError, HeldHead, database_items, read_export, write_export
from agent.relay.merkle import Range

KEY, OTHER_KEY = (Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (1, 2))
PUBLIC = KEY.public_key()
NOON = dt.datetime(2026, 11, 23, 12, 0, tzinfo=dt.timezone.utc)
SOURCE = "/vigie/old-port/cam-07"
EXPORT_MUTATIONS, DATABASE_MUTATIONS = 7000, 3000


@dataclass
class Device:
    """A log in memory, with what its journal keeps beside it, and the heads that it published."""

    database: sqlite3.Connection
    log: AuditLog
    published: list[AuditHead]

    def live(self, events: int) -> None:
        """Release and deliver some events, and publish a head."""
        for _ in range(events):
            event = f"5f3a9c01-{self.log.state.tree.end:06d}"
            self.log.append("released", [(event, json.dumps({"id": event, "count": "20-49"}))])
            self.log.append("acknowledged", [(event, None)])
        self.published.append(self.log.publish())

    def exported(self) -> bytes:
        file = io.BytesIO()
        write_export(self.database, file)
        return file.getvalue()

    def held(self) -> list[HeldHead]:
        return [HeldHead(f"heads line {number}", head) for number, head in enumerate(self.published, 1)]


def device(key: Ed25519PrivateKey = KEY, max_bytes: int = 10**6) -> Device:
    database = sqlite3.connect(":memory:", isolation_level=None)
    database.text_factory = lenient
    database.execute("CREATE TABLE outbox (event_id TEXT, payload BLOB)")
    return Device(database, AuditLog(database, key, SOURCE, max_bytes, lambda: NOON), [])


@pytest.fixture
def lived() -> Device:
    """A log of 24 entries, the first ones pruned around an event that still waits, with four published heads."""
    made = device()
    made.log.append("opened", [(None, "5f3a9c01")])
    waits = json.dumps({"id": "5f3a9c01-waits", "zone": "quäy"}, ensure_ascii=False)
    made.log.append("released", [("5f3a9c01-waits", waits)])
    made.database.execute("INSERT INTO outbox VALUES ('5f3a9c01-waits', ?)", (waits.encode(),))
    for events in (2, 3, 3, 3):
        made.live(events)
    made.log._max_bytes = made.log.state.kept_bytes - 1500
    made.log.prune()
    made.log.seal()
    assert made.database.execute("SELECT COUNT(*) FROM pruned").fetchone()[0] > 2
    assert made.database.execute("SELECT seq FROM audit").fetchall()[0] == (2,)
    return made


def check_export(export: bytes, held: list[HeldHead] | None = None, key: Ed25519PrivateKey = KEY) -> Verdict:
    head, items = read_export(io.BytesIO(export))
    return verify(head, items, key.public_key(), held or [])[0]


def complaints(check: Callable[[], Verdict]) -> str:
    """What a check says is wrong; empty when nothing is."""
    try:
        return "\n".join(check().problems)
    except AuditError as error:
        return str(error)


def test_a_log_that_nobody_touched_is_consistent_and_complete_with_heads_from_elsewhere(lived: Device) -> None:
    for verdict in (
        verify_database(lived.database, PUBLIC, lived.held()),
        check_export(lived.exported(), lived.held()),
    ):
        assert verdict.problems == ()
        assert verdict.complete == lived.published[-1]
        assert (verdict.entries + verdict.pruned, verdict.unprovable, verdict.strangers) == (24, 0, 0)
    assert verify_database(lived.database, PUBLIC).complete is None


def test_the_documented_format_is_all_that_another_implementation_needs() -> None:
    """Nothing of ours: hashes, the canonical JSON that is on the lines, and the signature, as docs/audit.md says."""
    first, *rest = device_without_pruning().exported().splitlines()
    head = json.loads(first)
    signed = b"vigie-audit-head-1\n" + first.replace(b'"signature":"' + head["signature"].encode() + b'",', b"")
    PUBLIC.verify(bytes.fromhex(head["signature"]), signed)
    assert hashlib.sha256(PUBLIC.public_bytes_raw()).hexdigest() == head["key"]
    previous = hashlib.sha256(b"vigie-audit-1\n" + head["log"].encode()).digest()
    leaves = []
    for number, line in enumerate(rest, 1):
        assert (json.loads(line)["seq"], json.loads(line)["previous"]) == (number, previous.hex())
        previous = hashlib.sha256(b"\0" + line).digest()
        leaves.append(previous)
    assert len(leaves) == head["size"] == 8
    while len(leaves) > 1:
        leaves = [hashlib.sha256(b"\1" + a + b).digest() for a, b in zip(leaves[::2], leaves[1::2], strict=True)]
    assert leaves[0].hex() == head["root"]


def device_without_pruning() -> Device:
    """Eight entries: the tree is a whole one."""
    made = device()
    made.live(4)
    return made


def lines(change: Callable[[list[bytes]], Any]) -> Callable[[Device], bytes]:
    """An attack on the lines of an export: its head, then items."""

    def attack(attacked: Device) -> bytes:
        found = attacked.exported().splitlines(keepends=True)
        change(found)
        return b"".join(found)

    return attack


def swapped(found: list[bytes]) -> None:
    found[-3], found[-4] = found[-4], found[-3]


def forged_pruning(attacked: Device) -> bytes:
    """Entries removed, and their true hashes in their place, as if the device had pruned them."""
    (entry, *_) = [item for item in database_items(attacked.database) if isinstance(item, Entry) and item.seq == 20]
    attacked.log._let_go([entry])
    return attacked.exported()


def rewritten(attacked: Device) -> bytes:
    """One word changed, and the chain computed anew up to the end, by somebody without the key."""
    found = attacked.exported().splitlines()
    table = json.loads(found[-4])
    table["at"] = "2026-11-23T11:00:00.000000Z"
    previous, anew = table["previous"], []
    for line in (json.dumps(table).encode(), *found[-3:]):
        item = json.loads(line)
        entry = Entry(item["seq"], item["at"], item["kind"], item["event"], item.get("body"), bytes.fromhex(previous))
        previous = entry.leaf().hex()
        anew.append(entry.line())
    return b"\n".join([*found[:-4], *anew, b""])


def fresh(key: Ed25519PrivateKey, log: str) -> bytes:
    """A whole log that somebody signed with a key of his own."""
    entry = Entry(1, "2026-11-23T12:00:00.000000Z", "opened", None, "5f3a9c01", chain_start(log))
    head = sign_head(key, log, SOURCE, Range().append(entry.leaf()), 1, NOON)
    return b"\n".join([head_line(head), entry.line(), b""])


def backdated(attacked: Device) -> bytes:
    head = AuditHead.model_validate_json(attacked.exported().splitlines()[0])
    late = head.model_copy(update={"time": "2026-11-24T12:00:00Z"})
    return b"\n".join([head_line(late), *attacked.exported().splitlines()[1:], b""])


ATTACKS = {
    "a changed byte": (
        lines(lambda found: found.__setitem__(-3, found[-3].replace(b"5f3a", b"5f3b", 1))),
        "entry 23 does not follow from entry 22: one of the two was changed, moved or put in",
    ),
    "a changed byte in the last entry": (
        lines(lambda found: found.__setitem__(-1, found[-1].replace(b"12:00", b"13:00", 1))),
        "the entries do not give the Merkle root that the head of 2026-11-23T12:00:00Z signs: they were changed",
    ),
    "a removed entry": (lines(lambda found: found.pop(-4)), "entry 21 is missing"),
    "a removed entry disguised as pruned": (
        forged_pruning,
        "entry 20 is missing: only hashes are there, and the signed head keeps all from entry",
    ),
    "a removed stretch of hashes": (lines(lambda found: found.pop(1)), "entry 1 is missing"),
    "a reordered entry": (lines(swapped), "entry 21 stands behind entry 22: it was moved, or is there twice"),
    "a repeated entry": (lines(lambda found: found.insert(-1, found[-2])), "entry 23 stands behind entry 23"),
    "a truncated tail": (
        lines(lambda found: found.__delitem__(slice(-2, None))),
        "entries 23 to 24 are missing at the end: the signed head covers 24",
    ),
    "an entry put in behind the end": (
        lambda attacked: (
            attacked.exported()
            + Entry(25, "2026-11-23T12:00:00.000000Z", "closed", None, None, attacked.log.state.last).line()
            + b"\n"
        ),
        "the signed head covers 24 entries; what stands behind them was put in",
    ),
    "a chain computed anew": (rewritten, "the entries do not give the Merkle root"),
    "a changed head": (backdated, "the log's head was changed: its signature does not fit its content"),
    "a wrong key": (lambda _: fresh(OTHER_KEY, "0" * 16), "the log's head is signed by another key"),
    "another form of the same JSON": (
        lines(lambda found: found.__setitem__(-1, found[-1].replace(b":", b": ", 1))),
        "was changed, or this is no audit export: not in canonical form",
    ),
    "a line cut in the middle": (lambda attacked: attacked.exported()[:-5], "was changed, or this is no audit export"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_caught_by_the_key_alone(name: str, lived: Device) -> None:
    attack, words = ATTACKS[name]
    export = attack(lived)
    assert words in complaints(lambda: check_export(export))


def test_an_older_copy_of_the_whole_log_is_caught_by_a_head_from_elsewhere(lived: Device) -> None:
    old = lived.exported()
    lived.live(1)
    assert complaints(lambda: check_export(old)) == "", "the old copy is consistent in itself"
    assert "this head of 2026-11-23T12:00:00Z covers 26 entries, but the log ends at entry 24: its end was cut off" in (
        complaints(lambda: check_export(old, lived.held()))
    )


def test_a_fork_signed_by_the_device_itself_is_caught_by_a_head_from_elsewhere() -> None:
    told, shown = device(), device()
    shown.log.log = told.log.log
    shown.log.state = told.log.state
    told.live(3)
    shown.log.append("released", [("5f3a9c01-000009", "something else")])
    shown.live(3)
    assert complaints(lambda: check_export(shown.exported())) == "", "the fork is consistent in itself"
    assert (
        "heads line 1: up to entry 6 the log has another Merkle root than this head of 2026-11-23T12:00:00Z: it was"
        in (complaints(lambda: check_export(shown.exported(), told.held())))
    )


def test_a_log_that_began_anew_is_caught_by_a_head_of_the_one_before(lived: Device) -> None:
    anew = fresh(KEY, "0" * 16)
    assert complaints(lambda: check_export(anew)) == ""
    said = complaints(lambda: check_export(anew, lived.held()))
    assert f"is of another log of this device, {lived.log.log}, and here is {'0' * 16}" in said


def test_heads_of_other_devices_do_not_count_and_a_head_of_ours_by_another_key_is_told(lived: Device) -> None:
    head = sign_head(OTHER_KEY, "0" * 16, "/vigie/old-port/cam-08", Range(0, 1, (bytes(32),)), 1, NOON)
    verdict = check_export(lived.exported(), [HeldHead("line 1", head)])
    assert (verdict.strangers, verdict.complete, verdict.problems) == (1, None, ())
    ours = sign_head(OTHER_KEY, lived.log.log, SOURCE, Range(0, 1, (bytes(32),)), 1, NOON)
    assert "line 1: the head is signed by another key" in (
        complaints(lambda: check_export(lived.exported(), [HeldHead("line 1", ours)]))
    )


def test_a_head_from_elsewhere_that_was_changed_is_told(lived: Device) -> None:
    bent = replace(lived.held()[0], head=lived.published[0].model_copy(update={"size": 5}))
    said = complaints(lambda: check_export(lived.exported(), [bent]))
    assert "heads line 1: the head was changed: its signature does not fit its content" in said


def test_what_waits_for_delivery_must_be_in_the_log_as_it_waits(lived: Device) -> None:
    lived.database.execute('UPDATE outbox SET payload = CAST(\'{"zone":"other"}\' AS BLOB)')
    said = complaints(lambda: verify_database(lived.database, PUBLIC))
    assert said == "event 5f3a9c01-waits waits for delivery, but is not in the log as it waits"


def test_many_problems_are_told_by_the_first_twenty() -> None:
    made = device()
    made.live(60)
    found = made.exported().splitlines(keepends=True)
    said = complaints(lambda: check_export(found[0] + b"".join(found[1::3]))).splitlines()
    assert len(said) == 21
    assert said[-1] == "and 20 more"


def mutated_export(export: bytes, chance: random.Random) -> bytes:
    """The export with one random change: of a byte, or of whole lines."""
    place = chance.randrange(len(export))
    found = export.splitlines(keepends=True)
    one, two = chance.randrange(len(found)), chance.randrange(len(found))
    match chance.randrange(8):
        case 0 | 1 | 2:
            return export[:place] + bytes([export[place] ^ 1 << chance.randrange(8)]) + export[place + 1 :]
        case 3:
            return export[:place] + export[place + 1 + chance.randrange(40) :]
        case 4:
            return export[:place] + chance.randbytes(1 + chance.randrange(3)) + export[place:]
        case 5:
            return b"".join(found[:one] + found[one + 1 + chance.randrange(3) :])
        case 6:
            found[one], found[two] = found[two], found[one]
            return b"".join(found)
        case _:
            return b"".join([*found[:one], found[two], *found[one:]])


@pytest.mark.timeout(300)
def test_no_random_change_of_an_export_goes_unnoticed(lived: Device) -> None:
    export, chance = lived.exported(), random.Random(6962)
    done = 0
    while done < EXPORT_MUTATIONS:
        changed = mutated_export(export, chance)
        if changed != export:
            done += 1
            assert complaints(lambda: check_export(changed)), changed  # noqa: B023 - it is called at once


VALUES = {
    "audit": ("seq", "at", "kind", "event_id", "body", "previous"),
    "pruned": ("first", "last", "nodes"),
    "tree": ("nodes", "head"),
    "outbox": ("event_id", "payload"),
}


def mutate_row(database: sqlite3.Connection, chance: random.Random) -> bool:
    """One random change of a row; whether it changed anything."""
    table = chance.choice(["audit"] * 6 + ["pruned", "pruned", "tree", "outbox"])
    rows = [row for (row,) in database.execute(f"SELECT rowid FROM {table}")]  # noqa: S608
    row, other = chance.choice(rows), chance.choice(rows)
    column = chance.choice(VALUES[table])
    (value,) = database.execute(f"SELECT {column} FROM {table} WHERE rowid = ?", (row,)).fetchone()  # noqa: S608
    if table != "outbox":
        match chance.randrange(6):
            case 0:
                return database.execute(f"DELETE FROM {table} WHERE rowid = ?", (row,)).rowcount > 0  # noqa: S608
            case 1 if table == "audit" and row != other:
                database.execute("UPDATE audit SET seq = -1 WHERE seq = ?", (row,))
                database.execute("UPDATE audit SET seq = ? WHERE seq = ?", (row, other))
                return database.execute("UPDATE audit SET seq = ? WHERE seq = -1", (other,)).rowcount > 0
            case 2 if table == "audit":
                (end,) = database.execute("SELECT MAX(seq) + ? FROM audit", (chance.randrange(1, 3),)).fetchone()
                query = "INSERT INTO audit SELECT ?, at, kind, event_id, body, previous FROM audit WHERE seq = ?"
                return database.execute(query, (end, row)).rowcount > 0
    new = mutated_value(value, chance)
    place = "CAST(? AS TEXT)" if isinstance(value, str) and isinstance(new, bytes) else "?"
    database.execute(f"UPDATE {table} SET {column} = {place} WHERE rowid = ?", (new, row))  # noqa: S608
    return new != (value.encode() if isinstance(value, str) else value)


def mutated_value(value: str | bytes | int | None, chance: random.Random) -> bytes | int | str | None:
    if value is None:
        return chance.choice(["", "x"])
    if isinstance(value, int):
        return value + chance.choice((-1000, -1, 1, 1000))
    content = value.encode() if isinstance(value, str) else value
    if not content or chance.randrange(8) == 0:
        return content + chance.randbytes(1)
    place = chance.randrange(len(content))
    if chance.randrange(8) == 0:
        return None
    return content[:place] + bytes([content[place] ^ 1 << chance.randrange(8)]) + content[place + 1 :]


@pytest.mark.timeout(300)
def test_no_random_change_of_a_row_goes_unnoticed(lived: Device) -> None:
    database, chance = lived.database, random.Random(9162)
    assert complaints(lambda: verify_database(database, PUBLIC)) == ""
    done = 0
    while done < DATABASE_MUTATIONS:
        before = "".join(database.iterdump()) if done % 500 == 0 else ""
        database.execute("BEGIN")
        with contextlib.suppress(sqlite3.IntegrityError, OverflowError):
            if mutate_row(database, chance):
                done += 1
                assert complaints(lambda: verify_database(database, PUBLIC)), "".join(database.iterdump())
        database.execute("ROLLBACK")
        assert not before or before == "".join(database.iterdump()), "the next change begins from the same log"
    assert complaints(lambda: verify_database(database, PUBLIC)) == ""
