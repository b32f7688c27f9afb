"""The relaying loop between a real pipe, a real journal and a broker that does as the test says."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent import pipe
from agent.command import command, desired, key_id
from agent.contract import (
    OBSERVATION_SIZE,
    CameraState,
    ControlCode,
    DetectorState,
    EventType,
    Kind,
    MicrophoneState,
    Observation,
    Phase,
    ReplyCode,
    SenseState,
    Status,
)
from agent.device.clock import Clock, Reading
from agent.policy import load_policy
from agent.relay import process
from agent.relay.audit_check import verify_database
from agent.relay.audit_read import open_database, read_heads
from agent.relay.journal import Journal, JournalFullError
from agent.relay.keys import read_private_key
from agent.relay.local import LocalStatus, ask
from agent.relay.mqtt import Link
from agent.relay.process import Relay
from agent.settings import load
from agent.word import MAX_WORD, Answer, Begin, Save, word_socket

if TYPE_CHECKING:
    from tests.relay.conftest import Manners, ScriptedBroker

READY = Observation(
    Kind.HEALTH,
    sense=SenseState.READY,
    cameras=(CameraState.LIVE, CameraState.NONE, CameraState.NONE, CameraState.NONE),
    detector=DetectorState.MODEL,
)


def fall(slot: int = 0, phase: Phase = Phase.STARTED) -> Observation:
    """An alarm: it is released at once."""
    return Observation(Kind.EPISODE, EventType.PERSON_DOWN, phase, zone=slot % 8, camera=0, slot=slot)


def configure(folder: Path, port: int, **pipe_limits: float) -> Path:
    """The configuration and the policy of a device with eight zones."""
    (folder / "policy.toml").write_text(
        "".join(
            f'[[policy.detector]]\ntype = "{label}"\npurpose = "First aid"\nlegal_basis = "FR-1"\nbody = "The city"\n'
            'contact = "dpo@city.example"\nretention_days = 30\nuntil = 2099-12-31\n'
            'below_flow = "Who has fallen needs help"\n'
            for label in ("person.down", "zone.intrusion", "crowd.density", "sound.scream")
        )
        + "[policy.gate]\nbits_per_minute = 1e6\nburst_bits = 1e6\ncrowd_grain_s = 0\n"
    )
    limits = "".join(f"{key} = {value}\n" for key, value in pipe_limits.items())
    zones = "".join(
        f'[[camera.zone]]\nname = "zone-{index}"\npolygon = [[0, 0], [1, 0], [1, 1]]\n' for index in range(8)
    )
    config = folder / "vigie.toml"
    config.write_text(
        f'policy_file = "{folder}/policy.toml"\n'
        f'[mqtt]\nhost = "127.0.0.1"\nport = {port}\ntls = false\nbackoff_min_s = 0.05\nbackoff_max_s = 0.1\n'
        f'[journal]\nfolder = "{folder}/journal"\n[fleet]\ntrust_file = "{folder}/trust.toml"\n'
        f'[pipe]\nsocket = "{folder}/pipe.sock"\nstatus_socket = "{folder}/status.sock"\n{limits}'
        f'[[camera]]\nname = "north"\nsource = "sim:crowd"\n{zones}'
    )
    return config


class Bench:
    """A relay whose turns the test makes itself."""

    def __init__(
        self, folder: Path, port: int, *, listens: bool = False, clock: Clock | None = None, **limits: float
    ) -> None:
        settings = load(configure(folder, port, **limits))
        self.pipe_socket = settings.pipe.socket
        self._status_socket = settings.pipe.status_socket
        self.sense, relay_end = pipe.pair()
        self.journal = Journal(
            settings.journal.folder,
            settings.device.site,
            settings.device.name,
            outbox_max_bytes=10**7,
            outbox_max_age_s=3600,
            audit_max_bytes=10**8,
        )
        link = Link(settings.mqtt, settings.device.site, settings.device.name, self.journal.boot)
        connection = None if listens else relay_end
        self._unused = relay_end if listens else None
        self.relay = Relay(settings, load_policy(settings.policy_file), self.journal, link, connection, clock)
        link.start()

    def say(self, *observations: Observation) -> None:
        for observation in observations:
            assert pipe.send(self.sense, observation)

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Make turns until it is so; a turn waits a second at most."""
        for _ in range(200):
            if condition():
                return
            self.relay.turn()
        pytest.fail(f"not after 200 turns: {what}")

    def status(self) -> LocalStatus:
        """What `vigie status` gets."""
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(ask, self._status_socket)
            self.until(answer.done, "the status")
            return answer.result()

    def close(self) -> None:
        if self.sense.fileno() < 0:
            return
        self.relay._close()
        self.sense.close()
        if self._unused is not None:
            self._unused.close()


