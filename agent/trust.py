"""The trust file: which keys may sign commands and configurations for this device, for what, and until when.

It belongs to root, beside the policy: nothing that comes over the network can change it, so no key can grant anything,
neither to itself nor to another. Keys change by provisioning (`vigie fleet keys trust` writes the entries):

* **Rotation**: add the new key beside the old one, use the new one from `not_before` on, give the old one a `not_after`
  that leaves time for what it has signed, take its entry out later. Both are valid meanwhile.
* **Revocation**: `revoked = true` in its entry. Until provisioning has reached a device, whoever still has the key can
  end it there at once: a `key.revoke` command, signed by the key that it ends.

A file that changes is read again with the next message; one that cannot be read trusts nobody.
"""

from __future__ import annotations

import datetime as dt
import logging
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from agent.command import (
    LONGEST,
    MAY,
    SKEW,
    Command,
    Desired,
    KeyId,
    Refused,
    Role,
    key_id,
    moment,
    read_command,
    read_desired,
    signature_fits,
)
from agent.settings import SettingsError, explain, read_toml

log = logging.getLogger(__name__)


class TrustError(SettingsError):
    """A trust file that cannot be used."""


class TrustedKey(BaseModel):
    """One key."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: KeyId = Field(description="First 16 hexadecimal digits of the SHA-256 of the public key.")
    public: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] = Field(
        description="The Ed25519 public key, 32 bytes in hexadecimal."
    )
    name: str = Field(max_length=80, description="Whose it is, for people.")
    roles: tuple[Role, ...] = Field(min_length=1, description="What it may sign.")
    not_before: dt.datetime | None = Field(None, description="When it becomes valid, with its UTC offset.")
    not_after: dt.datetime | None = Field(None, description="When it ceases to be valid, with its UTC offset.")
    revoked: bool = Field(False, description="Never valid again, whatever the clock says.")

    @model_validator(mode="after")
    def _fits(self) -> TrustedKey:
        if self.id != key_id(self.key):
            raise ValueError(f"id {self.id} is not that of the public key, which is {key_id(self.key)}")
        for time in (self.not_before, self.not_after):
            if time is not None and time.tzinfo is None:
                raise ValueError("not_before and not_after need a UTC offset, such as 2026-12-31T00:00:00Z")
        return self

    @property
    def key(self) -> Ed25519PublicKey:
        """The public key."""
        return Ed25519PublicKey.from_public_bytes(bytes.fromhex(self.public))

    def valid(self, now: dt.datetime) -> bool:
        """Whether it is neither too early nor too late for it."""
        return (self.not_before is None or now >= self.not_before) and (self.not_after is None or now < self.not_after)

    def may(self, asked: Command | Desired) -> bool:
        """Whether it may sign such a message."""
        if isinstance(asked, Desired):
            return "configure" in self.roles
        return any(asked.verb in MAY[role] for role in self.roles)

    @property
    def only_pauses(self) -> bool:
        """Whether its resume takes back its own pause alone."""
        return not any("resume" in MAY[role] for role in self.roles if role != "pause-only")


class Trust(BaseModel):
    """The whole trust file."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    keys: tuple[TrustedKey, ...] = Field((), alias="key", max_length=64, description="Keys that are trusted.")
    min_config_version: int = Field(
        0, ge=0, description="Desired configurations of a lower version are refused, by sense too."
    )

    @model_validator(mode="after")
    def _once(self) -> Trust:
        if len({key.id for key in self.keys}) != len(self.keys):
            raise ValueError("a key stands there twice")
        return self

    def signer(self, message: Command | Desired, payload: bytes, now: dt.datetime | None) -> TrustedKey:
        """Whose message it is.

        Args:
            message: As read from the payload.
            payload: As it came.
            now: Aware wall time; None while nobody knows it.

        Raises:
            Refused: no key that is valid now signed it as it is, or that key may not.
        """
        key = next((key for key in self.keys if key.id == message.key_id), None)
        if key is None:
            raise Refused("unknown_key", f"key {message.key_id} is not in the trust file")
        if key.revoked:
            raise Refused("key_revoked", f"key {key.id}")
        if now is not None and (
            (key.not_before is not None and now < key.not_before)
            or (key.not_after is not None and now >= key.not_after)
        ):
            raise Refused("key_not_valid", f"key {key.id} is valid from {key.not_before} to {key.not_after}")
        if not signature_fits(message, payload, key.key):
            raise Refused("bad_signature", f"key {key.id} did not sign this")
        if not key.may(message):
            raise Refused("not_allowed", f"key {key.id} has the roles {', '.join(key.roles)}")
        return key


