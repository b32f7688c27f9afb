"""The notice: everything the policy states, nothing that nobody measured, and one page that needs nothing else."""

from __future__ import annotations

import datetime as dt
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agent.cli.app import app
from agent.contract import NOTICE_MAX_SIZE, EventType
from agent.policy import Policy
from agent.relay.notice import LANGUAGES, Head, NoticeError, notice, notice_json, page, words
from agent.settings import Settings

TODAY = dt.date(2026, 11, 23)
ENTRY = {
    "type": "crowd.gathering",
    "purpose": "Safety of the quay <b>",
    "legal_basis": "FR-2026-04/3",
    "body": "City of Old Port",
    "contact": "Data-protection officer, dpo@city.example",
    "retention_days": 30,
    "until": "2026-12-31",
}


def policy(*entries: dict[str, Any]) -> Policy:
    return Policy.model_validate({"detector": entries})


def settings(**inference: Any) -> Settings:
    return Settings.model_validate(
        {
            "device": {"site": "old-port", "name": "cam-07"},
            "microphone": {"source": "device:USB"},
            "inference": inference,
            "policy_file": "/nowhere/policy.toml",
        }
    )


class Outline(HTMLParser):
    """Tags and addresses of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.languages: list[str] = []
        self.headings: list[int] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.addresses += [str(given[key]) for key in ("src", "href", "action", "data", "poster") if key in given]
        if tag == "section":
            self.languages.append(str(given["lang"]))
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_event_type_has_its_words(language: Any) -> None:
    assert set(words(language)["type"]) == {event_type.label for event_type in EventType}


def test_both_languages_say_the_same_things() -> None:
    def places(table: dict[str, Any], above: str = "") -> set[tuple[str, tuple[str, ...]]]:
        found: set[tuple[str, tuple[str, ...]]] = set()
        for key, value in table.items():
            if isinstance(value, dict):
                found |= places(value, f"{above}{key}/")
            else:
                found.add((above + key, tuple(sorted(re.findall(r"{(\w+)}", value)))))
        return found

    assert places(words("en")) == places(words("fr"))


def test_the_notice_says_what_the_policy_states() -> None:
    over, rare = {**ENTRY, "type": "sound.scream", "until": "2026-01-01"}, {**ENTRY, "type": "person.running"}
    made = notice(settings(), policy(ENTRY, over, rare), TODAY)
    first, second, third = made.detectors
    assert first.model_dump(exclude_none=True) == {
        "type": "vigie.crowd.gathering.v1",
        "mode": "on",
        "zones": (),
        "purpose": "Safety of the quay <b>",
        "basis": "FR-2026-04/3",
        "body": "City of Old Port",
        "contact": "Data-protection officer, dpo@city.example",
        "retention_days": 30,
        "until": "2026-12-31",
    }
    assert second.mode == "ended"
    assert third.mode == "refused", "one person can start it, and nobody states that enough pass"
    english, french = made.register_entries
    assert (english.lang, french.lang) == ("en", "fr")
    assert english.contact_email == "dpo@city.example"
    assert english.status == "operational"
    assert english.revision_date == "2026-12-31"
    assert english.country == "not stated by the organisation"
    assert french.country == "non indiqué par l'organisme"


def test_models_are_named_by_their_hash_with_what_their_cards_say(tmp_path: Path) -> None:
    registry = (
        '[[model]]\nname = "{name}"\nversion = "1"\ntask = "{task}"\nfile = "{name}.onnx"\n'
        'sha256 = "' + "ab" * 32 + '"\nlicence = "Apache-2.0"\n'
    )
    (tmp_path / "registry.toml").write_text(
        "".join(
            registry.format(name=name, task=task)
            for name, task in (("eye", "detect"), ("gone", "detect"), ("blank", "detect"), ("ear", "tag-sound"))
        )
    )
    for name in ("eye", "blank", "ear"):
        (tmp_path / f"{name}.onnx").touch()
    (tmp_path / "eye.md").write_text("# eye\n\n## What was measured\n\nRecall 0.8.\n\n## Limits\n\nNight.\n")
    (tmp_path / "blank.md").write_text("# blank\n")
    made = notice(settings(models=str(tmp_path)), policy(ENTRY), TODAY)
    assert [(m.name, m.sha256, m.measured) for m in made.models] == [
        ("eye", "ab" * 32, "Recall 0.8."),
        ("blank", "ab" * 32, ""),
    ]
    assert "<h4>blank</h4><p>not measured</p>" in page(made, settings(), policy(ENTRY))
    heard = notice(settings(models=str(tmp_path)), policy({**ENTRY, "type": "sound.horn"}), TODAY)
    assert [m.name for m in heard.models] == ["ear"]
    assert notice(settings(models=str(tmp_path), detector="motion"), policy(ENTRY), TODAY).models == ()


def test_the_page_stands_alone_in_two_languages() -> None:
    rules = policy(ENTRY, {**ENTRY, "type": "person.loitering", "flow_per_min": 50})
    text = page(notice(settings(), rules, TODAY), settings(), rules)
    outline = Outline(text)
    assert outline.open == []
    assert outline.addresses == ["#en", "#fr"]
    assert outline.languages == ["en", "fr"]
    assert all(b <= a + 1 for a, b in zip(outline.headings, outline.headings[1:], strict=False))
    assert "http" not in re.sub("http-equiv", "", text)
    assert "Safety of the quay &lt;b&gt;" in text
    assert "Searching for a reported person is not part of this software" in text
    assert "La recherche d&#x27;une personne signalée ne fait pas partie de ce logiciel" in text
    assert "(Somebody staying)" in text
    assert "They are not called anonymous beyond what the published attack test shows" in text
    assert "No head of the audit log was at hand" in text


def test_the_head_of_the_audit_log_is_shown_where_there_is_one() -> None:
    head = Head(size=42, root="cd" * 32, time="2026-11-23T12:00:00Z", key="ef" * 32)
    text = page(notice(settings(), policy(ENTRY), TODAY), settings(), policy(ENTRY), head)
    assert f"42 entries, root {'cd' * 32}" in text


def test_with_no_permission_it_says_that_nothing_may_be_detected() -> None:
    made = notice(settings(), Policy(), TODAY)
    assert [entry.status for entry in made.register_entries] == ["retired", "retired"]
    assert made.models == ()
    assert "Nothing may be detected here at present" in page(made, settings(), Policy())


def test_a_permission_for_every_type_fits_and_ten_thousand_do_not() -> None:
    long = {**ENTRY, "purpose": "x" * 400, "body": "y" * 400, "contact": "z" * 400}
    every = policy(*({**long, "type": event_type.label} for event_type in EventType))
    assert len(notice_json(notice(settings(), every, TODAY))) <= NOTICE_MAX_SIZE
    with pytest.raises(NoticeError, match="shorten the policy's texts"):
        notice(settings(), policy(*[long] * 100), TODAY)


@pytest.fixture
def device(tmp_path: Path) -> Path:
    """A configuration and its policy on disk."""
    config = tmp_path / "vigie.toml"
    assert CliRunner().invoke(app, ["config", "init", "--path", str(config)]).exit_code == 0
    return config


def test_render_writes_the_page_and_the_json(device: Path, tmp_path: Path) -> None:
    head = tmp_path / "head.json"
    head.write_text('{"size": 7, "root": "00", "time": "2026-11-23T12:00:00Z", "key": "11", "log": "x"}\n')
    out = tmp_path / "out"
    done = CliRunner().invoke(app, ["notice", "render", "-c", str(device), "--out", str(out), "--head", str(head)])
    assert done.exit_code == 0, done.output
    assert "7 entries" in (out / "notice.html").read_text()
    table = json.loads((out / "notice.json").read_text())
    assert {entry["type"] for entry in table["detectors"]} == {"vigie.crowd.gathering.v1", "vigie.crowd.density.v1"}


def test_render_refuses_what_is_no_head(device: Path, tmp_path: Path) -> None:
    for text in ("", "[]", '{"size": 7}'):
        (tmp_path / "head.json").write_text(text)
        done = CliRunner().invoke(
            app,
            ["notice", "render", "-c", str(device), "--out", str(tmp_path), "--head", str(tmp_path / "head.json")],
        )
        assert done.exit_code == 2
        assert "holds no head of an audit log" in done.output
