"""Objects in pictures: a network's input and output, and which detector serves.

The networks read here make one prediction for each cell of a grid, without anchors: our own and the YOLOX family (Ge et
al., 2021, arXiv:2107.08430) with three grids, FastestDet (github.com/dog-qiuqiu/FastestDet) with one. The frame lies at
the upper left of the input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.capture.frame import Frame
from agent.contract import NO_CAMERA, DetectorState
from agent.device.l4t import l4t
from agent.inference.backend import Backend, InferenceError, select
from agent.inference.registry import DetectorModel, PictureInput, Registry
from agent.perception.motion import MotionDetector
from agent.perception.scene import Detections, Detector, FloatArray, ObjectClass
from agent.settings import InferenceSettings

#: Boxes of rival classes that share more (intersection over union) are one object.
NMS_OVERLAP = 0.5
#: What a thing can only be one of: a van looks like car and truck at once, a cyclist is a person and a bicycle.
_RIVALS = np.zeros(len(ObjectClass), np.uint8)
_RIVALS[[ObjectClass.BICYCLE, ObjectClass.MOTORCYCLE]] = 1
_RIVALS[[ObjectClass.CAR, ObjectClass.BUS, ObjectClass.TRUCK, ObjectClass.VEHICLE]] = 2
_STRIDES = (8, 16, 32)
_NO_CLASS = 0xFF


class Letterbox:
    """Frames of any size as one input tensor, each scaled without distortion and padded right and below."""

    def __init__(self, spec: PictureInput) -> None:
        self._spec = spec
        self._padding = spec.letterbox * spec.white / 255
        self._batch = np.empty((0, 3, spec.height, spec.width), np.float32)
        self._sizes: list[tuple[int, int]] = []
        # Memory that is there already: fresh pages for each frame would cost more than the scaling.
        self._scaled = np.empty(3 * spec.height * spec.width, np.uint8)
        self._planes = np.empty_like(self._scaled)

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width that a frame of this size has in the tensor, pixels."""
        scale = min(self._spec.height / height, self._spec.width / width)
        return max(1, round(height * scale)), max(1, round(width * scale))

    def fill(self, images: Sequence[NDArray[np.uint8]]) -> FloatArray:
        """The input tensor, (N, 3, height, width) float32; valid until the next call.

        Args:
            images: N pictures, (H, W, 3) uint8, BGR.
        """
        if len(images) > len(self._batch):
            self._batch = np.empty((len(images), *self._batch.shape[1:]), np.float32)
            self._sizes = [(0, 0)] * len(images)
        for place, image in enumerate(images):
            self._draw(place, image)
        return self._batch[: len(images)]

    def _draw(self, place: int, image: NDArray[np.uint8]) -> None:
        height, width = size = self.size(*image.shape[:2])
        if self._sizes[place] != size:
            self._batch[place] = self._padding
            self._sizes[place] = size
        area = height * width
        scaled = self._scaled[: 3 * area].reshape(height, width, 3)
        planes = self._planes[: 3 * area].reshape(3, height, width)
        cv2.resize(image, (width, height), dst=scaled)
        # Splitting bytes and widening whole planes takes half the time of one transposed copy.
        cv2.split(scaled, list(planes))
        if self._spec.colour == "rgb":
            planes = planes[::-1]
        np.multiply(planes, np.float32(self._spec.white / 255), out=self._batch[place, :, :height, :width])


class Head(Protocol):
    """Reads one family of networks."""

    def channels(self, shape: tuple[int | None, ...]) -> int | None:
        """Number of classes, when a network with an output of this shape is of the family; else None."""

    def read(self, raw: FloatArray, score: float) -> tuple[FloatArray, FloatArray, NDArray[np.intp]]:
        """The predictions of at least this score.

        Args:
            raw: The network's output for one frame.
            score: Lowest score, 0 to 1.

        Returns:
            Boxes, (N, 4) float32, x0 y0 x1 y1 in pixels of the input; scores, (N,) float32; the network's number of
            the likeliest class, (N,).
        """


