"""The services, as systemd has them."""

from __future__ import annotations

from agent.device.doctor.check import Findings, Patient, fail, ok, warn

#: What should run, and what must at least not have failed.
_RUN = ("vigie-relay.service", "vigie-sense.service")
_WATCHED = (
    *("vigie-engines.service", "vigie-camera@*.service", "vigie-aim.service"),
    *("vigie-update-boot.service", "vigie-update-trial.service", "nvargus-daemon.service"),
)
_KEYS = "Id,LoadState,ActiveState,SubState,Result,ExecMainStatus,NRestarts,UnitFileState"
#: More restarts than these since the start are told.
_RESTARTS = 3


def examine(patient: Patient) -> Findings:
    """Each unit: is it there, does it run, did it fail, how often was it restarted."""
    if not (patient.root / "run" / "systemd" / "system").exists():
        yield ok("", "there is no systemd here: the agent is started by hand")
        return
    said = patient.command(("systemctl", "show", "--property", _KEYS, *_RUN, *_WATCHED))
    if said is None:
        yield warn("", "systemctl gives no answer", "systemctl status vigie.target")
        return
    units = [dict(line.partition("=")[::2] for line in part.splitlines()) for part in said.strip().split("\n\n")]
    running = []
    for unit in units:
        name = unit.get("Id", "")
        short = name.removesuffix(".service")
        state = unit.get("ActiveState", "")
        restarts = int(number) if (number := unit.get("NRestarts", "")).isdecimal() else 0
        if unit.get("LoadState") == "not-found":
            if name in _RUN:
                yield warn(short, "is not installed", "docs/technician.md, or run the agent by hand: vigie run")
        elif state == "failed":
            code = unit.get("ExecMainStatus", "")
            yield fail(
                short,
                f"has failed: {unit.get('Result')}, exit code {code}",
                _after(short, code),
            )
        elif name in _RUN and state != "active":
            yield warn(short, f"is {state}", "sudo systemctl start vigie.target")
        elif restarts > _RESTARTS:
            yield warn(short, f"was restarted {restarts} times", f"journalctl -u {short} -p warning -n 30")
        elif name in _RUN:
            running.append(short)
    if running:
        yield ok("", f"{' and '.join(running)} run")


def _after(unit: str, code: str) -> str:
    if code == "2":
        return f"its configuration cannot work: vigie config check; then sudo systemctl restart {unit}"
    return f"journalctl -u {unit} -n 30; then sudo systemctl reset-failed {unit} && sudo systemctl start {unit}"
