"""Messages as devices send them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agent.contract import Birth, Count, DetectorNotice, Event, EventData, Health, State, Status

BOOT = "5f3a9c01"
Message = tuple[str, bytes]


def _document(kind: str, device: str, label: str, more: dict[str, Any]) -> Any:
    boot = more.pop("boot", BOOT)
    if kind == "status":
        return Status.model_validate({"state": "ready", "boot": boot, **more})
    if kind == "birth":
        on = more.pop("on", {})
        detectors = tuple(
            DetectorNotice(type=f"vigie.{name}.v1", mode="on", basis="DEMO", until="2026-12-31", zones=zones)
            for name, zones in on.items()
        )
        digest = "0" * 64
        return Birth(boot=boot, agent="1.2.3", contract=1, k=5, detectors=detectors, config=digest, policy=digest)
    if kind == "health":
        return Health.model_validate({"time": "2026-11-23T10:15:00Z", "sense": "ready", **more})
    if kind == "count":
        table = {"time": "2026-11-23T10:15:00Z", "grain_s": 60, "epsilon": 0.5, "epsilon_left": 1, "clock": "synced"}
        return Count.model_validate({**table, **more})
    if kind == "state":
        times = {"since": "2026-11-23T10:15:00Z", "time": "2026-11-23T10:15:00Z"}
        return State.model_validate({"boot": boot, "event": f"{boot}-000001", "open": True, **times, **more})
    number = more.pop("number", 1)
    data = {"episode": "9b1e", "phase": "started", "confidence": "high", "clock": "synced", "basis": "DEMO", **more}
    return Event(
        id=f"{boot}-{number:06d}",
        source=f"/vigie/{device}",
        type=f"vigie.{label}.v1",
        time="2026-11-23T10:15:00Z",
        data=EventData.model_validate(data),
    )


@pytest.fixture
def says() -> Callable[..., Message]:
    """A message: `says("event/crowd.gathering", zone="quay")`, of old-port/cam-07 unless `device` names another."""

    def made(below: str, *, device: str = "old-port/cam-07", **more: Any) -> Message:
        kind, *levels = below.split("/")
        document = _document(kind, device, levels[-1] if levels else "", more)
        return f"vigie/v1/{device}/{below}", document.model_dump_json(exclude_none=True).encode()

    return made
