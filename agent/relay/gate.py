"""The gate: what sense says comes in, what the policy lets out leaves. Nothing else stands between the two.

In: every message is checked against the contract again and counted against a token bucket. A hostile sense can do no
more than send valid observations at the bounded rate.

Out, the rules of release:

* **Permission.** Every release asks the policy for its type and zone on that day, as sense does. Mode `shadow` is
  counted per type and never sent.
* **Grain.** Alarms go at the next tenth of a second, stamped to the second. All else waits for the end of its grain,
  which lies on a multiple of the grain on the wall clock, so that the moment and the order of release say nothing, and
  is stamped with the beginning of the grain in which it happened. No stamp lies more than ten minutes back.
* **Merging.** What happens to one type in one zone within a grain is one event that tells the latest state. An episode
  that started and ended within a grain is one `started` that carries its duration, and no `ended` follows; of a crowd
  type the `ended` follows in the next grain. An `ongoing` that says nothing new is not sent.
* **Persons.** Types that one person can start send `started` only; their duration is told if it is known by then.
* **k.** A crowd type is told from the moment when at least k people are seen; until then it is suppressed and counted,
  for fewer than k people are no crowd. If they become fewer afterwards, `<k` is said and neither level nor variant,
  for those would tell one person from none. A count that is missing counts as below k.
* **Holding.** What `crowd.density` says of a zone is told when it was the same at the ends of two grains in a row
  (`density_grains`), so that those who only pass hardly change it.
* **Onset.** When a shot or an explosion began is told to 100 µs where the policy's entry says `onset = true`, with a
  bound of its error that includes the clock's, and not at all where that is above 50 ms or the clock is not set.
* **Clock.** What is released before the clock is set carries its moments on the monotonic clock; the journal holds it.
* **Bits.** Every release is paid for in bits of information (`agent.relay.capacity`). What cannot be paid for is
  suppressed and counted, but an `ended` waits until it can be. Alarms have a reserve.
* **Ids** of episodes are random, unique among the open ones, and die with the episode.

Bounds: at most `MAX_SLOTS` episodes are open and as many more await release. An observation leads to at most two
releases (a slot that begins anew ends one episode and starts another), so any minute has at most
`2 * (max_burst + 60 * max_rate)`; alarms apart, a type in a zone has at most one in a grain.
"""

from __future__ import annotations

import datetime as dt
import math
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import NamedTuple, get_args

from agent.contract import (
    ALARMS,
    CROWD_TYPES,
    MAX_AGE_MS,
    MAX_SLOTS,
    NO_CAMERA,
    NO_COUNT,
    NO_ONSET,
    NO_ZONE,
    PERSON_TYPES,
    ContractError,
    CountClass,
    EventData,
    EventType,
    Evidence,
    EvidenceName,
    Kind,
    Level,
    Observation,
    OnsetError,
    Phase,
    Variant,
)
from agent.policy import Policy, local_day
from agent.relay.capacity import capacity
from agent.relay.classes import count_class, duration_class
from agent.relay.limit import TokenBucket
from agent.settings import Settings

#: Open episodes, and ended ones whose grain has not.
MAX_EPISODES = 2 * MAX_SLOTS
#: The two clocks do not agree to the last microsecond: what comes so shortly before the end of a grain waits for the
#: next, so that a grain which has just been released is not released again. Seconds, and share of the grain at most.
_EDGE_S, _EDGE = 0.1, 0.01
#: How an event names its evidence.
_EVIDENCE = dict(zip(list(Evidence)[1:], get_args(EvidenceName), strict=True))
#: What waits for bits asks for them again at a multiple of this, or of its grain, seconds.
_RETRY_S = 10.0
#: Minutes whose bits a gate begins with beside the reserve for alarms: a restart brings no whole burst.
_FIRST_MIN = 1.0


