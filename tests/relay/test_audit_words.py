"""The audit log in plain words: what a manager has asked, and what the device answered."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.relay.audit import Entry
from agent.relay.audit_words import words

TOLD = "told of its configuration"
ASKED = {"key": "34750f98bd59fcfc", "request": "request-1", "verb": "log.level"}


def told(body: dict[str, Any], topic: str) -> dict[str, Any]:
    return {"payload": json.dumps(body), "topic": topic}


VIEW = "the technician's view"


@pytest.mark.parametrize(
    ("kind", "body", "said"),
    [
        (
            "command",
            {**ASKED, "state": "accepted", "name": "control room", "args": {"level": "debug"}},
            "command log.level debug of key 34750f98bd59fcfc (control room), request request-1: accepted",
        ),
        (
            "command",
            {"request": None, "verb": "pause", "state": "rejected", "reason": "malformed"},
            "command pause, request unreadable: rejected, because of: malformed",
        ),
        ("pause", ASKED, "privacy shutter to be closed, by key 34750f98bd59fcfc, request request-1"),
        (
            "result",
            told({"request_id": "request-1", "state": "failed", "reason": "sense"}, "cmd/selftest/result"),
            "told that command selftest, request request-1, is failed, because of: sense",
        ),
        (
            "reported",
            told({"state": "rolled_back", "reason": "worse", "version": 2, "in_force": 1}, "config/reported"),
            f"{TOLD}: version 2 is rolled_back, because of: worse; in force: version 1, with its zones and rules",
        ),
        (
            "aiming",
            {"state": "begin", "by": "vigie-aim", "minutes": 10},
            f"vigie-aim opened {VIEW} for 10 minutes at most",
        ),
        ("aiming", {"state": "look", "by": "ann"}, f"ann looks at {VIEW}: strokes and markers, never a picture"),
        ("aiming", {"state": "save", "by": "ann"}, f"ann changed zones from {VIEW}"),
        ("aiming", {"state": "end"}, f"{VIEW} is closed"),
        (
            "reported",
            told({"state": "local"}, "config/reported"),
            f"{TOLD}: local; in force: the device's own files, with its zones and rules",
        ),
    ],
)
def test_it_says_who_asked_for_what_and_what_became_of_it(kind: str, body: dict[str, Any], said: str) -> None:
    assert words(Entry(1, "2026-11-27T12:00:00.000000Z", kind, None, json.dumps(body), b"")) == said
