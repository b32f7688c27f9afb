"""`vigie policy`: what may be detected here, and why, in words."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.common import AsJson, ConfigFile, examples, fail, loaded

if TYPE_CHECKING:
    from agent.policy import DetectorPolicy, Policy
    from agent.presets import Preset
    from agent.settings import CameraSettings, MicrophoneSettings, Settings

app = typer.Typer(help="What may be detected on this device, and why.", no_args_is_help=True)


@app.command(epilog=examples({"vigie policy check": "what is on, what is refused, what ends"}))
def check(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Explain what is on and why, what is refused, and what ends; exit code 1 if something is refused or has ended."""
    from agent.policy import PolicyError, load_policy, local_day

    settings = loaded(config)
    try:
        policy = load_policy(settings.policy_file)
    except PolicyError as error:
        fail(str(error), 2)
    found = findings(settings, policy, local_day(dt.datetime.now(dt.timezone.utc)))
    if as_json:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        typer.echo("\n".join(_lines(found)))
    raise typer.Exit(0 if found["ok"] else 1)


def findings(settings: Settings, policy: Policy, today: dt.date) -> dict[str, Any]:
    """Everything that `check` says, as a table.

    Args:
        settings: The configuration.
        policy: The policy.
        today: The day.
    """
    from agent.relay.notice import words

    said = words("en")
    sensors: dict[str, CameraSettings | MicrophoneSettings] = {f"camera {c.name}": c for c in settings.cameras}
    sensors["microphone"] = settings.microphone
    wanted = [(name, r.event_type, r.zone) for name, sensor in sensors.items() for r in sensor.rules]
    ending = policy.ending(today)
    detectors = [
        {
            "type": entry.type,
            "what": said["type"][entry.type]["what"],
            "state": policy.state(entry, today),
            "used_by": [
                f"{name} in {zone}" if zone else name
                for name, event_type, zone in wanted
                if policy.entry(event_type, zone, today) is entry
            ],
            "zones": list(entry.zones),
            "place": entry.place,
            "purpose": entry.purpose,
            "legal_basis": entry.legal_basis,
            "body": entry.body,
            "contact": entry.contact,
            "retention_days": entry.retention_days,
            "until": entry.until.isoformat(),
            "days_left": entry.days_left(today),
            "ends_soon": entry in ending,
            "leaves": _leaves(entry, policy),
        }
        for entry in policy.detectors
    ]
    refused = [
        {"sensor": name, "reason": reason}
        for name, sensor in sensors.items()
        for reason in policy.permitted(sensor, today)[1]
    ]
    return {
        "ok": not refused and all(d["state"] in {"on", "shadow"} for d in detectors),
        "policy": str(settings.policy_file),
        "sha256": policy.digest(),
        "day": today.isoformat(),
        "follows": policy.follows,
        "detectors": detectors,
        "refused": refused,
    }


def _leaves(entry: DetectorPolicy, policy: Policy) -> str:
    """How an event of this permission leaves, in words."""
    from agent.contract import CROWD_TYPES, PERSON_TYPES

    if entry.mode == "shadow":
        return "nothing: it is counted on the device and never sent"
    grain = policy.gate.grain_of(entry.event_type)
    when = f"at the end of each {grain} s" if grain else "at once, to the second"
    if entry.event_type in CROWD_TYPES:
        return f"classes of people, never below {policy.gate.k}, {when}"
    if entry.event_type in PERSON_TYPES:
        return f"only that it started, {when}; one person can cause it, so it is not called anonymous"
    return f"that it started and ended, {when}"


def _lines(found: dict[str, Any]) -> Iterator[str]:
    yield f"Policy {found['policy']} on {found['day']}, the device's own day (SHA-256 {found['sha256'][:16]}…)"
    if found["follows"]:
        yield f"It keeps to the list of preset {found['follows']}."
    if not found["detectors"]:
        yield "Nothing may be detected: there is no [[policy.detector]] entry."
    for entry in found["detectors"]:
        where = entry["place"] or (f"zones {', '.join(entry['zones'])}" if entry["zones"] else "every zone")
        yield ""
        yield f"{_STATES[entry['state']]}  {entry['type']}, {where}"
        yield f"  {entry['what']} {entry['purpose']}."
        yield f"  Basis {entry['legal_basis']}; {entry['body']} answers for it: {entry['contact']}."
        if entry["state"] == "ended":
            yield f"  It ended on {entry['until']}: the detector has stopped by itself. Renew the basis, or remove it."
            continue
        if entry["state"] == "refused":
            yield "  It does not run: one person can start it, too few are stated to pass, and no below_flow says why."
            continue
        yield f"  Leaves: {entry['leaves']}; the receiver may keep it for {entry['retention_days']} days."
        soon = " Nothing takes over from it." if entry["ends_soon"] else ""
        yield f"  Last day {entry['until']}, in {entry['days_left']} days.{soon}"
        if not entry["used_by"]:
            yield "  No rule of the configuration uses it."
        else:
            yield f"  Used by {'; '.join(entry['used_by'])}."
    for item in found["refused"]:
        yield ""
        yield f"REFUSED  {item['sensor']}: {item['reason']}; this rule does not run."


_STATES = {"on": "ON", "shadow": "TRIAL", "ended": "ENDED", "refused": "REFUSED"}


@app.command()
def preset(
    name: Annotated[
        str | None, typer.Argument(help="Preset to begin a policy from; without one all are listed.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List published texts, or print a policy file that keeps to one, for the officer to fill in."""
    from agent.presets import preset as find
    from agent.presets import preset_names
    from agent.settings import SettingsError

    try:
        texts = {each: find(each) for each in ([name] if name else preset_names())}
    except SettingsError as error:
        fail(str(error), 2)
    if as_json:
        typer.echo(json.dumps({n: t.model_dump(mode="json") for n, t in texts.items()}, indent=2, ensure_ascii=False))
    elif name:
        typer.echo("\n".join(_policy_file(name, texts[name])))
    else:
        for each, text in texts.items():
            typer.echo(f"{each}: {text.title}\n  {text.source} ({text.date})\n  {', '.join(text.types)}")


def _policy_file(name: str, text: Preset) -> Iterator[str]:
    """A policy that does not load before somebody has filled in what only the officer knows."""
    yield f"# {text.title}"
    yield f"# Source: {text.source} ({text.date})"
    yield f"# {text.note}"
    if text.ended:
        yield f"# The text itself ended on {text.ended}."
    yield from (f"# Not offered: {event.en}. {event.why_not}." for event in text.events if not event.types)
    yield "[policy]"
    yield f'follows = "{name}"'
    for event in text.events:
        for label in event.types:
            yield ""
            yield f"# {event.en} / {event.fr}"
            yield "[[policy.detector]]"
            yield f'type = "{label}"'
            yield 'mode = "shadow"'
            yield f"purpose = {json.dumps(text.purpose, ensure_ascii=False)}"
            yield f'legal_basis = "{text.basis}"'
            yield "# Fill in, and remove the # before it:"
            yield '# body = "Who answers for it"'
            yield '# contact = "Where people ask, object or complain"'
            yield "# retention_days = 30"
            yield "# until = 2027-12-31"
