"""Running numbers of events: which are missing, and which came twice.

An event id is the boot id and a number that counts up by one with each event that is released, so a number that never
comes is an event that was evicted, refused by the broker, or lost on the way.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

#: Boots of a device, and stretches of missing numbers of a boot, that are kept in mind; older ones become a number.
_MAX_BOOTS = 8
_MAX_GAPS = 256


@dataclass(slots=True)
class _Boot:
    """The numbers of one boot: the first and the last that came, and the stretches in between that did not."""

    first: int
    last: int
    gaps: list[range] = field(default_factory=list)


class Sequence:
    """The events of one device."""

    def __init__(self) -> None:
        """Nothing has come."""
        self._boots: OrderedDict[str, _Boot] = OrderedDict()
        self._lost = 0

    @property
    def missing(self) -> int:
        """Numbers between two that came, which did not come themselves."""
        return self._lost + sum(len(gap) for boot in self._boots.values() for gap in boot.gaps)

    def follow(self, event_id: str) -> bool:
        """Take in an id; whether it is a new one."""
        name, _, digits = event_id.partition("-")
        number = int(digits)
        boot = self._boots.get(name)
        if boot is None:
            self._boots[name] = _Boot(number, number)
            if len(self._boots) > _MAX_BOOTS:
                self._lost += sum(map(len, self._boots.popitem(last=False)[1].gaps))
            return True
        if number > boot.last:
            boot.gaps.append(range(boot.last + 1, number))
            boot.last = number
        elif number < boot.first:
            boot.gaps.insert(0, range(number + 1, boot.first))
            boot.first = number
        else:
            place = next((i for i, gap in enumerate(boot.gaps) if number in gap), None)
            if place is None:
                return False
            gap = boot.gaps[place]
            boot.gaps[place : place + 1] = [range(gap.start, number), range(number + 1, gap.stop)]
        boot.gaps = [gap for gap in boot.gaps if gap]
        while len(boot.gaps) > _MAX_GAPS:
            self._lost += len(boot.gaps.pop(0))
        return True
