"""What leaves the gate, when, and what never does."""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from agent.contract import (
    ALARMS,
    CROWD_TYPES,
    INCIDENTS,
    MAX_AGE_MS,
    MAX_COUNT,
    MAX_SLOTS,
    NO_CAMERA,
    NO_COUNT,
    NO_ONSET,
    NO_ZONE,
    ONSET_TYPES,
    PERSON_TYPES,
    Confidence,
    ControlCode,
    Event,
    EventType,
    Evidence,
    Kind,
    Level,
    Observation,
    OnsetError,
    Phase,
    RateClass,
    ReplyCode,
    SenseState,
)
from agent.policy import Policy
from agent.relay.gate import MAX_EPISODES, Gate, Release
from agent.settings import Settings

SCHEMA = json.loads((Path(__file__).parents[2] / "deploy" / "schemas" / "event.json").read_text())
#: A wall clock on a multiple of every grain.
NOON = dt.datetime(2026, 11, 23, 12, 0, tzinfo=dt.timezone.utc)
QUAY, GATE, YARD = 0, 1, 2


def settings(southern: tuple[str, ...] = ("yard",), **pipe: float) -> Settings:
    polygon = [[0, 0], [1, 0], [1, 1]]
    return Settings.model_validate(
        {
            "pipe": pipe,
            "camera": [
                {
                    "name": "north",
                    "source": "sim:a",
                    "zone": [{"name": n, "polygon": polygon} for n in ("quay", "gate")],
                },
                {"name": "south", "source": "sim:b", "zone": [{"name": n, "polygon": polygon} for n in southern]},
            ],
        }
    )


def policy(
    *,
    mode: str = "on",
    until: str = "2026-12-31",
    types: tuple[EventType, ...] = tuple(EventType),
    onset: bool = False,
    **gate: float,
) -> Policy:
    """Everything is permitted, and of bits there are plenty, where the test is not about them."""
    entries = [
        {
            "type": t.label,
            "mode": mode,
            "purpose": "Safety of the quay",
            "legal_basis": "FR-2026-04/3",
            "body": "City",
            "contact": "dpo@city.example",
            "retention_days": 30,
            "until": until,
            "onset": onset and t in ONSET_TYPES,
            "below_flow": "It saves lives",
        }
        for t in types
    ]
    plenty = {"bits_per_minute": 1e6, "burst_bits": 1e6, "alarm_share": 0.0, "density_grains": 1}
    return Policy.model_validate({"detector": entries, "gate": {**plenty, **gate}})


class Bench:
    """A gate with the clocks in the test's hand."""

    def __init__(self, rules: Policy | None = None, *, wall: dt.datetime = NOON, **settings_: Any) -> None:
        self.elapsed = 0.0
        self.synced = True
        self.clock_error: float | None = None
        self.told: list[tuple[float, Release]] = []
        self._rules = rules or policy()
        self.gate = Gate(
            settings(**settings_),
            self._rules,
            now=lambda: 5000.0 + self.elapsed,
            wall=lambda: wall + dt.timedelta(seconds=self.elapsed),
            synced=lambda: self.synced,
            clock_error=lambda: self.clock_error,
        )

    def see(
        self, event_type: EventType, phase: Phase = Phase.STARTED, *, slot: int = 1, zone: int = QUAY, **more: Any
    ) -> None:
        more.setdefault("evidence", min(INCIDENTS.get(event_type, {Evidence.NONE})))
        observation = Observation(Kind.EPISODE, event_type, phase, zone=zone, slot=slot, **more)
        assert self.gate.take(observation.pack()) is None

    def wait(self, seconds: float) -> list[Release]:
        """Let time pass and collect what the gate lets out, as relay does: it looks whenever something is due."""
        before = len(self.told)
        end = self.elapsed + seconds
        while (due := self.gate.next_due()) is not None and due - 5000 <= end:
            self.elapsed = max(self.elapsed, due - 5000)
            self.told += [(self.elapsed, release) for release in self.gate.due()]
        self.elapsed = end
        return [release for _, release in self.told[before:]]


def phases(releases: list[Release]) -> list[str]:
    return [release.data.phase for release in releases]


