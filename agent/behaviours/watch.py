"""All that is watched for on one camera: detections become tracks, tracks a scene, and each rule looks at it.

Live cameras and replayed clips take this one path.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

import numpy as np

from agent.behaviours.episode import Behaviour, EpisodeChange
from agent.behaviours.registry import build, needs
from agent.capture.frame import Frame
from agent.perception.change import ChangeModel
from agent.perception.flow import FlowModel
from agent.perception.moving import Moving, backed, with_unknown_vehicles
from agent.perception.patch import PatchChecker
from agent.perception.scale import PersonScale
from agent.perception.scene import Detections, Need, Scene, Tracks
from agent.perception.track import Tracker
from agent.settings import CameraSettings, RuleSettings, SettingsError, parse_schedule


class Schedule:
    """When a rule is on: at any of its times, or always when it has none."""

    def __init__(self, times: Sequence[str]) -> None:
        self._times = [parse_schedule(text) for text in times]

    def on(self, now: datetime) -> bool:
        """Whether it is on at this local time."""
        if not self._times:
            return True
        minute = 60 * now.hour + now.minute
        today, yesterday = now.weekday(), (now.weekday() - 1) % 7
        return any(
            (today in days and begin <= minute < end)
            if begin < end
            else (today in days and minute >= begin) or (yesterday in days and minute < end)
            for days, begin, end in self._times
        )


class Watch:
    """The rules of one camera."""

    def __init__(
        self,
        camera: CameraSettings,
        rules: Sequence[RuleSettings] | None = None,
        wall: Callable[[], datetime] | None = None,
        checker: PatchChecker | None = None,
        *,
        blind: bool = False,
    ) -> None:
        """Build the behaviours.

        Args:
            camera: The camera and its zones.
            rules: Those of its rules that may run; None: all of them.
            wall: Local time, for the schedules; None (a clip, which does not know when it was) has every rule on.
            checker: Tells what a changed place shows; None: nobody does.
            blind: Nothing is on the pictures, and only detections count: no motion is looked for.

        Raises:
            SettingsError: a rule that cannot be built, or two of one type in one zone.
        """
        self._wall = wall
        self._checker = checker
        self._blind = blind
        self._rules: list[tuple[Schedule, Behaviour]] = []
        self._idle = True
        self.persons = 0
        """Persons in the picture now."""
        self.tracks = Tracks.empty()
        """What is followed in the picture now."""
        taken = set()
        for rule in camera.rules if rules is None else rules:
            if (rule.type, rule.zone) in taken:
                raise SettingsError(
                    [f"camera {camera.name}: two rules {rule.type} in zone {rule.zone}: one of a type and zone"]
                )
            taken.add((rule.type, rule.zone))
            self._rules.append((Schedule(rule.schedule), build(rule, camera)))
        self._needs = needs(camera.rules if rules is None else rules)
        self._scale = PersonScale()
        self._begin_anew()

    def update(self, frame: Frame, detections: Detections) -> list[EpisodeChange]:
        """What changes with this frame, rule by rule; a rule whose time is over ends what it has open."""
        self._idle = False
        moving = np.empty((0, 4), np.float32) if self._blind else self._moving.update(frame)
        detections = backed(detections, moving)
        height, width = frame.image.shape[:2]
        if Need.UNKNOWN_VEHICLES in self._needs:
            detections = with_unknown_vehicles(detections, moving, width, height)
        tracks = self.tracks = self._tracker.update(frame.time, detections)
        self._scale.update(tracks, width, height)
        flow = self._flow.update(frame) if self._flow else None
        still = self._change.update(frame, tracks, detections) if self._change else ()
        scene = Scene(frame, tracks, detections, self._scale, flow, still, moving)
        self.persons = int(scene.persons.sum())
        now = self._wall() if self._wall else None
        changes: list[EpisodeChange] = []
        for schedule, behaviour in self._rules:
            on = now is None or schedule.on(now)
            changes.extend(behaviour.update(scene) if on else behaviour.close(frame.time))
        return changes

    def close(self, time: float) -> list[EpisodeChange]:
        """End every episode and forget every track; what comes next is a new beginning. Safe to call again."""
        if self._idle:
            return []
        self._idle = True
        self.persons, self.tracks = 0, Tracks.empty()
        self._begin_anew()
        return [change for _, behaviour in self._rules for change in behaviour.close(time)]

    def _begin_anew(self) -> None:
        self._tracker = Tracker()
        self._flow = FlowModel() if Need.FLOW in self._needs else None
        self._moving = Moving()
        self._change = ChangeModel(self._checker) if Need.CHANGE in self._needs else None
