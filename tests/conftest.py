"""What several tests need: the shared data, and a way to ask for a real part."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, settings

_DATA = Path(os.environ.get("VIGIE_DATA", Path(__file__).parents[1].parent / "shared" / "data"))


@pytest.fixture(scope="session")
def data() -> Path:
    """Folder of the shared clips, sounds and labels; the test is skipped, saying so, where it is absent."""
    if not (_DATA / "labels.json").exists():
        pytest.skip(f"shared data is absent: no {_DATA}/labels.json (set VIGIE_DATA)")
    return _DATA


def lacking(reason: str) -> NoReturn:
    """Skip a rig for what is not here, on a laptop, and fail it where VIGIE_REQUIRE_RIGS=1."""
    if os.environ.get("VIGIE_REQUIRE_RIGS") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def require() -> Callable[..., None]:
    """Ask for programs or Python modules of a rig: `require("mosquitto", "pulseaudio")`.

    What is missing skips the test on a laptop and fails it where VIGIE_REQUIRE_RIGS=1.
    """

    def ask(*parts: str) -> None:
        path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
        missing = [p for p in parts if shutil.which(p, path=path) is None and importlib.util.find_spec(p) is None]
        if missing:
            lacking(f"this rig needs {', '.join(missing)} (see tests/rigs/README.md)")

    return ask


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own VIGIE_ variables must not change what a test sees."""
    keep = {"VIGIE_DATA", "VIGIE_REQUIRE_RIGS"}
    for name in list(os.environ):
        if name.startswith("VIGIE_") and name not in keep:
            monkeypatch.delenv(name)


# How long a machine takes to make an example says nothing about the code.
settings.register_profile("vigie", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
settings.load_profile("vigie")
