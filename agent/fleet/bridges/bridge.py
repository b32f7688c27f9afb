"""What a bridge is: messages in, messages out, and no message that can end it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

#: Devices that a bridge keeps in mind; what says it is yet another one is refused and counted.
MAX_DEVICES = 10_000


@dataclass(frozen=True, slots=True)
class Publication:
    """A message to publish, with QoS 1."""

    topic: str
    payload: bytes
    retain: bool = False


class Bridge(Protocol):
    """One other system's view of the fleet. One thread uses it."""

    filters: tuple[str, ...]
    """Topics to subscribe to."""
    will: Publication | None
    """What the broker shall say when the bridge is gone."""

    def connected(self) -> list[Publication]:
        """What to say at the beginning of each connection."""

    def take(self, topic: str, payload: bytes, *, retained: bool) -> list[Publication]:
        """What to say upon a message; a bad one is counted, and answered by nothing.

        Args:
            topic: Its topic.
            payload: Its payload.
            retained: Whether it is an old one that the broker has kept.
        """
