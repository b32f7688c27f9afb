"""What of a log may go into a support file: words that we wrote ourselves, and short numbers. All else is masked.

An allow-list, not a list of what is forbidden: the words are those of the agent's own source, read from it, and the
names of the device's configuration. So an address, a person's name, a path or a token that some library put into an
error does not pass, whatever it is.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

MASK = "***"

_WORD = re.compile(r"[A-Za-z]{2,}")
#: A number with at most six digits before its point and a unit behind it; a boot id; the time that begins a line.
_NUMBER = re.compile(r"[+-]?\d{1,6}(\.\d{1,6})?(%|[a-zA-Z]{1,3})?")
_BOOT = re.compile(r"[0-9a-f]{8}(-\d{6})?")
_TIME = re.compile(r"^\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d([.,]\d{1,6})?(Z|[+-]\d\d:?\d\d)?")
_PUNCTUATION = ".,:;!?'\"()[]<>"


def vocabulary(package: Path | None = None, names: Iterable[str] = ()) -> frozenset[str]:
    """Every word in the strings and names of a Python package's source, in small letters.

    Args:
        package: Its folder; None for the agent's own.
        names: More words that may pass, such as the names of cameras and zones.
    """
    words = {"s", *(name.lower() for name in names)}  # seconds, as in `frames_per_s`
    for path in sorted((package or Path(__file__).parent).rglob("*.py")):
        words.update(_words(ast.parse(path.read_text(encoding="utf-8"))))
    return frozenset(words)


def _words(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        said = ""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            said = node.value
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            said = node.name
        elif isinstance(node, ast.ImportFrom):
            said = node.module or ""
        yield from (word.lower() for word in _WORD.findall(said))


def scrub(line: str, words: frozenset[str]) -> str:
    """A line of a log with everything masked that is not of the vocabulary.

    Args:
        line: The line.
        words: What `vocabulary` gives.
    """
    time = _TIME.match(line)
    begin = time[0] if time else ""
    return begin + "".join(_token(part, words) for part in re.split(r"(\s+)", line[len(begin) :]))


def _token(token: str, words: frozenset[str]) -> str:
    if not token or token.isspace():
        return " " if token else ""
    key, equals, value = token.partition("=")
    if equals:
        return f"{_token(key, words)}={_token(value, words)}" if value else f"{_token(key, words)}="
    core = token.strip(_PUNCTUATION)
    if not core:
        return token
    lead, trail = token[: token.index(core)], token[token.index(core) + len(core) :]
    return f"{lead}{core if _passes(core, words) else MASK}{trail}"


def _passes(core: str, words: frozenset[str]) -> bool:
    if core.lower() in words or _NUMBER.fullmatch(core) or _BOOT.fullmatch(core):
        return True
    # `too_old`, `agent.relay.process` and `camera:quay`: each part is a word of ours.
    parts = re.split(r"[._:-]", core)
    return len(parts) > 1 and all(part.lower() in words for part in parts)
