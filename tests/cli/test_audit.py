"""`vigie audit`: what a data-protection officer sees and gets told, and with which exit code."""

from __future__ import annotations

import datetime as dt
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from typer.testing import CliRunner

from agent.cli.app import app
from agent.contract import (
    Birth,
    Count,
    DetectorNotice,
    EventData,
    EventType,
    Health,
    State,
    Status,
    Suppressed,
)
from agent.relay.audit import MessageKind, head_line
from agent.relay.gate import Release
from agent.relay.journal import Journal
from agent.relay.process import _Message
from agent.settings import load

NOON = dt.datetime(2026, 11, 23, 12, 0, tzinfo=dt.timezone.utc)

GATHERING = (
    "crowd.gathering started in zone quay at 2026-11-23 12:00:00: level high, 20-49 people, confidence high; basis FR-1"
)
SHOWN = f"""\
2026-11-23 12:00:00  agreed with the broker what to tell if the connection breaks: that it is offline
2026-11-23 12:00:00  told what runs: agent 0.1.0; detectors: crowd.gathering, never sent; counts below 5 hidden;\
 configuration cccccccccccc…, policy aaaaaaaaaaaa…
2026-11-23 12:00:00  told birth again, as in entry 4
2026-11-23 12:00:00  told that it is degraded, because of: camera
2026-11-23 12:00:10  {GATHERING} (delivered 2026-11-23 12:00:30)
2026-11-23 12:00:20  sound.gunshot started on camera north at 2026-11-23 12:00:00:\
 heard at 2026-11-23T12:00:00.1234Z, confidence high; basis FR-1\
 (may have left: handed to the connection 2026-11-23 12:00:30, no answer yet)
2026-11-23 12:00:30  person.loitering started in zone quay at 2026-11-23 12:00:00, by a clock that was not set:\
 lasted 1-5min, confidence high; basis FR-1 (never left: given up 2026-11-23 12:00:30)"""


