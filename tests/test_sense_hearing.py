"""Sense with a microphone: what it sends of sounds and incidents, and when the microphone stays closed."""

from __future__ import annotations

import datetime as dt
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from agent import pipe
from agent.behaviours.episode import EpisodeChange
from agent.contract import (
    NO_CAMERA,
    NO_ONSET,
    NO_ZONE,
    Confidence,
    EventType,
    Evidence,
    Kind,
    MicrophoneState,
    Observation,
    OnsetError,
    Phase,
)
from agent.perception.hearing import Hearing
from agent.perception.tag import CLASSES
from agent.policy import Policy
from agent.sense import Outlet, Sense
from agent.settings import Settings

UNTIL = "2999-01-01"


def policy(*types: str, **more: Any) -> Policy:
    entry = {
        "purpose": "public safety",
        "legal_basis": "X",
        "body": "the city",
        "contact": "dpo@example.org",
        "retention_days": 30,
        "until": UNTIL,
        "below_flow": "so that a fight is seen",
    }
    return Policy.model_validate({"detector": [{**entry, "type": t, **more.get(t, {})} for t in types]})


class Bench:
    """Sense with a microphone that is not started, and the far end of its pipe."""

    def __init__(self, sound: Path, rules: Policy, *types: str, cameras: list[dict[str, Any]] | None = None) -> None:
        table = {
            "microphone": {"source": f"file:{sound}", "rule": [{"type": t} for t in types]},
            "camera": cameras or [],
            "inference": {"detector": "motion", "tagger": "vigie-sound"},
        }
        settings = Settings.model_validate(table)
        near, self.far = pipe.pair()
        self.clock = 100.0
        outlet = Outlet(self._gone, near, settings.zone_names, lambda: self.clock)
        self.sense = Sense(settings, rules, outlet, clock=lambda: self.clock)
        self.sense._wake.set()

    def _gone(self) -> socket.socket:
        raise ConnectionRefusedError

    def hear(self, event_type: EventType, *, onset: float | None = None, onset_error: float = 0.0) -> list[Observation]:
        """One hearing in which this sound is certain; what sense sends then."""
        scores = np.zeros(len(CLASSES), np.float32)
        scores[CLASSES.index(event_type.label.removeprefix("sound."))] = 0.99
        self.sense._on_hearing(Hearing(self.clock, scores, onset, onset_error))
        return self.step()

    def step(self) -> list[Observation]:
        self.sense._wake.set()
        self.sense.step()
        sent = []
        while message := pipe.receive(self.far):
            sent.append(Observation.unpack(message))
        return [observation for observation in sent if observation.kind is Kind.EPISODE]

    def close(self) -> None:
        if self.sense.microphone:
            self.sense.microphone.close()
        self.sense._outlet.close()
        self.far.close()


Make = Callable[..., Bench]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Make]:
    sound = tmp_path / "sound.wav"
    soundfile.write(sound, np.zeros(1600), 16_000)
    made: list[Bench] = []

    def make(rules: Policy, *types: str, **more: Any) -> Bench:
        made.append(Bench(sound, rules, *types, **more))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_sound_is_sent_without_zone_and_camera(bench: Make) -> None:
    (sent,) = bench(policy("sound.gunshot"), "sound.gunshot").hear(EventType.SOUND_GUNSHOT, onset=99.0)
    assert (sent.type, sent.phase, sent.zone, sent.camera) == (
        EventType.SOUND_GUNSHOT,
        Phase.STARTED,
        NO_ZONE,
        NO_CAMERA,
    )
    assert sent.onset_age == NO_ONSET, "the policy says nothing of onsets"


@pytest.mark.parametrize(
    ("error_s", "told"),
    [(0.0008, OnsetError.MS_1), (0.0012, OnsetError.MS_2), (0.03, OnsetError.MS_50), (0.06, OnsetError.NONE)],
)
def test_an_onset_is_sent_as_its_age_when_it_leaves_if_it_is_known_well_enough(
    bench: Make, error_s: float, told: OnsetError
) -> None:
    allowed = policy("sound.gunshot", **{"sound.gunshot": {"onset": True}})
    made = bench(allowed, "sound.gunshot")
    (sent,) = made.hear(EventType.SOUND_GUNSHOT, onset=99.1234, onset_error=error_s)
    assert sent.onset_error is told
    assert sent.onset_age == (NO_ONSET if told is OnsetError.NONE else 8766)


