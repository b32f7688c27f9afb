"""The configuration: can it be read, and can the behaviours run by it."""

from __future__ import annotations

from pathlib import Path

from agent.device.doctor.check import Finding, Findings, Patient, fail, ok, warn
from agent.settings import SettingsError


def unreadable(error: SettingsError) -> Findings:
    """What is wrong with a configuration that could not be loaded."""
    return [_problem(problem) for problem in error.problems]


def examine(patient: Patient) -> Findings:
    """Whether something is configured, and whether every rule of it can be."""
    from agent.sense import check_rules

    settings = patient.settings
    try:
        check_rules(settings)
    except SettingsError as error:
        yield from unreadable(error)
        return
    cameras, zones = len(settings.cameras), len(settings.zone_names)
    hears = settings.microphone.source is not None
    if not cameras and not hears:
        yield warn("", "no camera and no microphone is configured", "vigie config init writes a first configuration")
        return
    rules = sum(len(camera.rules) for camera in settings.cameras) + len(settings.microphone.rules)
    parts = (_some(cameras, "camera"), _some(zones, "zone"), _some(rules, "rule"), "microphone" if hears else "")
    device = f"{settings.device.site}/{settings.device.name}"
    yield ok("", f"{device}: {', '.join(part for part in parts if part)}")


def _problem(problem: str) -> Finding:
    if ".polygon" in problem:
        where, _, why = problem.partition(".polygon")
        return fail(
            "zone",
            f"{where}.polygon{why}",
            "a corner is outside the frame: x and y are fractions of its width and height, 0 to 1; "
            "look at it with vigie zones show",
        )
    if "cannot be read" in problem:
        path = next((word.rstrip(":") for word in problem.split() if word.startswith("/")), "the file")
        return fail("", problem, f"sudo chmod 644 {path}; it must belong to root: ls -l {Path(path).parent}")
    return fail("", problem, "mend that line, then: vigie config check")


def _some(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}" if number else ""
