"""The message on `health`: what sense said last of itself and how the device is, in classes, at fixed times."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from agent.contract import HEALTH_EVERY_S, Health, Observation
from agent.relay.gate import utc

#: Where each class but the first begins, in the order of the contract.
_WARM_C, _LOAD, _LONG, _MANY = (70.0, 85.0, 95.0), (0.5, 0.8, 1.0), 1000, 100
#: Share of the outbox from which it is full.
_FULL = 0.9


@dataclass(frozen=True, slots=True)
class Machine:
    """How the device is beside sense.

    Attributes:
        temperature_c: Of its hottest part, °C; None: unknown.
        load: Of its processor, 0 to 1 and above; None: unknown.
        waiting: Events that wait for the broker.
        filled: Share of the outbox that they fill.
        dropped: Events given up since the last message.
        synced: Whether its clock was ever set.
    """

    temperature_c: float | None = None
    load: float | None = None
    waiting: int = 0
    filled: float = 0.0
    dropped: int = 0
    synced: bool = False


def health_of(said: Observation | None, cameras: int, moment: float, machine: Machine | None = None) -> Health:
    """The health of a device.

    Args:
        said: Sense's latest health observation; None while it says nothing.
        cameras: Cameras that are configured.
        moment: Seconds since 1970, within five minutes after the moment that is told.
        machine: How the device is; None: nothing is known of it.
    """
    machine = machine or Machine()
    told: dict[str, object] = {
        "time": utc(moment // HEALTH_EVERY_S * HEALTH_EVERY_S),
        "sense": "unknown",
        "temperature": _class(machine.temperature_c, _WARM_C, ("normal", "warm", "hot", "critical")),
        "load": _class(machine.load, _LOAD, ("low", "medium", "high", "over")),
        "queue": "full" if machine.filled >= _FULL else _class(machine.waiting, (1, _LONG), ("empty", "short", "long")),
        "drops": _class(machine.dropped, (1, _MANY), ("none", "some", "many")),
        "clock": "synced" if machine.synced else "unsynced",
    }
    if said is not None:
        told |= {
            "sense": said.sense.name.lower(),
            "cameras": tuple(state.name.lower() for state in said.cameras[:cameras]),
            "microphone": said.microphone.name.lower(),
            "detector": said.detector.name.lower(),
            "rate": said.rate.name.lower(),
        }
    return Health.model_validate(told)


def _class(value: float | None, begins: tuple[float, ...], names: tuple[str, ...]) -> str:
    return "unknown" if value is None else names[bisect_right(begins, value)]
