"""`vigie config wizard`: a first configuration from questions in plain words, in English or French."""

from __future__ import annotations

import json
import locale
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic import TypeAdapter, ValidationError

from agent.cli.common import fail
from agent.contract import MAX_CAMERAS, PERSON_TYPES, EventType, Name
from agent.settings import DEFAULT_CONFIG, Settings, SettingsError, explain

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_T = TypeVar("_T")

#: What is offered for a camera: event type, the parameter that is asked for with its least value and default.
_OFFERED: dict[str, tuple[str, int, int] | None] = {
    "crowd.density": None,
    "crowd.gathering": ("min_persons", 2, 10),
    "zone.intrusion": None,
    "person.loitering": ("dwell_s", 1, 60),
    "person.down": None,
    "object.abandoned": ("dwell_s", 5, 60),
    "waste.dumped": None,
    "camera.tampered": None,
}
_SOUNDS = ("sound.gunshot", "sound.explosion", "sound.glass_break", "sound.siren", "sound.horn")
#: Languages that it speaks.
LANGUAGES = ("en", "fr")


def words_in(language: str) -> dict[str, str]:
    """What is asked and written, in a language."""
    text = (files("agent.cli") / "words" / f"wizard-{language}.toml").read_text(encoding="utf-8")
    return {key: str(value) for key, value in tomllib.loads(text).items()}


class _NoError(ValueError):
    """An answer that cannot be used; the text says what one looks like."""


@dataclass(slots=True)
class _Camera:
    name: str
    source: str
    zone: str
    rules: dict[str, dict[str, int]] = field(default_factory=dict)
    flow: int | None = None


class _Asker:
    """Asks, and asks again."""

    def __init__(self, language: str) -> None:
        self.words: Mapping[str, str] = words_in(language)

    def ask(self, question: str, default: str, read: Callable[[str], _T]) -> _T:
        """The answer, once it can be used."""
        while True:
            given = str(typer.prompt(question, default=default, err=True)).strip()
            try:
                return read(given)
            except _NoError as error:
                typer.echo(f"  {error}", err=True)

    def name(self, question: str, default: str, taken: tuple[str, ...] = ()) -> str:
        """A name that nobody has yet."""

        def read(given: str) -> str:
            try:
                found: str = TypeAdapter(Name).validate_python(given)
            except ValidationError:
                raise _NoError(self.words["bad_name"]) from None
            if found in taken:
                raise _NoError(self.words["taken"])
            return found

        return self.ask(question, default, read)

    def number(self, question: str, default: int, least: int) -> int:
        """A whole number."""

        def read(given: str) -> int:
            if not given.isascii() or not given.isdigit() or not least <= int(given) <= 86_400:
                raise _NoError(self.words["number"].format(n=least))
            return int(given)

        return self.ask(question, str(default), read)

    def one(self, question: str, count: int) -> int:
        """One of several, from 1."""

        def read(given: str) -> int:
            if given not in map(str, range(1, count + 1)):
                raise _NoError(self.words["choice"].format(n=count))
            return int(given)

        return self.ask(question, "1", read)

    def some(self, question: str, offers: tuple[str, ...], default: str) -> list[str]:
        """Some of several."""

        def read(given: str) -> list[str]:
            numbers = [part.strip() for part in given.split(",") if part.strip()]
            if not numbers or not set(numbers) <= set(map(str, range(1, len(offers) + 1))):
                raise _NoError(self.words["choices"].format(n=len(offers)))
            return [offer for place, offer in enumerate(offers, 1) if str(place) in numbers]

        listed = ", ".join(f"{place} {self.words[offer]}" for place, offer in enumerate(offers, 1))
        return self.ask(self.words[question].format(offers=listed), default, read)

    def text(self, question: str, default: str = "") -> str:
        """Anything."""
        return self.ask(self.words[question], default, str)