def test_an_alarm_goes_at_the_next_tenth_of_a_second_stamped_to_the_second() -> None:
    bench = Bench(wall=NOON + dt.timedelta(seconds=7.84))
    bench.see(EventType.SOUND_GUNSHOT, age_ms=1500)
    assert bench.wait(0.05) == []
    (release,) = bench.wait(0.02)
    assert release.alarm
    assert release.time == "2026-11-23T12:00:06Z"
    assert (release.data.phase, release.data.zone, release.data.basis) == ("started", "quay", "FR-2026-04/3")


def test_other_types_leave_at_the_end_of_their_grain_stamped_with_its_beginning() -> None:
    bench = Bench(wall=NOON + dt.timedelta(seconds=13))
    bench.see(EventType.ZONE_INTRUSION)
    assert bench.wait(6.9) == []
    (release,) = bench.wait(0.2)
    assert not release.alarm
    assert release.time == "2026-11-23T12:00:10Z"


def test_crowd_types_have_the_long_grain() -> None:
    bench = Bench(wall=NOON + dt.timedelta(seconds=50))
    bench.see(EventType.CROWD_GATHERING, count=22)
    assert bench.wait(9.9) == []
    (release,) = bench.wait(0.2)
    assert release.time == "2026-11-23T12:00:00Z"
    assert release.data.count == "20-49"


def test_what_comes_a_moment_before_the_end_of_a_grain_waits_for_the_next() -> None:
    bench = Bench(wall=NOON + dt.timedelta(seconds=9.95))
    bench.see(EventType.ZONE_INTRUSION)
    assert bench.wait(10) == []
    (release,) = bench.wait(0.1)
    assert release.time == "2026-11-23T12:00:00Z"


def test_the_age_of_an_observation_sets_its_stamp_and_not_its_release() -> None:
    bench = Bench(wall=NOON + dt.timedelta(seconds=3))
    bench.see(EventType.SOUND_SIREN, age_ms=25_000)
    (release,) = bench.wait(7)
    assert release.time == "2026-11-23T11:59:30Z"


def test_the_order_of_release_within_a_grain_is_not_the_order_of_arrival() -> None:
    there, back = Bench(), Bench()
    for bench, zones in ((there, (QUAY, GATE, YARD)), (back, (YARD, GATE, QUAY))):
        for slot, zone in enumerate(zones):
            bench.see(EventType.ZONE_INTRUSION, slot=slot, zone=zone)
    assert [r.data.zone for r in there.wait(10)] == [r.data.zone for r in back.wait(10)]


def test_what_several_persons_do_in_a_zone_within_a_grain_is_one_event() -> None:
    bench = Bench()
    for slot in range(5):
        bench.see(EventType.PERSON_LOITERING, slot=slot)
    assert phases(bench.wait(10)) == ["started"]


def test_person_types_say_started_only() -> None:
    bench = Bench()
    bench.see(EventType.PERSON_LOITERING)
    told = bench.wait(15)
    bench.see(EventType.PERSON_LOITERING, Phase.ONGOING)
    told += bench.wait(60)
    bench.see(EventType.PERSON_LOITERING, Phase.ENDED)
    told += bench.wait(60)
    assert [(r.data.phase, r.data.duration) for r in told] == [("started", None)]


def test_a_person_event_carries_its_duration_where_it_is_over_in_time() -> None:
    bench = Bench()
    bench.see(EventType.ZONE_INTRUSION)
    assert bench.wait(4) == []
    bench.see(EventType.ZONE_INTRUSION, Phase.ENDED)
    assert [(r.data.phase, r.data.duration) for r in bench.wait(30)] == [("started", "<10s")]


def test_a_short_episode_is_one_event_and_a_long_one_two() -> None:
    bench = Bench()
    bench.see(EventType.SOUND_SIREN)
    bench.see(EventType.SOUND_SIREN, Phase.ENDED)
    assert [(r.data.phase, r.data.duration) for r in bench.wait(30)] == [("started", "<10s")]
    bench.see(EventType.SOUND_SIREN)
    told = bench.wait(75)
    bench.see(EventType.SOUND_SIREN, Phase.ENDED)
    told += bench.wait(30)
    assert [(r.data.phase, r.data.duration) for r in told] == [("started", None), ("ended", "1-5min")]
    assert told[0].data.episode == told[1].data.episode


