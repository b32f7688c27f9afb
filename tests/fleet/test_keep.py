"""The keeper: what it remembers, what it says again, and what it does not believe."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

from agent.cli.app import app
from agent.command import desired
from agent.contract import Birth, Status
from agent.fleet.bridges.bridge import Publication
from agent.fleet.keep import Keeper, KeepError, listing

ROOT = "vigie/v1/old-port/cam-07"
KEY = Ed25519PrivateKey.generate()
BIRTH = Birth(boot="0a1b2c3d", agent="0.1.0", contract=1, k=5, detectors=(), config="0" * 64, policy="0" * 64)
READY = Status(state="ready", boot="0a1b2c3d").model_dump_json().encode()


def document(version: int, target: str = "old-port/cam-07") -> bytes:
    return desired(KEY, target, version, 0, dt.datetime(2026, 11, 27, tzinfo=dt.timezone.utc), {})


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Keeper]:
    with contextlib.closing(Keeper(tmp_path / "kept.sqlite", now=lambda: 7.0)) as found:
        yield found


def birth(keeper: Keeper, *, retained: bool = False) -> list[Publication]:
    return keeper.take(f"{ROOT}/birth", BIRTH.model_dump_json().encode(), retained=retained)


def test_a_device_that_is_born_gets_what_is_desired_of_it(keeper: Keeper) -> None:
    assert birth(keeper) == []
    keeper.take(f"{ROOT}/config/desired", document(3), retained=False)
    assert birth(keeper) == [Publication(f"{ROOT}/config/desired", document(3), retain=True)]
    assert birth(keeper, retained=True) == [], "an old birth is no new connection"


def test_it_remembers_over_a_restart_and_says_all_again(keeper: Keeper, tmp_path: Path) -> None:
    keeper.take(f"{ROOT}/config/desired", document(3), retained=False)
    keeper.close()
    with contextlib.closing(Keeper(tmp_path / "kept.sqlite")) as again:
        assert again.connected() == [Publication(f"{ROOT}/config/desired", document(3), retain=True)]


def test_the_newest_document_of_this_device_is_kept_and_no_other(keeper: Keeper) -> None:
    for payload in (document(3), document(2), document(9, "old-port/cam-08"), b"{}", b"\xff", b"x" * 10**6):
        keeper.take(f"{ROOT}/config/desired", payload, retained=False)
    assert [one.payload for one in birth(keeper)] == [document(3)]
    assert sum(keeper.refused.values()) == 5
    keeper.take(f"{ROOT}/config/desired", b"", retained=False)
    assert birth(keeper) == [], "what a manager takes away is not said again"


def test_what_is_no_retained_topic_of_a_device_is_refused(keeper: Keeper) -> None:
    for topic in (f"{ROOT}/event/crowd.gathering", "vigie/v1/old-port/_incidents/status", "other", f"{ROOT}/cmd/pause"):
        keeper.take(topic, READY, retained=False)
    assert sum(keeper.refused.values()) == 4


def test_the_fleet_is_listed_from_the_file(keeper: Keeper, tmp_path: Path) -> None:
    birth(keeper)
    keeper.take(f"{ROOT}/status", READY, retained=False)
    keeper.take(f"{ROOT}/config/desired", document(3), retained=False)
    (row,) = listing(tmp_path / "kept.sqlite")
    assert row | {"state_at": 7.0} == row
    assert (row["device"], row["state"], row["agent"], row["desired"]) == ("cam-07", "ready", "0.1.0", 3)
    result = CliRunner().invoke(app, ["fleet", "kept", "--file", str(tmp_path / "kept.sqlite"), "--json"])
    assert json.loads(result.output) == [row]
    assert (
        "old-port/cam-07" in CliRunner().invoke(app, ["fleet", "kept", "--file", str(tmp_path / "kept.sqlite")]).output
    )


def test_a_file_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    with pytest.raises(KeepError, match="does vigie fleet keep run"):
        listing(tmp_path / "nothing.sqlite")
    (tmp_path / "bad.sqlite").write_text("this is no database, and long enough to be seen as none" * 20)
    with pytest.raises(KeepError, match="cannot be used"):
        Keeper(tmp_path / "bad.sqlite")
    result = CliRunner().invoke(app, ["fleet", "kept", "--file", str(tmp_path / "nothing.sqlite")])
    assert result.exit_code == 2
