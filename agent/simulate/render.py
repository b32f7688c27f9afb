"""Pictures of a world as a camera takes them: a place, its light and weather, people, things, marks on walls.

Known limits: people are ovals with a pattern, legs that swing and arms that strike; shadows lie in one direction;
what is far is not hazy; there is no lens, no compression, and no glass.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.simulate.backgrounds import made_up
from agent.simulate.world import Floats, Truth, View

Image = NDArray[np.uint8]
#: Something that changes with time: (K, 2), seconds and value, growing; in between it changes steadily.
Keys = Floats

#: Pictures of noise that take turns, each shifted at random: enough that no two frames are the same.
_NOISES = 4
#: Steps a second of a walking person, and the speed at which legs swing in full, metres a second.
_STEPS_HZ, _STRIDE_M_S = 1.8, 1.2
#: How fast a camera shakes, turns a second.
_SHAKE_HZ = 3.0
#: Patterns of clothing, pixels: width and height.
_CLOTH = (16, 32)


@dataclass(frozen=True, slots=True)
class Thing:
    """Something that stands, lies, is carried or drives.

    Attributes:
        path: (K, 4): seconds, x and y on the ground, and how far above it, metres. It is there from first to last.
        wide_m: Width.
        tall_m: Height.
        picture: (H, W, 4) uint8, BGR and what of it is there.
    """

    path: Floats
    wide_m: float
    tall_m: float
    picture: Image


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that comes upon a surface.

    Attributes:
        box: Where in the picture: x0 y0 x1 y1, fractions.
        picture: (H, W, 4) uint8, BGR and what of it is there.
        begin: When the first of it is there, seconds.
        takes_s: How long until all of it is.
        end: When it is gone again, seconds.
    """

    box: tuple[float, float, float, float]
    picture: Image
    begin: float
    takes_s: float = 0.0
    end: float = math.inf


@dataclass(frozen=True, slots=True)
class Shade:
    """A part of the picture that is lit otherwise than the rest.

    Attributes:
        outline: (K, 2) fractions of width and height.
        soft: How blurred its border is, share of the picture's width.
        gain: How bright it is beside the rest, over time.
        moves: Fractions of the picture's width and height a second that it moves on.
    """

    outline: Floats
    soft: float
    gain: Keys
    moves: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Tampering:
    """Something done to the camera.

    Attributes:
        kind: `cover`, `defocus`, `move` or `blind`.
        strength: 0 to 1 over time; of a cover the share that it hides, of a defocus the spread of a point in fiftieths
            of the picture's width, of a move the way from the old view to the new one.
        picture: What covers it, or what it sees then; same size as the camera's picture.
    """

    kind: str
    strength: Keys
    picture: Image


@dataclass(frozen=True, slots=True)
class Look:
    """What a picture shows beside people.

    Attributes:
        background: (H, W, 3) uint8, BGR, of the size of the camera's picture.
        light: How bright everything is over time; 1 is as the background.
        noise: Standard deviation of the sensor's noise, of 255.
        rain: Streaks a frame.
        shake: How far the picture shakes over time, pixels, standard deviation.
        sun: Where shadows of upright things end, heights to the right and downwards, and how dark they are, 0 to 1.
        shades: Parts that are lit otherwise.
        things: Beside people.
        marks: On surfaces, behind whoever stands before them.
        blows: By the number of a person how far the hands strike out over time, body heights.
        tampering: What is done to the camera.
    """

    background: Image
    light: Keys = field(default_factory=lambda: np.array([[0.0, 1.0]]))
    noise: float = 3.0
    rain: int = 0
    shake: Keys = field(default_factory=lambda: np.array([[0.0, 0.0]]))
    sun: tuple[float, float, float] = (0.3, 0.05, 0.35)
    shades: tuple[Shade, ...] = ()
    things: tuple[Thing, ...] = ()
    marks: tuple[Mark, ...] = ()
    blows: Mapping[int, Keys] = field(default_factory=dict)
    tampering: tuple[Tampering, ...] = ()


def at(keys: Keys, time: float) -> float:
    """The value at a moment."""
    return float(np.interp(time, keys[:, 0], keys[:, 1]))


