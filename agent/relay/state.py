"""What is retained on `state/<zone>/<type>`: made of events that have been released, and of nothing else.

So it says no more than the events did, at the moment at which they left. Types that one person can start have no state,
for their end is not told.
"""

from __future__ import annotations

from collections.abc import Iterator

from agent.contract import PERSON_TYPES, Event, EventType, State


class States:
    """The latest state of each zone and type since the start of relay."""

    def __init__(self, boot: str) -> None:
        """No state.

        Args:
            boot: Id of this start.
        """
        self._boot = boot
        self._states: dict[tuple[str, str], State] = {}

    def follow(self, event: Event) -> tuple[str, str] | None:
        """Take in a released event; zone and type whose state it has changed."""
        label = event.type.removeprefix("vigie.").removesuffix(".v1")
        data = event.data
        if data.zone is None or EventType.parse(label) in PERSON_TYPES:
            return None
        key = (data.zone, label)
        before = self._states.get(key)
        goes_on = before is not None and before.open and data.phase != "started"
        self._states[key] = State(
            boot=self._boot,
            event=event.id,
            # A start that tells how long it took is an end as well, except of crowd types, which tell the end apart.
            open=data.phase != "ended" and data.duration is None,
            since=before.since if before is not None and goes_on else event.time,
            time=event.time,
            level=data.level,
            variant=data.variant,
            count=data.count,
        )
        return key

    def __getitem__(self, key: tuple[str, str]) -> State:
        return self._states[key]

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._states)
