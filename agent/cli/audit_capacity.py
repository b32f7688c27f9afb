"""`vigie audit capacity`: the most information that could leave this device."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.common import AsJson, ConfigFile, fail, loaded

if TYPE_CHECKING:
    from rich.table import Table

    from agent.policy import Policy
    from agent.relay.capacity import Capacity
    from agent.settings import Settings

#: What a secret has in bits, to compare with. A human among all: log2 of 8.2 billion (United Nations, 2025). A face: 64
#: by 64 pixels as WebP, so coarse that it is just recognised. A template: 128 numbers of 4 bits.
_A_HUMAN, _A_TEMPLATE, _A_FACE, _SPEECH_PER_MIN = 33, 512, 4700, 60 * 700


def capacity(
    config: ConfigFile = None,
    policy: Annotated[
        Path | None, typer.Option("--policy", "-p", help="Policy file.  [default: that of the configuration]")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compute from schema and policy the most information that could leave, whatever the sensing process does.

    The gate keeps to this bound. On a machine without a configuration it is that of the largest device: every type
    permitted, four cameras, 64 zones, and the gate's defaults.
    """
    from agent.policy import PolicyError
    from agent.relay.capacity import capacity as bound_of

    settings, rules, of = _subject(config, policy)
    try:
        bound = bound_of(settings, rules)
    except PolicyError as error:
        fail(str(error), 2)
    if as_json:
        typer.echo(json.dumps({"of": of, **_document(bound)}))
        return
    from rich.console import Console

    console = Console()
    console.print(f"The most that can leave: {of}", style="bold", highlight=False)
    console.print(_types(bound))
    console.print(_sums(bound))
    for line in statement(bound):
        console.print(line, highlight=False)


def _subject(config: Path | None, policy: Path | None) -> tuple[Settings, Policy, str]:
    """What it is asked of: configuration, policy, and how to call them."""
    from agent.policy import load_policy
    from agent.settings import DEFAULT_CONFIG, SettingsError

    here = config is not None or bool(os.environ.get("VIGIE_CONFIG")) or DEFAULT_CONFIG.exists()
    settings = loaded(config) if here else largest()
    try:
        if policy is None and not here:
            return settings, everything(), "the largest device, every type permitted, default gate"
        path = policy or settings.policy_file
        return settings, load_policy(path), f"policy {path}"
    except SettingsError as error:
        fail(str(error), 2)


