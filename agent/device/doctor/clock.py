"""The clock: is it set, by what, and how far off may it be."""

from __future__ import annotations

from agent.device.clock import BEGINNING, Reading, read
from agent.device.doctor.check import Findings, Patient, fail, ok, warn
from agent.device.doctor.running import duration

#: A reference that was not heard for so long does not keep the clock any more, seconds.
_STALE_S = 4 * 3600.0
_SOURCES = "chronyc sources -v; is a time server in reach? Without a network the clock may stay so: events are marked"


def examine(patient: Patient) -> Findings:
    """What answers for the clock; without any, whether it can be right."""
    now = patient.wall()
    if now < BEGINNING:
        return [fail("", f"it is {now:%Y-%m-%d %H:%M} UTC by this clock: it was never set", _SOURCES)]
    found = read(patient.root)
    if found.synced:
        if found.age_s is not None and found.age_s > _STALE_S:
            what = f"{_source(found)} was last heard {duration(found.age_s)} ago"
            return [warn("", what, _SOURCES)]
        return [ok("", f"{now:%Y-%m-%d %H:%M} UTC, synchronised by {_source(found)}")]
    if found.source != "none":
        off = f", {abs(found.offset_s):.1f} s off" if found.offset_s is not None else ""
        return [warn("", f"{found.source} runs, and the clock is not synchronised{off}", _SOURCES)]
    if patient.settings.clock.required:
        what = "nobody answers for the clock, and clock.required says that somebody must"
        return [fail("", what, "sudo apt install chrony; systemctl status chrony")]
    return [ok("", f"{now:%Y-%m-%d %H:%M} UTC, which can be right; nobody answers for it")]


def _source(found: Reading) -> str:
    reference = f" from {found.reference}" if found.reference else ""
    error = f", off by {1000 * found.error_s:.0f} ms at most" if found.error_s is not None else ""
    return f"{found.source}{reference}{error}"
