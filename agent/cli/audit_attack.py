"""`vigie audit attack`: what can be made of what leaves, on simulated streets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.common import AsJson, fail

if TYPE_CHECKING:
    from agent.evaluate.attack import Outcome, Rate

#: What the default gate has to keep to for types that are not about one person: advantage, and its upper 95 % bound.
_WANTED, _WANTED_HIGH = 0.05, 0.10
_ANONYMOUS = ("crowd", "count", "sound", "together")
_NAMES = {
    "crowd": "crowd.density",
    "count": "count/<zone>",
    "sound": "sounds (horn, scream), heard now and then",
    "together": "these three together",
    "loud": "a sound of somebody who is heard everywhere",
    "person": "a type that one person starts (person.running)",
    "health": "health",
    "sizes": "sizes and times of messages",
}


def attack(
    walkers: Annotated[
        int, typer.Option(min=100, help="Walkers in the attacked streets of each flow, at least.")
    ] = 4000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 1,
    out: Annotated[
        Path | None, typer.Option(help="Write the figures as Markdown too, such as to docs/anonymity.md.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Attack the events of simulated streets with full knowledge of schema, policy and how people walk.

    The advantage of an attacker is the true positive rate less the false positive rate: 0 is guessing, 1 is certainty.
    Exit code 1 when the default gate leaves more than 0.05 for linking by crowd, count or sound types at any flow.
    """
    from rich.console import Console
    from rich.progress import Progress

    from agent.evaluate.attack import FLOWS, POLICIES
    from agent.evaluate.attack import attack as attacked

    console = Console(stderr=as_json)
    outcomes: list[Outcome] = []
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("attacking", total=len(FLOWS) * len(POLICIES))
        for outcome in attacked(walkers, seed):
            outcomes.append(outcome)
            progress.advance(task)
    if out is not None:
        try:
            out.write_text(document(outcomes, walkers, seed))
        except OSError as error:
            fail(f"{out}: cannot be written: {error.strerror}", 3)
    missed = shortfalls(outcomes)
    if as_json:
        typer.echo(json.dumps({"seed": seed, "missed": missed, "outcomes": [_record(o) for o in outcomes]}))
    else:
        _print(outcomes, console)
        for line in missed:
            console.print(line, style="red", highlight=False)
    if missed:
        raise typer.Exit(1)


def shortfalls(outcomes: Sequence[Outcome]) -> list[str]:
    """Where the default gate leaves more for linking than it may, or where nobody has tried, in words."""
    found = []
    for outcome in outcomes:
        for family in _ANONYMOUS if outcome.policy == "default" else ():
            rate = outcome.advantages.get((family, "link"))
            where = f"{_NAMES[family]} at {outcome.flow:g} walkers a minute"
            if rate is None:
                found.append(f"{where}: not attacked")
            elif rate.advantage > _WANTED or rate.high > _WANTED_HIGH:
                found.append(f"{where}: linking advantage {_cell(rate)}")
    return found


def _record(outcome: Outcome) -> dict[str, Any]:
    return {
        "flow_per_min": outcome.flow,
        "policy": outcome.policy,
        "walkers": outcome.walkers,
        "advantages": [
            {"family": family, "attack": attack, **rate._asdict()}
            for (family, attack), rate in outcome.advantages.items()
        ],
        "kept": {family: {"share": share, "delay_s": delay} for family, (share, delay) in outcome.kept.items()},
    }


def _cell(rate: Rate | None) -> str:
    return "" if rate is None else f"{rate.advantage:.2f} ({rate.low:.2f} to {rate.high:.2f})".replace("-0.00", "0.00")


def _flows(outcomes: Sequence[Outcome]) -> list[float]:
    return sorted({outcome.flow for outcome in outcomes})


def _rows(outcomes: Sequence[Outcome], attack: str, policy: str, families: Sequence[str]) -> list[list[str]]:
    """One row for each family: its name, and the advantage at each flow."""
    at = {outcome.flow: outcome for outcome in outcomes if outcome.policy == policy}
    return [
        [
            _NAMES[family],
            *(_cell(at[flow].advantages.get((family, attack)) if flow in at else None) for flow in _flows(outcomes)),
        ]
        for family in families
    ]


def _print(outcomes: Sequence[Outcome], console: Any) -> None:
    from rich.table import Table

    from agent.evaluate.attack import FAMILIES

    policies = list(dict.fromkeys(outcome.policy for outcome in outcomes))
    for attack in ("link", "single out", "trajectory", "speed", "group"):
        table = Table("gate", "from", *(f"{flow:g}/min" for flow in _flows(outcomes)), title=f"{attack}: advantage")
        for policy in policies if attack == "link" else ("default", "gate off"):
            for row in _rows(outcomes, attack, policy, FAMILIES):
                if any(row[1:]):
                    table.add_row(policy, *row)
            table.add_section()
        console.print(table)
    console.print(_utility(outcomes))


def _utility(outcomes: Sequence[Outcome]) -> Any:
    from rich.table import Table

    table = Table("gate", "walkers/min", "from", "told", "delay", title="what is left")
    for outcome in outcomes:
        for family, (share, delay) in outcome.kept.items():
            table.add_row(outcome.policy, f"{outcome.flow:g}", _NAMES[family], f"{100 * share:.0f} %", f"{delay:.1f} s")
    return table


