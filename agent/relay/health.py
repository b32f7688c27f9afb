"""The message on `health`: what sense said last of itself, in classes, at fixed times."""

from __future__ import annotations

from agent.contract import HEALTH_EVERY_S, Health, Observation
from agent.relay.gate import utc


def health_of(said: Observation | None, cameras: int, moment: float) -> Health:
    """The health of a device.

    Args:
        said: Sense's latest health observation; None while it says nothing.
        cameras: Cameras that are configured.
        moment: Seconds since 1970, within five minutes after the moment that is told.
    """
    time = utc(moment // HEALTH_EVERY_S * HEALTH_EVERY_S)
    if said is None:
        return Health(time=time, sense="unknown")
    return Health.model_validate(
        {
            "time": time,
            "sense": said.sense.name.lower(),
            "cameras": tuple(state.name.lower() for state in said.cameras[:cameras]),
            "microphone": said.microphone.name.lower(),
            "detector": said.detector.name.lower(),
            "rate": said.rate.name.lower(),
        }
    )
