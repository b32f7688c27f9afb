"""How often behaviours tell what they should, and what they should not: simulated trials with ground truth.

Each trial is a scene of a minute or so, through the very path of a live camera: an erring detector, tracker, flow and
blobs on painted pictures, and the behaviour with its defaults. In a positive trial one episode must start, within the
time that the trial states; in a hard negative one none must. What starts beside that in a positive trial is counted
apart, since what happens there is no hard negative.

All figures are of a simulator whose scenes, people and pictures are made up, with a detector's errors fitted on real
ones. They say how a rule treats what it was made for, and never how it does in the field.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median

import cv2
import numpy as np

from agent.behaviours.episode import EpisodeChange
from agent.behaviours.registry import OF_CAMERA, needs
from agent.behaviours.watch import Watch
from agent.capture.frame import Frame
from agent.contract import EventType, Phase
from agent.perception.patch import PatchChecker, open_checker
from agent.perception.scene import Need
from agent.settings import CameraSettings, InferenceSettings
from agent.simulate.backgrounds import Backgrounds
from agent.simulate.errors import MOT15, DetectorErrors, ErringDetector
from agent.simulate.render import Painter, at
from agent.simulate.things import Things
from agent.simulate.trials.catalogue import NEGATIVE, POSITIVE
from agent.simulate.trials.stage import Expected, Props, Trial

#: Wanted: so many of the events, at most so many false alarms an hour, and so soon, seconds.
RECALL, PER_HOUR, DELAY_S = 0.9, 0.5, 2.0
#: Redrawn at most so often until a positive trial has its event.
_DRAWS = 20


@dataclass(frozen=True, slots=True)
class Played:
    """How one trial went.

    Attributes:
        sort: What happened.
        positive: Whether something should have been told.
        minutes: How long it lasted.
        hit: Whether that was told.
        delay_s: How much later than the condition was met and its configured dwell was over; None without a hit.
        false: Episodes that nothing asked for.
        painted: Whether pictures counted.
    """

    sort: str
    positive: bool
    minutes: float
    hit: bool
    delay_s: float | None
    false: int
    painted: bool


@dataclass(frozen=True, slots=True)
class Sort:
    """All trials in which the same happened; attributes as of `Played`, summed."""

    name: str
    positive: bool
    trials: int
    minutes: float
    hits: int
    false: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one behaviour did.

    Attributes:
        type: Event type.
        events: Positive trials.
        hits: Of these, told in time.
        positive_minutes: Simulated.
        negative_minutes: Simulated.
        recall: Share of hits; with its 95 % interval (Wilson, 1927).
        false_alarms: Episodes in hard negatives.
        per_hour: The same for each hour of them; with its 95 % interval (Poisson, exact).
        surplus: Episodes in positive trials beside the hit.
        delay_s: Median; None without a hit.
        painted: Whether pictures counted.
        sorts: The same by what happened.
    """

    type: EventType
    events: int
    hits: int
    positive_minutes: float
    negative_minutes: float
    recall: float
    recall_low: float
    recall_high: float
    false_alarms: int
    per_hour: float
    per_hour_low: float
    per_hour_high: float
    surplus: int
    delay_s: float | None
    painted: bool
    sorts: tuple[Sort, ...]

    @property
    def reached(self) -> bool:
        """Whether it does as is wanted."""
        return self.recall >= RECALL and self.per_hour <= PER_HOUR


def read_props(data: Path | None) -> Props:
    """What pictures are made of, with real places and refuse bags where the shared data has them."""
    return Props(Backgrounds(data / "clips" if data else None), Things(data))


@cache
def _checker() -> PatchChecker | None:
    """The patch checker that a live camera with its defaults has."""
    return open_checker(InferenceSettings())[0]


def play(trial: Trial, seed: int, errors: DetectorErrors = MOT15) -> Iterator[tuple[float, Watch, list[EpisodeChange]]]:
    """Play a trial: time, what watches, and what changes at each frame."""
    view = trial.view
    size = (view.width, view.height)
    detector = ErringDetector(len(trial.classes), size, np.random.default_rng([seed, 1]), errors)
    painter = Painter(view, seed, trial.look, trial.vehicles) if trial.look else None
    blank = np.broadcast_to(np.zeros(1, np.uint8), (view.height, view.width, 3))
    camera = _camera(trial)
    watch = Watch(camera, checker=_checker() if Need.CHANGE in needs(camera.rules) else None)
    for index in range(round(trial.seconds * trial.fps)):
        time = index / trial.fps
        truth = trial.world.truth(time, view)
        harder = np.zeros(len(truth.ids))
        for number, keys in trial.harder.items():
            harder[truth.ids == number] = at(keys, time)
        found = detector.detect(time, truth, trial.classes, harder, harder > 0.5)
        image = painter.paint(truth, time) if painter else blank
        yield time, watch, watch.update(Frame(image, time, index), found)
    yield trial.seconds, watch, watch.close(trial.seconds)


