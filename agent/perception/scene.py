"""What perception gives to behaviours: detections, tracks, and the scene of one tick. All of it dies with the tick."""

from __future__ import annotations

import enum
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from agent.capture.frame import Frame

if TYPE_CHECKING:
    from agent.perception.scale import PersonScale

T = TypeVar("T")
FloatArray = NDArray[np.float32]


#: A walker is half a second behind another; who is out of sight for longer may as well have left.
COAST_S = 0.5


class ObjectClass(enum.IntEnum):
    """What the detector tells apart. `VEHICLE` is a moving thing on a road that no model has named."""

    PERSON = 0
    BICYCLE = 1
    MOTORCYCLE = 2
    CAR = 3
    BUS = 4
    TRUCK = 5
    VEHICLE = 6

    @property
    def label(self) -> str:
        """The name in settings."""
        return self.name.lower()


#: Names that a rule may use for more than one class.
CLASS_GROUPS: dict[str, frozenset[ObjectClass]] = {
    "vehicle": frozenset(
        {ObjectClass.MOTORCYCLE, ObjectClass.CAR, ObjectClass.BUS, ObjectClass.TRUCK, ObjectClass.VEHICLE}
    ),
    **{c.label: frozenset({c}) for c in ObjectClass if c is not ObjectClass.VEHICLE},
}


@dataclass(frozen=True, slots=True)
class Detections:
    """Boxes of one frame.

    Attributes:
        boxes: (N, 4) float32, x0 y0 x1 y1, pixels of the source frame.
        scores: (N,) float32, 0 to 1.
        classes: (N,) uint8, `ObjectClass`.
    """

    boxes: FloatArray
    scores: FloatArray
    classes: NDArray[np.uint8]

    @classmethod
    def empty(cls) -> Detections:
        """No boxes."""
        return cls(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.uint8))

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True, slots=True)
class Tracks:
    """Confirmed tracks at one moment; each array has one row a track.

    Attributes:
        ids: (N,) int64. A small number that lives as long as the track and never leaves the process.
        boxes: (N, 4) float32, x0 y0 x1 y1, pixels of the source frame; predicted while the object is not seen.
        velocities: (N, 2) float32, of the box centre, pixels per second.
        classes: (N,) uint8, `ObjectClass`, by vote over the track's life.
        scores: (N,) float32, score of the last matched detection.
        ages: (N,) float32, seconds since the track began.
        unseen: (N,) float32, seconds since it was last matched with a detection; 0 when matched in this frame.
    """

    ids: NDArray[np.int64]
    boxes: FloatArray
    velocities: FloatArray
    classes: NDArray[np.uint8]
    scores: FloatArray
    ages: FloatArray
    unseen: FloatArray

    @classmethod
    def empty(cls) -> Tracks:
        """No tracks."""
        none = np.empty(0, np.float32)
        return cls(
            np.empty(0, np.int64),
            np.empty((0, 4), np.float32),
            np.empty((0, 2), np.float32),
            np.empty(0, np.uint8),
            none,
            none,
            none,
        )

    def __len__(self) -> int:
        return len(self.ids)

    def persons(self) -> NDArray[np.bool_]:
        """Which are persons who are there now: (N,) bool."""
        return np.asarray((self.classes == ObjectClass.PERSON) & (self.unseen <= COAST_S))


class Need(enum.Enum):
    """What costs time, and is there for behaviours that ask for it alone."""

    FLOW = enum.auto()
    UNKNOWN_VEHICLES = enum.auto()
    CHANGE = enum.auto()


