"""Joining what several devices say into incidents: one shot, a crowd on its way, a whole square.

Only crowd and sound types are joined (`agent.fleet.incident.JOINABLE`). A person whom one camera after another tells is
followed, so every other type is refused, by the subscription and again here.

* **Sounds.** Shots and explosions that one sound can explain, the first arrival of each device, are one incident. Where
  at least three devices with synchronised clocks tell a fine onset, it says where (`agent.fleet.locate`).
* **Movements.** A surge or a dispersal that zone after zone tells, along ways of the map and at a pace that a crowd can
  have, is one incident with its path. It takes three zones of two devices, since at two it is soon chance.
* **Density.** The people that the zones of a square hold at least, over its area, are its level.

Anybody with a certificate may write below their own name. So a message is read by the contract's models, must be from a
device of the map, fresh, new, and one of few; a device counts once in an incident, whatever it sends.

Known failures: two shots of different places within earshot and within a second are taken for one; within a grain
(60 s) the order of zones is that of the map, not of time.
"""

from __future__ import annotations

import datetime as dt
import secrets
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from agent.behaviours.crowd_density import CrowdDensityParameters
from agent.contract import (
    Confidence,
    ConfidenceName,
    ContractError,
    CountClass,
    Event,
    EventType,
    LevelName,
    PhaseName,
    Status,
    VariantName,
)
from agent.fleet.incident import INCIDENTS_LEVEL, JOINABLE, MAX_PLACES, Incident, IncidentData, Location
from agent.fleet.locate import Arrival, Place, locate
from agent.fleet.said import MAX_SIZE, ROOT, Device, read
from agent.fleet.sequence import Sequence
from agent.fleet.town import Plane, Town
from agent.relay.classes import count_class, least
from agent.relay.limit import TokenBucket

#: How long is waited after the first: sound takes 3 s for a kilometre, a broker less. Seconds.
SETTLE_S = 5.0
#: An event is joined while it is younger, and no more than this ahead of our clock, seconds.
_OLDEST_S, _AHEAD_S = 300.0, 10.0
#: An onset lies this close to its event's time, seconds.
_ONSET_WITHIN_S = 10.0
#: A device may say so much, and so much more at once; an agent's alarms of one zone are at least 0.1 s apart.
_RATE, _BURST = 5.0, 50.0
_SLOWEST_SOUND = 310.0
_EARSHOT_M = 1500.0
#: How late an echo, or a clock, may make an arrival; and how coarse an event's own time is. Seconds.
_LATE_S, _SECOND_S = 0.6, 2.0
_MOST_PENDING = 512
#: How sure a synchronised clock is (NTP over a good link; PTP is better), standard deviation.
CLOCK_ERROR_S = 0.005
#: What an onset's error says of a uniform error's standard deviation.
_UNIFORM = 3**-0.5
#: The pace of a crowd, m/s: from shuffling to running (Weidmann, "Transporttechnik der Fussgänger", 1993).
_SLOWEST, _FASTEST = 0.5, 5.0
_GRAIN_S = 60.0
_LEAST_ZONES, _LEAST_DEVICES = 3, 2
_TRAVELS: tuple[VariantName, ...] = ("surge", "dispersal")
_LIMITS = CrowdDensityParameters().per_m2
_LEVELS: tuple[LevelName, ...] = ("free", "low", "medium", "high", "critical")
_REPORT_FROM = _LEVELS.index("medium")


def filters(sites: Iterable[str]) -> tuple[str, ...]:
    """What to subscribe to: the types that may be joined, and whether devices are there."""
    below = (*(f"event/{event_type.label}" for event_type in JOINABLE), "status")
    return tuple(f"{ROOT}/{site}/+/{level}" for site in sites for level in below)


@dataclass(frozen=True, slots=True)
class _Told:
    """One event as the joiners take it.

    Attributes:
        device: Whose.
        event: What it says.
        at: Its time, or its onset where there is one, seconds since 1970.
        heard: When it came, seconds since 1970.
    """

    device: str
    event: Event
    at: float
    heard: float

    @property
    def place(self) -> str:
        """`<device>/<zone>`."""
        return f"{self.device}/{self.event.data.zone}"


#: When an incident began, seconds since 1970, and what is to be said of it.
_Change = tuple[float, IncidentData]