@dataclass(frozen=True, slots=True)
class Request:
    """A command that may be obeyed, and who asks."""

    command: Command
    key: TrustedKey


def check_command(payload: bytes, verb: str, target: str, trust: Trust, now: dt.datetime | None) -> Request:
    """The command in a payload; whether it has come before is not checked.

    Args:
        payload: As it came.
        verb: That of the topic.
        target: `<site>/<device>` of this device.
        trust: Who may ask.
        now: Aware wall time; None while the clock is not set, when nothing but a pause can be obeyed.

    Raises:
        Refused: it may not be obeyed.
    """
    command = read_command(payload)
    if command.target != target:
        raise Refused("wrong_target", f"it is for {command.target}")
    if command.verb != verb:
        raise Refused("wrong_topic", f"{command.verb} came on the topic of another verb")
    key = trust.signer(command, payload, now)
    issued, expires = moment(command.issued_at), moment(command.expires_at)
    if expires - issued > LONGEST or expires <= issued:
        raise Refused("too_long", "a command is valid for at most 24 hours")
    if now is None:
        if command.verb != "pause":
            raise Refused("clock", "the device's clock is not set: it obeys nothing but pause")
    elif now >= expires:
        raise Refused("expired", f"at {command.expires_at}")
    elif issued > now + SKEW:
        raise Refused("from_the_future", f"issued at {command.issued_at}; one of the two clocks is wrong")
    return Request(command, key)


def check_desired(payload: bytes, target: str, trust: Trust, now: dt.datetime | None) -> Desired:
    """The desired configuration in a payload; whether its settings can be used is not checked.

    Args:
        payload: As it came.
        target: `<site>/<device>` of this device.
        trust: Who may sign it.
        now: Aware wall time; None while nobody knows it, or where a document is used that was checked before.

    Raises:
        Refused: it is not for this device, or nobody that is trusted signed it.
    """
    found = read_desired(payload)
    if found.target != target:
        raise Refused("wrong_target", f"it is for {found.target}")
    trust.signer(found, payload, now)
    if found.version < trust.min_config_version:
        raise Refused("older_version", f"version {found.version}; the trust file demands {trust.min_config_version}")
    return found


def load_trust(path: Path, *, service: bool = False) -> Trust:
    """The trust in a TOML file.

    Args:
        path: The file.
        service: Demand that root owns it and nobody else can write it.

    Raises:
        TrustError: it cannot be read, has an unknown key, or (as a service) others can change it.
    """
    try:
        trust = Trust.model_validate(read_toml(path))
    except SettingsError as error:
        raise TrustError(error.problems) from None
    except ValidationError as error:
        raise TrustError([f"{path}: {line}" for line in explain(error, Trust)]) from None
    if service:
        status = path.stat()
        if status.st_uid != 0 or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise TrustError([f"{path}: must belong to root and be writable by nobody else: chown root, chmod 644"])
    return trust


class TrustFile:
    """The trust file as it is now."""

    def __init__(self, path: Path, *, service: bool) -> None:
        """Nothing is read yet; the arguments are those of `load_trust`."""
        self._path = path
        self._service = service
        self._seen: tuple[int, int, int] | None = None
        self._trust = Trust()

    def current(self) -> Trust:
        """Whom it names; nobody where there is no such file, or none that can be used."""
        try:
            status = self._path.stat()
        except OSError:
            self._seen, self._trust = None, Trust()
            return self._trust
        seen = (status.st_mtime_ns, status.st_ino, status.st_size)
        if seen != self._seen:
            self._seen = seen
            try:
                self._trust = load_trust(self._path, service=self._service)
            except TrustError as error:
                log.error("event=nobody_trusted reason=%r", str(error))  # noqa: TRY400 - the reason says it all
                self._trust = Trust()
        return self._trust
