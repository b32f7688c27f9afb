"""Fleet control: the signed messages by which a manager asks something of one device, and the device's answers.

A manager sends a `Command` on `cmd/<verb>` and gets a `Result` on `cmd/<verb>/result`; it leaves a `Desired`
configuration retained on `config/desired` and reads what became of it, a `Reported`, on `config/reported`.

What is signed is a prefix that names the kind of document, and the document without its signature as canonical JSON
(`agent.canonical`); so the target, the verb, the key and the request are inside of the signature, and a signature of
one kind fits no other. Who may sign what is in the trust file (`agent.trust`).

This module is pure: it reads no file and no clock.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from typing import Annotated, Any, Literal, TypeVar, get_args

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from agent.canonical import JsonError, canonical, parse
from agent.contract import BootId, DetectorLabel, LogLevelName, Name, Sha256, Timestamp

VERSION = 1
#: Largest command, and largest desired configuration, bytes.
COMMAND_MAX_SIZE = 4096
DESIRED_MAX_SIZE = 49_152
#: Longest validity of a command.
LONGEST = dt.timedelta(hours=24)
#: How far a manager's clock may be ahead of the device's.
SKEW = dt.timedelta(minutes=5)

Verb = Literal[
    "announce",
    "detector.disable",
    "detector.enable",
    "diagnostics",
    "key.revoke",
    "log.level",
    "pause",
    "restart",
    "resume",
    "selftest",
]
VERBS: tuple[Verb, ...] = get_args(Verb)

Role = Literal["observe", "operate", "configure", "pause-only"]
_OBSERVE: frozenset[Verb] = frozenset({"announce", "diagnostics", "key.revoke"})
#: What a key of each role may ask for. `key.revoke` ends the key that signs it, so that every key may do it; a resume
#: of a pause-only key takes back that key's own pause and no other. Role `configure` alone may sign a configuration.
MAY: dict[Role, frozenset[Verb]] = {
    "observe": _OBSERVE,
    "operate": _OBSERVE
    | {"detector.disable", "detector.enable", "log.level", "pause", "restart", "resume", "selftest"},
    "configure": _OBSERVE,
    "pause-only": frozenset({"pause", "resume", "key.revoke"}),
}

Reason = Literal[
    "bad_args",
    "bad_signature",
    "clock",
    "expired",
    "from_the_future",
    "interrupted",
    "key_not_valid",
    "key_revoked",
    "local_edit",
    "malformed",
    "not_allowed",
    "not_configured",
    "older_version",
    "other_request",
    "policy",
    "replayed",
    "retained",
    "sense",
    "settings",
    "too_large",
    "too_long",
    "too_many",
    "unknown_key",
    "unknown_verb",
    "version",
    "worse",
    "wrong_target",
    "wrong_topic",
]

#: First 16 hexadecimal digits of the SHA-256 of the public key.
KeyId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
#: Chosen by the manager, never twice with one key.
RequestId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{8,64}$")]
_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")
Target = Annotated[str, StringConstraints(pattern="^[a-z0-9-]{1,32}/[a-z0-9-]{1,32}$")]
Signature = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{128}$")]
#: Counts up with each command of a key; milliseconds since 1970 will do.
Counter = Annotated[int, Field(ge=1, lt=2**53)]


class Refused(ValueError):  # noqa: N818 - it is said of a command, not of a program
    """A message that is not obeyed.

    Attributes:
        reason: Why, from a closed list; it is told to the sender.
    """

    def __init__(self, reason: Reason, words: str = "") -> None:
        super().__init__(f"{reason}: {words}" if words else reason)
        self.reason: Reason = reason


class Closed(BaseModel):
    """A message without room for anything that is not named here."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


class Args(Closed):
    """What a verb may need; every verb takes exactly its own."""

    type: DetectorLabel | None = None
    """Event type, such as `crowd.gathering` (`detector.enable`, `detector.disable`)."""
    zone: Name | None = None
    """Zone; absent: wherever the type is looked for (`detector.enable`, `detector.disable`)."""
    level: LogLevelName | None = None
    """Least severity logged until the next start (`log.level`)."""


#: Arguments that a verb must have, and those that it may have beside them; all others have none.
_ARGS: dict[Verb, tuple[frozenset[str], frozenset[str]]] = {
    "detector.disable": (frozenset({"type"}), frozenset({"zone"})),
    "detector.enable": (frozenset({"type"}), frozenset({"zone"})),
    "log.level": (frozenset({"level"}), frozenset()),
}


