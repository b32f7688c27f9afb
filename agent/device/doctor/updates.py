"""The installed release: does one run on trial, and how did the last change end."""

from __future__ import annotations

from agent import __version__
from agent.device.doctor.check import Findings, Patient, ok, warn
from agent.device.slots import ROOT, Slots


def examine(patient: Patient) -> Findings:
    """Which release runs, what was there before, and whether the last update came back."""
    state = Slots(patient.root / ROOT.relative_to("/")).state()
    if state.phase == "none":
        return [ok("", f"vigie {__version__}, installed by hand")]
    running = f"release {state.running}"
    if state.phase == "trial":
        what = f"{running} is on trial; {state.committed} comes back if it does not prove itself"
        return [warn("", what, "wait for the verdict: vigie update status; or vigie update commit, rollback")]
    if state.last is not None and state.last.result in {"failed", "interrupted"}:
        what = f"{running}; the update to {state.last.version} {state.last.result}: {state.last.reason}"
        return [warn("", what, "vigie update status; vigie doctor; then install it again, or a newer one")]
    before = f", {state.previous} before it" if state.previous else ""
    return [ok("", f"{running}{before}")]
