"""Who may ask a device for what: the envelope, the keys, and each reason for which a message is refused."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.canonical import canonical
from agent.command import DESIRED_MAX_SIZE, VERBS, Refused, Verb, command, desired, key_id, request_of
from agent.trust import Trust, TrustedKey, TrustError, TrustFile, check_command, check_desired, load_trust

NOW = dt.datetime(2026, 11, 27, 12, 0, tzinfo=dt.timezone.utc)
HERE = "old-port/cam-07"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
STRANGER = Ed25519PrivateKey.from_private_bytes(bytes(32))
ARGS: dict[str, dict[str, str]] = {
    "detector.enable": {"type": "crowd.density", "zone": "quay"},
    "detector.disable": {"type": "crowd.density"},
    "log.level": {"level": "debug"},
}


def trusted(*roles: str, key: Ed25519PrivateKey = KEY, **more: Any) -> Trust:
    public = key.public_key()
    entry = {"id": key_id(public), "public": public.public_bytes_raw().hex(), "name": "control room", "roles": roles}
    return Trust.model_validate({"key": [{**entry, **more}]})


def asked(verb: Verb = "selftest", key: Ed25519PrivateKey = KEY, **more: Any) -> bytes:
    fields = {"target": HERE, "request_id": "request-1", "now": NOW, "args": ARGS.get(verb), **more}
    return command(key, verb=verb, **fields)


def reason(payload: bytes, trust: Trust | None = None, verb: str = "selftest", now: dt.datetime | None = NOW) -> str:
    with pytest.raises(Refused) as caught:
        check_command(payload, verb, HERE, trust or trusted("operate"), now)
    return caught.value.reason


def changed(payload: bytes, **fields: Any) -> bytes:
    return canonical({**json.loads(payload), **fields})


def test_a_command_of_a_trusted_key_is_read_back() -> None:
    found = check_command(asked(), "selftest", HERE, trusted("operate"), NOW)
    assert (found.command.verb, found.command.request_id, found.key.name) == ("selftest", "request-1", "control room")


def test_it_may_be_written_in_any_way_that_says_the_same() -> None:
    payload = json.dumps(json.loads(asked()), indent=3).encode()
    assert check_command(payload, "selftest", HERE, trusted("operate"), NOW)


@pytest.mark.parametrize(
    ("roles", "may"),
    [
        (("observe",), {"announce", "diagnostics", "key.revoke"}),
        (("operate",), set(VERBS)),
        (("configure",), {"announce", "diagnostics", "key.revoke"}),
        (("pause-only",), {"pause", "resume", "key.revoke"}),
        (("pause-only", "observe"), {"pause", "resume", "announce", "diagnostics", "key.revoke"}),
    ],
)
def test_a_role_may_do_exactly_what_the_table_says(roles: tuple[str, ...], may: set[str]) -> None:
    for verb in VERBS:
        if verb in may:
            assert check_command(asked(verb), verb, HERE, trusted(*roles), NOW)
        else:
            assert reason(asked(verb), trusted(*roles), verb) == "not_allowed"


REFUSALS: list[tuple[str, Callable[[], str]]] = [
    ("unknown_key", lambda: reason(asked(key=STRANGER))),
    ("bad_signature", lambda: reason(changed(asked(), expires_at="2026-11-27T13:00:00Z"))),
    ("bad_signature", lambda: reason(changed(asked(key=STRANGER), key_id=key_id(KEY.public_key())))),
    ("wrong_target", lambda: reason(asked(target="old-port/cam-08"))),
    ("wrong_topic", lambda: reason(asked(), verb="restart")),
    ("expired", lambda: reason(asked(), now=NOW + dt.timedelta(hours=24))),
    ("too_long", lambda: reason(asked(lasts=dt.timedelta(hours=24, seconds=1)))),
    ("too_long", lambda: reason(asked(lasts=dt.timedelta(0)))),
    ("from_the_future", lambda: reason(asked(now=NOW + dt.timedelta(minutes=6)))),
    ("clock", lambda: reason(asked(), now=None)),
    ("key_revoked", lambda: reason(asked(), trusted("operate", revoked=True))),
    ("key_not_valid", lambda: reason(asked(), trusted("operate", not_after=NOW))),
    ("key_not_valid", lambda: reason(asked(), trusted("operate", not_before=NOW + dt.timedelta(seconds=1)))),
    ("bad_args", lambda: reason(asked(args={"type": "crowd.density"}))),
    ("bad_args", lambda: reason(asked("detector.enable", args={"zone": "quay"}), verb="detector.enable")),
    ("bad_args", lambda: reason(asked("detector.enable", args={"type": "no.such"}), verb="detector.enable")),
    ("bad_args", lambda: reason(changed(asked("pause"), counter=None), verb="pause")),
    ("unknown_verb", lambda: reason(changed(asked(), verb="format"))),
    ("version", lambda: reason(changed(asked(), v=2))),
    ("malformed", lambda: reason(changed(asked(), issued_at="2026-02-30T00:00:00Z"))),
    ("malformed", lambda: reason(changed(asked(), request_id="a b"))),
    ("malformed", lambda: reason(changed(asked(), more=1))),
    ("malformed", lambda: reason(asked()[:-1])),
    ("malformed", lambda: reason(asked()[:-1] + b',"v":1}')),
    ("too_large", lambda: reason(asked() + b" " * 4096)),
]


@pytest.mark.parametrize(("why", "refusal"), REFUSALS)
def test_each_refusal_has_its_reason(why: str, refusal: Callable[[], str]) -> None:
    assert refusal() == why


def test_a_device_without_a_clock_obeys_a_pause_alone() -> None:
    trust = trusted("pause-only", not_after=NOW - dt.timedelta(days=1))
    assert check_command(asked("pause"), "pause", HERE, trust, None)
    assert reason(asked("resume"), trust, "resume", None) == "clock"


def test_a_signature_of_a_command_fits_no_configuration() -> None:
    document = json.loads(desired(KEY, HERE, 1, 1, NOW, {}))
    forged = {**document, "signature": json.loads(asked())["signature"]}
    with pytest.raises(Refused, match="bad_signature"):
        check_desired(canonical(forged), HERE, trusted("configure"), NOW)


def test_a_configuration_needs_the_role_the_device_and_the_version() -> None:
    document = desired(KEY, HERE, 3, 1, NOW, {"camera": []})
    assert check_desired(document, HERE, trusted("configure"), NOW).version == 3
    low = trusted("configure").model_copy(update={"min_config_version": 4})
    for trust, here, why in (
        (trusted("operate"), HERE, "not_allowed"),
        (trusted("configure"), "old-port/cam-08", "wrong_target"),
        (low, HERE, "older_version"),
    ):
        with pytest.raises(Refused) as caught:
            check_desired(document, here, trust, NOW)
        assert caught.value.reason == why
    with pytest.raises(Refused, match="too_large"):
        check_desired(document + b" " * DESIRED_MAX_SIZE, HERE, trusted("configure"), NOW)


def test_old_and_new_key_are_valid_side_by_side() -> None:
    both = Trust(keys=(*trusted("operate").keys, *trusted("operate", key=STRANGER).keys))
    for key in (KEY, STRANGER):
        assert check_command(asked(key=key), "selftest", HERE, both, NOW)


def test_the_request_is_named_where_it_can_be_read() -> None:
    assert request_of(changed(asked(), more=1)) == "request-1"
    assert request_of(changed(asked(), request_id="<script>")) is None
    assert request_of(b"{") is None


def write(path: Path, trust: Trust) -> None:
    key = trust.keys[0]
    path.write_text(f'[[key]]\nid = "{key.id}"\npublic = "{key.public}"\nname = "x"\nroles = ["operate"]\n')


def test_a_trust_file_is_read_again_when_it_changes_and_one_that_is_broken_trusts_nobody(tmp_path: Path) -> None:
    path = tmp_path / "trust.toml"
    file = TrustFile(path, service=False)
    assert file.current() == Trust()
    write(path, trusted("operate"))
    assert [key.id for key in file.current().keys] == [key_id(KEY.public_key())]
    path.write_text("[[key]]\nid = 1\n")
    assert file.current() == Trust()
    path.unlink()
    assert file.current() == Trust()


def test_a_trust_file_that_others_can_write_is_refused_as_a_service(tmp_path: Path) -> None:
    path = tmp_path / "trust.toml"
    write(path, trusted("operate"))
    path.chmod(0o666)
    with pytest.raises(TrustError, match="root"):
        load_trust(path, service=True)
    assert load_trust(path).keys


def test_a_key_whose_id_is_of_another_is_refused() -> None:
    with pytest.raises(ValueError, match="not that of the public key"):
        TrustedKey(id="0" * 16, public=trusted("observe").keys[0].public, name="x", roles=("observe",))
