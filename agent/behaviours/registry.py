"""Which behaviour serves which event type: one line each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from pydantic import ValidationError

from agent.behaviours.altercation import Altercation
from agent.behaviours.camera_tampered import CameraTampered
from agent.behaviours.crowd_density import CrowdDensity
from agent.behaviours.crowd_forecast import CrowdForecast
from agent.behaviours.crowd_gathering import CrowdGathering
from agent.behaviours.crowd_movement import CrowdMovement
from agent.behaviours.direction_wrong_way import DirectionWrongWay
from agent.behaviours.episode import Behaviour
from agent.behaviours.object_abandoned import ObjectAbandoned
from agent.behaviours.parameters import Parameters
from agent.behaviours.person_down import PersonDown
from agent.behaviours.person_loitering import PersonLoitering
from agent.behaviours.person_running import PersonRunning
from agent.behaviours.surface_damaged import SurfaceDamaged
from agent.behaviours.surface_tagged import SurfaceTagged
from agent.behaviours.waste_dumped import WasteDumped
from agent.behaviours.zone import Calibration, Zone
from agent.behaviours.zone_intrusion import ZoneIntrusion
from agent.contract import EventType
from agent.perception.scene import Need
from agent.settings import CameraSettings, RuleSettings, SettingsError, ZoneSettings, explain


class BehaviourClass(Protocol):
    """A behaviour's class: it knows its parameters, and makes a behaviour from a zone and them."""

    @property
    def Parameters(self) -> type[Parameters]:  # noqa: N802 - it is a class
        """The model of its parameters."""

    def __call__(self, zone: Zone, parameters: Any) -> Behaviour:
        """A behaviour that watches one zone."""


BEHAVIOURS: dict[EventType, BehaviourClass] = {
    EventType.CROWD_DENSITY: CrowdDensity,
    EventType.CROWD_GATHERING: CrowdGathering,
    EventType.CROWD_MOVEMENT: CrowdMovement,
    EventType.CROWD_FORECAST: CrowdForecast,
    EventType.ZONE_INTRUSION: ZoneIntrusion,
    EventType.DIRECTION_WRONG_WAY: DirectionWrongWay,
    EventType.PERSON_LOITERING: PersonLoitering,
    EventType.PERSON_RUNNING: PersonRunning,
    EventType.PERSON_DOWN: PersonDown,
    EventType.ALTERCATION: Altercation,
    EventType.OBJECT_ABANDONED: ObjectAbandoned,
    EventType.WASTE_DUMPED: WasteDumped,
    EventType.SURFACE_TAGGED: SurfaceTagged,
    EventType.SURFACE_DAMAGED: SurfaceDamaged,
    EventType.CAMERA_TAMPERED: CameraTampered,
}

#: What a behaviour needs beside tracks.
NEEDS: dict[EventType, frozenset[Need]] = {
    EventType.CROWD_MOVEMENT: frozenset({Need.FLOW}),
    EventType.ALTERCATION: frozenset({Need.FLOW}),
    EventType.DIRECTION_WRONG_WAY: frozenset({Need.UNKNOWN_VEHICLES}),
    EventType.OBJECT_ABANDONED: frozenset({Need.CHANGE}),
    EventType.WASTE_DUMPED: frozenset({Need.CHANGE}),
    EventType.SURFACE_TAGGED: frozenset({Need.CHANGE}),
    EventType.SURFACE_DAMAGED: frozenset({Need.CHANGE}),
}
#: What misses recall 0.9 at half a false alarm an hour in simulated trials (docs/behaviours.md): the figure, in words.
EXPERIMENTAL: dict[EventType, str] = {
    EventType.CROWD_DENSITY: "simulated recall 0.93, but 2.7 false alarms an hour with one person less than the limit",
    EventType.CROWD_MOVEMENT: "simulated recall 0.64, and 6.0 false alarms an hour, most of people who pass with room",
    EventType.CROWD_FORECAST: "simulated recall 0.42, and 1.5 false alarms an hour of zones that level off or empty",
    EventType.PERSON_LOITERING: "simulated recall 0.86, and 1.2 false alarms an hour where one comes after another",
    EventType.PERSON_RUNNING: "simulated recall 0.86, but 14 false alarms an hour of those who jog, walk fast or ride",
    EventType.PERSON_DOWN: "simulated recall 0.86, but 6.3 false alarms an hour of those who lie down slowly",
    EventType.ALTERCATION: "simulated recall 0.53, and 13 false alarms an hour, most of crowds that pass",
    EventType.ZONE_INTRUSION: "simulated recall 0.99, but 0.6 false alarms an hour along the edge",
    EventType.OBJECT_ABANDONED: "simulated recall 0.98, but 0.6 false alarms an hour, of chairs that were moved",
    EventType.WASTE_DUMPED: "simulated recall 0.98, but 0.9 false alarms an hour, of refuse that was collected",
    EventType.SURFACE_TAGGED: "simulated recall 0.84, without a false alarm",
    EventType.SURFACE_DAMAGED: "simulated recall 0.91, but 1.8 false alarms an hour, of posters",
}
#: What is about the camera itself, and watches no zone.
OF_CAMERA: frozenset[EventType] = frozenset({EventType.CAMERA_TAMPERED})
_WHOLE_PICTURE = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))


def needs(rules: Iterable[RuleSettings]) -> frozenset[Need]:
    """What these rules need beside tracks."""
    return frozenset[Need]().union(*(NEEDS.get(rule.event_type, frozenset()) for rule in rules))


def build(rule: RuleSettings, camera: CameraSettings) -> Behaviour:
    """The behaviour that a rule asks for.

    Raises:
        SettingsError: the type has no behaviour, names no zone, or its parameters cannot be used.
    """
    path = f"camera {camera.name}: rule {rule.type}" + (f" in zone {rule.zone}" if rule.zone else "")
    if rule.type.startswith(("sound.", "incident.")):
        raise SettingsError([f"{path}: is heard: write it as [[microphone.rule]]"])
    behaviour = BEHAVIOURS.get(rule.event_type)
    if behaviour is None:
        built = ", ".join(event_type.label for event_type in BEHAVIOURS)
        raise SettingsError([f"{path}: this version has no behaviour for it; it has: {built}"])
    if rule.event_type in OF_CAMERA:
        if rule.zone is not None:
            raise SettingsError([f"{path}: zone: it watches the camera itself, not a zone of it"])
        zone = Zone(None, _WHOLE_PICTURE)
    else:
        found = next((zone for zone in camera.zones if zone.name == rule.zone), None)
        if found is None:
            raise SettingsError([f"{path}: zone: it watches a zone of this camera; name one"])
        zone = _zone(found, path)
    try:
        parameters = behaviour.Parameters.model_validate(rule.parameters)
    except ValidationError as error:
        raise SettingsError(
            [f"{path}: {problem}" for problem in explain(error, behaviour.Parameters, RuleSettings.model_fields)]
        ) from None
    return behaviour(zone, parameters)


def _zone(zone: ZoneSettings, path: str) -> Zone:
    points = zone.calibration
    try:
        return Zone(zone.name, zone.polygon, Calibration(points.picture, points.ground_m) if points else None)
    except ValueError as error:
        raise SettingsError([f"{path}: {error}"]) from None
