"""`vigie demo`, which is `make run`: the whole agent on a real clip, with a broker of its own, events as they come."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from agent.cli.common import AsJson, fail

if TYPE_CHECKING:
    from rich.console import Console

FALLBACK_SOURCE = "sim:walkers?seconds=60"
SHOWN_EVENTS = 15


@dataclass
class _Seen:
    """What came over the broker, and what the agent said in its log."""

    events: Counter[str] = field(default_factory=Counter)
    last: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=SHOWN_EVENTS))
    retained: set[str] = field(default_factory=set)
    frames: dict[str, str] = field(default_factory=dict)
    ready: threading.Event = field(default_factory=threading.Event)


def demo(
    source: Annotated[
        str | None, typer.Option(help="Camera: csi://0, v4l2:/dev/video0, rtsp://…, file:clip.mp4, sim:walkers.")
    ] = None,
    mic: Annotated[str | None, typer.Option(help="Microphone: device:NAME or file:sound.ogg.")] = None,
    broker: Annotated[
        str | None, typer.Option(help="mqtt://localhost:1883 or mqtts://host:8883; default: one of its own.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="A configuration of your own instead of the demonstration.")
    ] = None,
    seconds: Annotated[float | None, typer.Option(min=1, help="Stop after so many seconds.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run the agent on a real clip and show the events that leave it.

    Without options: Debian's clip vtest.avi (fetched once, without root; the simulator where that is impossible), five
    behaviours on stated demonstration grounds, and an embedded broker on loopback.
    """
    from rich.console import Console

    from agent.demo.broker import BrokerError, embedded_broker

    console = Console(stderr=as_json)
    if config and (source or mic):
        fail("--source and --mic go without --config: a configuration names its own", 2)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vigie-demo-")))
        try:
            mqtt = _mqtt(broker) if broker else _own(stack.enter_context(embedded_broker()))
        except BrokerError as error:
            fail(str(error), 3)
        environment = dict(os.environ)
        if config is None:
            from agent.demo.configuration import write_configuration

            source = source or _default_source(console)
            path = write_configuration(folder, source, mic, mqtt)
        else:
            path = config
            environment |= {f"VIGIE_MQTT__{key.upper()}": str(value) for key, value in mqtt.items()}
        length = seconds or (_length_s(source) if source else None)
        seen = _Seen()
        stack.enter_context(_subscribed(path, environment, seen, console))
        code = _watch(path, environment, seen, console, length, stop_after=seconds)
    _summary(seen, console, as_json=as_json)
    raise typer.Exit(code)


def _own(port: int) -> dict[str, Any]:
    """The embedded broker, which speaks 3.1.1 and leaves a greeting of MQTT 5 without an answer."""
    return {"host": "127.0.0.1", "port": port, "tls": False, "protocol": "3.1.1"}


def _mqtt(address: str) -> dict[str, Any]:
    parts = urlsplit(address)
    try:
        port = parts.port
    except ValueError:
        port = None
    if parts.scheme not in {"mqtt", "mqtts"} or not parts.hostname:
        fail(f"--broker {address}: write it as mqtt://localhost:1883 or mqtts://host:8883", 2)
    tls = parts.scheme == "mqtts"
    return {"host": parts.hostname, "port": port or (8883 if tls else 1883), "tls": tls}


def _default_source(console: Console) -> str:
    """The real clip, or the simulator with the reason why."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from agent.demo.clip import ClipError, fetch

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    try:
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("Fetching the clip (Debian's opencv-doc)", total=None)
            clip = fetch(lambda done, total: bar.update(task, completed=done, total=total))
    except ClipError as error:
        console.print(f"The real clip cannot be had here ({error}); the simulator serves: {FALLBACK_SOURCE}")
        return FALLBACK_SOURCE
    return f"file:{clip}"


def _length_s(source: str) -> float | None:
    """Seconds of a source that ends, for the progress bar; None for one that does not."""
    from agent.capture.frame import SourceError
    from agent.capture.open import open_source

    if source.startswith(("rtsp:", "v4l2:", "csi:")):
        return None
    try:
        if source.startswith("sim:"):
            from agent.simulate.source import open_sim

            return open_sim(source, replay=True)[0].scenario.seconds
        fps = 10.0
        clip = open_source(source, fps=fps, loop=False, replay=True)
    except SourceError as error:
        fail(str(error), 3)
    clip.close()
    return clip.frames_total / fps if clip.frames_total else None


@contextlib.contextmanager
def _subscribed(config: Path, environment: dict[str, str], seen: _Seen, console: Console) -> Iterator[None]:
    """Follow the device's topics on its broker, as anybody with the right to do so would."""
    from agent.cli.events import follow
    from agent.settings import SettingsError, load

    os.environ.update({k: v for k, v in environment.items() if k.startswith("VIGIE_MQTT__")})
    try:
        settings = load(config)
    except SettingsError as error:
        fail(str(error), 2)

    def on_message(topic: str, payload: bytes) -> None:
        if "/event/" in topic:
            event = json.loads(payload)
            seen.events[event["type"].removeprefix("vigie.").removesuffix(".v1")] += 1
            seen.last.append(event)
            if not console.is_terminal:
                console.print(payload.decode(), highlight=False, markup=False, soft_wrap=True)
        else:
            seen.retained.add(topic.rpartition("/")[2])

    with follow(settings, on_message):
        yield