class YoloxHead:
    """Box, objectness and classes for each cell of three grids."""

    def __init__(self, spec: PictureInput) -> None:
        cells, strides = [], []
        for stride in _STRIDES:
            rows, columns = spec.height // stride, spec.width // stride
            y, x = np.divmod(np.arange(rows * columns), columns)
            cells.append(np.stack([x, y], axis=1))
            strides.append(np.full((rows * columns, 1), stride))
        self._cells = np.concatenate(cells).astype(np.float32)
        self._strides = np.concatenate(strides).astype(np.float32)

    def channels(self, shape: tuple[int | None, ...]) -> int | None:
        """Number of classes of (batch, cells, 5 + classes); else None."""
        cells, channels = shape[1:] if len(shape) == 3 else (None, None)
        return channels - 5 if cells == len(self._cells) and channels is not None else None

    def read(self, raw: FloatArray, score: float) -> tuple[FloatArray, FloatArray, NDArray[np.intp]]:
        """The predictions of at least this score; only they are decoded.

        Args:
            raw: (cells, 5 + classes): x and y in cells from the cell's corner, the logarithm of width and height in
                cells, objectness and class probabilities, 0 to 1.
            score: Lowest objectness times class probability.

        Returns:
            As `Head.read`.
        """
        kept = np.flatnonzero(raw[:, 4] >= score)  # no class is likelier than 1
        likely = raw[kept]
        classes = likely[:, 5:].argmax(axis=1)
        scores = likely[:, 4] * likely[np.arange(len(likely)), 5 + classes]
        enough = scores >= score
        kept, likely = kept[enough], likely[enough]
        strides = self._strides[kept]
        centres = (likely[:, :2] + self._cells[kept]) * strides
        halves = np.exp(likely[:, 2:4]) * (strides / 2)
        return np.hstack([centres - halves, centres + halves]), scores[enough], classes[enough]