class Painter:
    """Paints one camera's view."""

    def __init__(
        self, view: View, seed: int, look: Look | None = None, vehicles: Mapping[int, Image] | None = None
    ) -> None:
        """Set up.

        Args:
            view: The camera.
            seed: Seed of the noise and of clothing, and of the background where no look is given.
            look: What the picture shows beside people.
            vehicles: Pictures, as of a `Thing`, of those of the world who are no people, by number.
        """
        rng = np.random.default_rng(seed)
        self._view = view
        self._seed = seed
        self._look = look or Look(made_up(rng, view.width, view.height))
        self._vehicles = dict(vehicles or {})
        size = (view.height, view.width)
        noise = [rng.normal(0, self._look.noise, (*size, 3)) for _ in range(_NOISES)]
        self._noises = [tuple(np.clip(part, 0, 255).astype(np.uint8) for part in (n, -n)) for n in noise]
        self._phases = rng.uniform(0, 2 * math.pi, 4)
        self._cloth: dict[int, Image] = {}
        self._shades = [_soft(shade, size) for shade in self._look.shades]

    def paint(self, truth: Truth, time: float) -> Image:
        """The picture at this time, seconds from the beginning: (H, W, 3) uint8, BGR."""
        look = self._look
        picture = look.background.copy()
        for mark in look.marks:
            self._mark(picture, mark, time)
        things = self._things(time)
        self._shadows(picture, truth, things)
        drawn = [(float(depth), row, None) for row, depth in enumerate(truth.depths.tolist())]
        for _, row, thing in sorted(
            [*drawn, *((depth, k, box) for k, (depth, box, _) in enumerate(things))], key=lambda one: -one[0]
        ):
            if thing is not None:
                _paste(picture, things[row][2], thing)
            elif int(truth.ids[row]) in self._vehicles:
                _paste(picture, self._vehicles[int(truth.ids[row])], truth.whole[row].tolist())
            else:
                self._figure(picture, int(truth.ids[row]), truth.whole[row].tolist(), float(truth.speeds[row]), time)
        for shade, mask in zip(look.shades, self._shades, strict=True):
            _shade(picture, shade, mask, time)
        for tampering in look.tampering:
            picture = self._tamper(picture, tampering, time)
        return self._sensed(picture, time)

    def _sensed(self, picture: Image, time: float) -> Image:
        """As the sensor gives it: exposure, rain before it, shake and noise."""
        look = self._look
        rng = np.random.default_rng([self._seed, round(1000 * time)])
        if look.rain:
            _rain(picture, look.rain, rng)
        shake = at(look.shake, time)
        if shake > 0:
            a, b, c, d = self._phases
            turn = 2 * math.pi * _SHAKE_HZ * time
            x = shake * (math.sin(turn + a) + math.sin(1.7 * turn + b))
            y = shake * (math.sin(1.3 * turn + c) + math.sin(0.6 * turn + d))
            size = (self._view.width, self._view.height)
            picture = np.asarray(
                cv2.warpAffine(picture, np.array([[1, 0, x], [0, 1, y]]), size, borderMode=cv2.BORDER_REPLICATE),
                np.uint8,
            )
        gain = at(look.light, time)
        if gain != 1:
            picture = np.asarray(cv2.convertScaleAbs(picture, alpha=gain), np.uint8)
        more, less = self._noises[int(rng.integers(_NOISES))]
        down, across = (int(rng.integers(side)) for side in picture.shape[:2])
        return np.asarray(
            cv2.subtract(cv2.add(picture, _rolled(more, down, across)), _rolled(less, down, across)), np.uint8
        )

    def _things(self, time: float) -> list[tuple[float, list[float], Image]]:
        """Depth, box and picture of the things that are there."""
        here = []
        for thing in self._look.things:
            way = thing.path
            if not way[0, 0] <= time <= way[-1, 0]:
                continue
            x, y, lift = (float(np.interp(time, way[:, 0], way[:, column])) for column in (1, 2, 3))
            ends, depth = self._view.project(np.array([[x, y, lift], [x, y, lift + thing.tall_m]]))
            half = thing.wide_m / 2 * self._view.focal / max(float(depth[0]), 0.1)
            middle = float(ends[0, 0])
            box = [middle - half, float(ends[1, 1]), middle + half, float(ends[0, 1])]
            here.append((float(depth[0]) - 0.01, box, thing.picture))
        return here

    def _shadows(self, picture: Image, truth: Truth, things: Sequence[tuple[float, list[float], Image]]) -> None:
        right, down, dark = self._look.sun
        if not dark:
            return
        mask = np.zeros(picture.shape[:2], np.uint8)
        for x0, y0, x1, y1 in [*truth.whole.tolist(), *(box for _, box, _ in things)]:
            tall, wide = y1 - y0, x1 - x0
            foot = ((x0 + x1) / 2, y1)
            head = (foot[0] + right * tall, foot[1] + down * tall)
            middle = (round((foot[0] + head[0]) / 2), round((foot[1] + head[1]) / 2))
            axes = (max(1, round(math.hypot(right * tall, down * tall) / 2 + 0.3 * wide)), max(1, round(0.18 * wide)))
            cv2.ellipse(mask, middle, axes, math.degrees(math.atan2(down, right)), 0, 360, 255, -1)
        darker = cv2.convertScaleAbs(picture, alpha=1 - dark)
        cv2.copyTo(darker, mask, picture)

    def _mark(self, picture: Image, mark: Mark, time: float) -> None:
        if not mark.begin <= time < mark.end:
            return
        done = 1.0 if not mark.takes_s else min(1.0, (time - mark.begin) / mark.takes_s)
        shown = mark.picture[:, : max(1, round(done * mark.picture.shape[1]))]
        x0, y0, x1, y1 = np.multiply(mark.box, (self._view.width, self._view.height) * 2).tolist()
        _paste(picture, shown, [x0, y0, x0 + done * (x1 - x0), y1])

    def _figure(self, picture: Image, number: int, box: list[float], speed: float, time: float) -> None:
        """A person in patterned clothes."""
        x0, y0, x1, y1 = box
        tall, wide = y1 - y0, x1 - x0
        reach = at(self._look.blows[number], time) * max(tall, wide) if number in self._look.blows else 0.0
        margin = max(reach, 1.0)
        height, width = picture.shape[:2]
        left, top = max(0, math.floor(x0 - margin)), max(0, math.floor(y0 - margin))
        right, bottom = min(width, math.ceil(x1 + margin)), min(height, math.ceil(y1 + 1))
        if right - left < 2 or bottom - top < 2:
            return
        mask = np.zeros((bottom - top, right - left), np.uint8)
        middle = (x0 + x1) / 2 - left

        def place(x: float, y: float) -> tuple[int, int]:
            return round(middle + x), round(y0 - top + y * tall)

        if wide > tall:  # lies
            cv2.ellipse(
                mask, place(0, 0.6), (max(1, round(0.42 * wide)), max(1, round(0.36 * tall))), 0, 0, 360, 255, -1
            )
            side = 1 if number % 2 else -1
            cv2.circle(mask, place(side * 0.43 * wide, 0.5), max(1, round(0.3 * tall)), 255, -1)
        else:
            swing = 0.25 * wide * min(speed / _STRIDE_M_S, 1.5) * math.sin(2 * math.pi * _STEPS_HZ * time + number)
            for leg in (swing, -swing, 0.12 * wide, -0.12 * wide)[: 2 if speed > 0.2 else 4]:
                cv2.line(mask, place(0, 0.5), place(leg, 0.98), 255, max(1, round(0.2 * wide)))
            cv2.ellipse(
                mask, place(0, 0.37), (max(1, round(0.33 * wide)), max(1, round(0.22 * tall))), 0, 0, 360, 255, -1
            )
            cv2.circle(mask, place(0, 0.08), max(1, round(0.075 * tall)), 255, -1)
        if reach > 0:
            for hand in (0, 1):
                across, along = _struck(number, hand, time)
                end = (round(middle + reach * across), round(y0 - top + 0.3 * tall + reach * along))
                cv2.line(mask, place(0, 0.25), end, 255, max(1, round(0.16 * wide)))
        cloth = self._cloth.get(number)
        if cloth is None:
            cloth = self._cloth[number] = _clothes(self._seed, number)
        dressed = cv2.resize(cloth, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR)
        cv2.copyTo(dressed, mask, picture[top:bottom, left:right])

    def _tamper(self, picture: Image, tampering: Tampering, time: float) -> Image:
        strength = at(tampering.strength, time)
        if strength <= 0:
            return picture
        width = picture.shape[1]
        if tampering.kind == "cover":
            edge = round(strength * width)
            picture[:, :edge] = tampering.picture[:, :edge]
            return picture
        if tampering.kind == "defocus":
            return np.asarray(cv2.GaussianBlur(picture, (0, 0), max(0.05, strength * width / 50)), np.uint8)
        if tampering.kind == "move":
            edge = round(strength * width)
            return np.concatenate([picture[:, edge:], tampering.picture[:, :edge]], axis=1)
        glare = cv2.addWeighted(picture, 1 - 0.97 * strength, np.full_like(picture, 255), strength, 0)
        return np.asarray(glare, np.uint8)