@dataclass(frozen=True, slots=True)
class Moment:
    """When something happened, on the monotonic clock, for a wall clock that may be set later.

    Attributes:
        at: Seconds.
        grain_s: To what it is told, seconds.
        onset: When its sound began, seconds; None where that is not to be told.
        onset_error_s: How far off the onset may be on this clock, seconds.
    """

    at: float
    grain_s: float
    onset: float | None = None
    onset_error_s: float = 0.0

    def time(self, now: float, wall: float) -> str:
        """The beginning of its grain: UTC, RFC 3339, to the second.

        Args:
            now: Monotonic seconds.
            wall: The same moment, seconds since 1970.
        """
        return utc((wall - (now - self.at)) // self.grain_s * self.grain_s)

    def told_onset(self, now: float, wall: float, clock_error_s: float | None) -> dict[str, str]:
        """The onset and its error as an event says them; nothing where they are not known well enough.

        Args:
            now: Monotonic seconds.
            wall: The same moment, seconds since 1970.
            clock_error_s: How far off `wall` may be, seconds; None: unknown.
        """
        if self.onset is None:
            return {}
        error_s = self.onset_error_s + (clock_error_s or 0.0)
        bound = next((e for e in OnsetError if e and error_s <= e / 1000), None)
        if bound is None:
            return {}
        stamp = dt.datetime.fromtimestamp(round(wall - (now - self.onset), 4), dt.timezone.utc)
        return {
            "onset": f"{stamp:%Y-%m-%dT%H:%M:%S}.{stamp.microsecond // 100:04}Z",
            "onset_error": f"{bound.value}ms",
        }


@dataclass(frozen=True, slots=True)
class Release:
    """What may leave; the journal gives it an event id.

    Attributes:
        event_type: What it is.
        data: What it says.
        time: When it happened, in its grain: UTC, RFC 3339, to the second.
        alarm: Whether it is danger, to be evicted last.
        moment: The same on the monotonic clock, where the wall clock is not set.
    """

    event_type: EventType
    data: EventData
    time: str
    alarm: bool
    moment: Moment | None = None


class _Key(NamedTuple):
    """What is merged into one episode."""

    type: EventType
    zone: str | None
    camera: str | None


@dataclass(frozen=True, slots=True)
class _State:
    """What an event can say anew while its episode goes on."""

    count: CountClass | None = None
    level: str | None = None
    variant: str | None = None


@dataclass(slots=True)
class _Episode:
    """One episode as the public knows it. All moments are on the monotonic clock."""

    id: str
    latest: Observation
    seen: float  # the moment of `latest`
    began: float = math.inf  # unknown until k people are seen
    ended: float = math.inf
    due: float | None = None  # when to decide what to tell
    onset: float | None = None  # as told by the observation that began it
    onset_error: OnsetError = OnsetError.NONE
    said: _State | None = None  # what was told last; None until the first release
    unpaid: bool = False  # its end waits for bits
    seen_as: tuple[_State, bool] | None = None  # at the end of the last grain: its state, and whether it was over
    same: int = 0  # ends of grains in a row at which it was so
    slots: set[int] = field(default_factory=set)

    @property
    def over(self) -> bool:
        return self.ended < math.inf


class Gate:
    """Decides what of sense's observations becomes an event, and when."""

    def __init__(
        self,
        settings: Settings,
        policy: Policy,
        *,
        now: Callable[[], float],
        wall: Callable[[], dt.datetime],
        synced: Callable[[], bool],
        clock_error: Callable[[], float | None] = lambda: None,
    ) -> None:
        """A gate that knows no episode.

        Args:
            settings: Names of zones and cameras, and the bounds of the pipe.
            policy: What may be detected, and how much of it may leave.
            now: Monotonic time, seconds.
            wall: UTC, aware.
            synced: Whether the wall clock is synchronised.
            clock_error: How far off it may be, seconds; None: unknown.

        Raises:
            PolicyError: the policy allows too few bits.
        """
        self._zones = [(zone.name, index) for index, camera in enumerate(settings.cameras) for zone in camera.zones]
        self._cameras = [camera.name for camera in settings.cameras]
        self._policy = policy
        self._now = now
        self._wall = wall
        self._synced = synced
        self._clock_error = clock_error
        self._bucket = TokenBucket(settings.pipe.max_rate, settings.pipe.max_burst, now)
        self.capacity = capacity(settings, policy)
        """The bound that this gate keeps."""
        first = self.capacity.reserve + _FIRST_MIN * self.capacity.rate
        self._bits = TokenBucket(self.capacity.rate / 60, self.capacity.depth, now, first=first)
        self._cost = self.capacity.cost
        self._counts: Counter[str] = Counter()
        self._slots: dict[int, _Key] = {}
        self._episodes: dict[_Key, _Episode] = {}

    @property
    def counters(self) -> dict[str, int]:
        """What did not leave, since the start of the process.

        `dropped.rate`, `.malformed`, `.place` (a zone or camera that is not configured), `.order` (an end of what never
        began), `.full`, `.policy`; `lost.ended` (a slot began anew, so an end never came); `suppressed.k`, `.bits`,
        `.short` (a zone that was over before it held);
        and `shadow.<type>`.
        """
        return dict(self._counts)

    def succeed(self, before: Gate) -> None:
        """Go on with the counters and the buckets of the gate before: another configuration brings no new burst."""
        self._counts, self._bits, self._bucket = before._counts, before._bits, before._bucket

    def take(self, message: bytes, waited_s: float = 0.0) -> Observation | None:
        """Let one message in.

        Args:
            message: The raw packet.
            waited_s: For how long it has waited for this, seconds; its ages count from before.

        Returns:
            Health and replies, which are for the process; None for an episode, and for what was dropped.
        """
        if not self._bucket.take():
            self._counts["dropped.rate"] += 1
            return None
        try:
            observation = Observation.unpack(message)
        except ContractError:
            self._counts["dropped.malformed"] += 1
            return None
        if observation.kind is not Kind.EPISODE:
            return observation
        key = self._key(observation)
        if key is None:
            self._counts["dropped.place"] += 1
        else:
            self._follow(observation, key, self._now() - waited_s)
        return None

    def next_due(self) -> float | None:
        """When `due` will next have something to decide, on the monotonic clock; None if nothing waits."""
        return min((e.due for e in self._episodes.values() if e.due is not None), default=None)

    def pay(self, bits: float) -> bool:
        """Spend bits on something that is no alarm; False, and it must not leave, when too few are left."""
        return self._bits.take(bits, keep=self.capacity.reserve)

    def due(self) -> list[Release]:
        """What leaves now."""
        return self._settle_until(self._now())

    def people(self, zone: str) -> int | None:
        """How many `crowd.density` saw last in a zone of which its events say that it has k; None of any other."""
        episode = self._episodes.get(_Key(EventType.CROWD_DENSITY, zone, None))
        if episode is None or episode.over or episode.said is None or episode.said.count == "<k":
            return None
        return 0 if episode.latest.count == NO_COUNT else episode.latest.count

    def flush(self) -> list[Release]:
        """What waits for the end of its grain, at once: relay stops. The stamps keep their grain."""
        # Twice, since a short episode of a crowd type is two events; what cannot be paid for is lost.
        return self._settle_until(math.inf) + self._settle_until(math.inf)

    def sense_restarted(self) -> None:
        """Forget the slots of the sense that is gone; what was told to have started is told to have ended."""
        for slot in list(self._slots):
            self._close(slot, self._now())

    def _key(self, observation: Observation) -> _Key | None:
        """Whose episode it is; None where the place is not configured."""
        assert observation.type is not None  # noqa: S101 - the contract says so of episodes
        zone, camera = observation.zone, observation.camera
        if camera != NO_CAMERA and camera >= len(self._cameras):
            return None
        if zone == NO_ZONE:
            return _Key(observation.type, None, None if camera == NO_CAMERA else self._cameras[camera])
        if zone >= len(self._zones) or camera not in {NO_CAMERA, self._zones[zone][1]}:
            return None
        return _Key(observation.type, self._zones[zone][0], None)

    def _follow(self, observation: Observation, key: _Key, sent: float) -> None:
        slot = observation.slot
        moment = sent - observation.age_ms / 1000
        known = self._slots.get(slot)
        if observation.phase is Phase.ENDED:
            if known == key:
                self._close(slot, moment)
            else:
                self._counts["dropped.order"] += 1
            return
        if known is not None and (known != key or observation.phase is Phase.STARTED):
            self._counts["lost.ended"] += 1
            self._close(slot, moment)
        episode = self._episodes.get(key)
        if episode is not None and episode.said and episode.over and key.type in ALARMS:
            episode = None  # a new danger is news; it must not become a part of the last one, whose end waits
        if episode is None:
            if len(self._episodes) >= MAX_EPISODES:
                self._counts["dropped.full"] += 1
                return
            episode = self._episodes[key] = _Episode(self._new_id(), observation, moment)
            if observation.onset_age != NO_ONSET:
                episode.onset = sent - observation.onset_age / 1e4
                episode.onset_error = observation.onset_error
        self._slots[slot] = key
        episode.slots.add(slot)
        episode.latest = observation
        episode.seen = moment
        episode.began = min(episode.began, moment)
        episode.ended = math.inf
        self._schedule(key, episode)

    def _close(self, slot: int, moment: float) -> None:
        key = self._slots.pop(slot)
        episode = self._episodes[key]
        episode.slots.remove(slot)
        if episode.slots:
            return
        episode.ended = max(moment, episode.seen)
        if episode.due is None and (episode.said is None or key.type in PERSON_TYPES):
            del self._episodes[key]  # there is nothing more to tell
        else:
            self._schedule(key, episode)

    def _new_id(self) -> str:
        taken = {episode.id for episode in self._episodes.values()}
        while (new := secrets.token_hex(2)) in taken:
            pass
        return new

    def _schedule(self, key: _Key, episode: _Episode) -> None:
        if episode.due is None:
            tick = self._policy.gate.tick_of(key.type)
            if episode.unpaid:
                tick = max(tick, _RETRY_S)
            wait = tick - self._wall().timestamp() % tick
            if wait < min(_EDGE_S, _EDGE * tick):
                wait += tick
            episode.due = self._now() + wait

    def _settle_until(self, moment: float) -> list[Release]:
        """Decide on all that is due, in the order of type and place: the order of arrival would say something."""
        ready = [(key, e) for key, e in self._episodes.items() if e.due is not None and e.due <= moment]
        # What has ended first, so that its end does not wait for bits that beginnings take.
        ready.sort(key=lambda i: (i[1].said is None or not i[1].over, i[0].type, i[0].zone or "", i[0].camera or ""))
        releases = (self._settle(key, episode) for key, episode in ready)
        return [release for release in releases if release is not None]

    def _settle(self, key: _Key, episode: _Episode) -> Release | None:
        """Tell what is new of an episode, and forget it when it is over and told."""
        episode.due, episode.unpaid = None, False
        if key.type is EventType.CROWD_DENSITY and not self._holds(key, episode):
            return None
        started = episode.said is None
        release = None
        if started:
            release = self._tell(key, episode, Phase.STARTED)
        elif key.type not in PERSON_TYPES:
            if episode.over:
                release = self._tell(key, episode, Phase.ENDED)
            elif self._state(key, episode) != episode.said:
                release = self._tell(key, episode, Phase.ONGOING)
        if episode.over:
            first_of_two = started and episode.said is not None and key.type in CROWD_TYPES
            if first_of_two or episode.unpaid:
                self._schedule(key, episode)
            else:
                del self._episodes[key]
        return release

    def _holds(self, key: _Key, episode: _Episode) -> bool:
        """Whether the zone was the same at so many ends of grains; if not, it is looked at again at the next one."""
        now = (self._state(key, episode), episode.over)
        episode.same = episode.same + 1 if episode.seen_as == now else 1
        episode.seen_as = now
        if episode.same >= self._policy.gate.density_grains:
            return True
        if episode.over and episode.said is None:
            self._counts["suppressed.short"] += 1
            del self._episodes[key]
        else:
            self._schedule(key, episode)
        return False

    def _state(self, key: _Key, episode: _Episode) -> _State:
        if key.type not in CROWD_TYPES:
            return _State()
        latest = episode.latest
        people = 0 if latest.count == NO_COUNT else latest.count
        count = count_class(people, self._policy.gate.k, episode.said.count if episode.said else None)
        if count == "<k":
            return _State(count)
        level = None if latest.level is Level.NONE else latest.level.name.lower()
        variant = None if latest.variant is Variant.NONE else latest.variant.name.lower()
        return _State(count, level, variant)

    def _tell(self, key: _Key, episode: _Episode, phase: Phase) -> Release | None:
        entry = self._policy.entry(key.type, key.zone, local_day(self._wall()))
        if isinstance(entry, str):
            self._counts["dropped.policy"] += 1
            return None
        state = self._state(key, episode)
        if phase is Phase.STARTED and state.count == "<k":
            self._counts["suppressed.k"] += 1
            episode.began = math.inf
            return None
        if entry.mode == "shadow":
            episode.said = state
            self._counts[f"shadow.{key.type.label}"] += 1
            return None
        reserve = 0.0 if key.type in ALARMS else self.capacity.reserve
        if not self._bits.take(self._cost[key.type], keep=reserve):
            episode.unpaid = phase is Phase.ENDED
            self._counts["suppressed.bits"] += not episode.unpaid
            return None
        episode.said = state

        ends_later = phase is Phase.STARTED and key.type in CROWD_TYPES
        at = {Phase.STARTED: episode.began, Phase.ONGOING: episode.seen, Phase.ENDED: episode.ended}[phase]
        now, wall, synced = self._now(), self._wall().timestamp(), self._synced()
        moment = Moment(
            max(at, now - MAX_AGE_MS / 1000),
            self._policy.gate.grain_of(key.type) or 1,
            # As a stamp, not too far back.
            episode.onset if phase is Phase.STARTED and entry.onset and self._is_recent(episode.onset) else None,
            episode.onset_error / 1000,
        )
        data = EventData.model_validate(
            {
                "episode": episode.id,
                "phase": phase.name.lower(),
                "zone": key.zone,
                "camera": key.camera,
                **({} if phase is Phase.ENDED else asdict(state)),
                "confidence": episode.latest.confidence.name.lower(),
                "duration": duration_class(episode.ended - episode.began) if episode.over and not ends_later else None,
                "evidence": _EVIDENCE.get(episode.latest.evidence),
                **(moment.told_onset(now, wall, self._clock_error()) if synced else {}),
                "clock": "synced" if synced else "unsynced",
                "basis": entry.legal_basis,
            }
        )
        time = moment.time(now, wall)
        return Release(key.type, data, time, key.type in ALARMS, None if synced else moment)

    def _is_recent(self, onset: float | None) -> bool:
        return onset is not None and self._now() - onset <= MAX_AGE_MS / 1000


def utc(timestamp: float) -> str:
    """A moment as RFC 3339, to the second.

    Args:
        timestamp: Seconds since 1970.
    """
    stamp = dt.datetime.fromtimestamp(timestamp, dt.timezone.utc)
    return stamp.isoformat(timespec="seconds").replace("+00:00", "Z")