def wizard(
    path: Annotated[Path, typer.Option(help="Where the configuration goes; policy.toml goes beside it.")] = (
        DEFAULT_CONFIG
    ),
    language: Annotated[
        str | None, typer.Option("--language", help="en or fr.  [default: that of the terminal]", show_default=False)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
) -> None:
    """Write a first configuration from a few questions in plain words, with comments, in English or French.

    Answers can come from a file: `vigie config wizard < answers.txt`, one a line. The policy beside it sends nothing
    (`shadow` mode) until an officer states a purpose and a legal basis.
    """
    spoken = language or ("fr" if (locale.getlocale()[0] or "").startswith("fr") else "en")
    if spoken not in LANGUAGES:
        fail(f"--language: {spoken} is not spoken; there are: {', '.join(LANGUAGES)}", 2)
    path = path.resolve()
    written = [path, path.with_name("policy.toml")]
    there = [file for file in written if file.exists()]
    if there and not force:
        fail("\n".join(f"{file}: is there already; --force replaces it" for file in there), 2)
    asker = _Asker(spoken)
    typer.echo(asker.words["begin"], err=True)
    texts = _answered(asker, written[1])
    _checked(texts[0])
    for file, text in zip(written, texts, strict=True):
        typer.echo(f"\n# {file}\n{text}", err=True)
    if not typer.confirm(asker.words["write"], default=True, err=True):
        raise typer.Exit(1)
    for file, text in zip(written, texts, strict=True):
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        except OSError as error:
            fail(f"{file}: cannot be written: {error.strerror}", 3)
        typer.echo(file)
    typer.echo(asker.words["next"], err=True)


def _answered(asker: _Asker, policy: Path) -> list[str]:
    """The two files, from the answers."""
    from agent.starter import host_name, trial_policy

    words = asker.words
    device = {"site": asker.name(words["site"], "site-1"), "name": asker.name(words["name"], host_name())}
    mqtt = _broker(asker)
    cameras: list[_Camera] = []
    while len(cameras) < MAX_CAMERAS:
        cameras.append(_camera(asker, cameras))
        if len(cameras) == MAX_CAMERAS or not typer.confirm(words["more"], default=False, err=True):
            break
    microphone = asker.text("mic")
    sounds = asker.some("hear", _SOUNDS, "1") if microphone else []
    entries: dict[str, dict[str, object]] = {}
    for camera in cameras:
        for label in camera.rules:
            flow = {"flow_per_min": camera.flow} if _of_one(label) and camera.flow is not None else {}
            entries.setdefault(label, {}).update(flow)
    entries |= {label: {} for label in sounds}
    return [_configuration(words, policy, device, mqtt, cameras, microphone, sounds), trial_policy(entries)]


def _broker(asker: _Asker) -> dict[str, Any]:
    host = asker.text("host", "localhost")
    if host in {"localhost", "127.0.0.1", "::1"}:
        return {"host": host, "port": 1883, "tls": False}
    found: dict[str, Any] = {"host": host, "ca_file": asker.text("ca", "/run/credentials/vigie-relay.service/ca.pem")}
    certificate = asker.text("cert", "/run/credentials/vigie-relay.service/device.pem")
    if certificate:
        key = asker.text("key", "/run/credentials/vigie-relay.service/device.key")
        found |= {"cert_file": certificate, "key_file": key}
    return found


def _camera(asker: _Asker, others: list[_Camera]) -> _Camera:
    words = asker.words
    number = len(others) + 1
    source = _source(asker, number)
    name = asker.name(words["camera_name"], f"camera-{number}", tuple(c.name for c in others))
    zone = asker.name(words["zone"], f"zone-{number}", tuple(c.zone for c in others))
    camera = _Camera(name, source, zone)
    for label in asker.some("look", tuple(_OFFERED), "1"):
        parameter = _OFFERED[label]
        camera.rules[label] = {}
        if parameter is not None:
            key, least, default = parameter
            camera.rules[label][key] = asker.number(words[f"{label}.{key}"], default, least)
    if any(map(_of_one, camera.rules)):
        camera.flow = asker.number(words["flow"], 0, 0)
    return camera


def _of_one(label: str) -> bool:
    """Whether one person can start it, so that it runs only where enough people pass."""
    return EventType.parse(label) in PERSON_TYPES


def _source(asker: _Asker, number: int) -> str:
    words = asker.words

    def rtsp(given: str) -> str:
        if not given.startswith("rtsp://") or len(given) == len("rtsp://"):
            raise _NoError(words["rtsp_bad"])
        return given

    kind = asker.one(words["camera"].format(n=number), 4)
    if kind == 1:
        return f"csi://{asker.number(words['csi'], number - 1, 0)}"
    if kind == 2:
        return f"v4l2:{asker.text('usb', '/dev/video0')}"
    if kind == 3:
        return asker.ask(words["rtsp"], "rtsp://127.0.0.1:8551/", rtsp)
    return f"file:{asker.text('file', '/var/lib/vigie/film.mp4')}"


def _configuration(
    words: Mapping[str, str],
    policy: Path,
    device: dict[str, str],
    mqtt: dict[str, Any],
    cameras: list[_Camera],
    microphone: str,
    sounds: list[str],
) -> str:
    def pairs(table: Mapping[str, Any]) -> list[str]:
        return [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in table.items()]

    lines = [f"# {words['head']}", *pairs({"policy_file": str(policy)}), ""]
    lines += [f"# {words['c_device']}", "[device]", *pairs(device), ""]
    lines += [f"# {words['c_mqtt']}", "[mqtt]", *pairs(mqtt), ""]
    if microphone:
        lines += [f"# {words['c_mic']}", "[microphone]", *pairs({"source": f"device:{microphone}"}), ""]
        for label in sounds:
            lines += [f"# {words['c_rule'].format(what=words[label])}", "[[microphone.rule]]"]
            lines += [*pairs({"type": label}), ""]
    for camera in cameras:
        lines += [f"# {words['c_camera']}", "[[camera]]", *pairs({"name": camera.name, "source": camera.source}), ""]
        whole = {"name": camera.zone, "polygon": [[0, 0], [1, 0], [1, 1], [0, 1]]}
        lines += ["[[camera.zone]]", *pairs(whole), ""]
        for label, parameters in camera.rules.items():
            zone = {} if label == "camera.tampered" else {"zone": camera.zone}
            lines += [f"# {words['c_rule'].format(what=words[label])}", "[[camera.rule]]"]
            lines += [*pairs({"type": label, **zone, **parameters}), ""]
    return "\n".join(lines)


def _checked(text: str) -> None:
    """End where an answer makes a configuration that cannot be, such as a name that is too long."""
    from agent.sense import check_rules

    try:
        check_rules(Settings(**tomllib.loads(text)))
    except ValidationError as error:
        fail("\n".join(explain(error, Settings)), 2)
    except (SettingsError, tomllib.TOMLDecodeError) as error:
        fail(str(error), 2)
