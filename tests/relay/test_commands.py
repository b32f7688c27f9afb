"""Commands on one device: obeyed once, whatever is delivered how often, and each refusal with its reason."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.command import Diagnostics, Result, Verb, command, key_id
from agent.contract import AnyControl, ControlCode, Detectors, LogLevelName, Pause, ReplyCode, Resume, Selftest
from agent.relay.commands import ANSWER_S, Commands
from agent.relay.journal import Journal, JournalFullError
from agent.relay.ledger import MOST
from agent.relay.mqtt import Incoming
from agent.trust import Trust, TrustFile

if TYPE_CHECKING:
    import paho.mqtt.client as paho

HERE = "old-port/cam-07"
KEY, PAUSER, REVOKED = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2, 3))
NOW = dt.datetime(2026, 11, 27, 12, 0, tzinfo=dt.timezone.utc)


class Known(TrustFile):
    """Keys of the control room and of a bridge."""

    def __init__(self) -> None:
        super().__init__(Path("nowhere"), service=False)

    def current(self) -> Trust:
        entries = [(KEY, "operate"), (PAUSER, "pause-only"), (REVOKED, "operate")]
        return Trust.model_validate(
            {
                "key": [
                    {
                        "id": key_id(key.public_key()),
                        "public": key.public_key().public_bytes_raw().hex(),
                        "name": role,
                        "roles": (role,),
                    }
                    for key, role in entries
                ]
            }
        )


@dataclass
class Hands:
    """Notes what it is told to do."""

    controls: list[AnyControl] = field(default_factory=list)
    told: list[tuple[str, Result, bytes | None]] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    connected: bool = True
    rules: tuple[list[str | None], list[str | None]] = (["quay", "lawn"], ["quay"])

    def control(self, control: AnyControl) -> None:
        self.controls.append(control)

    def tell(self, path: str, result: Result, correlation: bytes | None) -> int | None:
        self.told.append((path, result, correlation))
        return len(self.told) if self.connected else None

    def announce(self) -> None:
        self.done.append("announce")

    def diagnostics(self) -> Diagnostics:
        table: dict[str, Any] = {"agent": "1", "uptime_s": 1, "outbox_events": 0, "evicted": 0, "clock": "synced"}
        return Diagnostics(**table, mqtt="5", log_level="info", paused=False, off=(), reasons=())

    def log_level(self, level: LogLevelName) -> None:
        self.done.append(level)

    def restart(self) -> None:
        self.done.append("restart")

    def places(self, label: str) -> tuple[Sequence[str | None], Sequence[str | None]]:
        del label
        return self.rules


class Bench:
    """A device at one moment; `again` is what is left of it after kill -9."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now, self.synced, self.seconds = NOW, True, 0.0
        self.start()

    def start(self) -> None:
        self.journal = Journal(
            self.folder,
            "old-port",
            "cam-07",
            outbox_max_bytes=10**6,
            outbox_max_age_s=3600,
            audit_max_bytes=10**7,
            wall=lambda: self.now,
        )
        self.hands = Hands()
        self.commands = Commands(
            HERE, self.journal, Known(), self.hands, lambda: self.now, lambda: self.synced, lambda: self.seconds
        )
        self.commands.go_on()

    def again(self) -> None:
        self.journal.close()
        self.start()

    def take(self, payload: bytes, verb: str, **more: Any) -> None:
        fields: dict[str, Any] = {"retained": False, "response": None, "correlation": None, "number": 1, **more}
        connection = cast("paho.Client", None)
        topic = f"vigie/v1/{HERE}/cmd/{verb}"
        self.commands.take(Incoming(topic=topic, payload=payload, connection=connection, **fields))

    def ask(self, verb: Verb, request: str = "request-1", key: Ed25519PrivateKey = KEY, **more: Any) -> bytes:
        args = more.pop("args", None)
        payload = command(key, HERE, verb, request, more.pop("at", self.now), args=args)
        self.take(payload, verb, **more)
        return payload

    def states(self) -> list[str]:
        return [result.state for _, result, _ in self.hands.told]

    def last(self) -> tuple[str, str | None]:
        result = self.hands.told[-1][1]
        return result.state, result.reason

    def recorded(self, *kinds: str) -> list[dict[str, Any]]:
        rows = self.journal._database.execute("SELECT kind, body FROM audit ORDER BY seq")
        return [json.loads(body) for kind, body in rows if kind in kinds]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    made.now += dt.timedelta(seconds=1)
    yield made
    made.journal.close()


