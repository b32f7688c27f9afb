"""`vigie man`: the manual page, made of the commands themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from agent import __version__

_FILES = {
    "/etc/vigie/vigie.toml": "Configuration; drop-ins beside it in vigie.toml.d.",
    "/etc/vigie/policy.toml": "What may be detected, and why.",
    "/var/lib/vigie": "Journal: audit log and outbox.",
    "/run/vigie/status.sock": "Where the running agent answers vigie status and vigie doctor.",
}
_CODES = {
    "0": "Done; of doctor: all is well.",
    "1": "A check failed; of doctor: something does not work.",
    "2": "Wrong usage or configuration.",
    "3": "Something outside failed: a camera, a clip, the broker.",
    "4": "Of doctor: there are warnings.",
    "130": "Stopped from the keyboard.",
}


def man() -> None:
    """Print the manual page, for `man`: `vigie man > vigie.1; man ./vigie.1`."""
    from agent.cli.app import app

    typer.echo(page(typer.main.get_command(app)), nl=False)


def page(command: Any) -> str:
    """The manual page of a command and all below it, in roff (man(7)).

    Args:
        command: Of Typer, as click has it.
    """
    return "\n".join(_lines(command)) + "\n"


def _lines(command: Any) -> Iterator[str]:
    yield f'.TH VIGIE 1 "" "vigie {__version__}" "Vigie"'
    yield from (".SH NAME", f"vigie \\- {_text(command.help).rstrip('.').lower()}")
    yield from (".SH SYNOPSIS", ".B vigie", "COMMAND [OPTIONS]", ".SH COMMANDS")
    for words, each in _commands(command, "vigie"):
        yield from _command(words, each)
    for title, rows in (("FILES", _FILES), ("EXIT STATUS", _CODES)):
        yield f".SH {title}"
        for name, said in rows.items():
            yield from (".TP", f".B {_text(name)}", _text(said))


def _commands(command: Any, words: str) -> Iterator[tuple[str, Any]]:
    """Each command that does something, in the order of `--help`."""
    for name, each in getattr(command, "commands", {}).items():
        if not each.hidden:
            below = f"{words} {name}"
            if getattr(each, "commands", None):
                yield from _commands(each, below)
            else:
                yield below, each


def _command(words: str, command: Any) -> Iterator[str]:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and not p.hidden]
    usage = " ".join(f"{p.name.upper()}" if p.required else f"[{p.name.upper()}]" for p in arguments)
    yield f".SS {_text(f'{words} {usage}'.strip())}"
    for number, paragraph in enumerate((command.help or "").split("\n\n")):
        yield from ([".PP"] if number else [])
        yield _text(paragraph)
    for parameter in (*arguments, *options):
        said = getattr(parameter, "help", None)
        names = (
            ", ".join([*parameter.opts, *parameter.secondary_opts]) if parameter in options else parameter.name.upper()
        )
        value = "" if parameter not in options or parameter.is_flag else f" {parameter.name.upper()}"
        yield from (".TP", f".B {_text(names + value)}")
        yield _text(said or "") or "\\&"
    if command.epilog:
        yield from (".PP", "Examples:")
        for example in command.epilog.strip().splitlines():
            line = example.removeprefix("- ").strip()
            if line:
                yield from (".br", _text(line))


def _text(text: str | None) -> str:
    """Plain text for roff, on one line: no line begins with a control character, and markdown's marks are gone."""
    plain = " ".join((text or "").replace("`", "").replace("**", "").split())
    escaped = plain.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped
