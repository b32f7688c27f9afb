"""The transparency notice: what is detected here, why, on what basis, who answers for it, and what leaves.

Made from the policy, the configuration and the models' own cards; what none of them says is called not stated or not
measured. As JSON it goes retained to `notice`, with an entry in the fields of the Algorithmic Transparency Standard
0.3.1 of European cities (https://www.algorithmregister.org/standard); as a page it stands alone, in English and French.
"""

from __future__ import annotations

import datetime as dt
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Literal, NamedTuple

from agent import __version__
from agent.contract import (
    CONTRACT_VERSION,
    NOTICE_MAX_SIZE,
    PERSON_TYPES,
    EventType,
    Notice,
    NoticeDetector,
    NoticeModel,
    RegisterEntry,
    topic,
)
from agent.policy import DetectorPolicy, Policy, local_day
from agent.settings import Settings, SettingsError, read_toml

Language = Literal["en", "fr"]
LANGUAGES: tuple[Language, ...] = ("en", "fr")
_WORDS = Path(__file__).parent / "words"
_CHECKOUT = Path(__file__).parents[2]
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
#: Most of a model's card that is repeated, characters.
_MEASURED_MAX = 2500


class NoticeError(ValueError):
    """A notice that cannot be published; the text says what to change."""


def words(language: Language) -> dict[str, Any]:
    """Every sentence of the notice in one language."""
    return read_toml(_WORDS / f"{language}.toml")


def notice(settings: Settings, policy: Policy, today: dt.date) -> Notice:
    """The notice of a device on one day.

    Args:
        settings: The configuration.
        policy: The policy.
        today: The day, for what has ended.

    Raises:
        NoticeError: it is larger than `NOTICE_MAX_SIZE`, or the registry of models cannot be read.
    """
    device = settings.device
    detectors = tuple(_detector(d, policy.state(d, today)) for d in policy.detectors)
    models = tuple(_models(settings, {EventType.parse(_label(d)) for d in _current(detectors)}))
    try:
        written = settings.policy_file.stat().st_mtime
        changed = local_day(dt.datetime.fromtimestamp(written, dt.timezone.utc))
    except OSError:
        changed = today
    made = Notice(
        source=f"/vigie/{device.site}/{device.name}",
        agent=__version__,
        contract=CONTRACT_VERSION,
        config=settings.digest(),
        policy=policy.digest(),
        k=policy.gate.k,
        detectors=detectors,
        models=models,
        audit_head=topic(device.site, device.name, "audit", "head"),
        register_entries=tuple(_entry(language, settings, detectors, models, changed) for language in LANGUAGES),
    )
    size = len(notice_json(made))
    if size > NOTICE_MAX_SIZE:
        raise NoticeError(
            f"the notice has {size} bytes, at most {NOTICE_MAX_SIZE} may leave: shorten the policy's texts"
        )
    return made


def notice_json(made: Notice) -> bytes:
    """The MQTT payload: UTF-8 JSON without the fields that are not set."""
    return made.model_dump_json(exclude_none=True).encode()


def _detector(entry: DetectorPolicy, state: Literal["on", "shadow", "ended", "refused"]) -> NoticeDetector:
    return NoticeDetector(
        type=f"vigie.{entry.type}.v1",
        mode=state,
        zones=entry.zones,
        purpose=entry.purpose,
        basis=entry.legal_basis,
        body=entry.body,
        contact=entry.contact,
        retention_days=entry.retention_days,
        place=entry.place,
        until=entry.until.isoformat(),
    )


def _current(detectors: Sequence[NoticeDetector]) -> list[NoticeDetector]:
    """Those that run."""
    return [d for d in detectors if d.mode in {"on", "shadow"}]


def _models(settings: Settings, types: set[EventType]) -> Iterator[NoticeModel]:
    """The networks of the registry that are on this device and that these types may need.

    Relay must not touch what sense is made of, so it reads the registry as a table and loads no network.
    """
    families = {event_type.label.partition(".")[0] for event_type in types}
    tasks = {
        "detect": bool(families - {"sound"}) and settings.inference.detector != "motion",
        "tag-sound": bool(families & {"sound", "incident"}) and settings.microphone.source is not None,
        "check-patch": bool(families & {"waste", "surface", "object"}),
    }
    folder = settings.inference.models or _shipped()
    try:
        registry = read_toml(folder / "registry.toml").get("model", [])
    except SettingsError as error:
        raise NoticeError(f"the models cannot be named: {error}") from None
    for model in registry:
        named = settings.inference.detector in {"auto", model["name"]} or model["task"] != "detect"
        if tasks.get(model["task"]) and named and (folder / model["file"]).is_file():
            yield NoticeModel(
                name=model["name"],
                version=model["version"],
                task=model["task"],
                sha256=model["sha256"],
                licence=model["licence"],
                measured=_measured(folder / f"{model['name']}.md"),
            )


def _shipped() -> Path:
    checkout = _CHECKOUT / "models"
    return checkout if checkout.is_dir() else Path(sys.prefix) / "share" / "vigie" / "models"


