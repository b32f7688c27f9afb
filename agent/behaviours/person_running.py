"""`person.running`: somebody moves faster than the zone's limit, in body heights per second.

Source: walking and running differ in speed (people change from one to the other at about 2 m/s, Hreljac, "Preferred and
energetically optimal gait transition speeds in human locomotion", Medicine & Science in Sports & Exercise 25, 1993),
and a body height as the unit needs no calibration. The speed is that of a whole second, and of head and feet alike, so
that neither a box's jitter nor half a box behind a car runs. Who rides is not running.
Known failure: towards the camera and away from it the picture shows less speed than there is; whoever runs straight at
the camera is missed. Inline skaters and scooter riders run.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from agent.behaviours.episode import Episode, EpisodeChange
from agent.behaviours.occupancy import confidence_in, persons
from agent.behaviours.parameters import Parameters
from agent.behaviours.zone import Zone
from agent.contract import EventType
from agent.perception.scene import FloatArray, ObjectClass, Scene, Tracks

#: Time over which a speed is taken, seconds: two or three steps. Less than most of it tells nothing yet.
_WINDOW_S, _LEAST_S = 1.0, 0.7
_RIDDEN = (ObjectClass.BICYCLE, ObjectClass.MOTORCYCLE)


class PersonRunningParameters(Parameters):
    """Parameters of `person.running`."""

    speed: float = Field(
        1.6, ge=0.5, le=10, description="Speed that is too fast, body heights per second; people walk at 0.8, run at 2."
    )
    hold_s: float = Field(0.5, ge=0, le=60, description="How long somebody must be too fast, seconds.")
    release_s: float = Field(5.0, ge=0, le=3600, description="How long nobody must be too fast, seconds.")


class PersonRunning:
    """Somebody who runs in a zone."""

    Parameters = PersonRunningParameters

    def __init__(self, zone: Zone, parameters: PersonRunningParameters) -> None:
        self._zone = zone
        self._speed = parameters.speed
        #: For each track when and where its box was, (time, x, top, bottom).
        self._ways: dict[int, deque[tuple[float, float, float, float]]] = {}
        self._episode = Episode(
            EventType.PERSON_RUNNING, zone.name, hold_s=parameters.hold_s, release_s=parameters.release_s
        )

    def update(self, scene: Scene) -> list[EpisodeChange]:
        """What changes with this scene."""
        tracks = scene.tracks
        here = persons(tracks) & (tracks.unseen == 0) & ~_riders(tracks)
        self._ways = {track: self._ways.get(track, deque()) for track in tracks.ids.tolist()}
        speeds = np.zeros(len(tracks))
        for row in np.flatnonzero(here & self._zone.contains(scene.feet())):
            speeds[row] = self._speed_of(int(tracks.ids[row]), scene.time, tracks.boxes[row], scene)
        fast = speeds > self._speed
        return self._episode.update(scene.time, bool(fast.any()), confidence=confidence_in(tracks.scores[fast]))

    def _speed_of(self, track: int, time: float, box: FloatArray, scene: Scene) -> float:
        """Body heights per second, 0 while too little is known; a box that the picture's edge cuts tells nothing."""
        x0, y0, x1, y1 = box.tolist()
        way = self._ways[track]
        if x0 <= 1 or y0 <= 1 or x1 >= scene.width - 1 or y1 >= scene.height - 1:
            way.clear()
            return 0.0
        way.append((time, (x0 + x1) / 2, y0, y1))
        while time - way[0][0] > _WINDOW_S:
            way.popleft()
        if time - way[0][0] < _LEAST_S:
            return 0.0
        times, *places = np.array(way).T
        # Straight lines through all looks: a box's jitter at the two ends of the way is most of a walker's speed.
        off = times - times.mean()
        across, head, feet = (float(off @ place) / float(off @ off) for place in places)
        tall = max(float(np.median(places[2] - places[1])), 1.0)
        return float(min(np.hypot(across, head), np.hypot(across, feet))) / tall

    def close(self, time: float) -> list[EpisodeChange]:
        """End what is open."""
        self._ways.clear()
        return self._episode.close(time)


def _riders(tracks: Tracks) -> NDArray[np.bool_]:
    """(N,): whose middle is above or within something that is ridden."""
    ridden = tracks.boxes[np.isin(tracks.classes, _RIDDEN)]
    x = (tracks.boxes[:, :1] + tracks.boxes[:, 2:3]) / 2
    low = tracks.boxes[:, 3:4]
    across = (x > ridden[:, 0]) & (x < ridden[:, 2])
    return np.asarray((across & (low > ridden[:, 1]) & (tracks.boxes[:, 1:2] < ridden[:, 3])).any(axis=1))