def _camera(trial: Trial) -> CameraSettings:
    zone: dict[str, object] = {"name": "zone", "polygon": trial.zone}
    if trial.calibration:
        picture, ground = trial.calibration
        zone["calibration"] = {"picture": picture, "ground_m": ground}
    rule = {"type": trial.type.label, **trial.rule, **({} if trial.type in OF_CAMERA else {"zone": "zone"})}
    return CameraSettings.model_validate({"name": "simulated", "source": "sim:", "zone": [zone], "rule": [rule]})


def judge(trial: Trial, changes: Iterable[EpisodeChange]) -> Played:
    """Compare what was told with what should have been."""
    starts = [change for change in changes if change.phase is Phase.STARTED and change.type is trial.type]
    expected = trial.expected
    told = next((start for start in starts if expected is not None and _meets(trial, start, expected)), None)
    delay = told.time - expected.met - expected.dwell_s if told is not None and expected is not None else None
    return Played(
        sort=trial.sort,
        positive=expected is not None,
        minutes=trial.seconds / 60,
        hit=told is not None,
        delay_s=delay,
        false=len(starts) - (told is not None),
        painted=trial.look is not None,
    )


def _meets(trial: Trial, start: EpisodeChange, expected: Expected) -> bool:
    if trial.type is EventType.CROWD_MOVEMENT and start.variant.name.lower() != trial.sort:
        return False
    return expected.met - expected.early_s <= start.time <= expected.met + expected.dwell_s + expected.late_s


def draw(event_type: EventType, number: int, seed: int, props: Props, *, positive: bool) -> tuple[Trial, int]:
    """The trial of this number, and the seed of its errors and noise; makers take turns."""
    makers = (POSITIVE if positive else NEGATIVE)[event_type]
    for again in range(_DRAWS):
        rng = np.random.default_rng([seed, int(event_type), int(positive), number, again])
        trial = makers[number % len(makers)](rng, props)
        if positive == (trial.expected is not None):
            break
    return trial, int(rng.integers(2**32))


def evaluate(
    event_type: EventType, minutes: float, seed: int, props: Props, errors: DetectorErrors = MOT15
) -> Iterator[Played]:
    """Play trials of an event type until so many simulated minutes of each kind are over."""
    cv2.setNumThreads(1)
    for positive in (True, False):
        done, number = 0.0, 0
        while done < minutes:
            trial, noise = draw(event_type, number, seed, props, positive=positive)
            played = judge(trial, (change for _, _, changes in play(trial, noise, errors) for change in changes))
            done, number = done + played.minutes, number + 1
            yield played


def summarise(event_type: EventType, played: Iterable[Played]) -> Outcome:
    """One behaviour's figures."""
    every = list(played)
    positive, negative = ([one for one in every if one.positive is kind] for kind in (True, False))
    hits, false = sum(one.hit for one in positive), sum(one.false for one in negative)
    hours = sum(one.minutes for one in negative) / 60
    delays = [one.delay_s for one in positive if one.delay_s is not None]
    low, high = _wilson(hits, len(positive))
    least, most = _poisson(false)
    return Outcome(
        type=event_type,
        events=len(positive),
        hits=hits,
        positive_minutes=sum(one.minutes for one in positive),
        negative_minutes=60 * hours,
        recall=hits / max(1, len(positive)),
        recall_low=low,
        recall_high=high,
        false_alarms=false,
        per_hour=false / max(hours, 1e-9),
        per_hour_low=least / max(hours, 1e-9),
        per_hour_high=most / max(hours, 1e-9),
        surplus=sum(one.false for one in positive),
        delay_s=median(delays) if delays else None,
        painted=any(one.painted for one in every),
        sorts=tuple(_sorts(every)),
    )


def _sorts(played: list[Played]) -> Iterator[Sort]:
    for positive, name in sorted({(not one.positive, one.sort) for one in played}):
        these = [one for one in played if one.sort == name and one.positive is not positive]
        yield Sort(
            name=name,
            positive=not positive,
            trials=len(these),
            minutes=sum(one.minutes for one in these),
            hits=sum(one.hit for one in these),
            false=sum(one.false for one in these),
        )


def _wilson(hits: int, trials: int) -> tuple[float, float]:
    """95 % interval of a share."""
    if not trials:
        return 0.0, 1.0
    z, share = 1.96, hits / trials
    middle = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials**2)) / (1 + z * z / trials)
    return max(0.0, middle - half), min(1.0, middle + half)


def _poisson(count: int) -> tuple[float, float]:
    """95 % interval of the mean of a Poisson count (Garwood, Biometrika 28, 1936)."""

    def at_most(number: int, mean: float) -> float:
        return sum(math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in range(number + 1))

    def solve(number: int, likely: float) -> float:
        low, high = 1e-9, 10.0 + 3 * count
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if at_most(number, middle) > likely else (low, middle)
        return low

    return (solve(count - 1, 0.975) if count else 0.0), solve(count, 0.025)
