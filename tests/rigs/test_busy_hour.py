"""What an agent keeps of a busy hour: nothing that grows. Its part is time: a minute or two of a processor."""

from __future__ import annotations

import gc
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType

import numpy as np
import pytest

from agent.behaviours.registry import BEHAVIOURS, OF_CAMERA
from agent.behaviours.watch import Watch
from agent.contract import EventType
from agent.settings import CameraSettings
from agent.simulate.source import open_sim

pytestmark = [pytest.mark.rig, pytest.mark.timeout(900)]

SECONDS = 3600
WALKERS_A_MINUTE = 20
FPS = 2
TOLD: dict[EventType, dict[str, object]] = {EventType.DIRECTION_WRONG_WAY: {"allowed": (1, 0)}}


def everything_on() -> Watch:
    rules = [
        {"type": kind.label, **({} if kind in OF_CAMERA else {"zone": "square"}), **TOLD.get(kind, {})}
        for kind in BEHAVIOURS
    ]
    whole = [(0, 0), (1, 0), (1, 1), (0, 1)]
    return Watch(
        CameraSettings.model_validate(
            {"name": "camera", "source": "sim:", "zone": [{"name": "square", "polygon": whole}], "rule": rules}
        )
    )


def held_by(root: object) -> tuple[int, int]:
    """How many objects it holds, however deep, and how many bytes of arrays are among them."""
    of_program = (type, ModuleType, FunctionType, BuiltinFunctionType, MethodType)
    seen = {id(root): root}
    waiting = [root]
    while waiting:
        for one in gc.get_referents(waiting.pop()):
            if id(one) not in seen and not isinstance(one, of_program):
                seen[id(one)] = one
                waiting.append(one)
    return len(seen), sum(one.nbytes for one in seen.values() if isinstance(one, np.ndarray))


def test_an_hour_of_a_busy_scene_leaves_nothing_behind() -> None:
    options = f"flow={WALKERS_A_MINUTE}&seconds={SECONDS}&fps={FPS}&width=160&height=120"
    source, detector = open_sim(f"sim:walkers?{options}&detections=1", replay=True)
    assert detector is not None
    watch = everything_on()
    held = []
    for index in range(SECONDS * FPS):
        frame = source.read(1.0)
        assert frame is not None
        watch.update(frame, detector.detect([(0, frame)])[0])
        if (index + 1) % (60 * FPS) == 0:
            held.append(held_by(watch))
    objects, arrays = np.array(held).T

    # What has a memory of minutes is full after ten; some 1,200 people have passed after the hour.
    early, late = slice(10, 30), slice(40, 60)
    assert objects[late].mean() < 1.05 * objects[early].mean()
    assert arrays[late].mean() < 1.05 * arrays[early].mean()
    assert objects[late].max() < 1.1 * objects[early].max()