def _measured(card: Path) -> str:
    """What a model's card says under `What was measured`; empty where it says nothing."""
    if not card.is_file():
        return ""
    text = card.read_text(encoding="utf-8")
    referred = re.search(r"\]\((\w[\w-]*\.md)\)", text)
    _, found, rest = text.partition("\n## What was measured\n")
    if not found:
        other = card.with_name(referred[1]) if referred else card
        return _measured(other) if other != card and len(text) < _MEASURED_MAX else ""
    section = rest.partition("\n## ")[0].strip()
    if len(section) <= _MEASURED_MAX:
        return section
    return section[:_MEASURED_MAX].rpartition("\n")[0] + "\n…"


def _entry(
    language: Language,
    settings: Settings,
    detectors: Sequence[NoticeDetector],
    models: Sequence[NoticeModel],
    changed: dt.date,
) -> RegisterEntry:
    said = words(language)
    register, unknown = said["register"], said["not_stated"]
    current = _current(detectors)
    place = _joined(_place(d, settings, said) for d in current) or unknown
    emails = [found[0] for d in current if (found := _EMAIL.search(d.contact))]
    on = any(d.mode == "on" for d in current)
    return RegisterEntry(
        lang=language,
        last_change_date=changed.isoformat(),
        revision_date=min((d.until for d in current), default=None),
        revision_note=register["revision_note"],
        name=register["name"].format(source=f"{settings.device.site}/{settings.device.name}"),
        organization=_joined(d.body for d in current) or unknown,
        department=unknown,
        country=unknown,
        contact_email=_joined(emails) or unknown,
        description_short=register["description_short"].format(place=settings.device.site),
        status="operational" if on else "pilot" if current else "retired",
        decision_making_process=register["decision_making_process"].format(not_stated=unknown),
        area=place,
        goal=_joined(d.purpose for d in current) or unknown,
        impact=register["impact"],
        risks=register["risks"],
        risk_category=unknown,
        proportionality=unknown,
        lawful_basis=_joined(register["lawful_basis"].format(type=_name(d, said), basis=d.basis) for d in current)
        or unknown,
        training_data=register["training_data"],
        source_data=register["source_data"],
        connected_data_sources=register["connected_data_sources"],
        description=register["description"],
        methods_and_models=_joined(
            register["methods_and_models"].format(
                name=m.name, version=m.version, task=said["task"][m.task], digest=m.sha256
            )
            for m in models
        )
        or said["task"]["motion"],
        performance=said["text"]["errors"] if any(m.measured for m in models) else said["not_measured"],
        monitoring=register["monitoring"],
        human_intervention=register["human_intervention"].format(not_stated=unknown),
        objection_procedure=_rights(current, said),
        rollback=register["rollback"],
    )


def _joined(texts: Any) -> str:
    """Each text once, in its order, as far as a field of the notice has room."""
    joined = ""
    for text in dict.fromkeys(texts):
        longer = f"{joined}; {text}" if joined else text
        if len(longer) > 4000 - 3:
            return f"{joined}; …"
        joined = longer
    return joined


def _name(detector: NoticeDetector, said: Mapping[str, Any]) -> str:
    name: str = said["type"][_label(detector)]["name"]
    return name


def _label(detector: NoticeDetector) -> str:
    return detector.type.removeprefix("vigie.").removesuffix(".v1")


def _place(detector: NoticeDetector, settings: Settings, said: Mapping[str, Any]) -> str:
    if detector.place:
        return detector.place
    device, text = settings.device, said["text"]
    if not detector.zones:
        whole: str = text["whole_device"].format(site=device.site, name=device.name)
        return whole
    some: str = text["some_zones"].format(site=device.site, name=device.name, zones=", ".join(detector.zones))
    return some


def _rights(detectors: Sequence[NoticeDetector], said: Mapping[str, Any]) -> str:
    contacts = _joined(f"{d.body}, {d.contact}" for d in detectors)
    text: str = said["text"]["rights" if contacts else "no_contact"]
    return text.format(contacts=contacts)[:4000]


class Head(NamedTuple):
    """A head of the audit log, as `audit/head` says it."""

    size: int
    root: str
    time: str
    key: str


_STYLE = """
:root { color-scheme: light dark }
body { font: 1.1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem;
  color: #1b1b1b; background: #fff; overflow-wrap: anywhere }
a { color: #0b3d91 }
table { border-collapse: collapse; width: 100%; margin: 1rem 0 }
th, td { border: 1px solid #767676; padding: .4rem .5rem; text-align: left; vertical-align: top; min-width: 6rem }
th { background: #eee }
.wide { overflow-x: auto }
dl { display: grid; grid-template-columns: minmax(7rem, 12rem) 1fr; gap: .2rem 1rem }
dt { font-weight: bold }
dd { margin: 0 }
pre { white-space: pre-wrap; border-left: .3rem solid #767676; padding-left: .8rem; font-size: .9rem }
section + section { border-top: .2rem solid #1b1b1b; margin-top: 3rem }
@media (prefers-color-scheme: dark) {
  body { color: #eee; background: #111 } a { color: #9cc3ff } th { background: #2a2a2a }
  section + section { border-color: #eee } }
@media print { nav { display: none } body { font-size: 10pt } }
"""