def test_a_command_walks_through_its_states_and_is_recorded(bench: Bench) -> None:
    bench.ask("diagnostics", correlation=b"c-1")
    assert bench.states() == ["accepted", "executing", "succeeded"]
    assert {(path, correlation) for path, _, correlation in bench.hands.told} == {("cmd/diagnostics/result", b"c-1")}
    assert bench.hands.told[-1][1].diagnostics is not None
    assert [(said["state"], said["request"]) for said in bench.recorded("command")] == [
        ("accepted", "request-1"),
        ("succeeded", "request-1"),
    ]
    assert bench.recorded("command")[0]["name"] == "operate"


def test_a_verb_that_rabbitmq_took_apart_is_the_same_verb(bench: Bench) -> None:
    bench.take(command(KEY, HERE, "log.level", "request-1", bench.now, args={"level": "debug"}), "log/level")
    assert bench.last() == ("succeeded", None)


def test_what_sense_must_do_is_over_when_sense_says_so(bench: Bench) -> None:
    bench.ask("selftest")
    assert bench.last() == ("executing", None)
    assert bench.hands.controls == [Selftest()]
    bench.commands.answered(ControlCode.SELFTEST, ReplyCode.FAILED)
    assert bench.last() == ("failed", "sense")


def test_a_sense_that_does_not_answer_fails_the_command(bench: Bench) -> None:
    bench.ask("selftest")
    bench.seconds += ANSWER_S
    bench.commands.look()
    assert bench.last() == ("failed", "sense")
    bench.commands.answered(ControlCode.SELFTEST, ReplyCode.DONE)
    assert bench.last() == ("failed", "sense"), "what comes too late changes nothing"


def test_a_command_that_comes_three_times_is_obeyed_once_and_answered_each_time(bench: Bench) -> None:
    payload = bench.ask("log.level", args={"level": "debug"})
    bench.take(payload, "log.level")
    bench.again()
    bench.take(payload, "log.level")
    assert bench.states() == ["succeeded"]
    assert bench.hands.done == []
    assert [said["state"] for said in bench.recorded("command")] == ["accepted", "succeeded"]


def test_what_relay_died_over_goes_on_and_succeeds_once(bench: Bench) -> None:
    bench.ask("pause")
    bench.again()
    assert bench.states() == ["executing"]
    assert shut(bench), "the shutter is closed after a restart too"
    assert bench.commands.orders()[-1] == Pause()
    bench.commands.answered(ControlCode.PAUSE, ReplyCode.DONE)
    assert bench.last() == ("succeeded", None)
    bench.again()
    assert bench.states() == []


def test_a_restart_has_succeeded_when_relay_is_back(bench: Bench) -> None:
    payload = bench.ask("restart")
    assert (bench.hands.done, bench.last()) == (["restart"], ("executing", None))
    bench.again()
    assert bench.last() == ("succeeded", None)
    bench.take(payload, "restart")
    assert bench.hands.done == []


def test_another_command_under_the_same_id_is_refused(bench: Bench) -> None:
    bench.ask("diagnostics")
    bench.ask("announce")
    assert bench.last() == ("rejected", "other_request")
    assert bench.hands.done == []


def test_two_keys_may_use_the_same_id(bench: Bench) -> None:
    bench.ask("pause")
    bench.ask("pause", key=PAUSER)
    assert bench.states().count("executing") == 2


def shut(bench: Bench) -> bool:
    return bench.commands.paused