def test_a_short_crowd_episode_ends_in_the_following_grain() -> None:
    bench = Bench()
    bench.see(EventType.CROWD_GATHERING, count=30)
    assert bench.wait(20) == []
    bench.see(EventType.CROWD_GATHERING, Phase.ENDED, count=30)
    (started,) = bench.wait(60)
    (ended,) = bench.wait(60)
    assert (started.data.phase, started.data.count, started.data.duration) == ("started", "20-49", None)
    assert (ended.data.phase, ended.data.count, ended.data.duration) == ("ended", None, "<1min")


def test_an_ongoing_that_says_nothing_new_is_not_sent() -> None:
    bench = Bench()
    bench.see(EventType.CROWD_DENSITY, count=12, level=Level.MEDIUM)
    assert phases(bench.wait(60)) == ["started"]
    bench.see(EventType.CROWD_DENSITY, Phase.ONGOING, count=14, level=Level.MEDIUM)
    assert bench.wait(60) == []
    bench.see(EventType.CROWD_DENSITY, Phase.ONGOING, count=60, level=Level.CRITICAL)
    bench.see(EventType.CROWD_DENSITY, Phase.ONGOING, count=40, level=Level.HIGH)
    (latest,) = bench.wait(60)
    assert (latest.data.phase, latest.data.level, latest.data.count) == ("ongoing", "high", "20-49")


def test_a_count_at_the_edge_of_two_classes_makes_no_events() -> None:
    bench = Bench()
    bench.see(EventType.CROWD_GATHERING, count=19)
    told = bench.wait(60)
    for count in (20, 19, 20, 21, 19):
        bench.see(EventType.CROWD_GATHERING, Phase.ONGOING, count=count)
        told += bench.wait(60)
    assert phases(told) == ["started"]


@pytest.mark.parametrize("event_type", sorted(CROWD_TYPES))
@pytest.mark.parametrize("count", [0, 4, NO_COUNT])
def test_fewer_than_k_people_are_no_crowd(event_type: EventType, count: int) -> None:
    bench = Bench()
    bench.see(event_type, count=count, level=Level.LOW)
    bench.see(event_type, Phase.ENDED)
    assert bench.wait(300) == []
    assert bench.gate.counters == {"suppressed.k": 1}


def test_a_crowd_begins_when_it_has_k_people_and_below_k_only_that_is_said() -> None:
    bench = Bench()
    bench.see(EventType.CROWD_DENSITY, count=3, level=Level.LOW)
    assert bench.wait(600) == []
    bench.see(EventType.CROWD_DENSITY, Phase.ONGOING, count=8, level=Level.MEDIUM)
    (started,) = bench.wait(60)
    assert (started.data.phase, started.time, started.data.count) == ("started", "2026-11-23T12:10:00Z", "5-9")
    bench.see(EventType.CROWD_DENSITY, Phase.ONGOING, count=1, level=Level.LOW)
    (fewer,) = bench.wait(60)
    assert (fewer.data.phase, fewer.data.count, fewer.data.level) == ("ongoing", "<k", None)
    bench.see(EventType.CROWD_DENSITY, Phase.ONGOING, count=0, level=Level.FREE)
    assert bench.wait(60) == []
    bench.see(EventType.CROWD_DENSITY, Phase.ENDED)
    (ended,) = bench.wait(60)
    assert (ended.data.phase, ended.data.duration) == ("ended", "1-5min")


def test_who_only_passes_does_not_change_what_is_told_of_a_zone() -> None:
    bench = Bench(policy(density_grains=2))
    bench.see(EventType.CROWD_DENSITY, count=7, level=Level.MEDIUM)
    assert bench.wait(60) == []
    bench.see(EventType.CROWD_DENSITY, Phase.ONGOING, count=3, level=Level.LOW)
    assert bench.wait(120) == []
    bench.see(EventType.CROWD_DENSITY, Phase.ONGOING, count=7, level=Level.MEDIUM)
    assert bench.wait(60) == []
    assert phases(bench.wait(60)) == ["started"]
    bench.see(EventType.CROWD_DENSITY, Phase.ONGOING, count=3, level=Level.LOW)
    assert bench.wait(60) == []
    bench.see(EventType.CROWD_DENSITY, Phase.ONGOING, count=7, level=Level.MEDIUM)
    assert bench.wait(300) == []
    bench.see(EventType.CROWD_DENSITY, Phase.ENDED)
    assert bench.wait(60) == []
    assert phases(bench.wait(60)) == ["ended"]
    assert bench.gate.next_due() is None


