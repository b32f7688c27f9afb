"""The policy: what is on, what is refused and why, and what ends."""

from __future__ import annotations

from agent.behaviours.fusion import watched_joints
from agent.device.doctor.check import Findings, Patient, fail, ok, warn
from agent.policy import PolicyError, load_policy, local_day
from agent.settings import CameraSettings, MicrophoneSettings

_RENEW = "the officer renews it in the policy file, or takes the rule out: vigie policy check"


def examine(patient: Patient) -> Findings:
    """The file, each rule that may not run, each permission that has ended or ends soon."""
    settings = patient.settings
    try:
        policy = load_policy(settings.policy_file)
    except PolicyError as error:
        for problem in error.problems:
            yield fail("", problem, "vigie policy check; vigie policy preset prints one to begin from")
        return
    if (patient.root / "run" / "systemd" / "system").exists() and (settings.policy_file.stat().st_mode & 0o022):
        path = settings.policy_file
        yield fail("file", f"{path}: others can change it: the services refuse it", f"sudo chmod 644 {path}")
    today = local_day(patient.wall())
    on = 0
    refused: dict[str, None] = {}
    sensors: list[CameraSettings | MicrophoneSettings] = [*settings.cameras, settings.microphone]
    for sensor in sensors:
        allowed, reasons = policy.permitted(sensor, today)
        on += len(allowed)
        refused |= dict.fromkeys(reasons)
    watched, reasons = watched_joints(settings, policy, today)
    on += len({w.joint.incident for w in watched})
    refused |= dict.fromkeys(reasons)
    for reason in refused:
        label = reason.partition(":")[0]
        if "ended on" in reason:
            yield fail(label, reason, _RENEW)
        else:
            yield warn(label, f"{reason}; the rule does not run", "vigie policy check says what the officer can do")
    ending = policy.ending(today)
    if ending:
        days, more = ending[0].days_left(today), f" (and {len(ending) - 1} more)" if len(ending) > 1 else ""
        what = f"{ending[0].type} may run until {ending[0].until}, {days} more day{'s' if days != 1 else ''}{more}"
        yield warn("ends", what, _RENEW)
    shadow = sum(entry.mode == "shadow" for entry in policy.detectors)
    trial = f", {shadow} of the policy on trial: counted and never sent" if shadow else ""
    if on:
        yield ok("", f"{on} rules may run{trial}")
    elif settings.cameras or settings.microphone.rules:
        yield warn("", "no rule may run: nothing is detected", "vigie policy check; the officer writes the policy")