class Correlator:
    """Joins the events of some sites. One thread uses it."""

    def __init__(
        self,
        town: Town,
        now: Callable[[], float],
        *,
        temperature_c: float = 15.0,
        clock_error_s: float = CLOCK_ERROR_S,
        position_error_m: float = 2.0,
    ) -> None:
        """A correlator that has heard nothing.

        Args:
            town: The map; devices that are not in it are refused.
            now: Seconds since 1970.
            temperature_c: Of the air, for the speed of sound; may be set anew at any time.
            clock_error_s: Standard deviation of a clock that says that it is synchronised, seconds.
            position_error_m: Standard deviation of the places in the map, metres.
        """
        self.temperature_c = temperature_c
        self._now = now
        self._clock_error_s = clock_error_s
        self._position_error_m = position_error_m
        self._devices = {Device(device.site, device.name): device for device in town.device}
        self._sequences = {device: Sequence() for device in self._devices}
        self._buckets = {device: TokenBucket(_RATE, _BURST, now) for device in self._devices}
        self._sounds: dict[tuple[str, str], list[_Told]] = {}
        self._movements = {site: _Movements(town.only([site])) for site in town.sites}
        self._squares = [_Square(square.site, square.name, square.zones, square.area_m2) for square in town.square]
        self._run, self._number = secrets.token_hex(4), 0
        self.refused: Counter[str] = Counter()
        """Messages that were not taken, by reason."""

    def take(self, topic: str, payload: bytes, *, retained: bool) -> None:
        """Take in a message; a bad one is counted, and changes nothing."""
        try:
            self._hear(topic, payload, retained)
        except ContractError as error:
            self.refused[str(error)] += 1

    def _hear(self, topic: str, payload: bytes, retained: bool) -> None:
        if len(payload) > MAX_SIZE:
            raise ContractError("too large")
        said = read(topic, payload)
        if said is None or said.kind not in {"event", "status"}:
            raise ContractError("neither an event nor a status")
        if said.device not in self._devices:
            raise ContractError("a device that is not in the map")
        if isinstance(said.document, Status):
            for square in self._squares:
                square.status(said.device, said.document)
            return
        if said.label not in _JOINABLE_LABELS:
            raise ContractError("a type that is not joined, since a person could be followed by it")
        event = said.document
        if not isinstance(event, Event) or retained:
            raise ContractError("an event is never retained")
        told = self._told(said.device, event)
        if not self._buckets[said.device].take():
            raise ContractError("too many of one device")
        if not self._sequences[said.device].follow(event.id):
            raise ContractError("an event that came before")
        self._join(said.device, said.label or "", told)

    def _told(self, device: Device, event: Event) -> _Told:
        at, heard = _seconds(event.time), self._now()
        if not -_AHEAD_S <= heard - at <= _OLDEST_S:
            raise ContractError("too old to be joined, or of the future")
        if event.data.onset is not None:
            onset = _seconds(event.data.onset)
            if abs(onset - at) > _ONSET_WITHIN_S:
                raise ContractError("an onset that is not of its event")
            at = onset
        return _Told(device.name, event, at, heard)

    def _join(self, device: Device, label: str, told: _Told) -> None:
        data = told.event.data
        if label.startswith("sound."):
            if data.phase != "started":
                return
            pending = self._sounds.setdefault((device.site, label), [])
            if len(pending) >= _MOST_PENDING:
                raise ContractError("too many sounds at once")
            pending.append(told)
        elif data.zone is None:
            raise ContractError("a crowd without a zone")
        elif label == EventType.CROWD_DENSITY.label:
            for square in self._squares:
                square.hear(device, told)
        elif data.clock == "synced" and data.phase == "started" and data.variant in _TRAVELS:
            self._movements[device.site].hear(told)

    def due(self) -> list[Incident]:
        """Incidents that have come about."""
        now = self._now()
        found: list[Incident] = []
        for (site, label), pending in self._sounds.items():
            while pending and now - min(told.heard for told in pending) >= SETTLE_S:
                group = self._group(site, pending)
                pending[:] = [told for told in pending if told not in group]
                if len(group) > 1:
                    found.append(self._sound(site, label, group))
        for site, movements in self._movements.items():
            found += [self._incident(site, EventType.CROWD_MOVEMENT.label, *change) for change in movements.due(now)]
        changes = ((square.site, change) for square in self._squares if (change := square.due(now)) is not None)
        found += [self._incident(site, EventType.CROWD_DENSITY.label, *change) for site, change in changes]
        return found

    def _incident(self, site: str, label: str, at: float, data: IncidentData) -> Incident:
        self._number += 1
        return Incident(
            id=f"{self._run}-{self._number:06}",
            source=f"/vigie/{site}/{INCIDENTS_LEVEL}",
            type=f"vigie.joined.{label}.v1",
            time=f"{dt.datetime.fromtimestamp(at, dt.timezone.utc):%Y-%m-%dT%H:%M:%SZ}",
            data=data,
        )

    def _group(self, site: str, pending: list[_Told]) -> list[_Told]:
        """The first arrival and, of each other device, the first that can be the same sound."""
        first = min(pending, key=lambda told: told.at)
        plane = self._plane(site, first.device)
        group = {first.device: first}
        for told in sorted(pending, key=lambda told: told.at):
            east, north = self._metres(plane, site, told.device)
            way = (east**2 + north**2) ** 0.5
            coarse = first.event.data.onset is None or told.event.data.onset is None
            latest = first.at + way / _SLOWEST_SOUND + (_SECOND_S if coarse else _LATE_S)
            if told.device not in group and way <= _EARSHOT_M and told.at <= latest:
                group[told.device] = told
        return list(group.values())

    def _plane(self, site: str, device: str) -> Plane:
        mapped = self._devices[Device(site, device)]
        return Plane(mapped.latitude, mapped.longitude)

    def _metres(self, plane: Plane, site: str, device: str) -> tuple[float, float]:
        mapped = self._devices[Device(site, device)]
        return plane.metres(mapped.latitude, mapped.longitude)

    def _sound(self, site: str, label: str, group: list[_Told]) -> Incident:
        plane = self._plane(site, group[0].device)
        arrivals = [
            Arrival(*self._metres(plane, site, told.device), told.at - group[0].at, self._error_s(told))
            for told in group
            if told.event.data.onset_error is not None and told.event.data.clock == "synced"
        ]
        place = locate(arrivals, self.temperature_c, position_error_m=self._position_error_m)
        at = min(told.at for told in group)
        data = IncidentData(
            incident=secrets.token_hex(4),
            phase="started",
            devices=tuple(sorted(told.device for told in group)),
            location=_location(plane, place) if isinstance(place, Place) else None,
            unlocated=None if isinstance(place, Place) else place,
            echoes=place.direct.count(False) if isinstance(place, Place) else None,
            confidence=_least_confidence(group),
        )
        return self._incident(site, label, group[0].at + place.time if isinstance(place, Place) else at, data)

    def _error_s(self, told: _Told) -> float:
        bound = int((told.event.data.onset_error or "50ms").removesuffix("ms")) / 1000
        return float((self._clock_error_s**2 + (bound * _UNIFORM) ** 2) ** 0.5)