def test_a_crowd_that_is_over_before_it_held_is_not_told() -> None:
    bench = Bench(policy(density_grains=2))
    bench.see(EventType.CROWD_DENSITY, count=7, level=Level.MEDIUM)
    bench.wait(60)
    bench.see(EventType.CROWD_DENSITY, Phase.ENDED)
    assert bench.wait(300) == []
    assert bench.gate.counters == {"suppressed.short": 1}
    assert bench.gate.next_due() is None


def test_shadow_is_counted_and_never_sent() -> None:
    bench = Bench(policy(mode="shadow"))
    bench.see(EventType.CROWD_GATHERING, count=50)
    bench.see(EventType.SOUND_GUNSHOT, slot=2)
    assert bench.wait(600) == []
    assert bench.gate.counters == {"shadow.crowd.gathering": 1, "shadow.sound.gunshot": 1}


def test_what_the_policy_does_not_name_is_dropped() -> None:
    bench = Bench(policy(types=(EventType.SOUND_HORN,)))
    bench.see(EventType.ZONE_INTRUSION)
    bench.see(EventType.PERSON_DOWN, slot=2)
    assert bench.wait(60) == []
    assert bench.gate.counters == {"dropped.policy": 2}


def test_a_permission_ends_at_local_midnight_even_for_what_waits() -> None:
    bench = Bench(policy(until="2026-11-23"), wall=dt.datetime(2026, 11, 23, 23, 59, 45).astimezone())
    bench.see(EventType.ZONE_INTRUSION)
    assert phases(bench.wait(6)) == ["started"]
    bench.see(EventType.ZONE_INTRUSION, slot=2, zone=GATE)
    assert bench.wait(30) == []
    assert bench.gate.counters == {"dropped.policy": 1}


def test_every_event_says_whether_its_clock_is_synchronised() -> None:
    bench = Bench()
    bench.synced = False
    bench.see(EventType.SOUND_SCREAM)
    (release,) = bench.wait(0.2)
    assert release.data.clock == "unsynced"
    assert release.moment is not None
    assert release.moment.at == 5000.0, "the moment on the monotonic clock, by which its time is set right later"


def test_a_clock_that_is_not_set_or_bad_tells_no_onset_and_a_good_one_adds_its_error() -> None:
    for error_s, synced, told in ((0.0, True, "2ms"), (0.002, True, "5ms"), (0.06, True, None), (0.0, False, None)):
        bench = Bench(policy(onset=True))
        bench.clock_error, bench.synced = error_s, synced
        bench.see(EventType.SOUND_GUNSHOT, **SHOT)
        (release,) = bench.wait(0.2)
        assert release.data.onset_error == told
        assert (release.moment is not None and release.moment.onset is not None) == (not synced)


def test_an_episode_that_a_restarted_relay_does_not_know_starts_now() -> None:
    bench = Bench()
    bench.see(EventType.CROWD_GATHERING, Phase.ONGOING, count=30)
    assert phases(bench.wait(60)) == ["started"]


def test_the_end_of_what_never_began_is_ignored_and_counted() -> None:
    bench = Bench()
    bench.see(EventType.SOUND_SIREN, Phase.ENDED)
    assert bench.wait(60) == []
    assert bench.gate.counters == {"dropped.order": 1}


def test_a_slot_that_begins_anew_ends_what_it_had() -> None:
    bench = Bench()
    bench.see(EventType.SOUND_SIREN)
    told = bench.wait(60)
    bench.see(EventType.ZONE_INTRUSION)
    told += bench.wait(60)
    assert [(r.event_type, r.data.phase) for r in told] == [
        (EventType.SOUND_SIREN, "started"),
        (EventType.SOUND_SIREN, "ended"),
        (EventType.ZONE_INTRUSION, "started"),
    ]
    assert bench.gate.counters == {"lost.ended": 1}


def test_a_new_danger_is_told_even_while_the_last_one_ends() -> None:
    bench = Bench()
    told = []
    for _ in range(3):
        bench.see(EventType.SOUND_GUNSHOT)
        told += bench.wait(0.15)
        bench.see(EventType.SOUND_GUNSHOT, Phase.ENDED)
    assert phases(told) == ["started"] * 3