Start = Callable[..., Bench]


@pytest.fixture
def start(broker: ScriptedBroker, tmp_path: Path) -> Iterator[Start]:
    with contextlib.ExitStack() as stack:

        def started(**more: Any) -> Bench:
            bench = Bench(tmp_path, broker.port, **more)
            stack.callback(bench.close)
            return bench

        yield started


def manners(broker: ScriptedBroker, *each: dict[str, Any]) -> None:
    """How the broker treats one connection after the other."""
    kind: type[Manners] = type(broker.manners[0])
    broker.manners = [kind(**one) for one in each]


def events(broker: ScriptedBroker) -> list[dict[str, Any]]:
    return [json.loads(m.payload) for m in broker.published() if "/event/" in m.topic]


def delivered(broker: ScriptedBroker, number: int) -> Callable[[], bool]:
    """Whether so many events have come, doubles too."""
    return lambda: len(events(broker)) == number


def states(broker: ScriptedBroker) -> list[str]:
    return [json.loads(m.payload)["state"] for m in broker.published() if m.topic.endswith("/status")]


def test_an_alarm_goes_from_the_pipe_to_the_broker_and_out_of_the_outbox(broker: ScriptedBroker, start: Start) -> None:
    bench = start()
    bench.say(fall())
    bench.until(lambda: bool(events(broker)) and bench.journal.depth == 0, "delivered and acknowledged")
    (event,) = events(broker)
    assert event["id"] == f"{bench.journal.boot}-000001"
    assert event["type"] == "vigie.person.down.v1"
    assert event["data"]["zone"] == "zone-0"


def test_birth_comes_first_and_is_retained_as_status_is(broker: ScriptedBroker, start: Start) -> None:
    bench = start()
    bench.say(fall())

    def kinds() -> set[tuple[str, bool]]:
        root = "vigie/v1/site/camera/"
        return {(m.topic.removeprefix(root).partition("/")[0], m.retain) for m in broker.published()}

    bench.until(lambda: len(kinds()) == 6, "birth, notice, status, configuration, the audit log's head and an event")
    assert broker.published()[0].topic.endswith("/birth")
    told = {"birth", "notice", "status", "config", "audit"}
    assert kinds() == {*((kind, True) for kind in told), ("event", False)}


def test_what_was_not_acknowledged_is_sent_again_under_its_id(broker: ScriptedBroker, start: Start) -> None:
    manners(broker, {"acknowledges": False}, {})
    bench = start()
    bench.say(fall(0), fall(1))
    bench.until(delivered(broker, 2), "both are sent")
    assert bench.journal.depth == 2
    broker.drop()
    bench.until(lambda: bench.journal.depth == 0, "both are acknowledged")
    ids = [event["id"] for event in events(broker)]
    assert ids[:2] == ids[2:]


def test_no_more_is_under_way_than_the_window_allows(broker: ScriptedBroker, start: Start) -> None:
    manners(broker, {"acknowledges": False})
    bench = start(max_rate=10_000, max_burst=10_000)
    window = bench.relay._settings.mqtt.inflight
    for number in range(10_000):
        bench.say(fall(number % 8), fall(number % 8, Phase.ENDED))
        bench.relay.turn()
        if bench.journal.depth > window:
            break
    bench.until(lambda: len(broker.published()) >= window, "the window is full")
    bench.relay.turn()
    assert len(events(broker)) <= window
    assert bench.journal.depth > window


def test_an_event_that_the_broker_denies_stays_in_the_outbox_and_is_counted(
    broker: ScriptedBroker, start: Start
) -> None:
    manners(broker, {"denies": frozenset({"vigie/v1/site/camera/event/person.down"})})
    bench = start()
    bench.say(fall())
    bench.until(lambda: bench.status().refused_by_broker == 1, "the refusal is counted")
    assert bench.journal.depth == 1


def test_a_hostile_peer_is_dropped_and_counted_and_relay_lives(broker: ScriptedBroker, start: Start) -> None:
    bench = start()
    good = READY.pack()
    for message in (b"\0", os.urandom(OBSERVATION_SIZE), good[:-1], good + b"\0", b"x" * 60_000, good[:-1] + b"\1"):
        bench.sense.send(message)
    bench.say(fall())
    bench.until(lambda: bool(events(broker)), "the good message behind the bad ones")
    assert bench.status().counters == {"dropped.malformed": 6}


