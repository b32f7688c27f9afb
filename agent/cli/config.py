"""`vigie config`: write, check and explain the configuration and the policy."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.common import AsJson, ConfigFile, fail
from agent.contract import EventType
from agent.settings import DEFAULT_CONFIG, Settings, SettingsError, layers, load, origin

if TYPE_CHECKING:
    from agent.policy import Policy

app = typer.Typer(help="Write, check and explain the configuration and the policy.", no_args_is_help=True)


@app.command()
def check(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """List every problem of the configuration, the policy and the rules; exit code 1 if there is one."""
    found = problems(config)
    if as_json:
        typer.echo(json.dumps({"ok": not found, "problems": found}, indent=2))
    else:
        typer.echo("\n".join(found) or "The configuration and the policy are in order.")
    raise typer.Exit(1 if found else 0)


def problems(config: Path | None) -> list[str]:
    """One line for each problem, with the key and what to do about it.

    Args:
        config: The configuration file, as for `agent.settings.load`.
    """
    try:
        settings = load(config)
        named = origin(layers(config), ["device", "name"]) is not None
    except SettingsError as error:
        return error.problems
    found = [] if named else ["device.name: is not set; it must be unique in the fleet"]
    if not settings.cameras and settings.microphone.source is None:
        found.append("camera: there is none; add a [[camera]] with its name and source")
    for key in ("ca_file", "cert_file", "key_file", "password_file"):
        path = getattr(settings.mqtt, key)
        if path is not None and not path.is_file():
            found.append(f"mqtt.{key}: {path}: there is no such file")

    from agent.policy import PolicyError, load_policy

    try:
        policy = load_policy(settings.policy_file)
    except PolicyError as error:
        return [*found, *error.problems, *_of_rules(settings, None)]
    return [*found, *_of_rules(settings, policy)]


def _of_rules(settings: Settings, policy: Policy | None) -> Iterator[str]:
    from agent.behaviours.registry import build
    from agent.behaviours.watch import Watch
    from agent.policy import local_day

    today = local_day(dt.datetime.now(dt.timezone.utc))
    for camera in settings.cameras:
        sound = True
        for rule in camera.rules:
            try:
                build(rule, camera)
            except SettingsError as error:
                sound = False
                yield from error.problems
                continue
            entry = policy.entry(rule.event_type, rule.zone, today) if policy else None
            if isinstance(entry, str):
                yield f"camera {camera.name}: {entry}; the rule will not start ({settings.policy_file})"
        if sound:
            try:
                Watch(camera)
            except SettingsError as error:
                yield from error.problems
    yield from _of_sounds(settings, policy, today)


def _of_sounds(settings: Settings, policy: Policy | None, today: dt.date) -> Iterator[str]:
    from agent.behaviours.fusion import watched_joints
    from agent.behaviours.listen import sound_event
    from agent.contract import INCIDENTS
    from agent.inference.backend import InferenceError
    from agent.inference.registry import Registry
    from agent.perception.tag import candidates

    microphone = settings.microphone
    if microphone.source and not microphone.rules:
        yield "microphone: it has no [[microphone.rule]], so it stays closed"
    if microphone.rules and not microphone.source:
        yield "microphone.source: is not set, so that its rules hear nothing"
    try:
        model = next(iter(candidates(Registry(settings.inference.models), settings.inference)), None)
    except InferenceError as error:
        yield str(error)
        model = None
    for rule in microphone.rules:
        if rule.event_type in INCIDENTS or model is None:
            continue
        try:
            event = sound_event(rule, model)
        except SettingsError as error:
            yield from error.problems
            continue
        entry = policy.entry(rule.event_type, None, today) if policy else None
        for reason in (event, entry):
            if isinstance(reason, str):
                yield f"microphone: {reason}; the rule will not start"
    try:
        for reason in watched_joints(settings, policy, today)[1]:
            yield f"microphone: {reason}"
    except SettingsError as error:
        yield from error.problems


@app.command()
def show(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Print every value in force and where it came from; addresses lose user, password and query."""
    try:
        settings = load(config)
        found = layers(config)
    except SettingsError as error:
        fail(str(error), 2)
    rows = [(_dotted(path), value, origin(found, path) or "default") for path, value in _leaves(settings.masked())]
    if as_json:
        typer.echo(json.dumps([{"key": key, "value": value, "from": where} for key, value, where in rows], indent=2))
        return

    from rich.console import Console
    from rich.table import Table

    table = Table("key", "value", "from", box=None, header_style="bold")
    for key, value, where in rows:
        table.add_row(key, "" if value is None else json.dumps(value), where, style="dim" if where == "default" else "")
    Console(markup=False).print(table)


