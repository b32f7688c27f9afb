"""The trust file as a manager writes it is the one that a device reads."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

from agent.cli.app import app
from agent.fleet.trusted import entry, read_or_new, with_entry, without, write
from agent.trust import Trust, TrustError, load_trust

OLD, NEW = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32).public_key() for n in (1, 2))
END = dt.datetime(2026, 12, 31, tzinfo=dt.timezone.utc)


def test_a_rotation_keeps_both_keys_and_ends_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "trust.toml"
    trust = with_entry(read_or_new(path), entry(OLD, 'the "old" room', ["operate"]))
    trust = with_entry(trust, entry(NEW, "the new room", ["operate", "configure"], not_before=END))
    write(path, with_entry(trust, entry(OLD, 'the "old" room', ["operate"], not_after=END)))
    new, old = load_trust(path).keys
    assert (old.name, old.not_before, old.not_after) == ('the "old" room', None, END)
    assert (new.roles, new.not_before, new.not_after) == (("operate", "configure"), END, None)
    assert path.stat().st_mode & 0o777 == 0o644


def test_what_is_revoked_stays_revoked(tmp_path: Path) -> None:
    path = tmp_path / "trust.toml"
    write(path, without(with_entry(Trust(), entry(OLD, "x", ["observe"])), entry(OLD, "x", ["observe"]).id))
    assert load_trust(path).keys[0].revoked
    with pytest.raises(TrustError, match="is revoked"):
        with_entry(load_trust(path), entry(OLD, "x", ["observe"]))
    with pytest.raises(TrustError, match="not in the trust file"):
        without(load_trust(path), "0" * 16)


def test_from_the_command_line(tmp_path: Path) -> None:
    key, file = tmp_path / "room.pem", tmp_path / "trust.toml"

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["fleet", "keys", *arguments])
        return result.exit_code, result.output

    assert run("make", str(key))[0] == 0
    assert key.stat().st_mode & 0o777 == 0o600
    assert run("make", str(key))[0] == 2, "a key is never replaced"
    more = ["--name", "room", "--trust-file", str(file), "--not-before", "2027-01-01T00:00:00Z"]
    assert run("trust", f"{key}.pub", "--role", "operate", "--role", "configure", *more)[0] == 0
    code, output = run("list", "--trust-file", str(file), "--json")
    (told,) = json.loads(output)
    assert (code, told["roles"], told["not_before"], told["not_after"]) == (
        0,
        ["operate", "configure"],
        "2027-01-01T00:00:00Z",
        None,
    )
    assert run("trust", f"{key}.pub", "--role", "root", *more)[0] == 2
    assert run("revoke", f"{key}.pub", "--trust-file", str(file))[0] == 0
    assert load_trust(file).keys[0].revoked
