"""Proofs of one event, and of growth, and every way to bend them."""

from __future__ import annotations

import datetime as dt
import json
import random
import sqlite3
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.canonical import canonical
from agent.contract import AuditHead
from agent.relay.audit_log import AuditLog
from agent.relay.audit_proof import check_proof, prove_event, prove_growth
from agent.relay.audit_read import AuditError, NoAuditError

NOON = dt.datetime(2026, 11, 23, 12, 0, tzinfo=dt.timezone.utc)
KEY, OTHER_KEY = (Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (1, 2))
PUBLIC = KEY.public_key()


def told(number: int) -> str:
    return f"5f3a9c01-{number:06d}"


@pytest.fixture(scope="module")
def log() -> tuple[sqlite3.Connection, list[AuditHead]]:
    """Forty events, a head after each, and the first ones pruned."""
    database = sqlite3.connect(":memory:", isolation_level=None)
    database.execute("CREATE TABLE outbox (event_id TEXT, payload BLOB)")
    writer = AuditLog(database, KEY, "/vigie/old-port/cam-07", 10**6, lambda: NOON)
    heads = []
    for number in range(40):
        writer.append("released", [(told(number), json.dumps({"purpose": "x" * 1000}))])
        heads.append(writer.publish())
    writer._max_bytes = int(0.8 * writer.state.kept_bytes)
    writer.prune()
    writer.seal()
    return database, heads


def test_an_event_is_proven_without_disclosing_another(log: tuple[sqlite3.Connection, list[AuditHead]]) -> None:
    database, _ = log
    for number in range(20, 40):
        line = prove_event(database, told(number))
        assert [told(other) for other in range(40) if told(other).encode() in line] == [told(number)]
        said = check_proof(line, PUBLIC)
        assert said.startswith(f"entry {number + 1} of 40 that the head of 2026-11-23T12:00:00Z signs: released")


def test_growth_is_proven_from_every_head_even_of_pruned_entries(
    log: tuple[sqlite3.Connection, list[AuditHead]],
) -> None:
    database, heads = log
    assert database.execute("SELECT MIN(seq) FROM audit").fetchone()[0] > 5
    for head in heads:
        said = check_proof(prove_growth(database, head), PUBLIC)
        assert said == f"the 40 entries of {head.time} begin with all {head.size} of {head.time}, unchanged"


def test_what_cannot_be_proven_is_told(log: tuple[sqlite3.Connection, list[AuditHead]]) -> None:
    database, heads = log
    with pytest.raises(NoAuditError, match="the log has no event 5f3a9c01-000001; what was pruned cannot be proven"):
        prove_event(database, told(1))
    with pytest.raises(NoAuditError, match="is of another log"):
        prove_growth(database, heads[3].model_copy(update={"log": "0" * 16}))
    database.execute("SAVEPOINT shorter")
    database.execute("DELETE FROM pruned WHERE first < 3")
    with pytest.raises(NoAuditError, match="lies among pruned entries"):
        prove_growth(database, heads[0])
    database.execute("ROLLBACK TO shorter")


def test_no_random_change_of_a_proof_goes_unnoticed(log: tuple[sqlite3.Connection, list[AuditHead]]) -> None:
    database, heads = log
    chance = random.Random(6962)
    for line in (prove_event(database, told(30)), prove_growth(database, heads[20])):
        for _ in range(500):
            place = chance.randrange(len(line))
            changed = line[:place] + bytes([line[place] ^ 1 << chance.randrange(8)]) + line[place + 1 :]
            with pytest.raises(AuditError):
                check_proof(changed, PUBLIC)


def test_a_proof_of_another_key_or_of_nothing_is_refused(log: tuple[sqlite3.Connection, list[AuditHead]]) -> None:
    database, heads = log
    line = prove_event(database, told(30))
    with pytest.raises(AuditError, match="is signed by another key"):
        check_proof(line, OTHER_KEY.public_key())
    proof = json.loads(line)
    bent_proofs: tuple[Any, ...] = (
        {key: value for key, value in proof.items() if key != "entry"},
        {**proof, "older": heads[0].model_dump()},
        {**proof, "more": 1},
        {**proof, "path": proof["path"][1:]},
        {**proof, "entry": proof["entry"].replace(":", ": ")},
        [],
    )
    for bent in bent_proofs:
        with pytest.raises(AuditError, match=r"no proof|changed"):
            check_proof(canonical(bent), PUBLIC)
