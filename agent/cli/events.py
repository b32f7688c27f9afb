"""`vigie events`: follow what is on the broker, or what this device sends."""

from __future__ import annotations

import contextlib
import json
import queue
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.common import AsJson, ConfigFile, fail, loaded, say

if TYPE_CHECKING:
    from rich.table import Table

    from agent.relay.audit_tail import Added
    from agent.settings import Settings

SHOWN = 20
#: How often the journal is looked at, seconds.
_POLL_S = 0.5


def events(
    config: ConfigFile = None,
    topic: Annotated[
        str | None, typer.Option(help="Topic filter.  [default: all of this device]", show_default=False)
    ] = None,
    local: Annotated[
        bool, typer.Option("--local", help="What this device sends, from its own journal: works without a broker.")
    ] = False,
    past: Annotated[int, typer.Option(min=0, help="With --local: entries of the past that are shown first.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Follow the broker's topics as a live table, or as one JSON line a message. Ctrl-C ends it.

    With `--local` each line says in plain words what leaves, and how long its delivery took; it needs to read the
    journal, which belongs to the agent: `sudo vigie events --local`.
    """
    from rich.console import Console
    from rich.live import Live

    settings = loaded(config)
    if local:
        _follow_journal(settings, past, as_json)
        return
    console = Console()
    # Printed here and not in the client's thread, where a closed pipe would be an exception nobody catches.
    messages: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()
    with contextlib.suppress(KeyboardInterrupt), follow(settings, lambda *message: messages.put(message), topic):
        if as_json:
            while True:
                name, payload = messages.get()
                typer.echo(json.dumps({"topic": name, "payload": _parsed(payload)}))
        last: deque[dict[str, Any]] = deque(maxlen=SHOWN)
        with Live(console=console, refresh_per_second=4) as live:
            while True:
                live.update(event_table(last, f"Events on {settings.mqtt.host}"))
                name, payload = messages.get()
                event = _parsed(payload)
                if "/event/" in name and is_event(event):
                    last.append(event)


def _follow_journal(settings: Settings, past: int, as_json: bool) -> None:
    from agent.relay.audit_read import AuditError
    from agent.relay.audit_tail import Tail
    from agent.relay.journal import DATABASE

    try:
        tail = Tail(settings.journal.folder / DATABASE, past)
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                for line in map(json_of if as_json else words_of, tail.new()):
                    if line:
                        (typer.echo if as_json else say)(line)
                time.sleep(_POLL_S)
    except AuditError as error:
        fail(str(error), 3)


def words_of(added: Added) -> str:
    """A line for people; empty for what stays on the device."""
    from agent.relay.audit import MESSAGES
    from agent.relay.audit_words import clock, words

    entry = added.entry
    if added.released is not None:
        return f"{clock(entry.at)}  delivered in {added.after_s:.1f} s: {place_of(added.released)}"
    if entry.kind in MESSAGES | {"released", "salvaged", "evicted"}:
        return f"{clock(entry.at)}  {words(entry)}"
    return ""


def json_of(added: Added) -> str:
    """A line for programs."""
    from agent.relay.audit_words import words

    entry = added.entry
    said = {"seq": entry.seq, "at": entry.at, "kind": entry.kind, "event": entry.event, "body": entry.body}
    return json.dumps({**said, "words": words(entry), "after_s": added.after_s})


def place_of(event: dict[str, Any]) -> str:
    """What an event is, and where."""
    zone = event["data"].get("zone")
    label = str(event["type"]).removeprefix("vigie.").removesuffix(".v1")
    return f"{label} in zone {zone}" if zone else label


def _parsed(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except ValueError:
        return None


def is_event(message: Any) -> bool:
    """Whether a parsed message is an event of ours; anybody may write to a broker."""
    from pydantic import ValidationError

    from agent.contract import Event

    try:
        Event.model_validate_json(json.dumps(message))
    except ValidationError:
        return False
    return True


def event_table(shown: Iterable[dict[str, Any]], title: str) -> Table:
    """The last events, oldest first."""
    from rich.table import Column, Table

    table = Table(
        Column("time (UTC)", no_wrap=True),
        "device",
        "event",
        "phase",
        "zone",
        "level",
        "count",
        "confidence",
        title=title,
    )
    for event in shown:
        data = event["data"]
        table.add_row(
            event["time"],
            event["source"].removeprefix("/vigie/"),
            event["type"].removeprefix("vigie.").removesuffix(".v1"),
            data["phase"],
            *(data.get(key, "") for key in ("zone", "level", "count", "confidence")),
        )
    return table


@contextlib.contextmanager
def follow(settings: Settings, on_message: Callable[[str, bytes], None], topic: str | None = None) -> Iterator[None]:
    """Subscribe for as long as the context lasts; ends the command with exit code 3 when the broker does not answer.

    Args:
        settings: The broker and the device.
        on_message: Called with topic and payload, in paho's thread.
        topic: Topic filter; None for all of the device.
    """
    from paho.mqtt.enums import MQTTProtocolVersion

    from agent.contract import topic as topic_of
    from agent.relay.mqtt import MqttError, new_client

    device = settings.device
    wanted = topic or topic_of(device.site, device.name, "#")
    answered = threading.Event()
    refusal: list[str] = []

    def on_connect(client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        del userdata, flags, properties
        if reason.is_failure:
            refusal.append(str(reason))
        else:
            client.subscribe(wanted, qos=1)
        answered.set()

    def on_incoming(client: Any, userdata: Any, message: Any) -> None:
        del client, userdata
        on_message(message.topic, message.payload)

    try:
        # 3.1.1 is spoken by every broker, and a reader needs nothing that came later.
        name = f"vigie-reader-{secrets.token_hex(4)}"
        client = new_client(settings.mqtt, name, MQTTProtocolVersion.MQTTv311, reconnect=True)
        client.on_connect = on_connect
        client.on_message = on_incoming
        client.connect(settings.mqtt.host, settings.mqtt.port, settings.mqtt.keepalive_s)
    except (MqttError, OSError) as error:
        fail(f"broker {settings.mqtt.host}:{settings.mqtt.port}: {error}", 3)
    client.loop_start()
    try:
        if not answered.wait(10) or refusal:
            fail(f"broker {settings.mqtt.host}:{settings.mqtt.port}: {(refusal or ['no answer'])[0]}", 3)
        yield
    finally:
        client.disconnect()
        client.loop_stop()