def _location(plane: Plane, place: Place) -> Location:
    latitude, longitude = plane.degrees(place.x, place.y)
    return Location(
        latitude=latitude,
        longitude=longitude,
        semi_major_m=round(place.semi_major_m, 1),
        semi_minor_m=max(0.1, round(place.semi_minor_m, 1)),
        azimuth_deg=round(place.azimuth_deg, 1),
    )


def _least_confidence(group: Iterable[_Told]) -> ConfidenceName:
    return min((told.event.data.confidence for told in group), key=lambda name: Confidence[name.upper()])


class _Movements:
    """Movements of one site that pass from zone to zone."""

    def __init__(self, town: Town) -> None:
        self._ways = {frozenset(way.between): way.metres for way in town.way}
        self._longest_s = max((way.metres for way in town.way), default=0.0) / _SLOWEST + _GRAIN_S
        self._recent: dict[tuple[str, str], _Told] = {}
        """By variant and place: the first movement there since it was last quiet."""
        self._open: dict[str, _Passing] = {}
        self._look_at: float | None = None

    def hear(self, told: _Told) -> None:
        """Take in a movement; where its zone had one lately, that one stays the first."""
        key = (told.event.data.variant or "", told.place)
        if key not in self._recent and any(told.place in way for way in self._ways):
            self._recent[key] = told
            self._look_at = told.heard + SETTLE_S

    def due(self, now: float) -> list[_Change]:
        """What is to be said, and when it began."""
        found: list[_Change] = []
        if self._look_at is not None and now >= self._look_at:
            self._look_at = None
            for variant in _TRAVELS:
                found += self._look(variant, now)
        for passing in [passing for passing in self._open.values() if now >= passing.until]:
            del self._open[passing.incident]
            found.append(passing.say("ended"))
        kept = {told.place for passing in self._open.values() for told in passing.path}
        self._recent = {
            key: told
            for key, told in self._recent.items()
            if told.place in kept or now - told.heard < self._longest_s + _GRAIN_S
        }
        return found

    def _look(self, variant: str, now: float) -> list[_Change]:
        path = self._longest([told for (name, _), told in self._recent.items() if name == variant])
        told_by = {told.device for told in path}
        if len(path) < _LEAST_ZONES or len(told_by) < _LEAST_DEVICES or path[-1].at <= path[0].at:
            return []
        until = now + self._longest_s + _GRAIN_S
        for passing in self._open.values():
            if set(passing.path) & set(path):
                if len(path) <= len(passing.path):
                    return []
                passing.path, passing.until = path, until
                return [passing.say("ongoing")]
        passing = _Passing(secrets.token_hex(4), path, until)
        self._open[passing.incident] = passing
        return [passing.say("started")]

    def _longest(self, told: list[_Told]) -> list[_Told]:
        """The longest path; among zones that were told in one grain, the one nearest to a path comes first."""
        paths: list[list[_Told]] = []
        left = list(told)
        while left:
            grain = [one for one in left if one.at == min(other.at for other in left)]
            options = [(self._best(paths, one), one) for one in grain]
            neighbours = {one.place: sum(self._follows(one, other) for other in grain) for one in grain}
            path, one = max(options, key=lambda option: (len(option[0]), -neighbours[option[1].place], option[1].place))
            paths.append([*path, one])
            left.remove(one)
        return max(paths, key=len, default=[])

    def _best(self, paths: list[list[_Told]], one: _Told) -> list[_Told]:
        return max((path for path in paths if self._follows(path[-1], one)), key=len, default=[])

    def _follows(self, before: _Told, after: _Told) -> bool:
        metres = self._ways.get(frozenset({before.place, after.place}))
        if metres is None or before.place == after.place:
            return False
        return metres / _FASTEST - _GRAIN_S <= after.at - before.at <= metres / _SLOWEST + _GRAIN_S


