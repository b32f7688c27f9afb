"""`vigie eval simulated`: every behaviour on simulated trials; `vigie eval errors`: how a detector errs."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli.common import AsJson, fail
from agent.contract import ContractError, EventType
from agent.settings import InferenceSettings

if TYPE_CHECKING:
    from agent.evaluate.simulated import Outcome

_DATA = Path("../shared/data")


def simulated(
    types: Annotated[
        str | None, typer.Option("--type", help="Event types, with commas between them.  [default: all]")
    ] = None,
    minutes: Annotated[
        float, typer.Option(min=1, help="Simulated minutes of each behaviour, of positives and of hard negatives.")
    ] = 200.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of every trial; another one makes others.")] = 1,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder with clips/ and bags/ to paint over and from; without them places are made up.  "
            "[default: $VIGIE_DATA or ../shared/data]",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Page to write, or whose rows to renew: docs/behaviours.md.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 when a behaviour misses what is wanted.")] = False,
    as_json: AsJson = False,
) -> None:
    """Play simulated trials with ground truth, and say how many events were told and how many false alarms there were.

    Each behaviour runs with its defaults, on detections with the errors of a real detector, and where pictures count on
    painted ones. The figures are the simulator's, never field accuracy.
    """
    from rich.console import Console
    from rich.progress import Progress

    from agent.behaviours.registry import BEHAVIOURS
    from agent.evaluate.document import write
    from agent.evaluate.simulated import evaluate, read_props, summarise
    from agent.perception.patch import open_checker
    from agent.simulate.trials.catalogue import POSITIVE

    try:
        chosen = [EventType.parse(name.strip()) for name in types.split(",")] if types else [*POSITIVE]
    except ContractError as error:
        fail(str(error), 2)
    if unknown := [event_type.label for event_type in chosen if event_type not in POSITIVE]:
        fail(f"no trials of {', '.join(unknown)}; there are: {', '.join(t.label for t in POSITIVE)}", 2)
    chosen = [event_type for event_type in chosen if event_type in BEHAVIOURS]
    props = read_props(data or Path(os.environ.get("VIGIE_DATA", _DATA)))
    checker, reasons = open_checker(InferenceSettings())
    for reason in reasons:
        typer.echo(f"vigie: {reason}", err=True)
    outcomes = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("simulating", total=2 * minutes * len(chosen))
        for number, event_type in enumerate(chosen):
            progress.update(task, description=event_type.label, completed=2 * minutes * number)
            played = []
            for one in evaluate(event_type, minutes, seed, props, checker):
                played.append(one)
                progress.advance(task, one.minutes)
            outcomes.append(summarise(event_type, played))
            if out is not None:
                try:
                    write(out, outcomes, _material(props.backgrounds.real, props.things.real, checker is not None))
                except OSError as error:
                    fail(f"{out}: {error.strerror}", 3)
    if as_json:
        rows = [{**asdict(one), "type": one.type.label, "reached": one.reached} for one in outcomes]
        typer.echo(json.dumps({"seed": seed, "simulated": rows}))
    else:
        _print(outcomes)
    if check and not all(outcome.reached for outcome in outcomes):
        raise typer.Exit(1)


def _material(places: int, bags: bool, checked: bool) -> str:
    where = f"painted over {places} real places" if places else "painted over made-up places"
    return f"{where}, {'photographed' if bags else 'drawn'} refuse, with{'' if checked else 'out'} the patch checker"


def _print(outcomes: Sequence[Outcome]) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    columns = [Column(name, justify="right") for name in ("recall", "false alarms an hour", "delay")]
    table = Table(Column("simulated", no_wrap=True), "events", *columns, "what falls short")
    for one in outcomes:
        short = [f"{s.name} {s.hits}/{s.trials}" for s in one.sorts if s.positive and s.hits < 0.9 * s.trials]
        short += [f"{s.name}: {s.false} false" for s in one.sorts if not s.positive and s.false]
        table.add_row(
            one.type.label,
            f"{one.hits} of {one.events}",
            f"{one.recall:.2f} ({one.recall_low:.2f}-{one.recall_high:.2f})",
            f"{one.per_hour:.1f} ({one.per_hour_low:.1f}-{one.per_hour_high:.1f})",
            "" if one.delay_s is None else f"{one.delay_s:.1f} s",
            "; ".join(short),
            style=None if one.reached else "yellow",
        )
    Console().print(table)


def errors(
    mot: Annotated[Path, typer.Option(help="MOTChallenge folder: a folder a sequence, with det.txt and gt.txt.")],
    as_json: AsJson = False,
) -> None:
    """Fit how a detector errs, on its detections and ground truth: the figures that simulated detections carry."""
    from rich.console import Console
    from rich.table import Table

    from agent.evaluate.errors import fit
    from agent.evaluate.tracking import TrackingError, read_sequences

    try:
        fitted = fit(read_sequences(mot))
    except TrackingError as error:
        fail(str(error), 2)
    if as_json:
        typer.echo(json.dumps(asdict(fitted)))
        return
    table = Table("what", "fitted")
    for name, value in asdict(fitted).items():
        table.add_row(name, str(value))
    Console().print(table)
