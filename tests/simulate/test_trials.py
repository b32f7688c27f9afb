"""Trials: each can be drawn and painted, a seed tells everything, and what they expect can be met in their time."""

from __future__ import annotations

import numpy as np
import pytest

from agent.behaviours.registry import BEHAVIOURS, OF_CAMERA
from agent.contract import EventType
from agent.evaluate.simulated import draw, read_props
from agent.simulate.render import Painter
from agent.simulate.trials.catalogue import NEGATIVE, POSITIVE
from agent.simulate.trials.stage import Props


@pytest.fixture(scope="module")
def props() -> Props:
    return read_props(None)


def test_every_behaviour_that_looks_has_trials() -> None:
    seen = {event_type for event_type in BEHAVIOURS if not event_type.label.startswith(("sound.", "incident."))}
    assert set(POSITIVE) == set(NEGATIVE) == seen


@pytest.mark.parametrize("event_type", POSITIVE, ids=lambda event_type: event_type.label)
@pytest.mark.parametrize("positive", [True, False], ids=["positive", "negative"])
def test_a_trial_can_be_drawn_and_painted(event_type: EventType, positive: bool, props: Props) -> None:
    trial, seed = draw(event_type, 0, 3, props, positive=positive)
    again, _ = draw(event_type, 0, 3, props, positive=positive)

    assert (trial.expected is not None) is positive
    assert again.zone == trial.zone
    assert again.sort == trial.sort
    if trial.expected is not None:
        assert 0 <= trial.expected.met + trial.expected.dwell_s < trial.seconds
    truth = trial.world.truth(min(8.0, trial.seconds / 2), trial.view)
    assert np.isfinite(truth.boxes).all()
    assert len(trial.classes) > (truth.ids.max() if len(truth.ids) else -1)
    if trial.look is not None:
        picture = Painter(trial.view, seed, trial.look, trial.vehicles).paint(truth, 8.0)
        assert picture.shape == (trial.view.height, trial.view.width, 3)
        assert picture.std() > 1
    assert event_type in OF_CAMERA or len(trial.zone) >= 4
