"""`crowd.forecast`: a zone is expected to fill up within the next minutes.

Source: `agent.behaviours.trend`. The zone's occupancy is followed as a level with a slope; an episode is open while a
crossing of the limit within the horizon is likelier than not and has not come yet. `vigie eval forecast` says how often
that was right.
Known failure: what the trend cannot know, such as doors that open or a train that arrives; and a zone that levels off
just below its limit is forecast to cross it until its slope has fallen. A rise is believed to last as long again as it
has lasted, so the lead is about half of the time that the zone takes to fill.
"""

from __future__ import annotations

from pydantic import Field

from agent.behaviours.episode import Episode, EpisodeChange
from agent.behaviours.headcount import Headcount
from agent.behaviours.parameters import Parameters
from agent.behaviours.trend import Trend
from agent.behaviours.zone import Zone
from agent.contract import MAX_COUNT, Confidence, EventType
from agent.perception.scene import Scene

#: The occupancy is taken so often, seconds: people move between two samples.
SAMPLE_S = 5.0
#: A trend is known after so long, seconds.
_WARM_UP_S = 30.0
#: How likely a crossing must be for an episode to open (likelier than not beside the noise of a count), and to stay so.
_LIKELY, _STAYS_LIKELY = 0.65, 0.3
#: From here on it is more than likely.
_SURE = 0.8


class CrowdForecastParameters(Parameters):
    """Parameters of `crowd.forecast`."""

    limit: int = Field(30, ge=5, le=MAX_COUNT, description="People in the zone that are too many.")
    horizon_s: float = Field(300.0, ge=30, le=1800, description="How far ahead, seconds.")
    hold_s: float = Field(5.0, ge=0, le=3600, description="How long a crossing must be likely, seconds.")
    release_s: float = Field(30.0, ge=0, le=3600, description="How long it must be unlikely before it ends, seconds.")


class CrowdForecast:
    """A zone that is filling up."""

    Parameters = CrowdForecastParameters

    def __init__(self, zone: Zone, parameters: CrowdForecastParameters) -> None:
        self._limit = parameters.limit
        self._horizon_s = parameters.horizon_s
        self._headcount = Headcount(zone)
        self._trend: Trend | None = None
        self._begun = self._sampled = 0.0
        self._likely = 0.0
        self._episode = Episode(
            EventType.CROWD_FORECAST, zone.name, hold_s=parameters.hold_s, release_s=parameters.release_s
        )

    def update(self, scene: Scene) -> list[EpisodeChange]:
        """What changes with this scene."""
        count, _ = self._headcount.update(scene)
        if self._trend is None:
            self._trend, self._begun, self._sampled = Trend(self._limit), scene.time, scene.time - SAMPLE_S
        if scene.time - self._sampled >= SAMPLE_S:
            self._sampled = scene.time
            self._trend.update(scene.time, count)
            self._likely, _ = self._trend.crossing(self._horizon_s)
        enough = self._likely > (_STAYS_LIKELY if self._episode.open else _LIKELY)
        met = enough and count < self._limit and scene.time - self._begun >= _WARM_UP_S
        confidence = Confidence.HIGH if self._likely >= _SURE else Confidence.MEDIUM
        return self._episode.update(scene.time, met, confidence=confidence, count=count)

    def close(self, time: float) -> list[EpisodeChange]:
        """End what is open."""
        self._headcount.clear()
        self._trend = None
        self._likely = 0.0
        return self._episode.close(time)