def _leaves(value: Any, path: tuple[int | str, ...] = ()) -> Iterator[tuple[tuple[int | str, ...], Any]]:
    """Every value with its path; a list of plain values is one value."""
    if isinstance(value, dict):
        for key, child in value.items():
            yield from _leaves(child, (*path, key))
    elif isinstance(value, list) and value and all(isinstance(child, dict) for child in value):
        for index, child in enumerate(value):
            yield from _leaves(child, (*path, index))
    else:
        yield path, value


def _dotted(path: tuple[int | str, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


@app.command()
def schema(
    policy: Annotated[bool, typer.Option("--policy", help="The policy file instead of the configuration.")] = False,
) -> None:
    """Print the JSON Schema of the configuration, with the parameters of every behaviour, for editors and tools."""
    if policy:
        from agent.policy import PolicyFile

        typer.echo(json.dumps(PolicyFile.model_json_schema(), indent=2))
    else:
        typer.echo(json.dumps(settings_schema(), indent=2))


def settings_schema() -> dict[str, Any]:
    """The JSON Schema of the configuration; a rule is one of the behaviours with its own parameters."""
    from agent.behaviours.parameters import Parameters
    from agent.behaviours.registry import BEHAVIOURS, EXPERIMENTAL
    from agent.behaviours.sound_events import MANNERS, SoundParameters
    from agent.contract import INCIDENTS

    whole = Settings.model_json_schema()
    rule = whole["$defs"]["RuleSettings"]

    def kind(event_type: EventType, model: type[Parameters], required: list[str]) -> dict[str, Any]:
        parameters = model.model_json_schema(ref_template="#/$defs/{model}")
        whole["$defs"].update(parameters.pop("$defs", {}))
        properties = {**rule["properties"], "type": {"const": event_type.label}, **parameters["properties"]}
        if "zone" not in required:
            del properties["zone"]
        tried = {"description": f"Experimental: {EXPERIMENTAL[event_type]}."} if event_type in EXPERIMENTAL else {}
        return {
            "title": event_type.label,
            **tried,
            "type": "object",
            "properties": properties,
            "required": [*required, *parameters.get("required", [])],
            "additionalProperties": False,
        }

    seen = [kind(event_type, behaviour.Parameters, ["type", "zone"]) for event_type, behaviour in BEHAVIOURS.items()]
    heard = [kind(event_type, SoundParameters, ["type"]) for event_type in MANNERS]
    joined = [kind(event_type, Parameters, ["type"]) for event_type in INCIDENTS]
    whole["$defs"]["RuleSettings"] = {"description": rule["description"], "oneOf": seen}
    whole["$defs"]["SoundRuleSettings"] = {"description": "What is listened for.", "oneOf": heard + joined}
    rules = whole["$defs"]["MicrophoneSettings"]["properties"]["rule"]
    rules["items"] = {"$ref": "#/$defs/SoundRuleSettings"}
    return whole


@app.command()
def init(
    path: Annotated[Path, typer.Option(help="Where the configuration goes; policy.toml goes beside it.")] = (
        DEFAULT_CONFIG
    ),
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
) -> None:
    """Write a first configuration and policy: every key with what it means, and one camera whose rules tell nobody yet.

    The policy is in `shadow` mode: what is detected is counted on the device and never sent, until somebody states the
    real purpose and legal basis in it.
    """
    from agent.starter import starter

    files = starter(path.resolve())
    there = [file for file in files if file.exists()]
    if there and not force:
        fail("\n".join(f"{file}: is there already; --force replaces it" for file in there), 2)
    for file, text in files.items():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        except OSError as error:
            fail(f"{file}: cannot be written: {error.strerror}", 3)
        typer.echo(file)
