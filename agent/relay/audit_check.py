"""Check an audit log: the chain, the Merkle tree, the signature, and heads that somebody else holds.

What it proves. With the key alone: these entries are exactly those that the device signed last, in this order, apart
from stretches that it pruned itself, of which the hashes are there. With a head held elsewhere: nothing that was in the
log when that head was signed has been changed, removed or put in since; so the log is complete up to there.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from agent.contract import AuditHead
from agent.relay.audit import Entry, Pruned, chain_start, fault_of_head
from agent.relay.audit_read import HeldHead, Item, database_head, database_items
from agent.relay.keys import fingerprint
from agent.relay.merkle import HASH_BYTES, Range, spans

#: More problems than this tell nothing new.
_MOST_PROBLEMS = 20


@dataclass(frozen=True)
class Verdict:
    """What the check found.

    Attributes:
        head: The log's own head.
        entries: Entries that are there.
        pruned: Entries of which only the hashes are there.
        begin: Time of the first entry that is there.
        end: Time of the last one.
        problems: What is wrong, in words; empty for a log that is consistent.
        complete: The newest head held elsewhere up to which the log is complete; None where that is not proven.
        unprovable: Heads held elsewhere that end inside of a pruned stretch.
        strangers: Heads held elsewhere that are of other devices.
    """

    head: AuditHead
    entries: int
    pruned: int
    begin: str | None
    end: str | None
    problems: tuple[str, ...]
    complete: AuditHead | None
    unprovable: int
    strangers: int


@dataclass
class _Problems:
    """The first problems, and how many more there are."""

    found: list[str] = field(default_factory=list)
    more: int = 0

    def add(self, problem: str) -> None:
        if len(self.found) < _MOST_PROBLEMS:
            self.found.append(problem)
        else:
            self.more += 1

    def all(self) -> tuple[str, ...]:
        return (*self.found, *([f"and {self.more} more"] if self.more else []))


class _Walk:
    """From the first entry to the last: chain and tree as far as they hold."""

    def __init__(self, log: str, kept_from: int, problems: _Problems) -> None:
        self._log = log
        self._kept_from = kept_from
        self._problems = problems
        self._previous: bytes | None = chain_start(log)
        self.tree: Range | None = Range()
        """The tree of all so far; None from the first gap on."""
        self.end = 0
        """Number of the last entry so far."""
        self.entries = 0
        self.pruned = 0
        self.span: tuple[str | None, str | None] = (None, None)

    def take(self, item: Item) -> None:
        if item.first <= self.end:
            self._problems.add(f"{_name(item)} stands behind entry {self.end}: it was moved, or is there twice")
            self.tree = self._previous = None
            return
        if item.first > self.end + 1:
            self._problems.add(f"{_span(self.end + 1, item.first - 1)} missing")
            self.tree = self._previous = None
        self.end = item.last
        if isinstance(item, Entry):
            self._take_entry(item)
        else:
            self._take_pruned(item)

    def _take_entry(self, entry: Entry) -> None:
        if self._previous is not None and entry.previous != self._previous:
            self._problems.add(
                f"entry {entry.seq} does not follow from entry {entry.seq - 1}:"
                " one of the two was changed, moved or put in"
                if entry.seq > 1
                else f"entry 1 is not the beginning of log {self._log}: it was changed, or is of another log"
            )
        self._previous = entry.leaf()
        if self.tree is not None:
            self.tree = self.tree.append(self._previous)
        self.entries += 1
        self.span = (self.span[0] or entry.at, entry.at)

    def _take_pruned(self, part: Pruned) -> None:
        if part.last >= self._kept_from:
            self._problems.add(
                f"{_span(part.first, part.last)} missing: only hashes are there,"
                f" and the signed head keeps all from entry {self._kept_from} on"
            )
        whole = part.first <= part.last and len(part.nodes) == len(list(spans(part.first - 1, part.last)))
        if not whole or any(len(node) != HASH_BYTES for node in part.nodes):
            self._problems.add(f"the hashes of the pruned entries {part.first} to {part.last} were changed")
            self.tree = None
        elif self.tree is not None:
            self.tree = self.tree.join(part.range())
        self._previous = None
        self.pruned += part.last - part.first + 1


def verify(
    head: AuditHead, items: Iterable[Item], key: Ed25519PublicKey, held: Sequence[HeldHead] = ()
) -> tuple[Verdict, Range | None]:
    """Check a log.

    Args:
        head: Its own head.
        items: Its entries and pruned stretches in their order.
        key: Public key of the device, from somebody who is trusted.
        held: Heads that were kept elsewhere, of this device and others.

    Returns:
        What was found, and the Merkle tree of the items, where they are without gap.
    """
    problems = _Problems()
    fault = fault_of_head(head, key)
    if fault is not None:
        problems.add(f"the log's head {fault}")
    own, strangers = _own(held, head, key, problems)
    by_size: dict[int, list[HeldHead]] = {}
    for one in own:
        by_size.setdefault(one.head.size, []).append(one)
    walk = _Walk(head.log, head.kept_from, problems)
    complete: AuditHead | None = None
    reached = 0
    for item in items:
        walk.take(item)
        if walk.tree is None:
            continue
        for one in by_size.get(walk.end, ()):
            reached += 1
            if walk.tree.root().hex() == one.head.root:
                complete = one.head
            else:
                problems.add(
                    f"{one.origin}: up to entry {walk.end} the log has another Merkle root than this head of"
                    f" {one.head.time}: it was forked or rewritten"
                )
    _check_end(walk, head, problems)
    for one in own:
        if one.head.size > walk.end:
            problems.add(
                f"{one.origin}: this head of {one.head.time} covers {one.head.size} entries,"
                f" but the log ends at entry {walk.end}: its end was cut off"
            )
    verdict = Verdict(
        head=head,
        entries=walk.entries,
        pruned=walk.pruned,
        begin=walk.span[0],
        end=walk.span[1],
        problems=problems.all(),
        complete=None if problems.found else complete,
        unprovable=sum(one.head.size <= walk.end for one in own) - reached,
        strangers=strangers,
    )
    return verdict, walk.tree


def _own(
    held: Sequence[HeldHead], head: AuditHead, key: Ed25519PublicKey, problems: _Problems
) -> tuple[list[HeldHead], int]:
    """The heads of this log that can be trusted, and how many are of other devices."""
    own, strangers = [], 0
    for one in held:
        if one.head.source != head.source and one.head.key != fingerprint(key):
            strangers += 1
            continue
        fault = fault_of_head(one.head, key)
        if fault is not None:
            problems.add(f"{one.origin}: the head {fault}")
        elif one.head.log != head.log:
            problems.add(
                f"{one.origin}: this head of {one.head.time} is of another log of this device, {one.head.log},"
                f" and here is {head.log}: look for a journal that was set aside, and check it with --database"
            )
        else:
            own.append(one)
    return own, strangers


def _check_end(walk: _Walk, head: AuditHead, problems: _Problems) -> None:
    if walk.end < head.size:
        problems.add(f"{_span(walk.end + 1, head.size)} missing at the end: the signed head covers {head.size}")
    elif walk.end > head.size:
        problems.add(f"the signed head covers {head.size} entries; what stands behind them was put in")
    elif walk.tree is not None and walk.tree.root().hex() != head.root:
        problems.add(f"the entries do not give the Merkle root that the head of {head.time} signs: they were changed")


def verify_database(
    database: sqlite3.Connection,
    key: Ed25519PublicKey,
    held: Sequence[HeldHead] = (),
    watched: Callable[[Iterator[Item]], Iterator[Item]] = iter,
) -> Verdict:
    """Check the log in the journal's database, and that nothing waits for delivery that it does not have.

    Args:
        database: As `open_database` gives it.
        key: As for `verify`.
        held: As for `verify`.
        watched: Gives the items on, to show how far it is.

    Raises:
        AuditError: it cannot be read at all.
    """
    waiting = {
        event: hashlib.sha256(payload or b"").digest()
        for event, payload in database.execute("SELECT event_id, CAST(payload AS BLOB) FROM outbox")
    }
    verdict, tree = verify(database_head(database), _matched(watched(database_items(database)), waiting), key, held)
    problems = [*verdict.problems]
    problems += [f"event {event} waits for delivery, but is not in the log as it waits" for event in waiting]
    (nodes,) = database.execute("SELECT nodes FROM tree").fetchone()
    if tree is not None and nodes != b"".join(tree.nodes):
        problems.append("the stored Merkle tree is not the one of the entries: it was changed")
    return replace(verdict, problems=tuple(problems), complete=None if problems else verdict.complete)


def _matched(items: Iterator[Item], waiting: dict[str, bytes]) -> Iterator[Item]:
    """The items; events of the outbox that are among them as they wait are taken out of `waiting`."""
    for item in items:
        if isinstance(item, Entry) and item.event in waiting and item.kind in {"released", "salvaged"}:
            body = (item.body or "").encode()
            if waiting[item.event] == hashlib.sha256(body).digest():
                del waiting[item.event]
        yield item


def _name(item: Item) -> str:
    return f"entry {item.first}" if item.first == item.last else f"the stretch of entries {item.first} to {item.last}"


def _span(first: int, last: int) -> str:
    return f"entry {first} is" if first == last else f"entries {first} to {last} are"
