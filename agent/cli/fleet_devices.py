"""`vigie fleet list`, `show` and `watch`: how the devices are, as the broker knows it."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from agent.cli.common import AsJson, fail
from agent.cli.fleet_common import Devices, Labels, Quiet, Site, choice, connection


def list_(
    context: typer.Context,
    site: Site = None,
    label: Labels = None,
    device: Devices = None,
    quiet: Quiet = 1.0,
    as_json: AsJson = False,
) -> None:
    """List the devices that the broker knows: state, version, labels, and what became of their configuration."""
    from agent.fleet.roster import roster

    with connection(context) as client:
        found = roster(client, choice(site, label, device), quiet)
    rows = [one.row() for one in found]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return

    from rich.console import Console
    from rich.table import Table

    table = Table("device", "state", "agent", "configuration", "labels", box=None, header_style="bold")
    for one, row in zip(found, rows, strict=True):
        version = f" v{row['config_in_force']}" if row["config_in_force"] else ""
        reasons = f" ({', '.join(row['reasons'])})" if row["reasons"] else ""
        configuration = f"{row['config'] or ''}{version}"
        table.add_row(one.target, row["state"] + reasons, row["agent"] or "", configuration, ", ".join(row["labels"]))
    Console().print(table)
    typer.echo(f"{len(found)} devices", err=True)


def show(
    context: typer.Context,
    target: Annotated[str, typer.Argument(help="<site>/<device>.")],
    quiet: Quiet = 1.0,
) -> None:
    """Print, as JSON, all that the broker keeps of one device, by topic."""
    site, _, name = target.partition("/")
    if not name:
        fail(f"{target}: write it as SITE/DEVICE", 2)
    root = f"vigie/v1/{site}/{name}/"
    with connection(context) as client:
        client.subscribe(f"{root}#")
        kept = {message.topic.removeprefix(root): _parsed(message.payload) for message in client.retained(quiet)}
    if not kept:
        fail(f"{target}: the broker keeps nothing of such a device", 3)
    typer.echo(json.dumps(dict(sorted(kept.items())), indent=2))


def watch(
    context: typer.Context,
    site: Site = None,
    label: Labels = None,
    device: Devices = None,
    topic: Annotated[str, typer.Option(help="Below each device's root: status, event/#, cmd/+/result.")] = "#",
    as_json: AsJson = False,
) -> None:
    """Print what devices say, as it comes, one line a message. Ctrl-C ends it."""
    from agent.fleet.roster import TOPICS, Roster

    chosen, found = choice(site, label, device), Roster()
    with connection(context) as client:
        client.subscribe(chosen.filter(*topic.split("/")), *(chosen.filter(*levels) for levels in TOPICS))
        try:
            while True:
                message = client.take(1.0)
                if message is None:
                    continue
                found.hear(message)
                _, _, site_name, name, below = message.topic.split("/", 4)
                known = found.devices.get((site_name, name))
                if not _matches(topic, below) or not (known and chosen.takes(known)):
                    continue
                payload = _parsed(message.payload)
                if as_json:
                    typer.echo(json.dumps({"topic": message.topic, "payload": payload}))
                else:
                    said = json.dumps(payload, separators=(",", ":"))
                    typer.echo(f"{site_name}/{name} {below} {said[:400]}{'…' if len(said) > 400 else ''}")
        except KeyboardInterrupt:
            return


def _parsed(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except ValueError:
        return payload.decode(errors="replace")


def _matches(wanted: str, topic: str) -> bool:
    from paho.mqtt.client import topic_matches_sub

    return bool(topic_matches_sub(wanted, topic))