def test_a_restarted_sense_ends_what_was_told_and_frees_its_slots() -> None:
    bench = Bench()
    bench.see(EventType.SOUND_SIREN)
    bench.see(EventType.PERSON_LOITERING, slot=2)
    assert phases(bench.wait(10)) == ["started", "started"]
    bench.gate.sense_restarted()
    bench.see(EventType.CROWD_GATHERING, slot=2, count=30)
    assert [(r.event_type, r.data.phase) for r in bench.wait(60)] == [
        (EventType.SOUND_SIREN, "ended"),
        (EventType.CROWD_GATHERING, "started"),
    ]
    assert bench.gate.counters == {}


def test_stopping_releases_what_waits() -> None:
    bench = Bench()
    bench.see(EventType.CROWD_GATHERING, count=30)
    bench.see(EventType.CROWD_GATHERING, Phase.ENDED)
    bench.see(EventType.ZONE_INTRUSION, slot=2)
    assert Counter(phases(bench.gate.flush())) == {"started": 2, "ended": 1}
    assert bench.gate.next_due() is None
    assert bench.gate.flush() == []


@pytest.mark.parametrize("place", [{"zone": 3}, {"zone": QUAY, "camera": 1}, {"zone": NO_ZONE, "camera": 2}])
def test_a_place_that_is_not_configured_is_dropped(place: dict[str, Any]) -> None:
    bench = Bench()
    bench.see(EventType.CAMERA_TAMPERED, **place)
    assert bench.wait(60) == []
    assert bench.gate.counters == {"dropped.place": 1}


def test_an_event_names_its_zone_or_else_its_camera_or_else_the_device() -> None:
    bench = Bench()
    bench.see(EventType.CAMERA_TAMPERED, zone=NO_ZONE, camera=1, slot=1)
    bench.see(EventType.CAMERA_TAMPERED, zone=YARD, camera=1, slot=2)
    bench.see(EventType.SOUND_SIREN, zone=NO_ZONE, slot=3)
    places = {(r.data.camera, r.data.zone) for r in bench.wait(10)}
    assert places == {("south", None), (None, "yard"), (None, None)}


SHOT: dict[str, Any] = {"zone": NO_ZONE, "age_ms": 800, "onset_age": 12_345, "onset_error": OnsetError.MS_2}


def test_a_shot_tells_when_it_began_where_the_policy_allows_it() -> None:
    bench = Bench(policy(onset=True), wall=NOON + dt.timedelta(seconds=30))
    bench.see(EventType.SOUND_GUNSHOT, **SHOT)
    bench.see(EventType.SOUND_GUNSHOT, Phase.ENDED, **{**SHOT, "onset_age": NO_ONSET, "onset_error": OnsetError.NONE})
    first, *later = bench.wait(20)
    assert first.data.onset == "2026-11-23T12:00:28.7655Z"
    assert first.data.onset_error == "2ms"
    assert all(release.data.onset is None for release in later)
    assert json.loads(first.data.model_dump_json())["onset"] == first.data.onset


def test_the_time_that_it_waited_in_the_pipe_is_a_part_of_its_age() -> None:
    bench = Bench(policy(onset=True), wall=NOON + dt.timedelta(seconds=30))
    observation = Observation(Kind.EPISODE, EventType.SOUND_GUNSHOT, Phase.STARTED, slot=1, **SHOT)
    bench.gate.take(observation.pack(), 0.25)
    assert [release.data.onset for release in bench.wait(1)] == ["2026-11-23T12:00:28.5155Z"]


def test_no_onset_leaves_where_the_policy_does_not_say_so() -> None:
    bench = Bench()
    bench.see(EventType.SOUND_GUNSHOT, **SHOT)
    assert [(r.data.onset, r.data.onset_error) for r in bench.wait(1)] == [(None, None)]


def test_an_incident_names_its_evidence() -> None:
    bench = Bench()
    bench.see(EventType.INCIDENT_PANIC, evidence=Evidence.GUNSHOT_DISPERSAL)
    assert [release.data.evidence for release in bench.wait(1)] == ["gunshot+dispersal"]


def test_health_and_replies_are_for_the_process() -> None:
    bench = Bench()
    health = Observation(Kind.HEALTH, sense=SenseState.READY, rate=RateClass.FULL)
    reply = Observation(Kind.REPLY, control=ControlCode.PAUSE, reply=ReplyCode.DONE)
    assert bench.gate.take(health.pack()) == health
    assert bench.gate.take(reply.pack()) == reply