def _rolled(noise: Image, down: int, across: int) -> Image:
    """Shifted around, without a copy more than is needed."""
    rolled = np.empty_like(noise)
    height, width = noise.shape[:2]
    for to, source in ((slice(down, height), slice(0, height - down)), (slice(0, down), slice(height - down, height))):
        rolled[to, across:] = noise[source, : width - across]
        rolled[to, :across] = noise[source, width - across :]
    return rolled


def _struck(number: int, hand: int, time: float) -> tuple[float, float]:
    """Where a hand is that strikes: irregular, some three blows a second; each coordinate -1 to 1."""
    phase = 2.4 * number + 1.1 * hand
    turn = 2 * math.pi * time
    across = math.sin(2.6 * turn + phase) * math.cos(0.9 * turn + 2 * phase)
    along = 0.7 * math.sin(2.1 * turn + 3 * phase) * math.cos(0.7 * turn + phase)
    return across, along


def _clothes(seed: int, number: int) -> Image:
    """A pattern: head, jacket, trousers."""
    rng = np.random.default_rng([seed, number])
    width, height = _CLOTH
    cloth = np.empty((height, width, 3), np.float32)
    cloth[:5] = rng.uniform((70, 95, 130), (140, 165, 205))
    cloth[5:18] = rng.uniform(20, 220, 3)
    cloth[18:] = rng.uniform(20, 120, 3)
    cloth += cv2.resize(rng.normal(0, 22, (8, 4, 3)).astype(np.float32), _CLOTH)
    return np.clip(cloth, 0, 255).astype(np.uint8)


