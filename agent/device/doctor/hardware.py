"""The machine: what it is, how it is powered, how warm it is, and how much memory is left."""

from __future__ import annotations

import platform

from agent.device.disk import memory
from agent.device.doctor.check import Finding, Findings, Patient, fail, ok, text, warn
from agent.device.l4t import l4t
from agent.device.machine import temperature_c
from agent.device.power import over_currents, power_modes, throttled

#: As the classes `hot` and `critical` of the message `health`, °C.
_HOT_C, _CRITICAL_C = 85.0, 95.0
_SCARCE, _NONE_LEFT = 0.10, 0.03


def examine(patient: Patient) -> Findings:
    """Board and L4T, power mode, throttling, temperature, memory."""
    root = patient.root
    yield _board(patient)
    modes = power_modes(root)
    if modes is not None:
        present, own = modes
        if present.watts < own.watts:
            yield warn(
                "power mode",
                f"{present.name}, below the board's own {own.name}: the network runs slower than it could",
                f"sudo nvpmodel -m {own.number}",
            )
        else:
            yield ok("power mode", present.name)
    slowed = throttled(root)
    if slowed:
        yield fail(
            "throttling",
            f"slowed down because of heat: {', '.join(slowed)}",
            "shade it, clean fan and fins, check the thermal pad; sudo jetson_clocks --fan",
        )
    drawn = over_currents(root)
    if drawn:
        yield warn(
            "throttling",
            f"slowed down {drawn} times since the start for drawing too much current",
            "use the power supply of the board's data sheet, a short cable, or a lower power mode: sudo nvpmodel -q",
        )
    yield from _temperature(temperature_c(root))
    room = memory(root)
    if room is not None:
        left = f"memory {room.share:.0%} free of {room.total / 2**30:.1f} GiB"
        hint = "see what takes it: ps aux --sort=-rss | head"
        if room.share < _SCARCE:
            yield (fail if room.share < _NONE_LEFT else warn)("memory", left, hint)
        else:
            yield ok("memory", left)


def _board(patient: Patient) -> Finding:
    found = l4t(patient.root)
    model = text(patient.root / "proc" / "device-tree" / "model") or platform.machine()
    if found is None:
        return ok("board", f"{model}, no Jetson")
    if found.jetpack is None:
        return warn(
            "board",
            f"{model}, L4T {found}, which this agent does not know",
            "it runs, untested: docs/models.md names the JetPacks that it was made for",
        )
    return ok("board", f"{model}, L4T {found} (JetPack {found.jetpack})")


def _temperature(degrees: float | None) -> Findings:
    if degrees is None:
        return
    found = f"{degrees:.0f} °C"
    if degrees >= _HOT_C:
        judge = fail if degrees >= _CRITICAL_C else warn
        yield judge("temperature", f"{found}: it slows down or stops", "shade it, clean fan and fins, let air to it")
    else:
        yield ok("temperature", found)