@dataclass(slots=True)
class _Passing:
    """A movement that passes: its path so far, and until when it may go on."""

    incident: str
    path: list[_Told]
    until: float

    def say(self, phase: PhaseName) -> _Change:
        """What to say of it, and when it began."""
        path = self.path[:MAX_PLACES]
        data = IncidentData(
            incident=self.incident,
            phase=phase,
            devices=tuple(sorted({told.device for told in path})),
            variant=path[0].event.data.variant,
            path=tuple(told.place for told in path),
            confidence=_least_confidence(path),
        )
        return path[0].at, data


@dataclass(slots=True)
class _Square:
    """A square and what its zones say."""

    site: str
    name: str
    zones: tuple[str, ...]
    area_m2: float
    _told: dict[str, _Told] = field(default_factory=dict)
    _boots: dict[str, str] = field(default_factory=dict)
    """Of the devices that are there."""
    _look_at: float | None = None
    _said: tuple[LevelName, CountClass, int] | None = None
    _incident: str = ""
    _began: float = 0.0
    _last: tuple[_Told, ...] = ()

    def status(self, device: Device, status: Status) -> None:
        """A device that is gone, or has begun anew, says nothing of its zones any more."""
        if device.site != self.site or not any(zone.startswith(f"{device.name}/") for zone in self.zones):
            return
        if status.is_gone:
            self._boots.pop(device.name, None)
        else:
            self._boots[device.name] = status.boot
        gone = [
            zone
            for zone, told in self._told.items()
            if told.device == device.name and (status.is_gone or told.event.id[:8] != status.boot)
        ]
        for zone in gone:
            del self._told[zone]
        if gone:
            self._look_at = 0.0

    def hear(self, device: Device, told: _Told) -> None:
        """Take in what a zone says."""
        if device.site != self.site or told.place not in self.zones:
            return
        if told.event.data.phase == "ended":
            self._told.pop(told.place, None)
        else:
            self._told[told.place] = told
        if self._look_at is None:
            self._look_at = told.heard + SETTLE_S

    def due(self, now: float) -> _Change | None:
        """When it began and what is to be said, where that has changed."""
        if self._look_at is None or now < self._look_at:
            return None
        self._look_at = None
        people = sum(least(told.event.data.count) for told in self._told.values())
        level = sum(people >= limit * self.area_m2 for limit in _LIMITS)
        silent = sum(zone.split("/")[0] not in self._boots for zone in self.zones)
        says = (_LEVELS[level], count_class(people, 1), silent)
        if level < _REPORT_FROM:
            if self._said is None:
                return None
            self._said = None
            return self._began, self._data("ended", says)
        if says == self._said:
            return None
        phase: PhaseName = "ongoing"
        if self._said is None:
            phase, self._incident = "started", secrets.token_hex(4)
            self._began = min(told.at for told in self._told.values())
        self._said, self._last = says, tuple(self._told.values())
        return self._began, self._data(phase, says)

    def _data(self, phase: PhaseName, says: tuple[LevelName, CountClass, int]) -> IncidentData:
        level, count, silent = says
        return IncidentData(
            incident=self._incident,
            phase=phase,
            devices=tuple(sorted({told.device for told in self._last})),
            square=self.name,
            level=level,
            count=count,
            silent=silent,
            confidence=_least_confidence(self._last),
        )


def _seconds(stamp: str) -> float:
    """Seconds since 1970 of a time of the contract.

    Raises:
        ContractError: there is no such day or time.
    """
    try:
        moment = dt.datetime.strptime(stamp[:19] + "+0000", "%Y-%m-%dT%H:%M:%S%z").timestamp()
    except ValueError:
        raise ContractError("there is no such time") from None
    return moment + (int(stamp[20:24]) / 1e4 if len(stamp) > 20 else 0.0)


_JOINABLE_LABELS = frozenset(event_type.label for event_type in JOINABLE)