def largest() -> Settings:
    """A device with four cameras and all zones there can be."""
    from agent.contract import MAX_CAMERAS, MAX_ZONES
    from agent.settings import Settings

    zones = range(MAX_ZONES // MAX_CAMERAS)
    polygon = [[0, 0], [1, 0], [1, 1]]
    return Settings.model_validate(
        {
            "camera": [
                {
                    "name": f"camera-{camera}",
                    "source": "sim:empty",
                    "zone": [{"name": f"zone-{camera}-{zone}", "polygon": polygon} for zone in zones],
                }
                for camera in range(MAX_CAMERAS)
            ]
        }
    )


def everything() -> Policy:
    """A policy that permits every type everywhere, those of single persons for a stated reason."""
    from agent.contract import EventType
    from agent.policy import Policy

    basis = {
        "purpose": "all",
        "legal_basis": "NONE",
        "body": "all",
        "contact": "all",
        "retention_days": 0,
        "until": "9999-12-31",
        "below_flow": "all",
    }
    return Policy.model_validate({"detector": [{"type": t.label, **basis} for t in EventType]})


def _document(bound: Capacity) -> dict[str, Any]:
    types = [
        {
            "type": t.type.label,
            "places": t.places,
            "bits": t.bits,
            "content_bits": t.content,
            "type_and_place_bits": t.which,
            "moment_bits": t.moment,
            "fields": [{"name": f.name, "values": f.values, "bits": f.bits, "bounded_by": f.why} for f in t.fields],
        }
        for t in bound.types
    ]
    return {
        "bits_per_minute": bound.per_minute,
        "burst_bits": bound.burst,
        "order_bits": 0,
        "types": types,
        "count_bits": bound.count,
        "state_bits": 0,
        "status_bits": bound.status,
        "health_bits": bound.health,
        "daily_totals_bits": bound.totals,
        "fixed_bits_per_minute": bound.fixed,
        "events_bits_per_minute": bound.rate,
        "saved_bits": bound.depth,
        "alarm_reserve_bits": bound.reserve,
        "says": statement(bound),
    }


def _types(bound: Capacity) -> Table:
    from rich.table import Table

    table = Table("event", "places", "stamp", "state", "confidence", "duration", "content", "which", "moment", "bits")
    for t in bound.types:
        bits = {field.name.removeprefix("data."): field.bits for field in t.fields}
        state = bits["phase"] + bits["level"] + bits["variant"] + bits["count"]
        single = (bits["time"], state, bits["confidence"], bits["duration"], t.content, t.which, t.moment, t.bits)
        table.add_row(t.type.label, str(t.places), *(f"{number:.1f}" for number in single))
    table.add_section()
    for name, price in (("count/<zone>", bound.count), ("status", bound.status), ("health", bound.health)):
        table.add_row(name, *[""] * 8, f"{price:.1f}")
    table.add_row("state/<zone>/<type>", *[""] * 8, "0.0")
    return table


def _sums(bound: Capacity) -> Table:
    from rich.table import Table

    table = Table("bits per minute, averaged over an hour", "at most")
    for name, bits in bound.fixed.items():
        table.add_row(name, f"{bits:.1f}")
    table.add_row("events, counts and changes of status", f"{bound.rate:.1f}")
    table.add_row(f"a saved burst of {bound.depth:.0f} bit, once an hour", f"{bound.depth / 60:.1f}")
    table.add_section()
    table.add_row("in total", f"{bound.per_minute:.1f}")
    table.add_row("at one moment, bits", f"{bound.burst:.0f}")
    return table


def statement(bound: Capacity) -> list[str]:
    """What the bound excludes and what it does not, in words."""
    hour, dearest = 60 * bound.per_minute, max([t.bits for t in bound.types], default=0.0)
    whole = max(0.0, (_A_FACE - bound.burst) / bound.per_minute)
    a_face = (
        f"A face of 64 by 64 pixels as WebP (about {_A_FACE} bit) is more than a burst: it takes all that may be saved "
        f"up and all of {math.ceil(whole)} minutes more, for one face and instead of every event."
        if whole
        else f"A face of 64 by 64 pixels as WebP (about {_A_FACE} bit) fits into a burst."
    )
    return [
        (
            f"In an hour no more than {hour:.0f} bit can leave, whatever the sensing process does: types, places, "
            "times, number and order of events, counts, health and status included."
        ),
        (
            "That excludes pictures in motion and speech, which at its poorest takes "
            f"{_SPEECH_PER_MIN} bit a minute. {a_face}"
        ),
        (
            f"It does not exclude a face template ({_A_TEMPLATE} bit) that a sense under somebody else's control "
            f"spells in events, and {_A_HUMAN} bit name a human being among all: one or two events ({dearest:.0f} bit "
            "the dearest). So volume alone proves no anonymity. The other half is the closed schema: every field is a "
            "class of what happens, none has room for who, and relay checks every observation again. "
            "`vigie audit attack` measures what can be made of the events of a sense that is honest."
        ),
        (
            f"Not covered: each start of relay begins with {min(bound.depth, bound.reserve + bound.rate):.0f} bit "
            "saved up, and each connection to the broker tells `status` and `state` once more; neither is for sense to "
            "bring about. Where it shares a processor with relay, load could shift a message within its moment by "
            "milliseconds; and whoever sets the clock of the device moves the moments."
        ),
    ]
