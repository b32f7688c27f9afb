"""`vigie notice`: what the public may know of this device."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli.common import AsJson, ConfigFile, fail, loaded

if TYPE_CHECKING:
    from agent.relay.notice import Head

app = typer.Typer(help="The transparency notice of this device.", no_args_is_help=True)


@app.callback()
def _notice() -> None:
    """Keep `vigie notice COMMAND` a group."""


@app.command()
def render(
    out: Annotated[Path, typer.Option(help="Folder to write notice.html and notice.json to.")],
    config: ConfigFile = None,
    head: Annotated[
        Path | None, typer.Option(help="File with a head of the audit log, as `audit/head` says it; it is shown.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the notice as a page in English and French, and as JSON for a public algorithm register."""
    from agent.policy import PolicyError, load_policy, local_day
    from agent.relay.notice import NoticeError, notice, notice_json, page

    settings = loaded(config)
    try:
        policy = load_policy(settings.policy_file)
        made = notice(settings, policy, local_day(dt.datetime.now(dt.timezone.utc)))
    except (PolicyError, NoticeError) as error:
        fail(str(error), 2)
    html = page(made, settings, policy, _head(head) if head else None)
    files = {"notice.html": html.encode(), "notice.json": notice_json(made) + b"\n"}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (out / name).write_bytes(content)
    except OSError as error:
        fail(f"{out}: cannot be written: {error.strerror}", 3)
    paths = [str(out / name) for name in files]
    typer.echo(json.dumps({"written": paths}) if as_json else "\n".join(paths))


def _head(path: Path) -> Head:
    from agent.relay.notice import Head

    try:
        said = json.loads(path.read_text(encoding="utf-8").splitlines()[-1])
        return Head(*(said[name] for name in Head._fields))
    except (OSError, ValueError, IndexError, KeyError, TypeError) as error:
        fail(f"{path}: holds no head of an audit log: {error}", 2)