class Agent:
    """A device that is running, in the middle of its work."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = NOON
        self.journal = Journal(
            folder,
            "old-port",
            "cam-07",
            outbox_max_bytes=10**6,
            outbox_max_age_s=3600,
            audit_max_bytes=10**7,
            wall=lambda: self.now,
        )
        self.heads: list[str] = []

    def tell_head(self) -> None:
        self.heads.append(head_line(self.journal.publish_head()).decode())

    def release(self, event_type: EventType = EventType.CROWD_GATHERING, **data: Any) -> str:
        self.now += dt.timedelta(seconds=10)
        fields = {"episode": "9b1e", "phase": "started", "zone": "quay", "confidence": "high", "clock": "synced"}
        release = Release(event_type, EventData(**{**fields, "basis": "FR-1", **data}), "2026-11-23T12:00:00Z", False)
        return self.journal.release([release])[0].id


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agent]:
    (tmp_path / "vigie.toml").write_text(f'[journal]\nfolder = "{tmp_path}/journal"\n')
    monkeypatch.setenv("VIGIE_CONFIG", str(tmp_path / "vigie.toml"))
    running = Agent(tmp_path / "journal")
    try:
        yield running
    finally:
        running.journal.close()


@pytest.fixture
def busy(agent: Agent) -> Agent:
    """Three events: one delivered, one under way, one given up; and what else a relay says."""
    journal = agent.journal
    journal.note_in_force("policy", "a" * 64)
    will = Status(state="offline", boot=journal.boot)
    journal.record("will", will.model_dump_json())
    notice = DetectorNotice(type="vigie.crowd.gathering.v1", mode="shadow", basis="FR-1", until="2099-12-31")
    birth = Birth(
        boot=journal.boot, agent="0.1.0", contract=1, k=5, detectors=(notice,), config="c" * 64, policy="a" * 64
    )
    journal.record("birth", birth.model_dump_json())
    journal.record("birth", birth.model_dump_json())
    journal.record("status", Status(state="degraded", boot=journal.boot, reasons=("camera",)).model_dump_json())
    agent.tell_head()
    agent.release(level="high", count="20-49")
    agent.release(EventType.SOUND_GUNSHOT, onset="2026-11-23T12:00:00.1234Z", zone=None, camera="north")
    agent.release(EventType.PERSON_LOITERING, duration="1-5min", clock="unsynced")
    first, second, third = journal.waiting(0, 10)
    journal.attempted([first, second])
    journal.acknowledged([first.seq])
    with journal._transaction():
        journal._evict([(third.seq, third.event_id, 100)])
    agent.tell_head()
    return agent


def vigie(*arguments: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["audit", *map(str, arguments)], env={"COLUMNS": "200"})
    return result.exit_code, result.stdout, result.stderr


def test_show_tells_what_left_in_plain_words_and_the_time_it_covers(busy: Agent) -> None:
    code, output, _ = vigie("show")
    lines = output.splitlines()
    assert code == 0
    assert lines[1] == "covers 2026-11-23 12:00:00 to 2026-11-23 12:00:30 UTC: entries 1 to 13"
    assert "\n".join(lines[3:-2]) == SHOWN


def test_show_all_tells_what_stayed_on_the_device_too(busy: Agent) -> None:
    _, output, _ = vigie("show", "--all")
    for words in (
        f"relay started, boot {busy.journal.boot}",
        "policy aaaaaaaaaaaa… is in force",
        f"event {busy.journal.boot}-000001 was handed to the connection",
        f"the broker has event {busy.journal.boot}-000001",
        f"event {busy.journal.boot}-000003 was given up",
    ):
        assert words in output
    assert len(output.splitlines()) == 13 + 5


def test_show_can_be_bounded_in_time_and_number_and_read_by_programs(busy: Agent) -> None:
    _, output, _ = vigie("show", "--since", "2026-11-23T12:00:05Z", "--json")
    whole, *entries = map(json.loads, output.splitlines())
    assert (whole["from"], whole["to"], whole["begin"]) == (1, 13, "2026-11-23T12:00:00.000000Z")
    assert [(entry["kind"], entry["left"]) for entry in entries] == [
        ("released", "yes"),
        ("released", "maybe"),
        ("released", "no"),
    ]
    assert json.loads(entries[0]["body"])["data"]["count"] == "20-49"
    _, output, _ = vigie("show", "--limit", "1", "--json")
    assert [json.loads(line).get("seq") for line in output.splitlines()] == [None, 9]
    code, _, words = vigie("show", "--since", "yesterday")
    assert code == 2
    assert "--since yesterday: is no time" in words


def test_show_has_words_for_every_message(agent: Agent) -> None:
    def told(kind: MessageKind, document: BaseModel, *levels: str) -> str:
        agent.journal.record(kind, _Message(kind, document, levels).recorded())
        return vigie("show")[1].splitlines()[-3].partition("  ")[2]

    event, time = f"{agent.journal.boot}-000001", "2026-11-23T12:00:00Z"
    state = State(boot=agent.journal.boot, event=event, open=True, since=time, time=time, level="high")
    start = "told that crowd.density in zone quay"
    assert told("state", state, "quay", "crowd.density") == (
        f"{start} goes on since 2026-11-23 12:00:00: level high, by event {event}"
    )
    over = state.model_copy(update={"open": False, "level": None})
    assert told("state", over, "quay", "crowd.density") == f"{start} is over: by event {event}"
    count = Count(time=time, grain_s=60, count=12, epsilon=0.5, epsilon_left=1.5, clock="synced")
    start = "told of zone quay for 60 s from 2026-11-23 12:00:00"
    assert told("count", count, "quay") == f"{start}: 12 people, with noise"
    assert told("count", count.model_copy(update={"count": None}), "quay") == f"{start}: no count"
    health = Health(time=time, sense="ready", cameras=("live", "lost"), detector="model", rate="full")
    assert told("health", health) == (
        "told how it was at 2026-11-23 12:00:00: sense ready, cameras live, lost, microphone none, detector model,"
        " frame rate full"
    )
    totals = dict.fromkeys(Suppressed.REASONS, "<k")
    suppressed = Suppressed.model_validate({"boot": agent.journal.boot, "day": "2026-11-22", **totals})
    assert told("suppressed", suppressed).startswith(
        "told how much was held back on 2026-11-22: rate <k, malformed <k,"
    )


def test_show_does_not_choke_on_what_it_does_not_know(agent: Agent) -> None:
    for body in ("{}", "[]", "no JSON {", '{"agent": 1}', ""):
        agent.journal.record("birth", body)
        agent.journal.record("aiming", body)
    code, output, _ = vigie("show", "--all")
    assert code == 0
    assert "told birth: no JSON {" in output
    assert "aiming: no JSON {" in output


def test_show_says_what_was_pruned(busy: Agent) -> None:
    busy.journal._audit._max_bytes = 2000
    busy.journal.record("status", "{}")
    _, output, _ = vigie("show")
    assert "were pruned for room; what they said is not here any more" in output
    assert vigie("verify")[0] == 0


def test_verify_without_heads_does_not_claim_completeness(busy: Agent) -> None:
    code, output, _ = vigie("verify")
    assert code == 0
    assert "consistent; completeness not proven\n" in output


def test_verify_with_heads_from_the_broker_proves_completeness(busy: Agent, tmp_path: Path) -> None:
    heads = tmp_path / "heads.jsonl"
    topic = "vigie/v1/old-port/cam-07/audit/head"
    followed = [{"topic": topic, "payload": json.loads(head)} for head in busy.heads]
    other = {"topic": "vigie/v1/old-port/cam-07/status", "payload": {"state": "ready"}}
    heads.write_text("\n".join(map(json.dumps, [other, *followed])) + "\n\n")
    busy.release()
    code, output, _ = vigie("verify", "--heads", heads)
    assert code == 0
    assert "consistent; complete up to entry 13: the head of 2026-11-23T12:00:30Z held elsewhere fits" in output
    assert "entries from 14 to 14 have the device's own signature alone" in output
    _, output, _ = vigie("verify", "--heads", heads, "--json")
    found = json.loads(output)
    assert found["consistent"]
    assert found["complete_up_to"]["size"] == 13
    heads.write_text("")
    _, output, _ = vigie("verify", "--heads", heads)
    assert "completeness not proven\nthe file of heads has none of this log" in output


@pytest.mark.parametrize("line", ["no JSON", "{}", '{"topic": "a/audit/head", "payload": null}', "[" * 10_000])
def test_a_file_that_holds_no_heads_is_told_with_its_line(busy: Agent, tmp_path: Path, line: str) -> None:
    (tmp_path / "heads.jsonl").write_text(f"{busy.heads[0]}\n{line}\n")
    code, _, words = vigie("verify", "--heads", tmp_path / "heads.jsonl")
    assert code == 3
    assert "heads.jsonl line 2: is no head of an audit log" in words


def test_verify_says_what_is_wrong_and_ends_with_1(busy: Agent) -> None:
    with closing(sqlite3.connect(busy.folder / "journal.sqlite")) as database:
        database.execute("UPDATE audit SET body = REPLACE(body, '20-49', '50-99') WHERE kind = 'released'")
        database.commit()
    code, output, _ = vigie("verify")
    assert code == 1
    assert (
        "NOT CONSISTENT:\n- entry 8 does not follow from entry 7: one of the two was changed, moved or put in" in output
    )
    assert not json.loads(vigie("verify", "--json")[1])["consistent"]
    with closing(sqlite3.connect(busy.folder / "journal.sqlite")) as database:
        database.execute("UPDATE audit SET body = x'ff00' WHERE kind = 'released'")
        database.commit()
    code, _, words = vigie("verify")
    assert code == 1
    assert "NOT PROVEN: entry 7 was changed: a value has another type than the agent writes" in words
    with closing(sqlite3.connect(busy.folder / "journal.sqlite")) as database:
        database.execute("DELETE FROM audit")
        database.commit()
    assert "entries 1 to 13 are missing at the end" in vigie("verify")[1]
    assert "covers ? to ? UTC" in vigie("show")[1]


def test_an_export_is_checked_elsewhere_with_the_public_key_alone(
    busy: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export, public, heads = tmp_path / "log.jsonl", tmp_path / "public.pem", tmp_path / "heads.jsonl"
    code, output, _ = vigie("export", "--out", export)
    assert code == 0
    assert "entries up to 13, signed by key" in output
    code, pem, _ = vigie("key")
    assert json.loads(vigie("key", "--json")[1])["pem"] == pem
    public.write_text(pem)
    heads.write_text("\n".join(busy.heads))
    monkeypatch.delenv("VIGIE_CONFIG")
    busy.journal.close()
    for file in busy.folder.iterdir():
        file.unlink()
    code, output, _ = vigie("verify", "--export", export, "--public-key", public, "--heads", heads)
    assert code == 0
    assert "complete up to entry 13" in output
    export.write_bytes(export.read_bytes().replace(b"20-49", b"50-99"))
    code, output, _ = vigie("verify", "--export", export, "--public-key", public)
    assert code == 1
    assert "entry 8 does not follow from entry 7" in output
    export.write_bytes(export.read_bytes()[:-1])
    code, _, words = vigie("verify", "--export", export, "--public-key", public)
    assert code == 1
    assert "line 14 was changed, or this is no audit export" in words
    busy.journal = Journal(busy.folder, "a", "b", outbox_max_bytes=1, outbox_max_age_s=1, audit_max_bytes=1)


def test_a_proof_discloses_one_event_and_is_checked_with_the_public_key_alone(busy: Agent, tmp_path: Path) -> None:
    proof, public, heads = tmp_path / "proof.jsonl", tmp_path / "public.pem", tmp_path / "heads.jsonl"
    public.write_text(vigie("key")[1])
    heads.write_text("\n".join(busy.heads))
    code, output, _ = vigie("prove", f"{busy.journal.boot}-000001", "--heads", heads)
    assert code == 0
    proof.write_text(output)
    code, output, _ = vigie("verify", "--proof", proof, "--public-key", public)
    assert code == 0
    assert output.splitlines() == [
        f"entry 7 of 13 that the head of 2026-11-23T12:00:30Z signs: {GATHERING}",
        "the 13 entries of 2026-11-23T12:00:30Z begin with all 6 of 2026-11-23T12:00:00Z, unchanged",
        "the 13 entries of 2026-11-23T12:00:30Z begin with all 13 of 2026-11-23T12:00:30Z, unchanged",
    ]
    proof.write_text(proof.read_text().replace("20-49", "50-99"))
    code, _, words = vigie("verify", "--proof", proof, "--public-key", public)
    assert code == 1
    assert "NOT PROVEN: the entry is not in the log that this head signs, or the proof was changed" in words
    assert vigie("prove")[0] == 2
    code, _, words = vigie("prove", "5f3a9c01-999999")
    assert (code, "the log has no event 5f3a9c01-999999" in words) == (3, True)


def test_what_is_not_there_is_told_with_what_to_do(agent: Agent, tmp_path: Path) -> None:
    assert vigie("verify", "--database", tmp_path / "none.sqlite")[0] == 3
    assert vigie("verify", "--export", tmp_path / "none.jsonl")[0] == 3
    code, _, words = vigie("verify", "--public-key", tmp_path / "none.pem")
    assert (code, "none.pem: cannot be read" in words) == (2, True)
    (tmp_path / "public.pem").write_text("x")
    assert (
        "is no public key in PEM, as vigie audit key prints it"
        in vigie("verify", "--public-key", tmp_path / "public.pem")[2]
    )
    code, _, words = vigie("export", "--out", tmp_path / "none" / "log.jsonl")
    assert (code, "cannot be written: No such file or directory" in words) == (3, True)
    (agent.folder / "audit.key").unlink()
    code, _, words = vigie("verify")
    assert (code, "give --public-key FILE" in words) == (2, True)
    with closing(sqlite3.connect(tmp_path / "older.sqlite")) as database:
        database.execute("CREATE TABLE audit (seq INTEGER PRIMARY KEY)")
    code, _, words = vigie("show", "--database", tmp_path / "older.sqlite")
    assert (code, "has no signed audit log; an older journal gets one when the agent starts" in words) == (3, True)
    (tmp_path / "torn.sqlite").write_bytes(b"x" * 5000)
    assert vigie("show", "--database", tmp_path / "torn.sqlite")[0] == 1


def test_the_key_may_be_a_credential(agent: Agent, tmp_path: Path) -> None:
    key = vigie("key")[1]
    (agent.folder / "audit.key").rename(tmp_path / "credential")
    (tmp_path / "vigie.toml").write_text(
        f'[journal]\nfolder = "{agent.folder}"\n[audit]\nkey_file = "{tmp_path}/credential"\nhead_every_s = 60\n'
    )
    assert vigie("key")[1] == key
    assert load(tmp_path / "vigie.toml").audit.head_every_s == 60
