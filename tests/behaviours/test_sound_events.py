"""Sounds as events: thresholds, what lasts, what pauses, what is sure, and what must be asked for."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.behaviours.episode import EpisodeChange
from agent.behaviours.listen import Listening, sound_event
from agent.behaviours.sound_events import MANNERS, SoundEvent, SoundParameters
from agent.contract import ONSET_TYPES, Confidence, EventType, Phase
from agent.inference.registry import SoundModel
from agent.perception.hearing import HOP_S, Hearing
from agent.perception.tag import CLASSES
from agent.settings import RuleSettings, SettingsError

MODEL = SoundModel.model_validate(
    {
        "name": "ear",
        "version": "1",
        "task": "tag-sound",
        "decoder": "sigmoid",
        "classes": {name: place for place, name in enumerate(CLASSES)},
        "input": {
            "rate_hz": 16000,
            "window_s": 0.975,
            "hop_s": 0.5,
            "frame_s": 0.025,
            "step_s": 0.01,
            "bands": 64,
            "low_hz": 125,
            "high_hz": 7500,
        },
        "file": "ear.onnx",
        "sha256": "0" * 64,
        "source": "here",
        "licence": "Apache-2.0",
        "thresholds": dict.fromkeys(CLASSES, 0.6),
        "experimental": ("horn",),
    }
)
SOUNDS = list(MANNERS)


def rule(event_type: EventType, **more: Any) -> RuleSettings:
    return RuleSettings.model_validate({"type": event_type.label, **more})


def event(event_type: EventType, **more: Any) -> SoundEvent:
    made = sound_event(rule(event_type, experimental=True, **more), MODEL)
    assert isinstance(made, SoundEvent)
    return made


def hearing(event_type: EventType, score: float, time: float, **more: Any) -> Hearing:
    scores = np.zeros(len(CLASSES), np.float32)
    scores[SOUNDS.index(event_type)] = score
    return Hearing(time, scores, **more)


def heard(event_type: EventType, scores: list[float], **more: Any) -> list[EpisodeChange]:
    """What is told of one score after the other, two a second."""
    watched = event(event_type, **more)
    steps = enumerate(scores, 1)
    return [c for place, score in steps for c in watched.update(hearing(event_type, score, place * HOP_S))]


def test_every_sound_of_the_contract_is_served_and_has_its_class() -> None:
    assert {t for t in EventType if t.label.startswith("sound.")} == set(MANNERS)


@pytest.mark.parametrize("event_type", SOUNDS, ids=lambda t: t.label)
def test_a_sound_starts_above_its_threshold_and_ends_after_its_pause(event_type: EventType) -> None:
    manner = MANNERS[event_type]
    changes = heard(event_type, [0.1] * 4 + [0.7] * 8 + [0.0] * 40)
    assert [change.phase for change in changes] == [Phase.STARTED, Phase.ENDED]
    assert changes[0].time == 2 + manner.hops * HOP_S, "as soon as it has lasted as long as it must"
    assert changes[0].zone is None
    assert changes[1].time - 6.0 == pytest.approx(manner.release_s, abs=manner.hops * HOP_S)
    assert not heard(event_type, [0.59] * 40)


@pytest.mark.parametrize("event_type", [t for t, manner in MANNERS.items() if manner.hops > 1], ids=lambda t: t.label)
def test_one_window_of_what_lasts_proves_nothing(event_type: EventType) -> None:
    assert not heard(event_type, [0.0] * 4 + [0.9] + [0.0] * 4)


def test_a_bang_is_taken_at_its_word() -> None:
    assert len(heard(EventType.SOUND_GUNSHOT, [0.0, 0.7, 0.0])) == 1


def test_a_bang_begins_suddenly_and_goes_on_as_it_may() -> None:
    watched = event(EventType.SOUND_GUNSHOT)
    shots = [hearing(EventType.SOUND_GUNSHOT, 0.9, time, sudden=time == 2) for time in (1, 2, 3, 4)]
    assert [change.time for one in shots for change in watched.update(one)] == [2]
    siren = event(EventType.SOUND_SIREN)
    assert any(siren.update(hearing(EventType.SOUND_SIREN, 0.9, time / 2, sudden=False)) for time in range(8))


def test_what_is_sudden_is_one_thing() -> None:
    scores = np.zeros(len(CLASSES), np.float32)
    scores[[SOUNDS.index(EventType.SOUND_GUNSHOT), SOUNDS.index(EventType.SOUND_GLASS_BREAK)]] = 0.8, 0.9
    scores[SOUNDS.index(EventType.SOUND_SCREAM)] = 0.95
    both = Hearing(1.0, scores)
    assert not event(EventType.SOUND_GUNSHOT).update(both)
    assert event(EventType.SOUND_GLASS_BREAK).update(both)
    assert event(EventType.SOUND_SCREAM).update(both), "somebody may scream meanwhile"


def test_a_shot_is_told_though_an_explosion_is_likelier_and_not_the_other_way_round() -> None:
    scores = np.zeros(len(CLASSES), np.float32)
    bangs = [EventType.SOUND_GUNSHOT, EventType.SOUND_EXPLOSION]
    scores[[SOUNDS.index(bang) for bang in bangs]] = 0.8, 0.9
    assert all(event(bang).update(Hearing(1.0, scores)) for bang in bangs)
    scores[SOUNDS.index(EventType.SOUND_EXPLOSION)] = 0.79
    assert not event(EventType.SOUND_EXPLOSION).update(Hearing(1.0, scores))


def test_what_goes_on_may_be_fainter_and_pause() -> None:
    changes = heard(EventType.SOUND_GUNSHOT, [0.7, *[0.3] * 20, *[0.0] * 8, 0.3, *[0.0] * 20])
    assert [change.phase for change in changes] == [Phase.STARTED, Phase.ENDED]
    assert changes[1].time == pytest.approx(20.0, abs=0.5)


def test_its_own_threshold_and_pause_may_be_set() -> None:
    assert heard(EventType.SOUND_SIREN, [0.4] * 10, threshold=0.3)
    changes = heard(EventType.SOUND_GUNSHOT, [0.7, 0.0, 0.0, 0.0], release_s=1)
    assert [change.phase for change in changes] == [Phase.STARTED, Phase.ENDED]


@pytest.mark.parametrize(
    ("event_type", "score", "confidence"),
    [
        (EventType.SOUND_GUNSHOT, 0.7, Confidence.MEDIUM),
        (EventType.SOUND_GUNSHOT, 0.95, Confidence.HIGH),
        (EventType.SOUND_HORN, 0.99, Confidence.LOW),
        (EventType.SOUND_GUNSHOT, 1.0, Confidence.HIGH),
    ],
)
def test_confidence_is_in_steps(event_type: EventType, score: float, confidence: Confidence) -> None:
    assert heard(event_type, [score, score])[0].confidence is confidence


@pytest.mark.parametrize("event_type", SOUNDS, ids=lambda t: t.label)
def test_an_onset_is_told_once_and_of_shots_and_explosions_alone(event_type: EventType) -> None:
    watched = event(event_type)
    changes = []
    for place in range(1, 200):
        now = hearing(event_type, 0.9, place * HOP_S, onset=place * HOP_S - 0.3, onset_error=0.001)
        changes += watched.update(now)
    onsets = [change.onset for change in changes if change.onset is not None]
    assert [change.phase for change in changes] == [Phase.STARTED, Phase.ONGOING]
    assert len(onsets) == (event_type in ONSET_TYPES)


@pytest.mark.parametrize(("threshold", "starts"), [(0.0, True), (1.0, False)])
def test_a_threshold_at_either_end_is_no_error(threshold: float, starts: bool) -> None:
    watched = SoundEvent(EventType.SOUND_GUNSHOT, SoundParameters(), threshold, doubtful=False)
    assert bool(watched.update(hearing(EventType.SOUND_GUNSHOT, 0.4, HOP_S))) is starts


def test_an_experimental_class_must_be_asked_for() -> None:
    reason = sound_event(rule(EventType.SOUND_HORN), MODEL)
    assert isinstance(reason, str)
    assert "experimental = true" in reason
    assert isinstance(sound_event(rule(EventType.SOUND_HORN, experimental=True), MODEL), SoundEvent)
    listening = Listening([rule(EventType.SOUND_HORN), rule(EventType.SOUND_SIREN)], MODEL)
    assert len(listening) == 1
    assert listening.refused == [reason]


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ({"treshold": 0.5}, r"treshold: unknown key; did you mean 'threshold'"),
        ({"threshold": 1.5}, r"threshold: .*less than 1"),
        ({"release_s": -1}, r"release_s"),
    ],
)
def test_a_wrong_parameter_is_named(parameters: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        sound_event(rule(EventType.SOUND_GUNSHOT, **parameters), MODEL)


def test_a_sight_is_no_sound() -> None:
    with pytest.raises(SettingsError, match="is not a sound"):
        sound_event(rule(EventType.CROWD_DENSITY), MODEL)


def test_a_rule_listens_in_its_hours_and_ends_what_is_open_after_them() -> None:
    now = dt.datetime(2026, 11, 27, 21, 59, tzinfo=dt.timezone.utc)
    listening = Listening([rule(EventType.SOUND_GUNSHOT, schedule=["20:00-22:00"])], MODEL, lambda: now)
    assert [c.phase for c in listening.update(hearing(EventType.SOUND_GUNSHOT, 0.9, 1.0))] == [Phase.STARTED]
    now += dt.timedelta(minutes=2)
    assert [c.phase for c in listening.update(hearing(EventType.SOUND_GUNSHOT, 0.9, 2.0))] == [Phase.ENDED]
    assert not listening.update(hearing(EventType.SOUND_GUNSHOT, 0.9, 3.0))


def test_closing_ends_what_is_open_and_forgets() -> None:
    listening = Listening([rule(EventType.SOUND_SIREN)], MODEL)
    for place in range(1, 6):
        listening.update(hearing(EventType.SOUND_SIREN, 0.9, place * HOP_S))
    assert [change.phase for change in listening.close(3.0)] == [Phase.ENDED]
    assert not listening.close(3.0)
    assert not listening.update(hearing(EventType.SOUND_SIREN, 0.9, 3.5))


def test_the_shipped_taggers_serve_every_sound_or_say_why_not() -> None:
    from agent.inference.registry import Registry

    for model in Registry(Path(__file__).parents[2] / "models").of(SoundModel):
        for event_type in SOUNDS:
            made = sound_event(rule(event_type), model)
            assert isinstance(made, str) == (event_type.label.removeprefix("sound.") in model.experimental)
