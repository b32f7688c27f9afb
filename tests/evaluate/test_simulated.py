"""Simulated trials are judged by their truth, their page is renewed row by row, and memory stays flat."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agent.behaviours.episode import EpisodeChange
from agent.behaviours.watch import Watch
from agent.capture.frame import Frame
from agent.contract import EventType, Phase
from agent.evaluate.document import told, write
from agent.evaluate.simulated import Played, draw, judge, read_props, summarise
from agent.perception.scene import ObjectClass
from agent.settings import CameraSettings
from agent.simulate.errors import MOT15, ErringDetector
from agent.simulate.trials.catalogue import NEGATIVE, POSITIVE
from agent.simulate.trials.stage import Expected, Props, Stage, Trial


@pytest.fixture(scope="module")
def props() -> Props:
    return read_props(None)


@pytest.fixture
def trial(props: Props) -> Trial:
    one, _ = draw(EventType.ZONE_INTRUSION, 0, 1, props, positive=True)
    return replace(one, expected=Expected(met=10.0, dwell_s=2.0, late_s=5.0))


@pytest.mark.parametrize("event_type", list(POSITIVE), ids=lambda event_type: event_type.label)
def test_every_trial_can_be_drawn(event_type: EventType, props: Props) -> None:
    for positive, makers in ((True, POSITIVE), (False, NEGATIVE)):
        for number in range(2 * len(makers[event_type])):
            one, _ = draw(event_type, number, 2, props, positive=positive)
            assert one.type is event_type
            assert (one.expected is not None) == positive


def start(time: float) -> EpisodeChange:
    return EpisodeChange(EventType.ZONE_INTRUSION, "zone", Phase.STARTED, time)


def test_an_episode_in_time_is_a_hit_and_another_one_is_false(trial: Trial) -> None:
    told_ = judge(trial, [start(13.0), start(30.0)])
    assert (told_.hit, told_.delay_s, told_.false) == (True, 1.0, 1)


@pytest.mark.parametrize("time", [7.0, 17.5])
def test_what_comes_too_early_or_too_late_is_no_hit(trial: Trial, time: float) -> None:
    told_ = judge(trial, [start(time)])
    assert (told_.hit, told_.delay_s, told_.false) == (False, None, 1)


def played(*, positive: bool, hit: bool = False, false: int = 0, minutes: float = 30.0) -> Played:
    return Played("sort", positive, minutes, hit, 1.0 if hit else None, false, painted=False)


def test_figures_have_intervals() -> None:
    outcome = summarise(
        EventType.ZONE_INTRUSION,
        [
            *[played(positive=True, hit=True)] * 9,
            played(positive=True),
            *[played(positive=False)] * 3,
            played(positive=False, false=2),
        ],
    )
    assert outcome.recall == 0.9
    assert (outcome.recall_low, outcome.recall_high) == pytest.approx((0.596, 0.982), abs=0.001)
    assert outcome.per_hour == 1.0
    # Garwood's interval of two events is 0.242 to 7.225; there were two hours.
    assert (outcome.per_hour_low, outcome.per_hour_high) == pytest.approx((0.121, 3.612), abs=0.001)
    assert not outcome.reached


def test_the_page_keeps_the_rows_of_what_was_not_measured(tmp_path: Path) -> None:
    page = tmp_path / "behaviours.md"
    first = summarise(EventType.ZONE_INTRUSION, [played(positive=True, hit=True), played(positive=False)])
    write(page, [first], "made-up places")
    second = summarise(EventType.PERSON_DOWN, [played(positive=True), played(positive=False)])
    write(page, [second], "made-up places")

    rows = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    assert sum("1.00 (0.21-1.00), 1 of 1" in row for row in rows) == 1
    assert sum("**experimental**" in row and "person.down" in row for row in rows) == 1
    assert sum("not simulated" in row for row in rows) >= 8
    write(page, [second], "made-up places")
    assert rows == [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]


def test_what_a_behaviour_tells_comes_from_its_docstring() -> None:
    what, limits = told(EventType.ZONE_INTRUSION)
    assert what.startswith("a person or vehicle is inside a forbidden zone")
    assert "Known failure" not in limits
    assert limits


def test_a_busy_scene_leaves_nothing_behind(props: Props) -> None:
    """Two minutes at 40 people a minute: what is kept for each track must go with it."""
    stage = Stage(np.random.default_rng(1), props, 120.0)
    stage.passers(40)
    trial = stage.trial(EventType.CROWD_DENSITY, "busy", None, None)
    types = ["crowd.density", "crowd.gathering", "crowd.forecast", "zone.intrusion", "person.running"]
    types += ["person.loitering", "person.down", "direction.wrong_way"]
    watch = Watch(
        CameraSettings.model_validate(
            {
                "name": "busy",
                "source": "sim:",
                "zone": [{"name": "zone", "polygon": trial.zone}],
                "rule": [
                    {"type": t, "zone": "zone", **({"allowed": (1, 0)} if t == "direction.wrong_way" else {})}
                    for t in types
                ],
            }
        )
    )
    detector = ErringDetector(len(trial.classes), (640, 480), np.random.default_rng(2), MOT15)
    blank = np.broadcast_to(np.zeros(1, np.uint8), (480, 640, 3))
    classes = np.full(len(trial.classes), ObjectClass.PERSON, np.uint8)
    counts = list[int]()
    for k in range(600):
        truth = trial.world.truth(k / 5, trial.view)
        none = np.zeros(len(truth.ids))
        watch.update(Frame(blank, k / 5, k), detector.detect(k / 5, truth, classes, none, none > 0))
        if k in {150, 300, 450, 599}:
            counts.append(_objects(watch))
    assert max(counts[1:]) < 1.5 * counts[0] + 200, counts


def _objects(root: object) -> int:
    """How many objects hang on one, numbers and lists of the tracker's matrices included."""
    seen, open_ = set[int](), [root]
    while open_:
        one = open_.pop()
        if id(one) in seen or isinstance(one, type) or callable(one):
            continue
        seen.add(id(one))
        open_.extend(gc.get_referents(one))
    return len(seen)
