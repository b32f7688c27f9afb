"""The AsyncAPI document and the official JSON Schema of AsyncAPI 3.0."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest

from agent.demo.clip import cache_folder
from agent.documents import asyncapi
from tests.conftest import lacking

pytestmark = [pytest.mark.rig, pytest.mark.timeout(300)]

PACKAGE = "@asyncapi/specs@6.11.1"


@pytest.fixture(scope="module")
def official(require: Callable[..., None]) -> Any:
    """The schema, from npm, fetched once."""
    require("node", "npm")
    folder = cache_folder() / "rigs" / PACKAGE.replace("@", "-").replace("/", "-")
    file = folder / "node_modules" / "@asyncapi" / "specs" / "schemas" / "3.0.0-without-$id.json"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        options = ("--no-audit", "--no-fund", "--ignore-scripts", "--no-save", "--loglevel=error")
        done = subprocess.run(["npm", "install", *options, PACKAGE], cwd=folder, check=False, capture_output=True)
        if done.returncode:
            reason = f"npm cannot fetch {PACKAGE}: {done.stderr.decode()[-300:]}"
            lacking(reason)
    return json.loads(file.read_text(encoding="utf-8"))


def test_the_document_is_valid(official: Any) -> None:
    validator = jsonschema.Draft7Validator(official)
    assert [error.message for error in validator.iter_errors(asyncapi())] == []
    broken = asyncapi()
    del broken["operations"]["sendEvent"]["action"]
    assert not validator.is_valid(broken)