def test_a_flood_gets_through_at_the_bounded_rate_only(broker: ScriptedBroker, start: Start) -> None:
    bench = start(max_rate=0.001, max_burst=10)
    for number in range(100):
        bench.say(fall(number % 64))
    bench.until(lambda: bench.status().counters.get("dropped.rate") == 90, "ninety of a hundred are dropped")
    assert bench.status().released <= 20
    assert "rate" in bench.status().status.reasons


def test_it_is_ready_when_sense_is(broker: ScriptedBroker, start: Start) -> None:
    bench = start()
    bench.until(lambda: states(broker) == ["starting"], "starting")
    bench.say(READY)
    bench.until(lambda: states(broker) == ["starting", "ready"], "ready")


@pytest.mark.parametrize(
    ("health", "reason"),
    [
        ({"cameras": (CameraState.LOST, CameraState.NONE, CameraState.NONE, CameraState.NONE)}, "camera"),
        ({"microphone": MicrophoneState.SILENT}, "microphone"),
        ({"detector": DetectorState.MOTION}, "detector"),
        ({"sense": SenseState.STOPPING}, "sense"),
    ],
)
def test_what_fails_in_sense_is_told_as_the_reason(start: Start, health: dict[str, Any], reason: str) -> None:
    bench = start()
    bench.say(Observation(Kind.HEALTH, **{"sense": SenseState.READY, **health}))
    bench.until(lambda: bench.relay._health is not None, "health is heard")
    assert bench.status().status.reasons == (reason,)
    assert bench.status().status.state == "degraded"


