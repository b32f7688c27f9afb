"""The transparency notice in a real browser: it loads nothing, and axe-core has nothing to complain of."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.contract import EventType
from agent.demo.clip import cache_folder
from agent.policy import Policy
from agent.relay.notice import notice, page
from agent.settings import Settings
from tests.conftest import lacking

pytestmark = [pytest.mark.rig, pytest.mark.timeout(300)]

PACKAGES = ("axe-core@4.10.3", "puppeteer-core@24.10.0")


@pytest.fixture(scope="module")
def axe(require: Callable[..., None]) -> Path:
    """A folder with axe-core and what drives the browser, from npm, fetched once."""
    require("node", "npm", "chromium")
    folder = cache_folder() / "rigs" / "-".join(PACKAGES).replace("@", "-")
    if not (folder / "node_modules" / "axe-core").exists():
        folder.mkdir(parents=True, exist_ok=True)
        options = ("--no-audit", "--no-fund", "--ignore-scripts", "--no-save", "--loglevel=error")
        done = subprocess.run(["npm", "install", *options, *PACKAGES], cwd=folder, check=False, capture_output=True)
        if done.returncode:
            reason = f"npm cannot fetch {', '.join(PACKAGES)}: {done.stderr.decode()[-300:]}"
            lacking(reason)
    return folder


def test_the_page_is_accessible_and_loads_nothing(axe: Path, tmp_path: Path) -> None:
    settings = Settings.model_validate(
        {"device": {"site": "old-port", "name": "cam-07"}, "microphone": {"source": "device:USB"}}
    )
    entry = {
        "purpose": "Safety of the people on the quay",
        "legal_basis": "FR-2026-04/3",
        "body": "City of Old Port",
        "contact": "dpo@city.example, 1 Quay Street",
        "retention_days": 30,
        "below_flow": "Who has fallen needs help",
    }
    policy = Policy.model_validate(
        {
            "detector": [
                {**entry, "type": t.label, "until": "2026-01-01" if t is EventType.SOUND_HORN else "2027-12-31"}
                for t in EventType
            ]
        }
    )
    html = tmp_path / "notice.html"
    html.write_text(page(notice(settings, policy, dt.date(2026, 11, 23)), settings, policy))
    shutil.copy(Path(__file__).with_name("axe.cjs"), tmp_path)
    done = subprocess.run(
        ["node", str(tmp_path / "axe.cjs"), html.as_uri(), shutil.which("chromium") or "chromium"],
        env={**os.environ, "NODE_PATH": str(axe / "node_modules")},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["violations"] == []
    assert found["passes"] > 20
    assert set(found["requests"]) == {html.as_uri()}
    assert found["overflow"] == [], "wider than the screen"
