"""Proofs that show nothing of the log but what they are about (RFC 6962, 2.1.1 and 2.1.2).

One says that an event stands in the log that a head signs; the other that a log begins with all the entries under an
older head, for somebody who may hold heads but not see entries. A proof is one line of canonical JSON: the head, the
entry or the older head, and the hashes of the path.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, ValidationError

from agent.canonical import canonical
from agent.contract import AuditHead, Sha256
from agent.relay.audit import Entry, fault_of_head
from agent.relay.audit_read import AuditError, Item, NoAuditError, database_head, database_items, read_entry
from agent.relay.audit_words import words
from agent.relay.merkle import (
    Subtree,
    consistency_proof,
    inclusion_proof,
    is_consistent,
    node_hash,
    root_of_inclusion,
    spans,
    split,
)


class _Proof(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    head: AuditHead
    path: tuple[Sha256, ...]
    entry: str | None = None
    older: AuditHead | None = None


def prove_event(database: sqlite3.Connection, event: str) -> bytes:
    """A proof that an event was released.

    Raises:
        NoAuditError: the log has no such event, or not any more.
    """
    row = database.execute("SELECT seq FROM audit WHERE kind = 'released' AND event_id = ?", (event,)).fetchone()
    if row is None:
        raise NoAuditError(f"the log has no event {event}; what was pruned cannot be proven any more")
    (entry,) = (item for item in database_items(database) if isinstance(item, Entry) and item.seq == row[0])
    head = database_head(database)
    path = inclusion_proof(entry.seq - 1, head.size, _subtree(database_items(database)))
    return _line(_Proof(head=head, path=_hex(path), entry=entry.line().decode()))


def prove_growth(database: sqlite3.Connection, older: AuditHead) -> bytes:
    """A proof that the log begins with all the entries under an older head of it.

    Raises:
        NoAuditError: the head is of another log, newer, or ends among pruned entries.
    """
    head = database_head(database)
    if older.log != head.log or older.size > head.size:
        raise NoAuditError(f"the head of {older.time} is of another log, or of one that was longer than this")
    path = consistency_proof(older.size, head.size, _subtree(database_items(database)))
    return _line(_Proof(head=head, path=_hex(path), older=older))


def _hex(path: Iterable[bytes]) -> tuple[str, ...]:
    return tuple(node.hex() for node in path)


def _line(proof: _Proof) -> bytes:
    return canonical(proof.model_dump(exclude_none=True))


def _subtree(items: Iterable[Item]) -> Subtree:
    """The nodes of a tree of which some parts are pruned."""
    leaves: dict[int, bytes] = {}
    whole: dict[tuple[int, int], bytes] = {}
    for item in items:
        if isinstance(item, Entry):
            leaves[item.seq - 1] = item.leaf()
        else:
            part = item.range()
            for (at, size), node in zip(spans(part.begin, part.end), part.nodes, strict=True):
                whole[at, at + size] = node

    def subtree(begin: int, end: int) -> bytes:
        if (begin, end) in whole:
            return whole[begin, end]
        if end - begin == 1:
            if begin not in leaves:
                raise NoAuditError(f"what is asked for lies among pruned entries, at entry {begin + 1}")
            return leaves[begin]
        middle = begin + split(end - begin)
        return node_hash(subtree(begin, middle), subtree(middle, end))

    return subtree


def check_proof(line: bytes, key: Ed25519PublicKey) -> str:
    """What a proof proves, in words.

    Raises:
        AuditError: nothing, and why.
    """
    try:
        proof = _Proof.model_validate(json.loads(line), strict=False)
        entry = read_entry(proof.entry.encode()) if proof.entry is not None else None
    except (ValueError, RecursionError) as error:
        reason = "not of its form" if isinstance(error, ValidationError) else error
        raise AuditError(f"this is no proof, or it was changed: {reason}") from None
    head, older = proof.head, proof.older
    path = [bytes.fromhex(node) for node in proof.path]
    for one in (head, older):
        fault = one and fault_of_head(one, key)
        if one and fault:
            raise AuditError(f"the head of {one.time} {fault}")
    if entry is not None and older is None:
        if root_of_inclusion(entry.leaf(), entry.seq - 1, head.size, path) != bytes.fromhex(head.root):
            raise AuditError("the entry is not in the log that this head signs, or the proof was changed")
        return f"entry {entry.seq} of {head.size} that the head of {head.time} signs: {words(entry)}"
    if older is not None and entry is None and older.log == head.log:
        roots = bytes.fromhex(older.root), bytes.fromhex(head.root)
        if not is_consistent(older.size, head.size, *roots, path):
            raise AuditError(f"the log did not grow out of the one of {older.time}, or the proof was changed")
        return f"the {head.size} entries of {head.time} begin with all {older.size} of {older.time}, unchanged"
    raise AuditError("this is no proof: it must be about an entry or about an older head of the same log")
