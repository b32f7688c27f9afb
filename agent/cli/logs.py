"""`vigie logs`: a file for whoever helps from afar, with nothing in it of the people before the camera."""

from __future__ import annotations

import datetime as dt
import hashlib
import importlib.metadata
import io
import json
import platform
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.common import AsJson, ConfigFile, examples, fail, say
from agent.cli.doctor import end

if TYPE_CHECKING:
    from agent.device.doctor.check import Check
    from agent.settings import Settings

app = typer.Typer(no_args_is_help=True, help="What to send to whoever helps from afar.")

#: Units whose logs are in the file, and how many of their last lines.
_UNITS = ("vigie-relay", "vigie-sense", "vigie-engines", "vigie-aim")
_LINES = 2000
#: Libraries whose version matters.
_LIBRARIES = ("av", "cryptography", "numpy", "onnxruntime", "opencv-python-headless", "paho-mqtt", "sounddevice")


@app.callback()
def _logs() -> None:
    """Keep `vigie logs WHAT` a group, whatever number of commands there is."""


@app.command(epilog=examples({"sudo vigie logs bundle --out /tmp/help.tar.gz": "with the services' logs"}))
def bundle(
    config: ConfigFile = None,
    out: Annotated[
        Path | None, typer.Option(help="File to write.  [default: vigie-DEVICE-TIME.tar.gz here]", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a support file, and list what is in it: findings, versions, the configuration without secrets, masked logs.

    No event, picture, sound, address of a camera, key or name of a person is in it. Of the logs only words that the
    agent's own source has, the names of the configuration and short numbers pass; everything else is masked. Look into
    it before you send it: `tar xzOf FILE | less`.
    """
    from agent.device.doctor.examine import load_settings
    from agent.settings import Settings

    settings = load_settings(config)
    now = dt.datetime.now(dt.timezone.utc)
    device = settings.device.name if isinstance(settings, Settings) else "device"
    path = out or Path(f"vigie-{device}-{now:%Y%m%dT%H%M%SZ}.tar.gz")
    files = {name: content.encode() for name, content in contents(settings, now).items()}
    listed = [{"file": name, "bytes": len(c), "sha256": hashlib.sha256(c).hexdigest()} for name, c in files.items()]
    files = {"manifest.json": _json({"made": now.isoformat(timespec="seconds"), "files": listed}).encode(), **files}
    try:
        write(path, files, now)
    except OSError as error:
        fail(f"{path}: cannot be written: {error.strerror}: name another place with --out", 3)
    if as_json:
        typer.echo(_json({"path": str(path), "bytes": path.stat().st_size, "files": listed}))
    else:
        for one in listed:
            typer.echo(f"{one['bytes']:>9}  {str(one['sha256'])[:16]}  {one['file']}")
        say(f"{path}: {path.stat().st_size} bytes; its manifest.json has the whole SHA-256 of each")
    end(0)


def contents(settings: Settings | list[Check], now: dt.datetime) -> dict[str, str]:
    """What goes into the file, by its name there.

    Args:
        settings: The settings, or what is wrong with them.
        now: The moment.
    """
    from agent.scrub import scrub, vocabulary
    from agent.settings import Settings

    known = settings if isinstance(settings, Settings) else None
    words = vocabulary(names=_names(known) if known else ())
    found: dict[str, str] = {"versions.json": _json(versions())}
    found["doctor.json"] = _json(
        [
            {"subject": c.subject, "line": scrub(c.line, words), "level": c.level.label, "what": scrub(c.what, words)}
            for c in _checks(settings)
        ]
    )
    if known is not None:
        found["configuration.json"] = _json(configuration(known))
        found["policy.json"] = _json(_policy(known, now))
        found["status.json"] = _json(_status(known))
        found["journal.json"] = _json(_journal(known))
    for unit in _UNITS:
        log = _log(unit)
        if log:
            found[f"{unit}.log"] = "".join(f"{scrub(line, words)}\n" for line in log.splitlines())
    return found


def write(path: Path, files: Mapping[str, bytes], now: dt.datetime) -> None:
    """Write a tar file that says nothing of who made it.

    Raises:
        OSError: it cannot be written.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime, entry.mode = len(content), int(now.timestamp()), 0o644
            archive.addfile(entry, io.BytesIO(content))
    path.write_bytes(buffer.getvalue())


def versions() -> dict[str, Any]:
    """Of the agent, of what it stands on, and of the machine."""
    from agent import __version__
    from agent.contract import CONTRACT_VERSION
    from agent.device.l4t import l4t

    libraries: dict[str, str | None] = {}
    for name in (*_LIBRARIES, "tensorrt"):
        try:
            libraries[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # noqa: PERF203 - a few
            libraries[name] = None
    found = l4t()
    system = {"machine": platform.machine(), "kernel": platform.release(), "l4t": str(found) if found else None}
    return {
        "vigie": __version__,
        "contract": CONTRACT_VERSION,
        "python": platform.python_version(),
        **system,
        **libraries,
    }


def configuration(settings: Settings) -> dict[str, Any]:
    """The configuration without addresses, users, paths of secrets and whatever else is not needed to help."""
    table = settings.masked()
    mqtt = {key: table["mqtt"][key] for key in ("port", "protocol", "tls", "keepalive_s", "inflight")}
    mqtt |= {key: table["mqtt"][key] is not None for key in ("ca_file", "cert_file", "username", "password_file")}
    cameras = [{**camera, "source": camera["source"].partition(":")[0]} for camera in table["camera"]]
    heard = {**table["microphone"], "source": (table["microphone"]["source"] or "").partition(":")[0] or None}
    kept = {key: table[key] for key in ("device", "log_level")}
    limits = {key: value for key, value in table["journal"].items() if key != "folder"}
    inference = {key: table["inference"][key] for key in ("backend", "detector", "tagger", "threads", "score")}
    return {**kept, "mqtt": mqtt, "journal": limits, "inference": inference, "camera": cameras, "microphone": heard}


def _names(settings: Settings) -> list[str]:
    sensors = [camera.name for camera in settings.cameras]
    return [settings.device.site, settings.device.name, *sensors, *settings.zone_names]


def _checks(settings: Settings | list[Check]) -> list[Check]:
    from agent.device.doctor.examine import examine, patient
    from agent.settings import Settings

    return examine(patient(settings)) if isinstance(settings, Settings) else settings


def _policy(settings: Settings, now: dt.datetime) -> object:
    """What is on and until when; not who answers for it, nor why."""
    from agent.policy import PolicyError, load_policy, local_day

    try:
        policy = load_policy(settings.policy_file)
    except PolicyError:
        return None
    today = local_day(now)
    entries = [
        {"type": d.type, "zones": d.zones, "until": d.until.isoformat(), "state": policy.state(d, today)}
        for d in policy.detectors
    ]
    return {"sha256": policy.digest(), "gate": policy.gate.model_dump(), "detectors": entries}


def _status(settings: Settings) -> object:
    from agent.relay.local import LocalError, ask

    try:
        return ask(settings.pipe.status_socket).model_dump(exclude={"broker_reason"})
    except (LocalError, ValueError):
        return None


def _journal(settings: Settings) -> object:
    """How many entries of each kind the audit log has, and its head; none of what they say."""
    from agent.relay.audit_read import AuditError, database_head, open_database
    from agent.relay.journal import DATABASE

    try:
        with open_database(settings.journal.folder / DATABASE) as database:
            kinds = dict(database.execute("SELECT kind, COUNT(*) FROM audit GROUP BY kind ORDER BY kind").fetchall())
            (waiting,) = database.execute("SELECT COUNT(*) FROM outbox").fetchone()
            return {"kinds": kinds, "waiting": waiting, "size": database_head(database).size}
    except AuditError:
        return None


def _log(unit: str) -> str | None:
    from agent.device.doctor.check import run

    return run(("journalctl", "-u", unit, "-n", str(_LINES), "-o", "cat", "--no-pager"))


def _json(document: object) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False, default=list) + "\n"
