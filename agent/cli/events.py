"""`vigie events`: follow what is on the broker."""

from __future__ import annotations

import contextlib
import json
import queue
import secrets
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.common import AsJson, ConfigFile, fail, loaded

if TYPE_CHECKING:
    from rich.table import Table

    from agent.settings import Settings

SHOWN = 20


def events(
    config: ConfigFile = None,
    topic: Annotated[
        str | None, typer.Option(help="Topic filter.  [default: all of this device]", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Follow the broker's topics as a live table, or as one JSON line a message. Ctrl-C ends it."""
    from rich.console import Console
    from rich.live import Live

    settings = loaded(config)
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
