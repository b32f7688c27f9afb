"""The bound on what can leave: how it is made up, and that a flood stays below it."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Hashable

import pytest

from agent.contract import (
    ALARMS,
    CROWD_TYPES,
    INCIDENTS,
    MAX_AGE_MS,
    MAX_COUNT,
    MAX_ONSET_AGE,
    MAX_SLOTS,
    NO_COUNT,
    NO_ONSET,
    NO_ZONE,
    ONSET_TYPES,
    Confidence,
    Event,
    EventData,
    EventType,
    Evidence,
    Kind,
    Level,
    Observation,
    OnsetError,
    Phase,
    Variant,
)
from agent.policy import GatePolicy, PolicyError
from agent.relay.budget import Budget
from agent.relay.capacity import capacity
from agent.relay.counts import Counts, exact
from tests.relay.test_gate import Bench, policy, settings

DEFAULT = {name: GatePolicy().model_dump()[name] for name in ("bits_per_minute", "burst_bits", "alarm_share")}


def test_the_default_policy_lets_400_bits_a_minute_leave_and_4000_at_once() -> None:
    bound = capacity(settings(), policy(**DEFAULT))
    assert bound.per_minute == pytest.approx(400)
    assert bound.burst == pytest.approx(4000)
    assert 60 * (sum(bound.fixed.values()) + bound.rate) + bound.depth == pytest.approx(60 * 400)


def test_every_field_of_an_event_is_accounted_for() -> None:
    named = {name for name in Event.model_fields if name != "data"} | {
        f"data.{name}" for name in EventData.model_fields
    }
    for event_type in capacity(settings(), policy()).types:
        assert {field.name for field in event_type.fields} == named


def test_an_event_costs_at_least_what_its_fields_can_say_together() -> None:
    """By counting: all that an alarm can say, told from all else that could leave in that tenth of a second."""
    bound = capacity(settings(), policy(types=(EventType.SOUND_GUNSHOT, EventType.SOUND_SCREAM)))
    says = 4 * (1 + 6) + 4 * 6  # a start with or without its duration, an end with it; four steps of confidence
    places = 2 * (3 + 2 + 1)  # three zones, two cameras, the device, of two types
    assert bound.cost[EventType.SOUND_GUNSHOT] == pytest.approx(math.log2(says * 601 * places) + math.log2(601))


def test_a_policy_that_allows_less_narrows_the_bound() -> None:
    all_types = capacity(settings(), policy()).cost
    one = capacity(settings(), policy(types=(EventType.ZONE_INTRUSION,))).cost
    assert set(one) == {EventType.ZONE_INTRUSION}
    assert one[EventType.ZONE_INTRUSION] < all_types[EventType.ZONE_INTRUSION]
    assert capacity(settings(), policy(mode="shadow")).cost == {}


def test_too_few_bits_are_refused_in_words() -> None:
    with pytest.raises(PolicyError, match="raise bits_per_minute"):
        capacity(settings(), policy(bits_per_minute=20, burst_bits=1000))


class Code:
    """The length of an adaptive code (Krichevsky and Trofimov, 1981): what a listener learns who knows nothing ahead.

    It is never shorter than what was really said, apart from chance, so it measures from above.
    """

    def __init__(self) -> None:
        self.bits = 0.0
        self._seen: defaultdict[Hashable, Counter[Hashable]] = defaultdict(Counter)

    def say(self, what: Hashable, value: Hashable, values: int) -> None:
        seen = self._seen[what]
        self.bits -= math.log2((seen[value] + 0.5) / (sum(seen.values()) + values / 2))
        seen[value] += 1


def hostile(generator: random.Random) -> bytes:
    """A valid episode observation in which every bit is random."""
    event_type = generator.choice(list(EventType))
    crowd = event_type in CROWD_TYPES
    return Observation(
        Kind.EPISODE,
        event_type,
        generator.choice([Phase.STARTED, Phase.ONGOING, Phase.ENDED]),
        zone=generator.choice([0, 1, 2, NO_ZONE]),
        slot=generator.randrange(MAX_SLOTS),
        level=generator.choice(list(Level)) if crowd else Level.NONE,
        variant=generator.choice(list(Variant)) if event_type is EventType.CROWD_MOVEMENT else Variant.NONE,
        confidence=generator.choice(list(Confidence)),
        count=generator.randrange(MAX_COUNT + 1) if crowd else NO_COUNT,
        age_ms=generator.randrange(MAX_AGE_MS + 1),
        evidence=generator.choice(sorted(INCIDENTS.get(event_type, [Evidence.NONE]))),
        onset_age=generator.randrange(MAX_ONSET_AGE + 1) if event_type in ONSET_TYPES else NO_ONSET,
        onset_error=generator.choice(list(OnsetError)[1:]) if event_type in ONSET_TYPES else OnsetError.NONE,
    ).pack()


def test_a_flood_of_the_most_informative_observations_gets_no_more_out_than_the_bound() -> None:
    """Two hours at the full rate of a pipe; what comes out is measured by a code that is not the gate's."""
    generator, rules, rate = random.Random(3), policy(**DEFAULT), 5
    bench = Bench(rules, max_rate=rate)
    counts = Counts(
        ["quay", "gate", "yard"],
        rules,
        bench.gate,
        Budget(exact(0.5), exact(1000)),
        wall=bench.gate._wall,
        synced=lambda: True,
    )
    limit, fixed = bench.gate.capacity, sum(bench.gate.capacity.fixed.values())
    code, alarms, spent = Code(), 0, []
    for minute in range(120):
        before = code.bits
        for _ in range(60 * rate):
            bench.gate.take(hostile(generator))
            releases = bench.wait(1 / rate)
            for release in releases:
                data = release.data
                code.say("which", (release.event_type, data.zone), 25 * 4)
                for name in ("phase", "level", "variant", "count", "confidence", "duration", "evidence", "onset"):
                    code.say((release.event_type in CROWD_TYPES, data.phase, name), getattr(data, name), 9)
                code.say(("time", release.event_type in ALARMS), release.time[14:], 601)
                alarms += release.alarm
            code.say("how many", len(releases), 20)
        for zone, count in counts.due():
            code.say(("count", zone), count.count, 257)
        spent.append(code.bits - before)
        assert minute or spent[0] <= limit.burst
    hour = max(sum(spent[start : start + 60]) for start in range(61))
    assert hour <= 60 * 400
    assert hour >= 60 * (limit.rate + fixed) / 2, "the flood is a real one: it uses most of what it may"
    assert alarms > 100
    assert bench.gate.counters["suppressed.bits"] > 5000