class Command(Closed):
    """On `cmd/<verb>`, not retained: one request of a manager to one device, at most `COMMAND_MAX_SIZE` bytes."""

    v: Literal[1] = 1
    """Version of this form."""
    key_id: KeyId
    """The key that signed it."""
    target: Target
    """`<site>/<device>`."""
    verb: Verb
    """What to do; the same as in the topic."""
    request_id: RequestId
    """Names the request: one that comes again is answered again, and not obeyed again."""
    issued_at: Timestamp
    """When it was signed."""
    expires_at: Timestamp
    """When it is void; at most 24 hours later."""
    counter: Counter | None = None
    """Must be there for `pause`: a device whose clock is not set obeys a pause with a counter above all before."""
    args: Args = Args()
    """What the verb needs."""
    signature: Signature
    """Ed25519 over `vigie-command-1`, a line feed, and the other fields as canonical JSON (RFC 8785)."""


class Diagnostics(Closed):
    """How a device is, in numbers about itself and classes; nothing of what it sees or hears."""

    agent: Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z.+-]{1,40}$")]
    """Version of the agent."""
    uptime_s: Annotated[int, Field(ge=0)]
    """How long relay runs, seconds."""
    outbox_events: Annotated[int, Field(ge=0)]
    """Events that wait for delivery."""
    evicted: Annotated[int, Field(ge=0)]
    """Events given up since the start."""
    clock: Literal["synced", "unsynced"]
    """Whether the clock was set."""
    mqtt: Literal["5", "3.1.1"]
    """Version of MQTT that is spoken."""
    log_level: LogLevelName
    """Least severity logged."""
    paused: bool
    """Whether the privacy shutter is closed."""
    off: tuple[Annotated[str, StringConstraints(max_length=80)], ...]
    """Detectors that a command has switched off, as `type` or `type zone`."""
    reasons: tuple[Annotated[str, StringConstraints(pattern="^[a-z]{3,12}$")], ...]
    """As in `status`."""


class Result(Closed):
    """On `cmd/<verb>/result`, or on the Response Topic of MQTT 5 where that lies below it: how far a command is."""

    boot: BootId
    """Start of relay that says so."""
    request_id: RequestId | None = None
    """Of the command; absent where it could not be read."""
    state: Literal["accepted", "executing", "succeeded", "failed", "rejected"]
    """Forward only: accepted, executing, then one of the other three. `rejected` changes nothing on the device."""
    reason: Reason | None = None
    """Why it is rejected or failed."""
    time: Timestamp
    """When, by the device's clock."""
    diagnostics: Diagnostics | None = None
    """The answer to `diagnostics`."""


class Desired(Closed):
    """Retained on `config/desired`: the settings that a manager wants, at most `DESIRED_MAX_SIZE` bytes."""

    v: Literal[1] = 1
    """Version of this form."""
    key_id: KeyId
    """The key that signed it; it needs the role `configure`."""
    target: Target
    """`<site>/<device>`."""
    version: Annotated[int, Field(ge=1, lt=2**53)]
    """Higher than that of every document before it."""
    local_version: Annotated[int, Field(ge=0, lt=2**53)]
    """The `local_version` that the manager has read in `config/reported`: a later local edit refuses this document."""
    issued_at: Timestamp
    """When it was signed."""
    settings: dict[str, Any]
    """A part of the device's configuration file, as `agent.desired` allows it."""
    signature: Signature
    """Ed25519 over `vigie-config-1`, a line feed, and the other fields as canonical JSON (RFC 8785)."""


class Reported(Closed):
    """Retained on `config/reported`: what became of the desired configuration, and what is in force."""

    boot: BootId
    """Start of relay that says so."""
    state: Literal["local", "trial", "applied", "rolled_back", "rejected", "diverged"]
    """Of the latest desired document; `local` before there was one, `trial` until sense is ready with it."""
    reason: Reason | None = None
    """Why it is not applied."""
    version: Annotated[int, Field(ge=1)] | None = None
    """Version of that document; absent where it could not be read, or there is none."""
    document: Sha256 | None = None
    """SHA-256 of that document, byte by byte."""
    in_force: Annotated[int, Field(ge=1)] | None = None
    """Version of the document that is in force; absent while the local settings alone are."""
    config: Sha256
    """SHA-256 of the whole configuration in force, as in `birth`."""
    local_version: Annotated[int, Field(ge=1)]
    """Counts the edits of a technician in the device's own files."""
    settings: dict[str, Any]
    """What is in force of the part that a manager may change."""
    time: Timestamp
    """When it came to be so."""


Signed = TypeVar("Signed", Command, Desired)
_PREFIX: dict[type[BaseModel], bytes] = {Command: b"vigie-command-1\n", Desired: b"vigie-config-1\n"}