def test_a_sense_that_says_nothing_is_taken_for_lost(
    broker: ScriptedBroker, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = start()
    bench.say(READY)
    bench.until(lambda: "ready" in states(broker), "ready")
    monkeypatch.setattr(process, "SENSE_SILENCE_S", -1.0)
    bench.until(lambda: states(broker)[-1] == "degraded", "degraded")
    assert bench.status().status.reasons == ("sense",)


def test_a_new_sense_replaces_the_one_that_is_gone(broker: ScriptedBroker, start: Start) -> None:
    bench = start(listens=True)
    for number in (1, 2, 3):
        with pipe.connect(bench.pipe_socket) as sense:
            pipe.send(sense, fall())
            bench.until(delivered(broker, number), f"event {number}")


def test_a_second_sense_does_not_push_out_one_that_is_alive(start: Start) -> None:
    bench = start(listens=True)
    with pipe.connect(bench.pipe_socket) as first:
        assert pipe.send(first, Observation(Kind.HEALTH, sense=SenseState.READY))
        bench.until(lambda: bench.relay._health is not None, "the first one is heard")
        with pipe.connect(bench.pipe_socket) as second:
            bench.relay.turn()
            with pytest.raises(OSError, match=r"Broken pipe|reset"):
                pipe.send(second, Observation(Kind.HEALTH, sense=SenseState.STOPPING))
        assert pipe.send(first, Observation(Kind.HEALTH, sense=SenseState.DEGRADED))
        assert bench.status().sense == "degraded", "the first one is still heard"


def test_a_full_disk_is_told_and_what_was_held_back_is_released_when_there_is_room(
    broker: ScriptedBroker, start: Start
) -> None:
    bench = start()
    bench.until(lambda: bool(states(broker)), "connected")
    database = bench.journal._database
    database.execute(f"PRAGMA max_page_count = {database.execute('PRAGMA page_count').fetchone()[0]}")
    sent = 0
    while not bench.relay._disk_full:
        bench.say(fall(sent % 64), fall(sent % 64, Phase.ENDED))
        bench.relay.turn()
        sent += 1
        assert sent < 100_000
    status = bench.status()
    assert "disk" in status.status.reasons
    assert status.held_back > 0
    database.execute("PRAGMA max_page_count = 1000000")
    bench.until(lambda: bench.status().held_back == 0, "all is released")
    bench.until(lambda: bench.journal.depth == 0, "all is delivered")
    last = bench.status()
    assert "disk" not in last.status.reasons
    assert len(events(broker)) == last.released
    assert "lost.disk_full" not in last.counters


class Reference:
    """A clock that is set when the test says so, and asked in each turn."""

    def __init__(self) -> None:
        self.synced = False
        self.clock = Clock(strict=True, ask=lambda: Reading("chrony", synced=self.synced))

    def set(self) -> None:
        self.synced = True
        self.clock._due = 0.0
        self.clock.look()


def test_what_happens_before_the_clock_is_set_leaves_with_its_time_when_it_is(
    broker: ScriptedBroker, start: Start
) -> None:
    reference = Reference()
    bench = start(clock=reference.clock)
    bench.say(READY, scream(Phase.STARTED))
    bench.until(lambda: bench.journal.depth == 1 and "degraded" in states(broker), "it is in the journal")
    assert bench.status().status.reasons == ("clock",)
    assert (events(broker), said(broker, "state", "zone-2", "sound.scream")) == ([], [])
    reference.set()
    bench.until(lambda: bool(events(broker)) and bench.journal.depth == 0, "delivered")
    (event,) = events(broker)
    assert event["data"]["clock"] == "synced"
    bench.until(lambda: "ready" in states(broker), "ready")
    bench.until(lambda: len(said(broker, "state", "zone-2", "sound.scream")) == 1, "the state of its zone")
    assert [body for _, body in recorded(bench, "released")] == sent(broker, "event/sound.scream")


def test_what_waited_enough_for_the_clock_leaves_marked(broker: ScriptedBroker, start: Start) -> None:
    bench = start(clock=Reference().clock)
    bench.say(fall())
    bench.until(lambda: bench.journal.depth == 1 and bool(states(broker)), "it is held, and there is a connection")
    bench.relay._started -= bench.relay._settings.clock.hold_s
    bench.until(lambda: bool(events(broker)) and bench.journal.depth == 0, "delivered")
    assert events(broker)[0]["data"]["clock"] == "unsynced"
    bench.say(fall(1))
    bench.until(delivered(broker, 2), "and the next one at once")


def said(broker: ScriptedBroker, *levels: str) -> list[dict[str, Any]]:
    topic = "/".join(("vigie/v1/site/camera", *levels))
    return [json.loads(m.payload) for m in broker.published() if m.topic == topic]


def scream(phase: Phase) -> Observation:
    return Observation(Kind.EPISODE, EventType.SOUND_SCREAM, phase, zone=2, camera=0, slot=9)


def test_the_state_of_a_zone_follows_its_events_and_is_retained(broker: ScriptedBroker, start: Start) -> None:
    bench = start()
    bench.say(scream(Phase.STARTED))
    bench.until(lambda: len(said(broker, "state", "zone-2", "sound.scream")) == 1, "the scream goes on")
    bench.say(scream(Phase.ENDED))
    bench.until(lambda: len(said(broker, "state", "zone-2", "sound.scream")) == 2, "the scream is over")
    bench.until(delivered(broker, 2), "an event waits for no state, nor a state for an event")
    (begun, over), (started, ended) = said(broker, "state", "zone-2", "sound.scream"), events(broker)
    assert (begun["open"], begun["event"], begun["since"]) == (True, started["id"], started["time"])
    assert (over["open"], over["event"], over["since"]) == (False, ended["id"], started["time"])
    assert {m.retain for m in broker.published() if "/state/" in m.topic} == {True}
    broker.drop()
    bench.until(lambda: len(said(broker, "state", "zone-2", "sound.scream")) == 3, "a new connection is told again")


def test_who_falls_has_no_state_since_the_end_is_not_told(broker: ScriptedBroker, start: Start) -> None:
    bench = start()
    bench.say(fall(), scream(Phase.STARTED))
    bench.until(lambda: bool(said(broker, "state", "zone-2", "sound.scream")), "the scream")
    bench.until(delivered(broker, 2), "both events")
    assert sum("/state/" in m.topic for m in broker.published()) == 1


def test_health_counts_and_totals_come_at_their_times(broker: ScriptedBroker, start: Start) -> None:
    bench = start()
    bench.say(READY, Observation(Kind.EPISODE, EventType.SOUND_HORN, Phase.STARTED, zone=60))
    bench.until(lambda: "ready" in states(broker), "ready")
    assert not said(broker, "health")
    bench.relay._second -= 300
    bench.relay._counts._grain -= 1
    bench.relay._totals._day -= dt.timedelta(days=1)
    bench.until(lambda: bool(said(broker, "suppressed")), "the last one of the three")
    (health,), (count,), (totals,) = (
        said(broker, "health"),
        said(broker, "count", "zone-0"),
        said(broker, "suppressed"),
    )
    assert (health["sense"], health["cameras"], health["detector"]) == ("ready", ["live"], "model")
    assert (health["queue"], health["drops"], health["clock"]) == ("empty", "none", "synced")
    assert int(health["time"][14:16]) % 5 == 0
    assert (count["count"], count["epsilon"]) == ("<k", 0)
    assert totals["place"] == "<k"
    assert {m.retain for m in broker.published() if m.topic.endswith("/health")} == {False}


def test_a_sense_that_flaps_cannot_tell_more_than_the_bits_allow(
    broker: ScriptedBroker, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = start()
    bench.until(lambda: bool(states(broker)), "connected")
    monkeypatch.setattr(bench.relay._gate, "pay", lambda _: False)
    bench.say(READY)
    bench.until(lambda: bench.status().status.state == "ready", "ready on the device")
    for _ in range(3):
        bench.relay.turn()
    assert states(broker) == ["starting"]


def recorded(bench: Bench, *kinds: str) -> list[tuple[str, str]]:
    """Kind and body of the audit entries of these kinds."""
    rows = bench.journal._database.execute("SELECT kind, body FROM audit ORDER BY seq")
    return [(kind, body) for kind, body in rows if kind in kinds]


def sent(broker: ScriptedBroker, name: str) -> list[str]:
    """Payloads on one of the device's own topics."""
    return [m.payload.decode() for m in broker.published() if m.topic == f"vigie/v1/site/camera/{name}"]


def test_every_message_stands_in_the_audit_log_word_for_word(broker: ScriptedBroker, start: Start) -> None:
    bench = start()
    bench.say(READY, fall())
    bench.until(lambda: bool(events(broker)) and "ready" in states(broker), "ready, and an event")
    assert [body for _, body in recorded(bench, "birth")] == sent(broker, "birth")
    assert [body for _, body in recorded(bench, "status")] == sent(broker, "status")
    assert [body for _, body in recorded(bench, "released")] == sent(broker, "event/person.down")
    assert recorded(bench, "will") == [("will", bench.relay._link.will.decode())]
    birth = json.loads(sent(broker, "birth")[0])
    for kind in ("configuration", "policy"):
        ((_, body),) = recorded(bench, kind)
        assert json.loads(body) == {"new": birth[kind.removesuffix("uration")], "old": None}


def test_what_is_told_of_a_zone_stands_in_the_audit_log_with_its_topic(broker: ScriptedBroker, start: Start) -> None:
    bench = start()
    bench.say(READY, scream(Phase.STARTED))
    bench.until(lambda: bool(sent(broker, "state/zone-2/sound.scream")) and "ready" in states(broker), "a state")
    bench.relay._second -= 300
    bench.relay._counts._grain -= 1
    bench.relay._totals._day -= dt.timedelta(days=1)
    bench.until(lambda: bool(sent(broker, "suppressed")), "health, counts and totals")
    for kind in ("health", "suppressed"):
        assert [body for _, body in recorded(bench, kind)] == sent(broker, kind)
    told = [json.loads(body) for _, body in recorded(bench, "state", "count")]
    assert {entry["topic"] for entry in told} >= {"state/zone-2/sound.scream", "count/zone-0"}
    for entry in told:
        assert entry["payload"] in sent(broker, entry["topic"])


def test_a_birth_that_is_told_again_is_recorded_by_reference(broker: ScriptedBroker, start: Start) -> None:
    bench = start()
    bench.until(lambda: len(sent(broker, "audit/head")) == 1, "the first connection")
    broker.drop()
    bench.until(lambda: len(sent(broker, "audit/head")) == 2, "the second one")
    first, second = (json.loads(body) for _, body in recorded(bench, "birth"))
    assert first["boot"] == bench.journal.boot
    assert second.keys() == {"again"}
    heads = sent(broker, "audit/head")
    assert heads[0] == heads[1], "the last head is told again, since the broker may have forgotten it"


def test_the_heads_that_the_broker_got_prove_that_the_log_is_complete(
    broker: ScriptedBroker, start: Start, tmp_path: Path
) -> None:
    bench = start()
    bench.until(lambda: len(sent(broker, "audit/head")) == 1, "a head at the first connection")
    every = bench.relay._settings.audit.head_every_s
    assert (bench.relay._head_at - bench.relay._started + 1) % every == pytest.approx(1, abs=1e-3)
    bench.say(fall())
    bench.until(lambda: bool(events(broker)) and bench.journal.depth == 0, "an event is delivered")
    bench.relay._head_at = 0.0
    bench.until(lambda: len(sent(broker, "audit/head")) == 2, "a head when it is time")
    (tmp_path / "heads.jsonl").write_text("\n".join(sent(broker, "audit/head")))
    held = read_heads(tmp_path / "heads.jsonl")
    key = read_private_key(tmp_path / "journal" / "audit.key").public_key()
    with open_database(tmp_path / "journal" / "journal.sqlite") as database:
        verdict = verify_database(database, key, held)
    assert verdict.problems == ()
    assert verdict.complete == held[1].head
    assert held[1].head.size > held[0].head.size


def test_a_status_that_a_full_disk_could_not_record_is_recorded_with_its_time_when_there_is_room(
    broker: ScriptedBroker, start: Start
) -> None:
    bench = start()
    bench.until(lambda: states(broker) == ["starting"], "connected")
    database = bench.journal._database
    database.execute(f"PRAGMA max_page_count = {database.execute('PRAGMA page_count').fetchone()[0]}")
    for number in range(1000):
        status = Status(state="degraded", boot=bench.journal.boot, reasons=("disk", "camera"))
        bench.relay._tell_status(status if number % 2 else status.model_copy(update={"reasons": ("disk",)}))
        if bench.relay._unrecorded:
            break
    _, body, at = bench.relay._unrecorded[0]
    bench.until(lambda: sent(broker, "status").count(body) > number // 2, "the status leaves all the same")
    assert bench.relay._unrecorded, "it is not recorded yet"
    database.execute("PRAGMA max_page_count = 1000000")
    bench.until(lambda: not bench.relay._unrecorded, "it is recorded")
    stamps = [at for (at,) in database.execute("SELECT at FROM audit WHERE body = ?", (body,))]
    assert at.strftime("%Y-%m-%dT%H:%M:%S.%fZ") in stamps


def test_a_first_attempt_that_a_full_disk_could_not_record_is_recorded_when_there_is_room(
    broker: ScriptedBroker, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = start()

    def full(*rows: object) -> None:
        raise JournalFullError("full")

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "attempted", full)
        bench.say(fall())
        bench.until(delivered(broker, 1), "the alarm leaves all the same")
        assert not recorded(bench, "first_attempt")
    bench.until(lambda: bool(recorded(bench, "first_attempt")), "it is recorded")


@contextlib.contextmanager
def child(config: Path, *options: str, **more: Any) -> Iterator[subprocess.Popen[str]]:
    """`vigie relay` as a process."""
    command = [sys.executable, "-m", "agent", "relay", "--config", str(config), *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **more) as running:
        try:
            yield running
        finally:
            running.kill()


def test_sigterm_releases_what_waits_says_offline_and_ends_with_0(broker: ScriptedBroker, tmp_path: Path) -> None:
    config = configure(tmp_path, broker.port)
    sense, relay_end = pipe.pair()
    waits = Observation(Kind.EPISODE, EventType.ZONE_INTRUSION, Phase.STARTED, zone=0, camera=0)
    with sense, relay_end, child(config, "--pipe-fd", str(relay_end.fileno()), pass_fds=[relay_end.fileno()]) as relay:
        broker.wait(lambda: bool(states(broker)), "a first status")
        pipe.send(sense, waits)
        relay.send_signal(signal.SIGTERM)
        assert relay.wait(20) == 0
    assert [event["type"] for event in events(broker)] == ["vigie.zone.intrusion.v1"]
    assert states(broker)[-2:] == ["stopping", "offline"]
    assert broker.connections[-1].said_goodbye


def test_a_second_relay_is_refused_in_words(broker: ScriptedBroker, tmp_path: Path) -> None:
    config = configure(tmp_path, broker.port)
    (tmp_path / "second").mkdir()
    with child(config):
        broker.wait(lambda: bool(states(broker)), "the first one is up")
        with child(config) as second:
            _, said = second.communicate(timeout=20)
    assert second.returncode == 2
    assert "another relay uses this journal" in said


def test_systemd_is_told_when_it_is_ready(broker: ScriptedBroker, tmp_path: Path) -> None:
    config = configure(tmp_path, broker.port)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(20)
        with child(config, env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}):
            assert systemd.recv(64) == b"READY=1"


def test_relay_loads_nothing_that_could_see_or_hear() -> None:
    program = (
        "import sys, agent.relay.process, agent.cli.relay\n"
        "print(*{name.partition('.')[0] for name in sys.modules} & "
        "{'numpy', 'cv2', 'av', 'onnxruntime', 'sounddevice', 'soundfile', 'gi'})\n"
        "print(*[name for name in sys.modules if name.startswith(('agent.capture', 'agent.inference', "
        "'agent.perception', 'agent.behaviours', 'agent.simulate', 'agent.sense'))])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_permission_that_ends_is_a_warning_and_one_that_lacks_a_fault(start: Start) -> None:
    bench = start()
    bench.say(READY)
    bench.until(lambda: bench.relay._health is not None, "health is heard")
    bench.relay._permits.ending = bench.relay._policy.detectors[:1]
    assert bench.relay._status().reasons == ("policy",)
    assert bench.relay._status().state == "ready", "what ends soon runs on until then"
    bench.relay._permits.refused = ("crowd.density: its legal basis FR-1 ended on 2026-11-23",)
    assert bench.relay._status().state == "degraded"
    assert bench.relay._status().reasons == ("policy",)


KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
NOW = dt.datetime.now(dt.timezone.utc)


def trust_the_key(folder: Path) -> None:
    public = KEY.public_key()
    (folder / "trust.toml").write_text(
        f'[[key]]\nid = "{key_id(public)}"\npublic = "{public.public_bytes_raw().hex()}"\nname = "room"\n'
        'roles = ["operate", "configure"]\n'
    )


def orders(bench: Bench) -> list[dict[str, Any]]:
    """What sense was told since the last call."""
    found = []
    while message := pipe.receive_control(bench.sense):
        found.append(json.loads(message))
    return found


def reply(control: ControlCode, answer: ReplyCode = ReplyCode.DONE) -> Observation:
    return Observation(Kind.REPLY, control=control, reply=answer)


def connected(broker: ScriptedBroker, bench: Bench) -> None:
    root = "vigie/v1/site/camera"
    bench.until(lambda: bool(sent(broker, "config/reported")), "connected")
    assert {f"{root}/cmd/+", f"{root}/config/desired"} < {*broker.connections[-1].subscribed}


def test_a_sense_that_starts_is_told_by_what_to_sense_and_then_to_open(start: Start) -> None:
    bench = start()
    told = [order["control"] for order in orders(bench)]
    assert told == ["configure", "detectors", "resume"]
    bench.say(Observation(Kind.HEALTH, sense=SenseState.STARTING))
    bench.until(lambda: bench.relay._health is not None, "it is heard")
    assert [order["control"] for order in orders(bench)] == told


def test_a_command_is_acknowledged_when_it_is_on_the_disk_and_over_when_sense_says_so(
    broker: ScriptedBroker, start: Start, tmp_path: Path
) -> None:
    trust_the_key(tmp_path)
    bench = start()
    connected(broker, bench)
    orders(bench)
    payload = command(KEY, "site/camera", "pause", "request-1", dt.datetime.now(dt.timezone.utc))
    for number in (7, 8, 9):
        broker.deliver("vigie/v1/site/camera/cmd/pause", payload, number)
    bench.until(lambda: broker.connections[-1].acknowledged == [7, 8, 9], "all three are acknowledged")
    assert orders(bench) == [{"control": "pause"}]
    assert bench.journal.ledger.holders() == {key_id(KEY.public_key())}
    bench.say(reply(ControlCode.PAUSE))

    def states_told() -> list[str]:
        return [json.loads(said)["state"] for said in sent(broker, "cmd/pause/result")]

    bench.until(lambda: "succeeded" in states_told(), "it is over")
    assert states_told() == ["accepted", "executing", "executing", "executing", "succeeded"]
    bench.until(lambda: not bench.journal.ledger.untold(), "the broker has the result")
    assert [kind for kind, _ in recorded(bench, "command", "pause")] == ["command", "pause", "command"]
    results = [json.loads(body) for _, body in recorded(bench, "result")]
    assert [said["topic"] for said in results] == ["cmd/pause/result"] * 5


def at_work(broker: ScriptedBroker, start: Start, folder: Path) -> Bench:
    """A relay that trusts a manager, is connected, and has told a sense that is ready what to do."""
    trust_the_key(folder)
    bench = start()
    connected(broker, bench)
    bench.say(READY)
    bench.until(lambda: "ready" in states(broker), "ready")
    orders(bench)
    return bench


def test_a_configuration_is_understood_from_the_reply_of_sense_on(
    broker: ScriptedBroker, start: Start, tmp_path: Path
) -> None:
    bench = at_work(broker, start, tmp_path)
    zones = [{"name": f"new-{n}", "polygon": [[0, 0], [1, 0], [1, 1]]} for n in range(8)]
    document = desired(KEY, "site/camera", 1, 1, NOW, {"camera": [{"name": "north", "zone": zones}]})
    broker.deliver("vigie/v1/site/camera/config/desired", document, 5, retain=True)
    bench.until(lambda: len(sent(broker, "config/reported")) == 2, "the trial")
    assert orders(bench) == [{"control": "configure", "document": document.decode()}]
    bench.say(fall(1), reply(ControlCode.CONFIGURE), fall(2))
    bench.until(delivered(broker, 2), "both")
    assert [event["data"]["zone"] for event in events(broker)] == ["zone-1", "new-2"]
    assert json.loads(sent(broker, "birth")[-1])["config"] == json.loads(sent(broker, "config/reported")[-1])["config"]


def test_a_relay_that_died_in_a_change_hears_no_zone_until_sense_says_by_what_it_runs(
    broker: ScriptedBroker, start: Start, tmp_path: Path
) -> None:
    trust_the_key(tmp_path)
    bench = start()
    bench.relay._configuration.take(
        desired(KEY, "site/camera", 1, 1, NOW, {"camera": [{"name": "north", "fps": 3}]}), NOW, frozenset()
    )
    bench.close()
    again = start()
    connected(broker, again)
    again.say(fall(1), reply(ControlCode.CONFIGURE), fall(2))
    again.until(delivered(broker, 1), "the second one")
    assert [event["data"]["zone"] for event in events(broker)] == ["zone-2"]


def test_a_document_that_sense_refuses_is_rejected_and_the_one_before_ordered(
    broker: ScriptedBroker, start: Start, tmp_path: Path
) -> None:
    bench = at_work(broker, start, tmp_path)
    document = desired(KEY, "site/camera", 1, 1, NOW, {"camera": [{"name": "north", "fps": 3}]})
    broker.deliver("vigie/v1/site/camera/config/desired", document, 5, retain=True)
    bench.until(lambda: len(orders(bench)) == 1, "it is ordered")
    bench.say(reply(ControlCode.CONFIGURE, ReplyCode.REFUSED))
    bench.until(lambda: json.loads(sent(broker, "config/reported")[-1])["state"] == "rejected", "rejected")
    assert orders(bench) == [{"control": "configure"}]


def test_a_view_is_in_the_status_and_ends_when_the_shutter_closes(
    broker: ScriptedBroker, start: Start, tmp_path: Path
) -> None:
    bench = at_work(broker, start, tmp_path)
    with pipe.connect(word_socket(tmp_path / "status.sock")) as view:
        view.send(Begin(minutes=10).model_dump_json().encode())
        said = [m.payload for m in broker.published() if m.topic.endswith("/status")]

        def told() -> list[bytes]:
            return [m.payload for m in broker.published() if m.topic.endswith("/status")][len(said) :]

        bench.until(lambda: any(b"aiming" in payload for payload in told()), "the status says so")
        payload = command(KEY, "site/camera", "pause", "request-1", dt.datetime.now(dt.timezone.utc))
        broker.deliver("vigie/v1/site/camera/cmd/pause", payload, 7)
        bench.until(lambda: len(recorded(bench, "aiming")) == 2, "its end is recorded")
        view.settimeout(5)
        assert Answer.model_validate_json(view.recv(MAX_WORD)).answer == "recorded"
        assert view.recv(MAX_WORD) == b""
    assert [json.loads(body)["state"] for _, body in recorded(bench, "aiming")] == ["begin", "end"]
    with pipe.connect(word_socket(tmp_path / "status.sock")) as view:
        view.send(Begin(minutes=10).model_dump_json().encode())
        bench.until(lambda: bool(select.select([view], [], [], 0)[0]), "an answer")
        assert "shutter is closed" in Answer.model_validate_json(view.recv(MAX_WORD)).reason


def test_relay_begins_anew_behind_a_view_that_has_changed_the_zones(
    broker: ScriptedBroker, start: Start, tmp_path: Path
) -> None:
    bench = at_work(broker, start, tmp_path)
    with pipe.connect(word_socket(tmp_path / "status.sock")) as view:
        for word in (Begin(minutes=10), Save(uid=0)):
            view.send(word.model_dump_json().encode())
        bench.until(lambda: len(recorded(bench, "aiming")) == 2, "both are recorded")
        assert not bench.relay._stop
    bench.until(lambda: bench.relay._stop, "it ends to begin anew")
    assert bench.relay._again
    assert [order["control"] for order in orders(bench)] == ["restart"]