@dataclass(frozen=True, slots=True)
class Flow:
    """How the picture moves, in a grid of square cells; a crowd moves though nobody in it can be told apart.

    Attributes:
        cell: Side of a cell, pixels of the source frame.
        velocities: (rows, columns, 2) float32, mean of what moves in each cell, x and y, pixels per second.
        moving: (rows, columns) float32, share of each cell that moves, 0 to 1.
        acceleration: (rows, columns) float32, mean of how much what is there has sped up, slowed down or turned since
            the last look, pixels per second squared.
    """

    cell: float
    velocities: FloatArray
    moving: FloatArray
    acceleration: FloatArray

    def centres(self) -> FloatArray:
        """(rows, columns, 2) float32: the middle of each cell, x and y, pixels of the source frame."""
        return np.asarray((grid(*self.moving.shape) + np.float32(0.5)) * np.float32(self.cell), np.float32)


@lru_cache(maxsize=16)  # two for each camera
def grid(rows: int, columns: int) -> FloatArray:
    """(rows, columns, 2) float32: x and y of each place; not to be written to."""
    return np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).astype(np.float32)


@dataclass(frozen=True, slots=True)
class StillThing:
    """Something that was not there before, does not move, and is not a person as far as anybody knows.

    Attributes:
        number: Lives as long as the thing, and never leaves the process.
        box: x0 y0 x1 y1, pixels of the source frame.
        since: When it was first seen where it is, seconds on the source's clock.
        area: Share of the box that differs from what was there before, 0 to 1.
        quiet_since: Since when nothing has moved in it and nobody was found in it, seconds on the source's clock.
        stroke: Width of its thickest part over the diagonal of its extent: 0.1 to 0.3 for writing, 0.7 for a square.
        fill: Share that its convex outline fills of the smallest rectangle around it, turned as may be, 0 to 1.
        likely: How likely it is a bag or heap, writing, or neither; None where there is no model to tell.
    """

    number: int
    box: tuple[float, float, float, float]
    since: float
    area: float
    quiet_since: float
    stroke: float
    fill: float
    likely: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Scene:
    """One tick of one camera, as behaviours see it.

    Attributes:
        frame: The source frame; it lives no longer than the tick.
        tracks: Confirmed tracks.
        detections: What the detector found, the faint and the unconfirmed too.
        scale: How tall people are in this camera's picture, as far as is known by now.
        flow: How the picture moves, when it was looked at in this tick and a behaviour needs it; else None.
        still: What has come and stayed, where a behaviour needs it; else empty.
        moving: (N, 4) float32, x0 y0 x1 y1, pixels: what differs from the background.
    """

    frame: Frame
    tracks: Tracks
    detections: Detections
    scale: PersonScale
    flow: Flow | None = None
    still: tuple[StillThing, ...] = ()
    moving: FloatArray = field(default_factory=lambda: np.empty((0, 4), np.float32))
    _known: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def time(self) -> float:
        """Seconds on the source's clock; only differences mean anything."""
        return self.frame.time

    @cached_property
    def width(self) -> int:
        """Of the source frame, pixels."""
        return int(self.frame.image.shape[1])

    @cached_property
    def height(self) -> int:
        """Of the source frame, pixels."""
        return int(self.frame.image.shape[0])

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What several behaviours ask of this scene, worked out for the first of them."""
        if key not in self._known:
            self._known[key] = make()
        known: T = self._known[key]
        return known

    @cached_property
    def persons(self) -> NDArray[np.bool_]:
        """Which tracks are persons who are there now: (N,) bool."""
        return self.tracks.persons()

    @cached_property
    def feet(self) -> FloatArray:
        """(N, 2) float32: the middle of each box's lower edge, fractions of width and height, y down."""
        boxes = self.tracks.boxes
        middle = (boxes[:, 0] + boxes[:, 2]) * (0.5 / self.width)
        return np.stack([middle, boxes[:, 3] / self.height], axis=1).astype(np.float32)


class Detector(Protocol):
    """Finds objects in the newest frames of all cameras at once."""

    def detect(self, frames: Sequence[tuple[int, Frame]]) -> list[Detections]:
        """The objects of each frame, in the order of `frames`.

        Args:
            frames: Index of the camera, and its frame.
        """