def test_a_retained_command_is_ignored_and_says_so(bench: Bench) -> None:
    bench.ask("announce", retained=True)
    assert bench.last() == ("rejected", "retained")
    assert bench.hands.done == []


def test_an_answer_goes_to_the_response_topic_below_the_own_results_alone(bench: Bench) -> None:
    own = f"vigie/v1/{HERE}/cmd/"
    cases = {
        f"{own}announce/result/manager-1": "cmd/announce/result/manager-1",
        f"{own}announce/result": "cmd/announce/result",
        f"{own}announce/result/#": "cmd/announce/result",
        f"{own}announce/result/{'x' * 300}": "cmd/announce/result",
        f"{own}../result/x": "cmd/../result/x",  # MQTT knows no parents: it is a level of that name, below cmd/
        f"vigie/v1/{HERE}/event/person.down": "cmd/announce/result",
        "vigie/v1/old-port/cam-08/cmd/announce/result": "cmd/announce/result",
    }
    for number, (asked, used) in enumerate(cases.items()):
        bench.ask("announce", f"request-{number}", response=asked)
        assert bench.hands.told[-1][0] == used


def test_an_expired_request_is_forgotten_and_not_obeyed_by_a_clock_that_is_set_back(bench: Bench) -> None:
    payload = bench.ask("announce")
    bench.now += dt.timedelta(hours=25)
    bench.commands.look()
    assert bench.journal.ledger.find(key_id(KEY.public_key()), "request-1") is None
    bench.now -= dt.timedelta(hours=25)
    bench.take(payload, "announce")
    assert bench.last() == ("rejected", "expired")
    assert bench.hands.done == ["announce"]


def test_what_was_issued_before_the_ledger_began_is_a_replay(bench: Bench) -> None:
    payload = command(KEY, HERE, "announce", "request-1", NOW - dt.timedelta(minutes=1))
    bench.take(payload, "announce")
    assert bench.last() == ("rejected", "replayed")


def test_without_a_clock_a_pause_needs_a_counter_above_all_before(bench: Bench) -> None:
    first = bench.ask("pause")
    bench.commands.answered(ControlCode.PAUSE, ReplyCode.DONE)
    later = command(KEY, HERE, "pause", "request-2", NOW + dt.timedelta(seconds=5))
    bench.ask("resume", "request-3", at=NOW + dt.timedelta(seconds=3))
    bench.synced = False
    bench.again()
    bench.journal._database.execute("DELETE FROM request")
    bench.take(first, "pause")
    assert bench.last() == ("rejected", "replayed")
    assert not shut(bench)
    bench.take(later, "pause")
    assert bench.last() == ("executing", None)
    bench.ask("resume", "request-4")
    assert bench.last() == ("rejected", "clock")
    assert shut(bench)


def test_a_bridge_takes_back_its_own_pause_alone(bench: Bench) -> None:
    bench.ask("pause")
    bench.ask("pause", key=PAUSER)
    bench.ask("resume", "request-2", key=PAUSER)
    assert shut(bench), "the control room still wants it closed"
    bench.ask("resume", "request-3")
    assert not shut(bench)
    assert bench.hands.controls[-2:] == [Pause(), Resume()]
    assert len(bench.recorded("pause")) == 2
    assert len(bench.recorded("resume")) == 1, "only the one that opens the shutter"


def test_the_control_room_takes_back_every_pause(bench: Bench) -> None:
    bench.ask("pause", key=PAUSER)
    bench.ask("resume")
    assert not shut(bench)


def test_a_detector_that_the_policy_does_not_allow_stays_off(bench: Bench) -> None:
    for args, reason in (
        ({"type": "crowd.density", "zone": "lawn"}, "policy"),
        ({"type": "crowd.density", "zone": "roof"}, "not_configured"),
    ):
        bench.ask("detector.enable", f"request-{reason}", args=args)
        assert bench.last() == ("rejected", reason)
    bench.hands.rules = (["lawn"], [])
    bench.ask("detector.enable", "request-3", args={"type": "crowd.density"})
    assert bench.last() == ("rejected", "policy")
    assert bench.hands.controls == []