def key_id(key: Ed25519PublicKey) -> str:
    """The id of a public key."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def moment(text: str) -> dt.datetime:
    """The moment that a `Timestamp` names.

    Raises:
        ValueError: there is no such day or hour.
    """
    return dt.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=dt.timezone.utc)


def stamp(time: dt.datetime) -> str:
    """A moment as a `Timestamp`."""
    return time.astimezone(dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def command(
    key: Ed25519PrivateKey,
    target: str,
    verb: Verb,
    request_id: str,
    now: dt.datetime,
    *,
    lasts: dt.timedelta = LONGEST,
    args: dict[str, str] | None = None,
) -> bytes:
    """A signed command, as it is sent.

    Args:
        key: Signs it.
        target: `<site>/<device>`.
        verb: What to do.
        request_id: New for each command.
        now: Aware wall time.
        lasts: How long it is valid.
        args: What the verb needs.
    """
    fields = {
        "target": target,
        "verb": verb,
        "request_id": request_id,
        "issued_at": stamp(now),
        "expires_at": stamp(now + lasts),
        "counter": round(now.timestamp() * 1000),
        "args": args or {},
    }
    return _signed(Command, key, fields)


def desired(
    key: Ed25519PrivateKey, target: str, version: int, local_version: int, now: dt.datetime, settings: dict[str, Any]
) -> bytes:
    """A signed configuration, as it is sent.

    Args:
        key: Signs it.
        target: `<site>/<device>`.
        version: Higher than all before.
        local_version: As read in `config/reported`.
        now: Aware wall time.
        settings: A part of the configuration.
    """
    fields = {
        "target": target,
        "version": version,
        "local_version": local_version,
        "issued_at": stamp(now),
        "settings": settings,
    }
    return _signed(Desired, key, fields)


def _signed(kind: type[BaseModel], key: Ed25519PrivateKey, fields: dict[str, Any]) -> bytes:
    table = {"v": VERSION, "key_id": key_id(key.public_key()), **fields}
    table["signature"] = key.sign(_PREFIX[kind] + canonical(table)).hex()
    return canonical(table)


def signature_fits(message: Command | Desired, payload: bytes, key: Ed25519PublicKey) -> bool:
    """Whether a key signed a message.

    Args:
        message: As read from the payload.
        payload: As it came: every field of it is signed, as it was written.
        key: Whose signature it should be.
    """
    table = parse(payload, len(payload))
    table.pop("signature")
    try:
        key.verify(bytes.fromhex(message.signature), _PREFIX[type(message)] + canonical(table))
    except InvalidSignature:
        return False
    return True


def read_command(payload: bytes) -> Command:
    """The command in a payload; who signed it is not checked.

    Raises:
        Refused: it is none, or its arguments are not those of its verb.
    """
    found = _read(Command, payload, COMMAND_MAX_SIZE)
    needed, allowed = _ARGS.get(found.verb, (frozenset(), frozenset()))
    given = {name for name, value in found.args if value is not None}
    if not needed <= given <= needed | allowed or given != found.args.model_fields_set:
        raise Refused("bad_args", f"{found.verb} takes {', '.join(sorted(needed | allowed)) or 'nothing'}")
    if found.verb == "pause" and found.counter is None:
        raise Refused("bad_args", "pause needs a counter")
    return found


def read_desired(payload: bytes) -> Desired:
    """The desired configuration in a payload; neither its signature nor its settings are checked.

    Raises:
        Refused: it is none.
    """
    return _read(Desired, payload, DESIRED_MAX_SIZE)


def _read(kind: type[Signed], payload: bytes, max_size: int) -> Signed:
    if len(payload) > max_size:
        raise Refused("too_large", f"{len(payload)} bytes, more than {max_size}")
    try:
        table = parse(payload, max_size)
    except JsonError as error:
        raise Refused("malformed", str(error)) from None
    if table.get("v") != VERSION:
        raise Refused("version", f"this device reads version {VERSION}")
    try:
        found = kind.model_validate(table)
        for name in ("issued_at", "expires_at"):
            moment(table.get(name, "2026-01-01T00:00:00Z"))
    except ValidationError as error:
        first = error.errors()[0]
        if first["loc"] == ("verb",):
            raise Refused("unknown_verb") from None
        why: Reason = "bad_args" if first["loc"][:1] == ("args",) else "malformed"
        raise Refused(why, f"{'.'.join(map(str, first['loc']))}: {first['type']}"[:200]) from None
    except ValueError:
        raise Refused("malformed", "no such time") from None
    return found


def request_of(payload: bytes) -> str | None:
    """The request id in a payload that is refused, so that its sender can tell which one is meant."""
    try:
        found = parse(payload, COMMAND_MAX_SIZE).get("request_id")
    except JsonError:
        return None
    return found if isinstance(found, str) and _REQUEST_ID.fullmatch(found) else None