def test_a_flood_is_cut_to_the_bounded_rate() -> None:
    bench = Bench(max_rate=2, max_burst=10)
    health = Observation(Kind.HEALTH, sense=SenseState.READY).pack()
    assert sum(bench.gate.take(health) is not None for _ in range(100)) == 10
    assert bench.gate.counters == {"dropped.rate": 90}
    bench.elapsed = 3
    assert sum(bench.gate.take(health) is not None for _ in range(100)) == 6


def test_what_waits_for_its_grain_is_bounded() -> None:
    bench = Bench(southern=tuple(f"yard-{i}" for i in range(62)), max_burst=1000)
    types = (EventType.ZONE_INTRUSION, EventType.PERSON_LOITERING, EventType.SOUND_SIREN)
    places = [(event_type, zone) for event_type in types for zone in range(64)]
    for event_type, zone in places:
        bench.see(event_type, zone=zone)
        if bench.gate.counters.get("dropped.full", 0) == 0:
            bench.see(event_type, Phase.ENDED, zone=zone)
    assert bench.gate.counters == {"dropped.full": len(places) - MAX_EPISODES}
    assert len(bench.wait(10)) == MAX_EPISODES


def test_episode_ids_are_random_and_unique_among_the_open_ones() -> None:
    bench = Bench()
    types = [t for t in EventType if t not in CROWD_TYPES][:20]
    for slot, (event_type, zone) in enumerate([(t, z) for t in types for z in (QUAY, GATE, YARD)]):
        bench.see(event_type, slot=slot, zone=zone)
    ids = [release.data.episode for release in bench.wait(10)]
    assert len(set(ids)) == len(ids) == 60


def test_no_stamp_lies_more_than_ten_minutes_back() -> None:
    bench = Bench()
    bench.see(EventType.SOUND_SIREN, age_ms=MAX_AGE_MS)
    (release,) = bench.wait(10)
    assert release.time == "2026-11-23T11:50:10Z"


def test_what_the_bits_do_not_cover_is_suppressed_and_counted_and_alarms_have_a_reserve() -> None:
    bench = Bench(policy(bits_per_minute=20, burst_bits=220, alarm_share=0.5))
    zones, told = (QUAY, GATE, YARD), []
    for slot, (event_type, zone) in enumerate((t, z) for t in sorted(PERSON_TYPES - ALARMS) for z in zones):
        bench.see(event_type, slot=slot, zone=zone)
    told = bench.wait(10)
    assert len(told) == 0, "a gate begins with the reserve of alarms and the bits of a minute"
    assert bench.gate.counters == {"suppressed.bits": 27}
    for zone in zones:
        bench.see(EventType.SOUND_GUNSHOT, slot=60 + zone, zone=zone)
    assert phases(bench.wait(1)) == ["started"] * 3


