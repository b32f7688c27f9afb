"""The clock: was it ever set, and does something keep it."""

from __future__ import annotations

from agent.device.doctor.check import Findings, Patient, fail, ok


def examine(patient: Patient) -> Findings:
    """Whether the wall clock can be right."""
    now = patient.wall()
    if now.year < 2026:
        return [fail("", f"it is {now:%Y-%m-%d %H:%M} UTC by this clock: it was never set", "chronyc sources")]
    return [ok("", f"{now:%Y-%m-%d %H:%M} UTC")]