def off(bench: Bench) -> list[tuple[str, str | None]]:
    order = bench.commands.orders()[0]
    assert isinstance(order, Detectors)
    return [(detector.type, detector.zone) for detector in order.off]


def test_what_is_switched_off_stays_off_until_it_is_switched_on(bench: Bench) -> None:
    bench.ask("detector.disable", "request-1", args={"type": "crowd.density"})
    bench.again()
    assert off(bench) == [("crowd.density", None)]
    bench.ask("detector.enable", "request-2", args={"type": "crowd.density", "zone": "quay"})
    assert off(bench) == [("crowd.density", "lawn")]
    bench.ask("detector.enable", "request-3", args={"type": "crowd.density"})
    assert off(bench) == []


def test_a_key_can_end_itself(bench: Bench) -> None:
    bench.ask("key.revoke", key=REVOKED)
    assert bench.last() == ("succeeded", None)
    bench.again()
    bench.ask("announce", "request-2", key=REVOKED)
    assert bench.last() == ("rejected", "key_revoked")
    bench.ask("announce", "request-3")
    assert bench.last() == ("succeeded", None)


def test_a_result_that_the_broker_may_not_have_is_told_again(bench: Bench) -> None:
    bench.hands.connected = False
    bench.ask("announce")
    bench.hands.connected = True
    bench.commands.retell()
    assert bench.states() == ["accepted", "executing", "succeeded", "succeeded"]
    bench.commands.acknowledged(len(bench.hands.told))
    bench.commands.retell()
    assert len(bench.hands.told) == 4


def test_one_key_cannot_fill_the_ledger(bench: Bench) -> None:
    with bench.journal.changing():
        bench.journal._database.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) INSERT INTO request "
            "SELECT ?, 'known-' || i, '', 'announce', '{}', 'succeeded', NULL, 9e9, '', NULL, 1 FROM n",
            (MOST, key_id(KEY.public_key())),
        )
    bench.ask("announce")
    assert bench.last() == ("rejected", "too_many")
    bench.ask("pause", key=PAUSER)
    assert bench.last() == ("executing", None), "another key has its own room"


def test_a_shutter_closes_even_where_the_disk_is_full(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise JournalFullError("full")

    monkeypatch.setattr(Journal, "changing", full)
    with pytest.raises(JournalFullError):
        bench.ask("pause")
    assert bench.hands.controls == [Pause()]
    assert bench.commands.orders()[-1] == Pause()


def test_refusals_are_answered_at_a_bounded_rate(bench: Bench) -> None:
    for _ in range(1000):
        bench.take(b"{}", "pause")
    assert bench.commands.refused["version"] == 1000
    assert len(bench.hands.told) == len(bench.recorded("command")) == 30


GOOD = command(KEY, HERE, "announce", "request-1", NOW + dt.timedelta(seconds=1))


@st.composite
def bent(draw: Callable[[Any], Any]) -> bytes:
    """A good command with some bytes changed, taken out or put in."""
    payload = bytearray(GOOD)
    for _ in range(draw(st.integers(1, 3))):
        at, byte = draw(st.integers(0, len(payload) - 1)), draw(st.integers(0, 255))
        match draw(st.integers(0, 2)):
            case 0:
                payload[at] = byte
            case 1:
                payload.insert(at, byte)
            case _:
                del payload[at : at + 1 + byte % 16]
    return bytes(payload)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(bent() | st.binary(max_size=300))
def test_nothing_but_the_signed_command_is_ever_obeyed(bench: Bench, payload: bytes) -> None:
    bench.take(payload, "announce")
    if json_of(payload) != json_of(GOOD):
        assert bench.hands.done == []
        assert bench.journal.ledger.number(key_id(KEY.public_key())) == 0


def json_of(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except ValueError:
        return None