def page(made: Notice, settings: Settings, policy: Policy, head: Head | None = None) -> str:
    """The notice as one HTML page, in both languages, that needs nothing from anywhere else."""
    said = {language: words(language) for language in LANGUAGES}
    links = "".join(
        f'<li><a href="#{language}" lang="{language}">{escape(said[language]["language"])}</a></li>'
        for language in LANGUAGES
    )
    sections = "".join(_section(language, said[language], made, settings, policy, head) for language in LANGUAGES)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Vigie: {escape(made.source)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<header><h1>Vigie: {escape(made.source)}</h1>\n"
        f'<nav aria-label="Language, langue"><ul>{links}</ul></nav></header>\n'
        f"<main>{sections}</main>\n</body>\n</html>\n"
    )


def _section(
    language: Language,
    said: Mapping[str, Any],
    made: Notice,
    settings: Settings,
    policy: Policy,
    head: Head | None,
) -> str:
    """One language of the page."""
    text, title = said["text"], said["heading"]
    current = _current(made.detectors)
    persons = _joined(_name(d, said) for d in current if EventType.parse(_label(d)) in PERSON_TYPES)
    gate = policy.gate
    parts = [
        f'\n<section id="{language}" lang="{language}" aria-labelledby="{language}-title">',
        f'<h2 id="{language}-title">{escape(said["title"])}</h2>',
        _p(said["summary"].format(device=made.source)),
        f"<h3>{escape(title['detectors'])}</h3>",
        _detectors(made, settings, said) if made.detectors else _p(said["none"]),
        f"<h3>{escape(title['leaves'])}</h3>",
        _p(text["leaves"].format(k=made.k, crowd_grain=gate.crowd_grain_s, grain=gate.grain_s)),
        _p(text["anonymous"].format(types=persons)) if persons else "",
        f"<h3>{escape(title['never'])}</h3>",
        _p(text["never"]),
        f"<h3>{escape(title['models'])}</h3>",
        _p(text["models"]) + _models_table(made, said) if made.models else _p(said["task"]["motion"]),
        f"<h3>{escape(title['errors'])}</h3>",
        _p(text["errors"]) if any(m.measured for m in made.models) else _p(said["not_measured"]),
        *(
            f'<h4>{escape(m.name)}</h4><pre lang="en">{escape(m.measured)}</pre>'
            if m.measured
            else f"<h4>{escape(m.name)}</h4>{_p(said['not_measured'])}"
            for m in made.models
        ),
        f"<h3>{escape(title['rights'])}</h3>",
        _p(_rights(current, said)),
        f"<h3>{escape(title['proof'])}</h3>",
        _p(text["proof"].format(topic=made.audit_head)),
        _p(text["head"].format(**head._asdict()) if head else text["no_head"]),
        _p(text["digests"].format(policy=made.policy, config=made.config, agent=made.agent, contract=made.contract)),
        f"<h3>{escape(title['register'])}</h3>",
        _register(next(e for e in made.register_entries if e.lang == language), said),
        "</section>",
    ]
    return "\n".join(parts)


def _p(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def _table(caption: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column heads its rows; it can be scrolled with the keyboard where it is too wide."""
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in heads)
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>' + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:]) + "</tr>"
        for row in rows
    )
    return (
        f'<div class="wide" role="region" tabindex="0" aria-label="{escape(caption)}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _detectors(made: Notice, settings: Settings, said: Mapping[str, Any]) -> str:
    """A list of statements for each permission: too many for the columns of a table."""
    column = said["column"]
    parts = []
    for detector in made.detectors:
        stated = {
            "mode": said["mode"][detector.mode],
            "purpose": f"{said['type'][_label(detector)]['what']} {detector.purpose}",
            "basis": detector.basis,
            "body": detector.body,
            "contact": detector.contact,
            "place": _place(detector, settings, said),
            "retention": said["text"]["days"].format(days=detector.retention_days),
            "until": detector.until,
        }
        rows = "".join(f"<dt>{escape(column[key])}</dt><dd>{escape(value)}</dd>" for key, value in stated.items())
        parts.append(f"<h4>{escape(_name(detector, said))} ({escape(_label(detector))})</h4><dl>{rows}</dl>")
    return "\n".join(parts)


def _models_table(made: Notice, said: Mapping[str, Any]) -> str:
    column = said["column"]
    rows = [(f"{m.name} {m.version}", said["task"][m.task], m.sha256, m.licence) for m in made.models]
    return _table(said["heading"]["models"], [column[key] for key in ("model", "task", "digest", "licence")], rows)


def _register(entry: RegisterEntry, said: Mapping[str, Any]) -> str:
    rows = [(key, str(value)) for key, value in entry.model_dump(exclude_none=True).items()]
    return _table(said["heading"]["register"], [said["column"]["field"], said["column"]["value"]], rows)
