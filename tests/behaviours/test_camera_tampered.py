from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from agent.behaviours.episode import EpisodeChange
from agent.behaviours.registry import build
from agent.capture.frame import Frame
from agent.contract import Phase
from agent.perception.scale import PersonScale
from agent.perception.scene import Detections, Scene, Tracks
from agent.settings import CameraSettings, SettingsError

Image = NDArray[np.uint8]
RANDOM = np.random.default_rng(3)


def street(seed: int) -> Image:
    random = np.random.default_rng(seed)
    image = np.full((360, 640, 3), 120, np.uint8)
    for _ in range(120):
        x, y = random.integers(640), random.integers(360)
        w, h = random.integers(5, 90, 2)
        cv2.rectangle(image, (int(x), int(y)), (int(x + w), int(y + h)), random.integers(20, 230, 3).tolist(), -1)
    return image


STREET = street(1)


NOISES = [RANDOM.normal(0, 3, STREET.shape).round().astype(np.int16) for _ in range(8)]


def seen(image: Image) -> Image:
    return np.asarray(np.clip(image + NOISES[RANDOM.integers(len(NOISES))], 0, 255), np.uint8)


def view(image: Image, time: float) -> Scene:
    return Scene(Frame(image, time, 0), Tracks.empty(), Detections.empty(), PersonScale())


def watched(trouble: Callable[[Image, float], Image], until: float = 60, **parameters: float) -> list[EpisodeChange]:
    """What is told when the view is changed from the 30th second on."""
    settings = CameraSettings.model_validate(
        {"name": "camera", "source": "file:none", "rule": [{"type": "camera.tampered", **parameters}]}
    )
    tampered = build(settings.rules[0], settings)
    changes: list[EpisodeChange] = []
    for tick in range(round(until * 2)):
        time = tick / 2
        image = trouble(STREET, time - 30) if time >= 30 else STREET
        changes += tampered.update(view(seen(image), time))
    return changes


@pytest.mark.parametrize(
    "trouble",
    [
        lambda image, _: np.full_like(image, 25),
        lambda image, _: np.full_like(image, 255),
        lambda image, _: cv2.GaussianBlur(image, (0, 0), 6),
        lambda *_: street(2),
        lambda image, _: np.roll(image, 150, axis=1),
    ],
    ids=["covered", "blinded", "out of focus", "another view", "turned"],
)
def test_another_view_is_told_within_its_time(trouble: Callable[[Image, float], Image]) -> None:
    changes = watched(trouble)
    assert [change.phase for change in changes] == [Phase.STARTED]
    assert 35 <= changes[0].time <= 37
    assert changes[0].zone is None


def rain(image: Image, since: float) -> Image:
    random = np.random.default_rng(round(since * 100))
    wet: Image = image.copy()
    for x, y in random.integers(0, 640, (300, 2)).tolist():
        cv2.line(wet, (x, y % 360), (x + 2, y % 360 + 12), (200, 200, 200), 1)
    return wet


def lorry(image: Image, since: float) -> Image:
    """It fills half of the picture and stays."""
    hidden: Image = image.copy()
    del since
    hidden[100:, 100:420] = (40, 90, 160)
    return hidden


@pytest.mark.parametrize(
    "trouble",
    [
        lambda image, _: (image * 0.25).astype(np.uint8),
        lambda image, since: (image * max(0.2, 1 - since / 25)).astype(np.uint8),
        lambda image, _: np.clip(image * 1.5 + 20, 0, 255).astype(np.uint8),
        rain,
        lorry,
        lambda image, since: street(4) if since < 3 else image,
    ],
    ids=["lights out", "night falls", "sun comes out", "rain", "half hidden", "for three seconds"],
)
def test_what_is_no_tampering(trouble: Callable[[Image, float], Image]) -> None:
    assert not watched(trouble)


def test_it_ends_when_the_view_is_back_or_has_become_usual() -> None:
    back = watched(lambda image, since: street(2) if since < 12 else image)
    assert [change.phase for change in back] == [Phase.STARTED, Phase.ENDED]
    usual = watched(lambda *_: street(2), until=600)
    assert [change.phase for change in usual if change.phase is not Phase.ONGOING] == [Phase.STARTED, Phase.ENDED]


def test_a_blank_wall_has_no_edges_to_miss() -> None:
    settings = CameraSettings.model_validate({"name": "c", "source": "file:x", "rule": [{"type": "camera.tampered"}]})
    tampered = build(settings.rules[0], settings)
    for tick in range(200):
        grey = np.full((360, 640, 3), 120 if tick < 100 else 30, np.uint8)
        assert not list(tampered.update(view(grey, tick / 4)))


def test_it_watches_no_zone() -> None:
    zone = {"name": "half", "polygon": ((0, 0), (0.5, 0), (0.5, 1))}
    settings = CameraSettings.model_validate(
        {"name": "c", "source": "file:x", "zone": [zone], "rule": [{"type": "camera.tampered", "zone": "half"}]}
    )
    with pytest.raises(SettingsError, match="watches the camera itself"):
        build(settings.rules[0], settings)
