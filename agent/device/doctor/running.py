"""The running agent: does it answer, how is it, and is it alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

from agent.device.doctor.check import Findings, Patient, fail, ok, text, warn
from agent.settings import DEFAULT_CONFIG, Settings, SettingsError, load

_REASONS = {
    "camera": "see the line camera",
    "microphone": "see the line microphone",
    "detector": "see the line models",
    "sense": "sense is silent: systemctl status vigie-sense; journalctl -u vigie-sense -n 30",
    "disk": "see the line disk",
    "clock": "see the line clock",
    "journal": "a damaged journal was set aside: vigie audit verify; keep the file for the officer",
    "policy": "see the line policy",
    "rate": "sense tells more than it may: vigie status shows dropped.rate; restart vigie-sense",
}


def examine(patient: Patient) -> Findings:
    """How the agent says that it is; and whether a second one runs for the same device."""
    found = patient.running
    if found is None:
        yield warn("", f"does not run here: {patient.unasked}", "sudo systemctl start vigie.target")
    elif found.status.state in {"ready", "paused"}:
        shutter = "paused: the privacy shutter is closed" if found.status.state == "paused" else "ready"
        yield ok("", f"{shutter}, up for {duration(found.uptime_s)}")
    elif found.status.state in {"starting", "stopping"}:
        yield warn("", f"is {found.status.state}", "wait half a minute, and ask again")
    for reason in found.status.reasons if found else ():
        if reason == "aiming":
            yield ok("aiming", "a technician's view is open; it ends by itself")
        else:
            yield warn(reason, f"the agent complains of: {reason}", _REASONS.get(reason, "vigie status"))
    relays = list(_relays(patient.settings, patient.root))
    if len(relays) > 1:
        numbers = " ".join(map(str, relays[1:]))
        yield fail(
            "alone",
            f"{len(relays)} agents run for this device and take the broker's connection from each other: "
            f"processes {', '.join(map(str, relays))}",
            f"end the one that is too many: sudo systemctl stop vigie.target, or kill {numbers}",
        )


def duration(seconds: float) -> str:
    """In words, in the largest unit that fits."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _relays(settings: Settings, root: Path) -> Iterator[int]:
    """Processes that relay for the same device to the same broker."""
    for folder in sorted((root / "proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        words = text(folder / "cmdline").split("\0")
        place = words.index("relay") if "relay" in words else 0
        if not place or not (
            words[place - 1].endswith("/vigie") or words[max(0, place - 2) : place] == ["-m", "agent"]
        ):
            continue
        if text(folder / "stat").rpartition(")")[2].split()[:1] in ([], ["Z"]):
            continue
        theirs = _settings_of(words[place + 1 :], folder)
        if theirs is not None and _client(theirs) == _client(settings):
            yield int(folder.name)


def _client(settings: Settings) -> tuple[object, ...]:
    """Who an agent is to which broker: two that are the same take the connection from each other."""
    return settings.device.site, settings.device.name, settings.mqtt.host, settings.mqtt.port


def _settings_of(arguments: list[str], process: Path) -> Settings | None:
    """What another relay was configured by; None where that cannot be read."""
    given = next((b for a, b in itertools.pairwise(arguments) if a in {"--config", "-c"}), None)
    if given is None:
        variables = dict(entry.partition("=")[::2] for entry in text(process / "environ").split("\0"))
        given = variables.get("VIGIE_CONFIG")
    try:  # in its own file system: it may run in a container
        path = (process / "cwd").readlink() / (given or DEFAULT_CONFIG)
        return load(process / "root" / path.relative_to("/"))
    except (OSError, SettingsError):
        return None
