"""Send one command to many devices at once, and wait for what becomes of it on each."""

from __future__ import annotations

import datetime as dt
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import ValidationError

from agent.command import Result, Verb, command
from agent.fleet.client import Client
from agent.fleet.roster import Choice, Device

_OVER = frozenset({"succeeded", "failed", "rejected"})


@dataclass
class Answer:
    """What one device has said.

    Attributes:
        device: The device.
        request: Id of the request.
        result: Its last result; None where it has said nothing.
        refused: Why the broker did not take the command.
    """

    device: Device
    request: str
    result: Result | None = None
    refused: str | None = None

    @property
    def over(self) -> bool:
        """Whether nothing more is to come."""
        return self.refused is not None or (self.result is not None and self.result.state in _OVER)

    @property
    def succeeded(self) -> bool:
        """Whether it has done what was asked."""
        return self.result is not None and self.result.state == "succeeded"

    @property
    def state(self) -> str:
        """How far it is, for people."""
        if self.refused is not None:
            return "not sent"
        return self.result.state if self.result else "no answer"

    @property
    def reason(self) -> str:
        """Why it has not succeeded, if that is known."""
        if self.refused is not None or self.result is None:
            return self.refused or ""
        return self.result.reason or ""


def send(
    client: Client,
    key: Ed25519PrivateKey,
    devices: Sequence[Device],
    verb: Verb,
    args: dict[str, str],
    *,
    lasts: dt.timedelta,
    patience_s: float,
    progress: Callable[[int], None],
) -> list[Answer]:
    """Send a command to each device, and gather the answers.

    Args:
        client: Connected.
        key: Signs a command for each device.
        devices: Which.
        verb: What to do.
        args: What the verb needs.
        lasts: How long a device that is away may still obey it.
        patience_s: How long the answers are waited for, seconds.
        progress: Told how many devices are over.

    Raises:
        FleetError: the broker is lost, or does not allow the answers to be read.
    """
    client.subscribe(Choice().filter("cmd", verb, "result"))
    now = dt.datetime.now(dt.timezone.utc)
    answers = [Answer(device, secrets.token_hex(12)) for device in devices]
    by_request = {answer.request: answer for answer in answers}
    messages = [
        (
            f"vigie/v1/{answer.device.target}/cmd/{verb}",
            command(key, answer.device.target, verb, answer.request, now, lasts=lasts, args=args),
        )
        for answer in answers
    ]
    for answer, refused in zip(answers, client.publish_all(messages), strict=True):
        answer.refused = refused
    deadline = time.monotonic() + patience_s
    while (left := sum(not answer.over for answer in answers)) and time.monotonic() < deadline:
        progress(len(answers) - left)
        message = client.take(min(1.0, deadline - time.monotonic()))
        if message is None or not message.topic.endswith("/result"):
            continue
        try:
            result = Result.model_validate_json(message.payload)
        except ValidationError:
            continue
        named = by_request.get(result.request_id or "")
        # The topic says whose word it is: the broker lets a device write below its own name alone.
        if named and not named.over and message.topic.startswith(f"vigie/v1/{named.device.target}/"):
            named.result = result
    progress(sum(answer.over for answer in answers))
    return answers