def test_a_sound_that_is_not_permitted_is_not_listened_for(bench: Make) -> None:
    made = bench(policy("sound.siren"), "sound.siren", "sound.gunshot")
    assert not made.hear(EventType.SOUND_GUNSHOT)


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_a_microphone_that_nothing_may_listen_to_stays_closed(bench: Make) -> None:
    made = bench(policy("sound.siren"), "sound.gunshot")
    assert made.sense.microphone is not None
    made.step()
    made.sense.microphone.start()
    eventually(lambda: made.sense.microphone is not None and made.sense.microphone.state is MicrophoneState.PAUSED)
    made.sense._pause(True)
    made.sense._pause(False)
    assert not made.hear(EventType.SOUND_GUNSHOT)
    assert made.sense.microphone.state is MicrophoneState.PAUSED


def test_a_microphone_without_rules_is_not_opened_at_all(bench: Make) -> None:
    assert bench(policy("sound.gunshot")).sense.microphone is None


def test_while_paused_nothing_is_heard(bench: Make) -> None:
    made = bench(policy("sound.gunshot"), "sound.gunshot")
    assert made.hear(EventType.SOUND_GUNSHOT)
    made.sense._pause(True)
    assert [o.phase for o in made.step()] == [Phase.ENDED]
    assert not made.hear(EventType.SOUND_GUNSHOT)


def test_the_end_of_the_sound_ends_what_is_open(bench: Make) -> None:
    made = bench(policy("sound.gunshot"), "sound.gunshot")
    made.hear(EventType.SOUND_GUNSHOT)
    assert made.sense.microphone is not None
    made.sense.microphone.start()
    eventually(lambda: made.sense.microphone is not None and made.sense.microphone.state is MicrophoneState.ENDED)
    assert [o.phase for o in made.step()] == [Phase.ENDED]
    assert made.sense._all_ended()


STALL = {
    "name": "c",
    "source": "sim:empty",
    "zone": [{"name": "stall", "polygon": [[0, 0], [1, 0], [1, 1]]}],
    "rule": [{"type": "altercation", "zone": "stall"}],
}
PARTS = ("sound.scream", "altercation", "incident.brawl")


def fight(made: Bench) -> list[Observation]:
    """A fight is seen and a scream heard, as the behaviours would tell it."""
    made.step()
    for camera, change in (
        (0, EpisodeChange(EventType.ALTERCATION, "stall", Phase.STARTED, made.clock)),
        (NO_CAMERA, EpisodeChange(EventType.SOUND_SCREAM, None, Phase.STARTED, made.clock)),
    ):
        made.sense._report(camera, [change])
    return made.step()


def test_sound_and_sight_that_agree_are_an_incident_where_it_was_seen(bench: Make) -> None:
    sent = fight(bench(policy(*PARTS), "sound.scream", "incident.brawl", cameras=[STALL]))
    assert [o.type for o in sent] == [EventType.ALTERCATION, EventType.SOUND_SCREAM, EventType.INCIDENT_BRAWL]
    assert (sent[-1].zone, sent[-1].camera, sent[-1].evidence, sent[-1].confidence) == (
        0,
        0,
        Evidence.SCREAM_ALTERCATION,
        Confidence.CONFIRMED,
    )


@pytest.mark.parametrize("missing", PARTS)
def test_an_incident_rests_on_nothing_that_is_not_permitted(
    bench: Make, missing: str, caplog: pytest.LogCaptureFixture
) -> None:
    allowed = policy(*(part for part in PARTS if part != missing))
    sent = fight(bench(allowed, "sound.scream", "incident.brawl", cameras=[STALL]))
    assert EventType.INCIDENT_BRAWL not in {o.type for o in sent}
    assert any("incident.brawl" in message and missing in message for message in caplog.messages)


def test_an_incident_does_not_tell_of_what_is_in_shadow(bench: Make, caplog: pytest.LogCaptureFixture) -> None:
    allowed = policy(*PARTS, **{"sound.scream": {"mode": "shadow"}})
    sent = fight(bench(allowed, "sound.scream", "incident.brawl", cameras=[STALL]))
    assert EventType.INCIDENT_BRAWL not in {o.type for o in sent}
    assert any("would tell of sound.scream" in message for message in caplog.messages)


def test_a_permission_of_a_sound_ends_with_its_day(bench: Make) -> None:
    made = bench(policy("sound.gunshot", **{"sound.gunshot": {"until": "2026-11-23"}}), "sound.gunshot")
    today = [dt.datetime(2026, 11, 23, 23, 59).astimezone()]
    made.sense._wall = lambda: today[0]
    assert [o.phase for o in made.hear(EventType.SOUND_GUNSHOT)] == [Phase.STARTED]
    today[0] += dt.timedelta(minutes=2)
    assert [o.phase for o in made.step()] == [Phase.ENDED]
    assert not made.hear(EventType.SOUND_GUNSHOT)
