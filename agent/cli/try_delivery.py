"""`vigie test broker` and `end-to-end`: does what is seen arrive."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli.common import AsJson, ConfigFile, fail, loaded, say

if TYPE_CHECKING:
    from agent.relay.audit_tail import Tail
    from agent.relay.local import LocalStatus

_POLL_S = 0.2


def broker(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Go to the broker step by step: name, port, TLS, greeting, access list, round trip; exit code 1 where it ends.

    While the agent runs nothing is published; while it does not, its retained status is, as it was.
    """
    from agent.device.doctor.broker import StepError, trace
    from agent.device.doctor.examine import patient

    done: list[str] = []
    try:
        for step in trace(patient(loaded(config))):
            done.append(step)
            if not as_json:
                say(f"ok    {step}")
    except StepError as error:
        line, _, what, fix = error.finding
        if as_json:
            typer.echo(json.dumps({"ok": done, "failed": line, "what": what, "fix": fix}))
        else:
            say(f"fail  {line}: {what}\n  → {fix}")
        raise typer.Exit(1) from None
    except PermissionError as error:
        fail(f"{error.filename}: this user may not read it: sudo vigie test broker", 3)
    if as_json:
        typer.echo(json.dumps({"ok": done, "failed": None}))


def end_to_end(
    config: ConfigFile = None,
    seconds: Annotated[float, typer.Option(min=1, max=3600, help="How long an event is waited for.")] = 120,
    as_json: AsJson = False,
) -> None:
    """Walk before the camera: it says what the running agent makes of it, and when the broker has it.

    An event waits for the end of its grain (10 s, crowds 60 s) before it leaves. Exit code 1 when none arrives, 3 when
    the agent does not run.
    """
    from agent.relay.audit_read import AuditError
    from agent.relay.audit_tail import Tail
    from agent.relay.journal import DATABASE
    from agent.relay.local import LocalError, ask

    settings = loaded(config)
    try:
        before = ask(settings.pipe.status_socket)
        tail = Tail(settings.journal.folder / DATABASE)
        if not as_json:
            typer.echo(f"walk before the camera, within {seconds:.0f} s")
        arrived = _arrival(tail, seconds, as_json)
        after = ask(settings.pipe.status_socket)
    except LocalError as error:
        fail(f"{error.strerror}\nsudo systemctl start vigie.target", 3)
    except AuditError as error:
        fail(f"{error}: sudo vigie test end-to-end", 3)
    if not arrived:
        fail("\n".join(_why(before, after)), 1)


def _arrival(tail: Tail, seconds: float, as_json: bool) -> bool:
    """Tell of each event that is released, until one is delivered; whether one was."""
    from agent.cli.events import place_of

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for added in tail.new():
            if added.entry.kind == "released":
                if not as_json:
                    typer.echo(f"released: {added.entry.event}")
            elif added.released is not None and added.after_s is not None:
                data = added.released["data"]
                if as_json:
                    said = {"type": added.released["type"], "zone": data.get("zone"), "to_broker_s": added.after_s}
                    typer.echo(json.dumps(said))
                else:
                    say(f"{place_of(added.released)}: seen, and {added.after_s:.1f} s to the broker")
                return True
        time.sleep(_POLL_S)
    return False


def _why(before: LocalStatus, after: LocalStatus) -> list[str]:
    """What became of what was seen, as far as the agent counts it."""
    held = {
        name: number - before.counters.get(name, 0)
        for name, number in sorted(after.counters.items())
        if number > before.counters.get(name, 0)
    }
    lines = ["no event arrived at the broker"]
    if after.released > before.released:
        lines.append("one was released and is not delivered: vigie doctor --only broker,outbox")
    if held:
        lines.append(f"held back meanwhile: {', '.join(f'{name} {number}' for name, number in held.items())}")
    if not held and after.released == before.released:
        lines.append("nothing was seen that a rule is for: vigie test detector --camera NAME; vigie policy check")
    if after.status.reasons:
        lines.append(f"the agent is {after.status.state}: {', '.join(after.status.reasons)}: vigie doctor")
    return lines
