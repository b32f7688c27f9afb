"""What the audit log consists of: entries, stretches of which only the hashes are kept, and signed heads.

An entry is one line of canonical JSON (RFC 8785), the same in an export as under its hash:

    {"at":"2026-11-23T12:00:00.000000Z","body":"…","event":"5f3a9c01-000123","kind":"released","previous":"…","seq":17}

`previous` is the leaf hash of the entry before it, so the entries are a chain; the leaf hashes are the leaves of a
Merkle tree (`agent.relay.merkle`), whose root a head signs. `body` is a string: for what left the device, the payload
word for word; else canonical JSON or nothing. `event` and `body` are left out where there is none. The `previous` of
entry 1 is the SHA-256 of `vigie-audit-1`, a line feed and the log's id.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import dataclass
from typing import Literal, get_args

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from agent.canonical import canonical
from agent.contract import AuditHead
from agent.relay.keys import fingerprint
from agent.relay.merkle import Range, leaf_hash

#: The life of an event, written by the journal alone. One that is `held` waits for the clock to be set, and is released
#: then, with the time that it gets. `salvaged` events come from a database that could not be read.
EventKind = Literal["held", "released", "first_attempt", "acknowledged", "evicted", "salvaged"]
#: A message that is no event, as it is handed to the connection; `will` is what the broker may say in our place.
MessageKind = Literal[
    "birth", "status", "will", "health", "count", "state", "suppressed", "notice", "reported", "result"
]
#: What was done to the device, or by it, that an officer wants to know.
ActKind = Literal["configuration", "policy", "command", "pause", "resume", "aiming"]
#: The journal's own: a start, an orderly stop, another log before this one, older entries that were not chained.
LifeKind = Literal["opened", "closed", "replaced", "migrated"]
AuditKind = EventKind | MessageKind | ActKind | LifeKind

MESSAGES: frozenset[str] = frozenset(get_args(MessageKind))

_HEAD_PREFIX = b"vigie-audit-head-1\n"
_CHAIN_PREFIX = b"vigie-audit-1\n"


def lenient(text: bytes) -> str:
    """Text of a database: where it was damaged, it must not stop the reading; it has another hash in any case."""
    return text.decode(errors="replace")


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry.

    Attributes:
        seq: Its number, from 1.
        at: Wall time of the device, UTC.
        kind: What it records.
        event: Id of the event that it is about.
        body: What it says.
        previous: Leaf hash of the entry before it.
    """

    seq: int
    at: str
    kind: str
    event: str | None
    body: str | None
    previous: bytes

    @property
    def first(self) -> int:
        """Its number, as the first of a stretch of one."""
        return self.seq

    @property
    def last(self) -> int:
        """Its number, as the last of a stretch of one."""
        return self.seq

    def line(self) -> bytes:
        """The entry as canonical JSON, without line feed."""
        table = {"at": self.at, "kind": self.kind, "previous": self.previous, "seq": self.seq}
        if self.event is not None:
            table["event"] = self.event
        if self.body is not None:
            table["body"] = self.body
        return canonical(table)

    def leaf(self) -> bytes:
        """Its leaf hash."""
        return leaf_hash(self.line())


@dataclass(frozen=True, slots=True)
class Pruned:
    """Entries `first` to `last` that are no longer kept, and the hashes that stand for them in the tree."""

    first: int
    last: int
    nodes: tuple[bytes, ...]

    @classmethod
    def of(cls, part: Range) -> Pruned:
        """What stands for the leaves of a range."""
        return cls(part.begin + 1, part.end, part.nodes)

    def range(self) -> Range:
        """Its leaves; they are counted from 0, entries from 1."""
        return Range(self.first - 1, self.last, self.nodes)

    def line(self) -> bytes:
        """The stretch as canonical JSON."""
        return canonical({"nodes": self.nodes, "pruned": [self.first, self.last]})


def chain_start(log: str) -> bytes:
    """The `previous` of entry 1."""
    return hashlib.sha256(_CHAIN_PREFIX + log.encode()).digest()


def sign_head(
    key: Ed25519PrivateKey, log: str, source: str, tree: Range, kept_from: int, time: dt.datetime
) -> AuditHead:
    """The head of a log as it is now."""
    head = AuditHead(
        log=log,
        source=source,
        size=tree.end,
        root=tree.root().hex(),
        kept_from=kept_from,
        time=time.strftime("%Y-%m-%dT%H:%M:%SZ"),
        key=fingerprint(key.public_key()),
        signature="0" * 128,
    )
    return head.model_copy(update={"signature": key.sign(_signed_text(head)).hex()})


def head_line(head: AuditHead) -> bytes:
    """A head as canonical JSON: the MQTT payload, and the first line of an export."""
    return canonical(head.model_dump())


def fault_of_head(head: AuditHead, key: Ed25519PublicKey) -> str | None:
    """Why a head is not to be trusted, in words; None when the key signed it as it is."""
    expected = fingerprint(key)
    if head.key != expected:
        return f"is signed by another key: {head.key[:16]}…, not {expected[:16]}…"
    try:
        key.verify(bytes.fromhex(head.signature), _signed_text(head))
    except InvalidSignature:
        return "was changed: its signature does not fit its content"
    return None


def _signed_text(head: AuditHead) -> bytes:
    return _HEAD_PREFIX + canonical(head.model_dump(exclude={"signature"}))