def test_the_end_of_a_told_episode_waits_for_bits() -> None:
    bench = Bench(policy(bits_per_minute=40, burst_bits=200, alarm_share=0.0))
    zones = (QUAY, GATE, YARD)
    bench.wait(600)
    for slot, zone in enumerate(zones * 2):
        bench.see((EventType.SOUND_SIREN, EventType.SOUND_HORN)[slot // 3], slot=slot, zone=zone)
    told = bench.wait(10)
    for slot, zone in enumerate(zones * 2):
        bench.see((EventType.SOUND_SIREN, EventType.SOUND_HORN)[slot // 3], Phase.ENDED, slot=slot, zone=zone)
    soon, later = bench.wait(10), bench.wait(600)
    assert Counter(phases(told)) == {"started": 6}
    assert len(soon) < 6
    assert Counter(phases(soon + later)) == {"ended": 6}
    assert bench.gate.next_due() is None


def test_a_type_that_one_person_can_start_is_not_told_where_few_pass() -> None:
    rules = policy(types=(EventType.PERSON_RUNNING, EventType.SOUND_SIREN))
    alone = Policy.model_validate(
        {"detector": [{**d.model_dump(mode="json"), "below_flow": None, "flow_per_min": 3} for d in rules.detectors]}
    )
    bench = Bench(alone)
    bench.see(EventType.PERSON_RUNNING)
    bench.see(EventType.SOUND_SIREN, slot=2)
    assert [release.event_type for release in bench.wait(20)] == [EventType.SOUND_SIREN]
    assert bench.gate.counters == {"dropped.policy": 1}


PLACES = st.fixed_dictionaries(
    {"zone": st.sampled_from([0, 1, 2, 3, NO_ZONE]), "camera": st.sampled_from([0, 1, 2, NO_CAMERA])}
)


@st.composite
def episodes(draw: Callable[[st.SearchStrategy[Any]], Any]) -> Observation:
    """Any valid episode observation."""
    event_type = draw(st.sampled_from(EventType))
    crowd = event_type in CROWD_TYPES
    return Observation(
        Kind.EPISODE,
        event_type,
        draw(st.sampled_from([Phase.STARTED, Phase.ONGOING, Phase.ENDED])),
        slot=draw(st.integers(0, MAX_SLOTS - 1)),
        level=draw(st.sampled_from(Level)) if crowd else Level.NONE,
        confidence=draw(st.sampled_from(Confidence)),
        count=draw(st.integers(0, MAX_COUNT) | st.just(NO_COUNT)) if crowd else NO_COUNT,
        age_ms=draw(st.integers(0, MAX_AGE_MS)),
        evidence=draw(st.sampled_from(sorted(INCIDENTS.get(event_type, {Evidence.NONE})))),
        **draw(PLACES),
    )


@st.composite
def runs_of_one_slot(draw: Callable[[st.SearchStrategy[Any]], Any]) -> list[Observation]:
    """A whole life, so that the machine is taken further than by single messages."""
    first: Observation = draw(episodes())
    return [replace(first, phase=phase) for phase in (Phase.STARTED, Phase.ONGOING, Phase.ENDED)]


MESSAGES = st.lists(
    st.one_of(
        episodes().map(lambda o: [o.pack()]),
        runs_of_one_slot().map(lambda run: [o.pack() for o in run]),
        st.binary(max_size=40).map(lambda raw: [raw]),
        st.binary(min_size=32, max_size=32).map(lambda raw: [raw]),
    ),
    max_size=80,
)


@hypothesis_settings(max_examples=150, deadline=None)
@given(MESSAGES, st.lists(st.floats(0, 90), max_size=80), st.sampled_from([None, 20, 50]))
def test_a_hostile_sense_gets_no_more_than_bounded_valid_events(
    messages: list[list[bytes]], gaps: list[float], restart_at: int | None
) -> None:
    bench = Bench(max_rate=5, max_burst=20)
    accepted = 0
    for index, batch in enumerate(messages):
        for message in batch:
            dropped = bench.gate.counters.get("dropped.rate", 0)
            bench.gate.take(message)
            accepted += bench.gate.counters.get("dropped.rate", 0) == dropped
        if index == restart_at:
            bench.gate.sense_restarted()
        assert len(bench.gate._slots) <= MAX_SLOTS
        assert len(bench.gate._episodes) <= MAX_EPISODES
        assert {key for key, e in bench.gate._episodes.items() if e.slots} == set(bench.gate._slots.values())
        bench.wait(gaps[index] if index < len(gaps) else 0.0)
    bench.wait(180)

    assert len(bench.told) <= 2 * accepted
    grains: Counter[object] = Counter()
    for at, release in bench.told:
        check(release)
        if release.event_type not in ALARMS:
            grain = 60 if release.event_type in CROWD_TYPES else 10
            assert at / grain == pytest.approx(round(at / grain), abs=1e-5)
            grains[release.event_type, release.data.zone, release.data.camera, round(at / grain)] += 1
    assert set(grains.values()) <= {1}
    assert bench.gate.next_due() is None
    assert all(episode.slots for episode in bench.gate._episodes.values())


def check(release: Release) -> None:
    """A release is a valid event, by the contract and by the published schema, and keeps the gate's own rules."""
    event = Event(
        id="5f3a9c01-000123",
        source="/vigie/old-port/cam-07",
        type=f"vigie.{release.event_type.label}.v1",
        time=release.time,
        data=release.data,
    )
    jsonschema.validate(json.loads(event.to_json()), SCHEMA)
    assert release.data.onset is None
    if release.event_type in PERSON_TYPES:
        assert release.data.phase == "started"
    if release.data.count == "<k":
        assert release.data.phase == "ongoing"
        assert release.data.level is None
        assert release.data.variant is None
