"""The trust file as a manager writes it, for provisioning to carry to the devices."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from agent.command import Role, key_id
from agent.durable import replace_file
from agent.trust import Trust, TrustedKey, TrustError, load_trust

_HEAD = """\
# Keys that may sign commands and configurations for devices. On a device it is /etc/vigie/trust.toml and root's alone.
# Written by vigie fleet keys.
"""


def entry(
    key: Ed25519PublicKey,
    name: str,
    roles: Sequence[Role],
    not_before: dt.datetime | None = None,
    not_after: dt.datetime | None = None,
) -> TrustedKey:
    """The entry of a key.

    Args:
        key: The key.
        name: Whose it is.
        roles: What it may sign.
        not_before: When it becomes valid.
        not_after: When it ceases to be.

    Raises:
        ValueError: a time without an offset, no role.
    """
    public = key.public_bytes_raw().hex()
    return TrustedKey(
        id=key_id(key), public=public, name=name, roles=tuple(roles), not_before=not_before, not_after=not_after
    )


def read_or_new(path: Path) -> Trust:
    """The trust in a file, or an empty one where there is no file.

    Raises:
        TrustError: it cannot be used.
    """
    return load_trust(path) if path.exists() else Trust()


def with_entry(trust: Trust, key: TrustedKey) -> Trust:
    """With a key more, or in the place of the entry that it had.

    Raises:
        TrustError: it was revoked, which is for ever.
    """
    before = next((known for known in trust.keys if known.id == key.id), None)
    if before is not None and before.revoked:
        raise TrustError([f"key {key.id} is revoked: make another one (vigie fleet keys make)"])
    others = tuple(known for known in trust.keys if known.id != key.id)
    return trust.model_copy(update={"keys": (*others, key)})


def without(trust: Trust, key: str) -> Trust:
    """With a key revoked.

    Raises:
        TrustError: it does not stand there.
    """
    if key not in {known.id for known in trust.keys}:
        raise TrustError([f"key {key} is not in the trust file"])
    keys = (known.model_copy(update={"revoked": True}) if known.id == key else known for known in trust.keys)
    return trust.model_copy(update={"keys": tuple(keys)})


def text(trust: Trust) -> str:
    """The file."""
    lines = [_HEAD]
    if trust.min_config_version:
        lines.append(f"min_config_version = {trust.min_config_version}\n")
    for key in trust.keys:
        lines += ["[[key]]", *(f"{name} = {_toml(value)}" for name, value in key if value not in {None, False}), ""]
    return "\n".join(lines)


def _toml(value: object) -> str:
    if isinstance(value, dt.datetime):
        return value.isoformat()
    return json.dumps(value, ensure_ascii=False)


def write(path: Path, trust: Trust) -> None:
    """Replace a file whole; others may read it, since it holds no secret.

    Raises:
        OSError: it cannot be written.
    """
    replace_file(path, text(trust).encode(), 0o644)