def _paste(picture: Image, sprite: Image, box: Sequence[float]) -> None:
    """Lay a picture with its mask over another; what is outside is cut."""
    x0, y0 = round(box[0]), round(box[1])
    x1, y1 = max(x0 + 1, round(box[2])), max(y0 + 1, round(box[3]))
    height, width = picture.shape[:2]
    left, top, right, bottom = max(0, x0), max(0, y0), min(width, x1), min(height, y1)
    if right <= left or bottom <= top or x1 - x0 > 8 * width or y1 - y0 > 8 * height:
        return
    sized = cv2.resize(sprite, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA)
    cut = sized[top - y0 : bottom - y0, left - x0 : right - x0]
    opaque = cut[..., 3:].astype(np.float32) / 255
    under = picture[top:bottom, left:right]
    under[...] = (under + opaque * (cut[..., :3].astype(np.float32) - under)).astype(np.uint8)


def _soft(shade: Shade, size: tuple[int, int]) -> NDArray[np.float32]:
    mask = np.zeros(size, np.float32)
    corners = np.round(shade.outline * (size[1], size[0])).astype(np.int32)
    cv2.fillPoly(mask, [corners], 1.0)
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), max(0.3, shade.soft * size[1])), np.float32)


def _shade(picture: Image, shade: Shade, mask: NDArray[np.float32], time: float) -> None:
    gain = at(shade.gain, time)
    if gain == 1:
        return
    if any(shade.moves):
        height, width = mask.shape
        shift = np.array([[1, 0, shade.moves[0] * time * width], [0, 1, shade.moves[1] * time * height]])
        mask = np.asarray(cv2.warpAffine(mask, shift, (width, height)), np.float32)
    factor = 1 + (gain - 1) * mask
    picture[...] = np.clip(picture * factor[..., None], 0, 255).astype(np.uint8)


def _rain(picture: Image, streaks: int, rng: np.random.Generator) -> None:
    height, width = picture.shape[:2]
    mask = np.zeros((height, width), np.uint8)
    long = height / 12
    for x, y in rng.uniform((0, 0), (width, height), (streaks, 2)).tolist():
        cv2.line(mask, (round(x), round(y)), (round(x + 0.15 * long), round(y + long)), 255, 1)
    cv2.copyTo(cv2.convertScaleAbs(picture, beta=35), mask, picture)
