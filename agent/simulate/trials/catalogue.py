"""Which trials there are of each event type: what should be told, and what must not."""

from __future__ import annotations

from agent.contract import EventType
from agent.simulate.trials import camera, crowd, person, still, zone
from agent.simulate.trials.stage import Maker

#: They take turns.
POSITIVE: dict[EventType, tuple[Maker, ...]] = {
    EventType.CROWD_DENSITY: (crowd.density,),
    EventType.CROWD_GATHERING: (crowd.gathering,),
    EventType.CROWD_MOVEMENT: (crowd.surge, crowd.dispersal, crowd.convergence, crowd.counterflow),
    EventType.CROWD_FORECAST: (crowd.forecast,),
    EventType.ZONE_INTRUSION: (zone.intrusion,),
    EventType.DIRECTION_WRONG_WAY: (zone.wrong_way,),
    EventType.PERSON_DOWN: (person.down,),
    EventType.PERSON_RUNNING: (person.running,),
    EventType.PERSON_LOITERING: (person.loitering,),
    EventType.ALTERCATION: (person.fight,),
    EventType.OBJECT_ABANDONED: (still.abandoned,),
    EventType.WASTE_DUMPED: (still.dumped,),
    EventType.SURFACE_TAGGED: (still.tagged,),
    EventType.SURFACE_DAMAGED: (still.damaged,),
    EventType.CAMERA_TAMPERED: (camera.tampered,),
}
NEGATIVE: dict[EventType, tuple[Maker, ...]] = {
    EventType.CROWD_DENSITY: (crowd.density_below, crowd.density_passing),
    EventType.CROWD_GATHERING: (crowd.gathering_few, crowd.gathering_brief, crowd.gathering_passing),
    EventType.CROWD_MOVEMENT: (crowd.movement_not,),
    EventType.CROWD_FORECAST: (crowd.forecast_steady,),
    EventType.ZONE_INTRUSION: (zone.intrusion_not,),
    EventType.DIRECTION_WRONG_WAY: (zone.wrong_way_not,),
    EventType.PERSON_DOWN: (person.down_not,),
    EventType.PERSON_RUNNING: (person.running_not,),
    EventType.PERSON_LOITERING: (person.loitering_not,),
    EventType.ALTERCATION: (person.fight_not,),
    EventType.OBJECT_ABANDONED: (still.abandoned_not,),
    EventType.WASTE_DUMPED: (still.dumped_not,),
    EventType.SURFACE_TAGGED: (still.tagged_not,),
    EventType.SURFACE_DAMAGED: (still.damaged_not,),
    EventType.CAMERA_TAMPERED: (camera.tampered_not,),
}
