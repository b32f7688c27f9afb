"""`vigie fleet correlate`: join what several devices say into incidents."""

from __future__ import annotations

import json
import logging
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli.common import AsJson, fail, start_log
from agent.cli.fleet_common import connection, stopping

if TYPE_CHECKING:
    from agent.fleet.client import Client
    from agent.fleet.correlate import Correlator
    from agent.fleet.incident import Incident

log = logging.getLogger(__name__)

_STEP_S = 0.5
_REPORT_EVERY_S = 60.0
_MOST_WAITING = 1000


def correlate(
    context: typer.Context,
    town: Annotated[Path, typer.Option("--map", help="TOML file with [[device]], [[way]] and [[square]].")],
    site: Annotated[
        list[str] | None, typer.Option("--site", help="Sites of the map to join; several: each.  [default: all]")
    ] = None,
    share: Annotated[
        str, typer.Option(help="Which of several instances this is, such as 2/3: each takes its part of the sites.")
    ] = "1/1",
    temperature_c: Annotated[
        float, typer.Option(min=-60, max=60, help="Of the air, degrees Celsius: it makes the speed of sound.")
    ] = 15.0,
    clock_error_ms: Annotated[
        float,
        typer.Option(min=0.1, max=1000, help="Standard deviation of the clocks that are synchronised, milliseconds."),
    ] = 5.0,
    position_error_m: Annotated[
        float, typer.Option(min=0.1, max=50, help="Standard deviation of the places in the map, metres.")
    ] = 2.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print incidents, and publish none.")] = False,
    as_json: AsJson = False,
) -> None:
    """Join shots, crowd movements and densities of many devices; runs until Ctrl-C.

    Incidents go to `vigie/v1/<site>/_incidents/<kind>`, where no device may write. Nothing about single persons is
    joined: `person.*`, `zone.intrusion`, `object.*` and the like are not even subscribed to.
    """
    from agent.fleet.correlate import Correlator, filters
    from agent.fleet.town import TownError, read_town
    from agent.fleet.town import share as share_of

    start_log()
    try:
        whole = read_town(town)
    except TownError as error:
        fail(str(error), 2)
    if unknown := set(site or ()) - set(whole.sites):
        fail(f"--site: not in {town}: {', '.join(sorted(unknown))}; there are: {', '.join(whole.sites)}", 2)
    sites = share_of(site or whole.sites, *_share(share))
    if not sites:
        log.warning("event=nothing_to_do share=%s", share)
    correlator = Correlator(
        whole.only(sites),
        time.time,
        temperature_c=temperature_c,
        clock_error_s=clock_error_ms / 1000,
        position_error_m=position_error_m,
    )
    with stopping() as stop, connection(context) as client:
        if sites:
            client.subscribe(*filters(sites))
        log.info("event=ready sites=%s", ",".join(sites))
        waiting: deque[Incident] = deque(maxlen=_MOST_WAITING)
        report = _Report(correlator)
        while not stop.is_set():
            message = client.take(_STEP_S)
            if message is not None:
                correlator.take(message.topic, message.payload, retained=message.retained)
            for incident in correlator.due():
                _print(incident, as_json)
                waiting.append(incident)
            if dry_run:
                waiting.clear()
            _publish(client, waiting)
            report.update()


def _publish(client: Client, waiting: deque[Incident]) -> None:
    """Publish what waits; what the broker does not take is kept for the next time."""
    from agent.fleet.client import FleetError

    try:
        while waiting:
            client.publish(waiting[0].topic, waiting[0].to_json())
            waiting.popleft()
    except FleetError as error:
        log.warning("event=not_published waiting=%d reason=%r", len(waiting), str(error))


class _Report:
    """Says once a minute how many messages were refused, where that has changed."""

    def __init__(self, correlator: Correlator) -> None:
        self._correlator = correlator
        self._said, self._at = 0, time.monotonic() + _REPORT_EVERY_S

    def update(self) -> None:
        """Say it, if it is time."""
        if time.monotonic() < self._at:
            return
        self._at = time.monotonic() + _REPORT_EVERY_S
        refused = self._correlator.refused
        if (number := sum(refused.values())) != self._said:
            self._said = number
            log.warning("event=messages_refused number=%d reasons=%s", number, dict(refused))


def _share(text: str) -> tuple[int, int]:
    number, _, of = text.partition("/")
    if not (number.isdigit() and of.isdigit() and 1 <= int(number) <= int(of) <= 1000):
        fail(f"--share: {text!r} is not like 2/3", 2)
    return int(number), int(of)


def _print(incident: Incident, as_json: bool) -> None:
    if as_json:
        typer.echo(incident.to_json().decode())
        return
    data = incident.data.model_dump(exclude_none=True, exclude={"incident", "phase"})
    kind = incident.topic.rpartition("/")[2]
    typer.echo(f"{incident.time} {kind} {incident.data.phase} {json.dumps(data)}")