class FastestDetHead:
    """Objectness, box and classes for each cell of one grid, the coarser of its kind with 16 pixels a cell."""

    def __init__(self, spec: PictureInput) -> None:
        self._spec = spec
        self._grid = (spec.height // 16, spec.width // 16)

    def channels(self, shape: tuple[int | None, ...]) -> int | None:
        """Number of classes of (batch, 5 + classes, rows, columns); else None."""
        channels, *grid = shape[1:] if len(shape) == 4 else (None,)
        return channels - 5 if tuple(grid) == self._grid and channels is not None else None

    def read(self, raw: FloatArray, score: float) -> tuple[FloatArray, FloatArray, NDArray[np.intp]]:
        """The predictions of at least this score.

        Args:
            raw: (5 + classes, rows, columns): objectness, 0 to 1; the box's middle, from -1 to 1 in cells from the
                cell's corner once squashed by tanh; its width and height, in inputs once squashed by the logistic
                function; class probabilities, 0 to 1.
            score: Lowest of objectness to the power 0.6 times class probability to the power 0.4.

        Returns:
            As `Head.read`.
        """
        objectness, place, size, classes = np.split(raw, [1, 3, 5])
        likeliest = classes.argmax(axis=0)
        scores = objectness[0] ** 0.6 * classes.max(axis=0) ** 0.4
        rows, columns = np.nonzero(scores >= score)
        corner = np.stack([columns, rows], axis=1)
        whole = np.array([self._spec.width, self._spec.height], np.float32)
        centres = (np.tanh(place[:, rows, columns].T) + corner) * (whole / self._grid[::-1])
        halves = whole / 2 / (1 + np.exp(-size[:, rows, columns].T))
        boxes = np.hstack([centres - halves, centres + halves]).astype(np.float32)
        return boxes, scores[rows, columns], likeliest[rows, columns]


_HEADS: dict[str, Callable[[PictureInput], Head]] = {"yolox": YoloxHead, "fastestdet": FastestDetHead}


class ModelDetector:
    """Finds objects with a network of the registry, all cameras in one batch where the network allows it.

    Attributes:
        backend: The network.
        model: Its entry in the registry.
    """

    def __init__(self, backend: Backend, model: DetectorModel, score: float) -> None:
        """Join a network to its registry entry.

        Args:
            backend: The network; closed with the process.
            model: Its entry.
            score: Lowest score of a detection, 0 to 1.

        Raises:
            InferenceError: the network's input or output is not what the entry says.
        """
        self.backend = backend
        self.model = model
        self._score = score
        self._letterbox = Letterbox(model.input)
        self._head = _HEADS[model.decoder](model.input)
        (given, *_), (answer, *_) = backend.inputs, backend.outputs
        batch, *picture = given.shape
        if picture != [3, model.input.height, model.input.width] or batch not in {None, 1} or given.dtype != np.float32:
            raise InferenceError(
                f"the registry says {model.input.width}x{model.input.height}, in a batch of one or any, float32; "
                f"the input of {model.file} is {given.shape}, {given.dtype}"
            )
        channels = self._head.channels(answer.shape)
        if channels is None or channels <= max(model.classes.values()):
            raise InferenceError(f"the output of {model.file} is {answer.shape}: not that of {model.decoder}")
        self._classes = _class_numbers(model, channels)
        self._largest_batch = batch

    def detect(self, frames: Sequence[tuple[int, Frame]]) -> list[Detections]:
        """The objects of each frame, in the order of `frames`.

        Args:
            frames: Index of the camera, and its frame.

        Raises:
            InferenceError: the runtime failed.
        """
        step = self._largest_batch or max(1, len(frames))
        found = []
        for start in range(0, len(frames), step):
            images = [frame.image for _, frame in frames[start : start + step]]
            (raw, *_) = self.backend.run(self._letterbox.fill(images))
            found += [self._read(output, image) for output, image in zip(raw, images, strict=True)]
        return found

    def _read(self, raw: FloatArray, image: NDArray[np.uint8]) -> Detections:
        boxes, scores, numbers = self._head.read(raw, self._score)
        classes = self._classes[numbers]
        known = np.flatnonzero(classes != _NO_CLASS)
        if not len(known):
            return Detections.empty()
        boxes, scores, classes = boxes[known], scores[known], classes[known]
        height, width = image.shape[:2]
        scaled_height, scaled_width = self._letterbox.size(height, width)
        boxes *= np.array([width / scaled_width, height / scaled_height] * 2, np.float32)
        np.clip(boxes, 0, np.array([width, height] * 2, np.float32), out=boxes)
        kept = suppress(boxes, scores, classes)
        return Detections(boxes[kept], scores[kept], classes[kept])


def suppress(boxes: FloatArray, scores: FloatArray, classes: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Non-maximum suppression among rival classes: the places of the boxes that stay.

    Args:
        boxes: (N, 4) float32, x0 y0 x1 y1; a box without area does not stay.
        scores: (N,) float32.
        classes: (N,) uint8.
    """
    rectangles = boxes.copy()
    rectangles[:, 2:] -= boxes[:, :2]
    # What lay in the padding has been clipped to boxes without area.
    solid = np.flatnonzero((rectangles[:, 2:] > 0).all(axis=1))
    rivals = _RIVALS[classes[solid]].tolist()
    kept = cv2.dnn.NMSBoxesBatched(rectangles[solid], scores[solid].tolist(), rivals, 0, NMS_OVERLAP)
    return solid[np.asarray(kept, np.intp)]


def _class_numbers(model: DetectorModel, count: int) -> NDArray[np.uint8]:
    """(count,) uint8: for each class of the network, its `ObjectClass`, or `_NO_CLASS`.

    Raises:
        InferenceError: the registry names a class that nobody here knows.
    """
    numbers = np.full(count, _NO_CLASS, np.uint8)
    known = {item.label: item for item in ObjectClass}
    for name, place in model.classes.items():
        if name not in known:
            raise InferenceError(f"the registry names a class {name!r}; known are {', '.join(known)}")
        numbers[place] = known[name]
    return numbers


def open_detector(settings: InferenceSettings) -> tuple[Detector, DetectorState, list[str]]:
    """The detector that serves: the wanted network, or with `auto` the first that works, else moving blobs.

    Under `auto` a network that is named for jetson-inference comes before those of the registry.

    A device whose model is missing or broken senses on with what works, and says so.

    Returns:
        The detector, which kind it is, and in words why whatever was preferred does not serve.
    """
    if settings.detector == "motion":
        return MotionDetector(), DetectorState.MOTION, ["moving blobs serve, as the settings say"]
    reasons: list[str] = []
    found: tuple[Detector, DetectorState] | None = None
    if settings.backend == "jetson-inference" or settings.backend == settings.detector == "auto":
        found = _open_detectnet(settings, reasons)
    if found is None and settings.backend != "jetson-inference":
        found = _open_model(settings, reasons)
    if found is None:
        return MotionDetector(), DetectorState.MOTION, [*reasons, "no model serves: moving blobs stand in"]
    return *found, reasons


def _open_detectnet(settings: InferenceSettings, reasons: list[str]) -> tuple[Detector, DetectorState] | None:
    """A detectNet of jetson-inference, where a network is named for it; else None, with the reason added."""
    if settings.jetson_network is None:
        return None
    from agent.inference.jetson import DetectNet
    from agent.perception.detectnet import DetectNetDetector

    try:
        network = DetectNet(settings.jetson_network, settings.jetson_labels, settings.score)
        return DetectNetDetector(network), DetectorState.MODEL
    except InferenceError as error:
        reasons.append(f"jetson-inference: {error}")
        return None


def _open_model(settings: InferenceSettings, reasons: list[str]) -> tuple[Detector, DetectorState] | None:
    """The wanted network of the registry, or with `auto` the first that works; else None, with the reasons added."""
    try:
        registry = Registry(settings.models)
        wanted = settings.detector
        models = registry.of(DetectorModel) if wanted == "auto" else (registry.find(wanted, DetectorModel),)
    except InferenceError as error:
        reasons.append(str(error))
        return None
    for model in models:
        try:
            backend, refused = select(settings.backend, registry.read(model), settings.threads)
            detector = ModelDetector(backend, model, settings.score)
        except InferenceError as error:
            reasons.append(f"model {model.name}: {error}")
            continue
        reasons += [f"model {model.name}: {reason}" for reason in refused]
        # A Jetson whose network runs on the processor does what it should, but not as fast as it should.
        return detector, DetectorState.UNACCELERATED if refused and l4t() else DetectorState.MODEL
    return None


def selftest(detector: Detector) -> bool:
    """Whether a detector answers two drawn pictures with well-formed detections.

    They are given as those of a camera that no device has, so that no camera's background is disturbed.
    """
    height, width = 240, 320
    shade = np.linspace(40, 200, width, dtype=np.uint8)
    for index in range(2):
        image = np.repeat(np.broadcast_to(shade, (height, width))[..., None], 3, axis=2)
        cv2.rectangle(image, (60 + 40 * index, 80), (100 + 40 * index, 200), (20, 20, 220), cv2.FILLED)
        try:
            (found,) = detector.detect([(NO_CAMERA, Frame(image, float(index), index))])
        except InferenceError:
            return False
        if not _well_formed(found, height, width):
            return False
    return True


def _well_formed(found: Detections, height: int, width: int) -> bool:
    boxes, scores, classes = found.boxes, found.scores, found.classes
    if boxes.shape != (len(scores), 4) or classes.shape != scores.shape:
        return False
    inside = (boxes >= 0).all() and (boxes <= [width, height] * 2).all() and (boxes[:, :2] < boxes[:, 2:]).all()
    return bool(inside and ((scores >= 0) & (scores <= 1)).all())
