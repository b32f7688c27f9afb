"""The first configuration and policy of a device: every key with its meaning and its default."""

from __future__ import annotations

import datetime as dt
import json
import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from agent.policy import GatePolicy
from agent.settings import Settings

#: How long a trial in shadow mode may run before somebody must decide.
_TRIAL = dt.timedelta(days=30)

_CAMERA = """\
# One [[camera]] for each camera, at most four.
[[camera]]
name = "camera-1"
# csi://0, v4l2:/dev/video0, rtsp://host/path, file:clip.mp4 or sim:scenario
source = "v4l2:/dev/video0"

# A zone is a polygon in fractions of the picture: x to the right, y down. Its name is part of the events.
[[camera.zone]]
name = "square"
polygon = [[0, 0], [1, 0], [1, 1], [0, 1]]

# A rule is one behaviour in one zone; `vigie config schema` lists all with their parameters.
[[camera.rule]]
type = "crowd.gathering"
zone = "square"
min_persons = 10
hold_s = 30
# schedule = ["Mon-Fri 07:00-20:00"]

[[camera.rule]]
type = "crowd.density"
zone = "square"

# The microphone has a [[microphone.rule]] for each sound that it listens for, such as one with type = "sound.gunshot".
"""


def starter(config: Path) -> dict[Path, str]:
    """The two files, by their paths.

    Args:
        config: Where the configuration goes, absolute; the policy goes beside it.
    """
    policy = config.with_name("policy.toml")
    return {config: _configuration(policy), policy: trial_policy({"crowd.gathering": {}, "crowd.density": {}})}


def _configuration(policy: Path) -> str:
    given: dict[str, Any] = {"policy_file": str(policy), "site": "site-1", "name": host_name()}
    tables = {name: field for name, field in Settings.model_fields.items() if isinstance(field.default, BaseModel)}
    plain = {n: f for n, f in Settings.model_fields.items() if n not in tables and n != "cameras"}
    lines = [
        "# Vigie on this device. Keys with a # before them show their defaults; `vigie config check` checks this.",
        "",
    ]
    lines += _keys(plain, given)
    for name, field in tables.items():
        model = type(field.default)
        lines += [f"# {model.__doc__}", f"[{name}]", *_keys(model.model_fields, given)]
    return "\n".join(lines) + "\n" + _CAMERA


def trial_policy(types: Mapping[str, Mapping[str, object]]) -> str:
    """A policy that sends nothing: `shadow` mode, for a month, until somebody states a purpose and a legal basis.

    Args:
        types: Event types, each with further keys of its entry.
    """
    until = dt.datetime.now(dt.timezone.utc).date() + _TRIAL
    lines = [
        "# What may be detected here, and why. It belongs to root and to the data-protection officer.",
        "# Nothing is detected without an entry. `shadow` counts on the device and sends nothing: state the real",
        '# purpose and legal basis, then write mode = "on".',
        "",
        f"# {GatePolicy.__doc__}",
        "[policy.gate]",
        *_keys(GatePolicy.model_fields, {}),
    ]
    for label, more in types.items():
        lines += [
            "[[policy.detector]]",
            f'type = "{label}"',
            'mode = "shadow"',
            'purpose = "Trial of the camera: counted on the device, never sent"',
            'legal_basis = "TRIAL"',
            'body = "Whoever set up this device"',
            'contact = "Ask at the place where the camera hangs"',
            "retention_days = 0",
            *(f"{key} = {json.dumps(value)}" for key, value in more.items()),
            f"until = {until}",
            "",
        ]
    return "\n".join(lines)


def _keys(fields: dict[str, FieldInfo], given: dict[str, Any]) -> Iterator[str]:
    """Each key below its description: with its value where one is given, else as a comment with its default."""
    for name, field in fields.items():
        if name == "rules":
            continue  # tables of their own, at the end
        yield f"# {field.description}"
        if name in given:
            yield f"{name} = {json.dumps(given[name])}"
        else:
            yield f"# {name} = {'...' if field.default is None else json.dumps(field.default, default=str)}"
        yield ""


def host_name() -> str:
    """The machine's name as a device name."""
    words = re.findall("[a-z0-9]+", socket.gethostname().partition(".")[0].lower())
    return "-".join(words)[:32].strip("-") or "device-1"