def _left(outcome: Outcome, family: str) -> str:
    if family not in outcome.kept:
        return "nothing to tell"
    share, delay = outcome.kept[family]
    return f"{100 * share:.0f} %, {delay:.1f} s"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def document(outcomes: Sequence[Outcome], walkers: int, seed: int) -> str:
    """The figures for a data-protection officer, as Markdown."""
    from agent.cli.audit_capacity import everything, largest, statement
    from agent.evaluate.attack import POLICIES
    from agent.policy import GatePolicy
    from agent.relay.capacity import capacity

    flows = _flows(outcomes)
    head = [f"{flow:g} walkers/min" for flow in flows]
    gate = GatePolicy()
    missed = shortfalls(outcomes)
    verdict = (
        "**Falls short:** " + "; ".join(missed) + "."
        if missed
        else f"Wanted of these, at every flow: at most {_WANTED:.2f}, upper bound at most {_WANTED_HIGH:.2f}. "
        "**Kept at every flow.**"
    )
    told = {(o.policy, o.flow): o for o in outcomes}
    knobs = [
        [
            policy,
            f"{flow:g}",
            *(_cell(told[policy, flow].advantages.get((family, "link"))) for family in (*_ANONYMOUS, "person")),
            *(_left(told[policy, flow], family) for family in ("crowd", "sound", "person")),
        ]
        for policy in POLICIES
        for flow in flows
        if (policy, flow) in told
    ]
    others = [
        [attack, *row]
        for attack in ("single out", "trajectory", "speed", "group")
        for row in _rows(outcomes, attack, "default", (*_ANONYMOUS, "person"))
    ]
    off = [
        [attack, *row]
        for attack in ("link", "single out", "trajectory", "speed", "group")
        for row in _rows(outcomes, attack, "gate off", ("crowd", "person", "loud"))
    ]
    numbers = ", ".join(f"{told['default', flow].walkers} walkers at {flow:g}" for flow in flows)
    return f"""# What can be made of what leaves

Written by `vigie audit attack --walkers {walkers} --seed {seed} --out docs/anonymity.md`; do not edit by hand.

## The question

WP29 Opinion 05/2014 asks three things of anonymous data: that nobody can be singled out, linked or inferred. Here
attackers try, on simulated streets, with full knowledge of the schema, of the policy and of how people walk, and with
more: they know to the second when their target passed a camera, and have learned from half as much output again of the
same streets with the truth beside it. Each attack is a choice between two worlds, and its **advantage** is the true
positive rate less the false positive rate: 0 is guessing, 1 is certainty. In brackets stands the 95 % interval
(bootstrap over places and spans of five minutes).

The streets: corridors of two to six cameras, 20 to 200 m apart. Half of those who pass a camera go on to the next, half
turn off. Flows are walkers a minute at each camera; attacked were {numbers}. Counts and
detections have misses, `crowd.density` is told to the gate from one person on, and all passes the gate that is built
into the device. `agent/evaluate/walkers.py` says what is simpler than a street; most of it helps the attacker.

## Linking: did the one who passed here go on to the next camera?

The default gate (k = {gate.k}, grains of {gate.crowd_grain_s} s and {gate.grain_s} s, a zone told of when it was the
same at {gate.density_grains} ends of grains, epsilon {gate.count_epsilon:g} for each count):

{_markdown(["from", *head], _rows(outcomes, "link", "default", _ANONYMOUS))}

{verdict}

For sounds this rests on an assumption, and not on the gate: a walker is heard at 2 % of the cameras, and not again
because of the first time. Nothing that a gate does could hide somebody who makes a noise at every camera; that is the
first line here, and it is no better than types that one person starts:

{_markdown(["from", *head], _rows(outcomes, "link", "default", ("loud", "person")))}

**Types that one person can start are not anonymous.** They are personal data as long as somebody could know who passed.
One walker in four does what the type is about, at every camera; of a rarer behaviour read the curve at the flow of
those who do it (one in twenty at 20 a minute is like one in four at 4). That is why they are refused where fewer than
{gate.min_flow_per_min:g} people a minute pass (`min_flow_per_min`), unless the entry of the policy says why safety
needs them (`below_flow`), and why they never tell their end. Even above that flow the line says how much is left.

## The other attacks, default gate

*Single out*: was the target here at this second? *Trajectory*: did the target pass the next two cameras? *Speed*: is
the target, known to go on, faster than most? *Group*: did the target, known to be here, come with two or more others?

{_markdown(["attack", "from", *head], others)}

## What surrounds the events, default gate

Was somebody here at this second, by `health`, or by nothing but the number and the sizes of messages on the encrypted
connection (`state` included)? It is assumed that each person in sight costs sense 1 % of its rate.

{_markdown(["from", *head], _rows(outcomes, "single out", "default", ("health", "sizes")))}

## The same attacks without a gate

Exact episodes, and the number of people every second: the attacks are real.

{_markdown(["attack", "from", *head], off)}

## What each knob buys and costs

Linking advantage, and beside it what is left: the share of what sense had to tell that is told (of the crowd, each
time that a zone filled up to five people), and its median delay. *No holding* tells a zone's state at every end of a
grain instead of the second one at which it is the same: sooner and more often, and more of each who passes.

{_markdown(["gate", "walkers/min", *_ANONYMOUS, "person", "crowd told", "sound told", "person told"], knobs)}

## How much could leave at all

These attacks are on a sense that is honest. For one that is not, this is the bound (`vigie audit capacity`):

{chr(10).join("* " + line for line in statement(capacity(largest(), everything())))}
"""
