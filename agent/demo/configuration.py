"""The configuration and the policy of `make run`, on stated demonstration grounds.

Five behaviours on one camera, and three sounds where there is a microphone.
"""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

#: What the demonstration looks for: event type, and the parameters of its rule.
_RULES: dict[str, dict[str, object]] = {
    "crowd.density": {"zone": "square"},
    "crowd.gathering": {"zone": "square", "min_persons": 5, "hold_s": 3},
    "person.loitering": {"zone": "square", "dwell_s": 20},
    "zone.intrusion": {"zone": "lawn", "classes": ["person"]},
    "direction.wrong_way": {"zone": "path", "allowed": [1, 0], "classes": ["person"]},
}
#: What it listens for.
_SOUNDS = ("sound.gunshot", "sound.glass_break", "sound.siren")
#: Shares of the frame; the lawn and the path lie where the default clip has them.
_ZONES = {
    "square": [[0, 0], [1, 0], [1, 1], [0, 1]],
    "lawn": [[0.0, 0.62], [0.38, 0.62], [0.38, 1.0], [0.0, 1.0]],
    "path": [[0.2, 0.3], [1, 0.3], [1, 0.6], [0.2, 0.6]],
}


def write_configuration(folder: Path, source: str, microphone: str | None, mqtt: dict[str, object]) -> Path:
    """Write `vigie.toml` and `policy.toml` into `folder`; the path of the first.

    Args:
        folder: An empty folder; the journal will lie there too.
        source: Camera source.
        microphone: Microphone source, or None.
        mqtt: The table `[mqtt]`.
    """
    lines = [
        f'policy_file = "{folder}/policy.toml"',
        "[device]",
        'site = "demo"',
        'name = "camera-1"',
        "[mqtt]",
        *(f"{key} = {json.dumps(value)}" for key, value in mqtt.items()),
        "[journal]",
        f'folder = "{folder}/journal"',
        "[pipe]",
        f'socket = "{folder}/pipe.sock"',
        f'status_socket = "{folder}/status.sock"',
        *(_microphone(microphone) if microphone else []),
        "[[camera]]",
        'name = "square-cam"',
        f"source = {json.dumps(source)}",
    ]
    for name, polygon in _ZONES.items():
        lines += ["[[camera.zone]]", f'name = "{name}"', f"polygon = {json.dumps(polygon)}"]
    for label, parameters in _RULES.items():
        lines += ["[[camera.rule]]", f'type = "{label}"']
        lines += [f"{key} = {json.dumps(value)}" for key, value in parameters.items()]
    (folder / "vigie.toml").write_text("\n".join(lines) + "\n")
    (folder / "policy.toml").write_text(_policy())
    return folder / "vigie.toml"


def _microphone(source: str) -> list[str]:
    rules = [line for label in _SOUNDS for line in ("[[microphone.rule]]", f'type = "{label}"')]
    return ["[microphone]", f"source = {json.dumps(source)}", *rules]


def _policy() -> str:
    until = dt.datetime.now(dt.timezone.utc).date() + dt.timedelta(days=1)
    # A short grain, so that a clip of 80 s shows something; a real policy keeps the default of 60 s.
    lines = ["[policy.gate]", "crowd_grain_s = 10"]
    for label in (*_RULES, *_SOUNDS):
        lines += [
            "[[policy.detector]]",
            f'type = "{label}"',
            'purpose = "Demonstration on recorded footage"',
            'legal_basis = "DEMO"',
            'body = "The person who runs this demonstration"',
            'below_flow = "Demonstration on recorded footage"',
            'contact = "The person at this keyboard"',
            "retention_days = 1",
            f"until = {until}",
        ]
    return "\n".join(lines) + "\n"