def _watch(
    config: Path,
    environment: dict[str, str],
    seen: _Seen,
    console: Console,
    length_s: float | None,
    stop_after: float | None,
) -> int:
    """Run the agent to its end, to `stop_after` seconds or to Ctrl-C, and show what comes."""
    from rich.live import Live

    agent = subprocess.Popen(
        [sys.executable, "-m", "agent", "run", "--config", str(config)],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert agent.stderr is not None  # noqa: S101 - PIPE above
    reader = threading.Thread(target=_read_log, args=(agent.stderr, seen, console), daemon=True)
    reader.start()
    began = time.monotonic()
    live = Live(console=console, refresh_per_second=4) if console.is_terminal else contextlib.nullcontext()
    try:
        with live:
            while agent.poll() is None:
                began = began if seen.ready.is_set() else time.monotonic()
                elapsed = time.monotonic() - began
                if isinstance(live, Live):
                    live.update(_screen(seen, elapsed, length_s))
                if stop_after is not None and elapsed >= stop_after:
                    agent.send_signal(signal.SIGTERM)
                    stop_after = None
                time.sleep(0.25)
    except KeyboardInterrupt:
        pass
    finally:
        if agent.poll() is None:
            agent.send_signal(signal.SIGTERM)
        code = agent.wait(30)
        reader.join(5)
    return code


def _read_log(stream: IO[str], seen: _Seen, console: Console) -> None:
    for line in stream:
        if "agent.sense" in line and "event=ready" in line:
            seen.ready.set()
        if "agent.sense" in line and "event=stopped" in line:
            seen.frames = dict(part.split("=", 1) for part in line.split() if "=" in part)
        if " INFO " not in line and " DEBUG " not in line:
            console.print(line.rstrip(), style="dim", highlight=False, markup=False)


def _screen(seen: _Seen, elapsed_s: float, length_s: float | None) -> Any:
    from rich.console import Group
    from rich.progress_bar import ProgressBar

    from agent.cli.events import event_table

    table = event_table(seen.last, "Events on the broker")
    if not seen.ready.is_set():
        return Group(table, "starting …")
    if length_s is None:
        return Group(table, f"{elapsed_s:.0f} s  (Ctrl-C stops)")
    bar = ProgressBar(total=length_s, completed=min(elapsed_s, length_s), width=60)
    return Group(table, bar, f"{min(elapsed_s, length_s):.0f} of {length_s:.0f} s")


def _summary(seen: _Seen, console: Console, *, as_json: bool) -> None:
    facts: dict[str, Any] = {
        "frames": int(seen.frames.get("frames", 0)),
        "frames_per_s": float(seen.frames.get("frames_per_s", 0)),
        "camera_drops": int(seen.frames.get("camera_drops", 0)),
        "pipe_drops": int(seen.frames.get("pipe_drops", 0)),
        "published_events": seen.events.total(),
        "published_by_type": dict(seen.events),
        "retained_topics": sorted(seen.retained),
    }
    if as_json:
        typer.echo(json.dumps(facts))
        return
    from rich.table import Table

    table = Table("what", "figure", title="Summary")
    table.add_row("frames analysed", str(facts["frames"]))
    table.add_row("frames per second", f"{facts['frames_per_s']:.1f}")
    table.add_row("frames dropped (newest wins)", str(facts["camera_drops"]))
    table.add_row("observations dropped", str(facts["pipe_drops"]))
    table.add_row("events published", str(facts["published_events"]))
    for label, number in sorted(seen.events.items()):
        table.add_row(f"  {label}", str(number))
    table.add_row("retained topics", ", ".join(facts["retained_topics"]))
    console.print(table)
