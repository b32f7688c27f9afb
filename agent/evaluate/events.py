"""Whether the right episodes start at the right time: labelled clips, as `vigie-eval/1` describes them.

Each labelled event is met by exactly one episode of its type that starts within its span; every other start, outside
the spans to ignore, is a false alarm.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from agent.behaviours.episode import EpisodeChange
from agent.contract import Phase
from agent.evaluate.labels import LabelledClip, LabelledEvent


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a clip went.

    Attributes:
        clip: Its name.
        built: Types that were watched for.
        not_built: Types that this version has no behaviour for.
        hits: Labelled events that were told.
        misses: Labelled events that were not.
        false_alarms: Starts that no label asks for.
        delay_s: Mean seconds from the beginning of a hit's span to the start of its episode, None without a hit.
    """

    clip: str
    built: tuple[str, ...]
    not_built: tuple[str, ...]
    hits: int
    misses: int
    false_alarms: int
    delay_s: float | None

    @property
    def result(self) -> str:
        """`pass`, `fail`, or `not built` where nothing was watched for."""
        if not self.built:
            return "not built"
        return "fail" if self.misses or self.false_alarms else "pass"


def judge(name: str, labels: LabelledClip, changes: Iterable[EpisodeChange]) -> Verdict:
    """Compare the episodes of a clip with its labels."""
    built, not_built = labels.split()
    types = {rule.type for rule in built}
    starts = [change for change in changes if change.phase is Phase.STARTED]
    delays = []
    wanted = [event for event in labels.events if event.type in types]
    for event in wanted:
        met = next((start for start in starts if _meets(start, event)), None)
        if met is not None:
            delays.append(met.time - event.start[0])
            starts.remove(met)
    false_alarms = [s for s in starts if not any(begin <= s.time <= end for begin, end in labels.ignore)]
    return Verdict(
        clip=name,
        built=tuple(sorted(types)),
        not_built=tuple(sorted({rule.type for rule in not_built})),
        hits=len(delays),
        misses=len(wanted) - len(delays),
        false_alarms=len(false_alarms),
        delay_s=sum(delays) / len(delays) if delays else None,
    )


def _meets(start: EpisodeChange, event: LabelledEvent) -> bool:
    begin, end = event.start
    return start.type.label == event.type and event.zone in {None, start.zone} and begin <= start.time <= end
