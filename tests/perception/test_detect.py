from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from agent.capture.frame import Frame
from agent.contract import DetectorState
from agent.device.l4t import L4t
from agent.inference.backend import Array, InferenceError, TensorSpec, select
from agent.inference.registry import DetectorModel, PictureInput, Registry
from agent.perception.detect import Letterbox, ModelDetector, YoloxHead, open_detector, selftest, suppress
from agent.perception.motion import MotionDetector
from agent.perception.scene import Detections, ObjectClass
from agent.settings import InferenceSettings

Picture = NDArray[np.uint8]
SPEC = PictureInput(width=64, height=64, colour="bgr", white=255, letterbox=114)
CELLS = 8 * 8 + 4 * 4 + 2 * 2
#: Columns of the network's classes in these tests: our person and car, and one that nobody asked for.
PERSON, GIRAFFE, CAR = range(3)
MODEL = DetectorModel(
    name="drawn",
    version="1",
    task="detect",
    decoder="yolox",
    classes={"person": PERSON, "car": CAR},
    input=SPEC,
    file="drawn.onnx",
    sha256="0" * 64,
    source="this test",
    licence="Apache-2.0",
)


def frame(image: Picture, index: int = 0) -> Frame:
    return Frame(image, index / 10, index)


def picture(height: int, width: int, bgr: Sequence[int] = (10, 20, 30)) -> Picture:
    return np.full((height, width, 3), bgr, np.uint8)


def prediction(cell: int, box: Sequence[float], objectness: float, classes: Sequence[float]) -> NDArray[np.float32]:
    """Raw output in which one cell of the finest grid sees a box, x0 y0 x1 y1 in pixels of the input."""
    raw = np.zeros((CELLS, 5 + len(classes)), np.float32)
    row, column = divmod(cell, 8)
    x0, y0, x1, y1 = box
    raw[cell, :2] = (x0 + x1) / 16 - column, (y0 + y1) / 16 - row
    raw[cell, 2:4] = np.log([(x1 - x0) / 8, (y1 - y0) / 8])
    raw[cell, 4] = objectness
    raw[cell, 5:] = classes
    return raw


class Drawn:
    """A backend that answers picture after picture with what was drawn for it, and keeps what it was asked."""

    def __init__(self, raws: Sequence[NDArray[np.float32]], batch: int | None = 1) -> None:
        self.inputs: tuple[TensorSpec, ...] = (
            TensorSpec("x", (batch, 3, SPEC.height, SPEC.width), np.dtype(np.float32)),
        )
        self.outputs: tuple[TensorSpec, ...] = (TensorSpec("y", (batch, *raws[0].shape), np.dtype(np.float32)),)
        self.raws = list(raws)
        self.batches: list[Array] = []

    def run(self, batch: Array) -> list[Array]:
        self.batches.append(batch.copy())
        answer, self.raws = self.raws[: len(batch)], self.raws[len(batch) :]
        return [np.stack(answer)]

    def close(self) -> None:
        pass


def test_a_wide_picture_keeps_its_shape_and_is_padded_below() -> None:
    (drawn,) = Letterbox(SPEC).fill([picture(60, 120)])
    assert drawn.shape == (3, 64, 64)
    np.testing.assert_array_equal(drawn[:, :32].reshape(3, -1), np.repeat([[10], [20], [30]], 32 * 64, axis=1))
    assert (drawn[:, 32:] == 114).all()


def test_a_network_gets_the_colours_and_the_range_it_wants() -> None:
    spec = PictureInput(width=64, height=64, colour="rgb", white=1, letterbox=51)
    (drawn,) = Letterbox(spec).fill([picture(128, 64, (0, 51, 255))])
    np.testing.assert_allclose(drawn[:, 0, 0], [1, 0.2, 0], atol=1e-6)
    np.testing.assert_allclose(drawn[:, 0, 63], 0.2, atol=1e-6)


def test_pictures_of_all_sizes_share_a_batch_and_leave_nothing_behind() -> None:
    letterbox = Letterbox(SPEC)
    letterbox.fill([picture(64, 64), picture(64, 64)])
    narrow, wide = letterbox.fill([picture(64, 32), picture(16, 64)])
    assert (narrow[:, :, 32:] == 114).all()
    assert (wide[:, 16:] == 114).all()
    assert narrow[1, 63, 31] == wide[1, 15, 63] == 20


def test_a_cell_is_read_as_the_paper_says() -> None:
    raw = prediction(19, (20, 10, 36, 42), 0.8, (0.1, 0.0, 0.5))
    boxes, scores, classes = YoloxHead(SPEC).read(raw, 0.3)
    np.testing.assert_allclose(boxes, [[20, 10, 36, 42]], rtol=1e-5)
    np.testing.assert_allclose(scores, [0.4])
    assert classes.tolist() == [CAR]


def test_objectness_alone_is_not_enough() -> None:
    boxes, scores, classes = YoloxHead(SPEC).read(prediction(0, (0, 0, 9, 9), 0.8, (0.3, 0, 0)), 0.3)
    assert (boxes.shape, scores.shape, classes.shape) == ((0, 4), (0,), (0,))


def test_boxes_come_in_pixels_of_the_source_and_end_at_its_edges() -> None:
    backend = Drawn([prediction(0, (-4, 8, 12, 40), 1, (0.9, 0, 0))])
    (found,) = ModelDetector(backend, MODEL, 0.1).detect([(0, frame(picture(60, 120)))])
    np.testing.assert_allclose(found.boxes, [[0, 15, 22.5, 60]], rtol=1e-5)
    assert found.classes.tolist() == [ObjectClass.PERSON]
    assert [array.dtype.name for array in (found.boxes, found.scores, found.classes)] == ["float32", "float32", "uint8"]


def test_what_lies_in_the_padding_is_no_object() -> None:
    backend = Drawn([prediction(50, (8, 40, 24, 60), 1, (0.9, 0, 0))])
    (found,) = ModelDetector(backend, MODEL, 0.1).detect([(0, frame(picture(60, 120)))])
    assert len(found) == 0


def test_classes_that_nobody_asked_for_are_dropped() -> None:
    backend = Drawn([prediction(0, (0, 0, 20, 20), 1, (0.2, 0.9, 0))])
    (found,) = ModelDetector(backend, MODEL, 0.1).detect([(0, frame(picture(64, 64)))])
    assert len(found) == 0


def test_of_boxes_on_one_object_the_best_stays() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [30, 0, 40, 10], [5, 5, 5, 9]], np.float32)
    scores = np.array([0.5, 0.8, 0.3, 0.9], np.float32)
    kept = suppress(boxes, scores, np.zeros(4, np.uint8))
    assert sorted(kept.tolist()) == [1, 2]


@pytest.mark.parametrize(
    ("one", "other", "stay"),
    [
        (ObjectClass.PERSON, ObjectClass.BICYCLE, 2),
        (ObjectClass.PERSON, ObjectClass.CAR, 2),
        (ObjectClass.CAR, ObjectClass.TRUCK, 1),
        (ObjectClass.BICYCLE, ObjectClass.MOTORCYCLE, 1),
    ],
)
def test_a_van_is_one_vehicle_and_a_cyclist_is_two_things(one: ObjectClass, other: ObjectClass, stay: int) -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10]], np.float32)
    kept = suppress(boxes, np.array([0.6, 0.5], np.float32), np.array([one, other], np.uint8))
    assert len(kept) == stay


@pytest.mark.parametrize(("batch", "runs"), [(1, [1, 1, 1]), (None, [3])])
def test_all_cameras_share_a_batch_where_the_network_allows_it(batch: int | None, runs: list[int]) -> None:
    backend = Drawn([prediction(0, (0, 0, 8 * n, 8), 1, (1, 0, 0)) for n in (1, 2, 3)], batch)
    found = ModelDetector(backend, MODEL, 0.1).detect([(n, frame(picture(64, 64))) for n in range(3)])
    assert [len(batch) for batch in backend.batches] == runs
    np.testing.assert_allclose([each.boxes[0, 2] for each in found], [8, 16, 24], rtol=1e-5)


def test_no_frame_gives_no_detections() -> None:
    assert ModelDetector(Drawn([np.zeros((CELLS, 8), np.float32)], None), MODEL, 0.1).detect([]) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"input": SPEC.model_copy(update={"width": 32})}, "registry says 32x64"),
        ({"classes": {"person": 3}}, "output of drawn.onnx"),
        ({"classes": {"giraffe": 1}}, "class 'giraffe'; known are person, bicycle"),
    ],
)
def test_a_network_unlike_its_entry_is_refused(change: dict[str, object], problem: str) -> None:
    with pytest.raises(InferenceError, match=problem):
        ModelDetector(Drawn([np.zeros((CELLS, 8), np.float32)]), MODEL.model_copy(update=change), 0.1)


def test_a_network_with_a_batch_of_its_own_is_refused() -> None:
    with pytest.raises(InferenceError, match="a batch of one or any"):
        ModelDetector(Drawn([np.zeros((CELLS, 8), np.float32)], 4), MODEL, 0.1)


def empty_registry(folder: Path) -> Path:
    (folder / "registry.toml").touch()
    return folder


def shipped_registry(folder: Path, content: bytes) -> Path:
    text = (Path(__file__).parents[2] / "models/registry.toml").read_text()
    (folder / "registry.toml").write_text(text)
    (folder / "yolox_nano.onnx").write_bytes(content)
    return folder


def test_without_a_model_moving_blobs_serve_and_say_so(tmp_path: Path) -> None:
    detector, state, reasons = open_detector(InferenceSettings(models=empty_registry(tmp_path)))
    assert isinstance(detector, MotionDetector)
    assert state is DetectorState.MOTION
    assert reasons == ["no model serves: moving blobs stand in"]


def test_a_model_that_was_changed_is_not_run(tmp_path: Path) -> None:
    folder = shipped_registry(tmp_path, b"something else")
    _, state, reasons = open_detector(InferenceSettings(models=folder))
    assert state is DetectorState.MOTION
    assert any("is not the registered file" in reason for reason in reasons)


def test_a_misspelt_model_is_answered_with_the_nearest_and_sensing_goes_on(tmp_path: Path) -> None:
    settings = InferenceSettings(models=shipped_registry(tmp_path, b""), detector="yolox-nanno")
    _, state, reasons = open_detector(settings)
    assert state is DetectorState.MOTION
    assert "did you mean 'yolox-nano'" in reasons[0]


@pytest.mark.parametrize(
    ("board", "refused", "state"),
    [
        (L4t(36, "4.3"), ["tensorrt: no engine"], DetectorState.UNACCELERATED),
        (L4t(36, "4.3"), [], DetectorState.MODEL),
        (None, ["tensorrt: TensorRT is not installed"], DetectorState.MODEL),
    ],
)
def test_a_jetson_whose_network_runs_on_the_processor_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, board: L4t | None, refused: list[str], state: DetectorState
) -> None:
    monkeypatch.setattr(Registry, "find", lambda *_: MODEL)
    monkeypatch.setattr(Registry, "read", lambda *_: b"")
    drawn = Drawn([np.zeros((CELLS, 8), np.float32)])
    monkeypatch.setattr("agent.perception.detect.select", lambda *_: (drawn, refused))
    monkeypatch.setattr("agent.perception.detect.l4t", lambda: board)
    _, found, reasons = open_detector(InferenceSettings(models=empty_registry(tmp_path), detector="drawn"))
    assert (found, reasons) == (state, [f"model drawn: {reason}" for reason in refused])


def test_moving_blobs_can_be_asked_for(tmp_path: Path) -> None:
    detector, state, reasons = open_detector(InferenceSettings(models=tmp_path, detector="motion"))
    assert (type(detector), state) == (MotionDetector, DetectorState.MOTION)
    assert reasons == ["moving blobs serve, as the settings say"]


def test_the_selftest_passes_with_moving_blobs() -> None:
    assert selftest(MotionDetector())


class Answering:
    def __init__(self, found: Detections) -> None:
        self.found = found

    def detect(self, frames: Sequence[tuple[int, Frame]]) -> list[Detections]:
        return [self.found]


@pytest.mark.parametrize(
    ("box", "score"),
    [
        ((0, 0, np.nan, 5), 0.5),
        ((0, 0, 5, 5), np.nan),
        ((0, 0, 5, 5), 1.5),
        ((5, 0, 4, 5), 0.5),
        ((-1, 0, 4, 5), 0.5),
        ((0, 0, 4000, 5), 0.5),
    ],
)
def test_the_selftest_fails_on_malformed_detections(box: Sequence[float], score: float) -> None:
    found = Detections(np.array([box], np.float32), np.array([score], np.float32), np.zeros(1, np.uint8))
    assert not selftest(Answering(found))


def test_the_selftest_fails_when_the_runtime_does() -> None:
    class Failing:
        def detect(self, frames: Sequence[tuple[int, Frame]]) -> list[Detections]:
            raise InferenceError("the device is gone")

    assert not selftest(Failing())


def crowd(data: Path) -> Picture:
    with av.open(str(data / "clips/pets2009_s2l1.mp4")) as clip:
        return np.asarray(next(clip.decode(video=0)).to_ndarray(format="bgr24"), np.uint8)


def test_yolox_nano_finds_the_people_of_a_real_picture(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIGIE_DATA", str(data))
    detector, state, reasons = open_detector(InferenceSettings(detector="yolox-nano", score=0.6))
    assert state is DetectorState.MODEL
    assert all("TensorRT is not installed" in reason for reason in reasons)
    assert selftest(detector)
    (found,) = detector.detect([(0, frame(crowd(data)))])
    truth = np.loadtxt(data / "mot/PETS09-S2L1/gt.txt", delimiter=",")
    assert (found.classes == ObjectClass.PERSON).sum() == (truth[:, 0] == 1).sum()


def test_the_shipped_detector_finds_the_people_of_a_real_picture(data: Path) -> None:
    detector, state, _ = open_detector(InferenceSettings(score=0.3))
    assert isinstance(detector, ModelDetector)
    assert (state, detector.model.name) == (DetectorState.MODEL, "vigie-detector")
    assert selftest(detector)
    (found,) = detector.detect([(0, frame(crowd(data)))])
    truth = np.loadtxt(data / "mot/PETS09-S2L1/gt.txt", delimiter=",")
    assert abs((found.classes == ObjectClass.PERSON).sum() - (truth[:, 0] == 1).sum()) <= 1


def test_the_head_agrees_with_a_plain_reading_of_every_cell(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIGIE_DATA", str(data))
    registry = Registry()
    model = registry.find("yolox-nano", DetectorModel)
    backend, _ = select("onnxruntime", registry.read(model), 1)
    raw = backend.run(Letterbox(model.input).fill([crowd(data)]))[0][0]
    boxes, scores, classes = YoloxHead(model.input).read(raw, 0.25)
    plain = []
    cells = iter(raw)
    for stride in (8, 16, 32):
        for row in range(416 // stride):
            for column in range(416 // stride):
                x, y, w, h, objectness, *likely = (float(value) for value in next(cells))
                number = int(np.argmax(likely))
                if objectness * likely[number] >= 0.25:
                    x, y, w, h = (x + column) * stride, (y + row) * stride, np.exp(w) * stride, np.exp(h) * stride
                    box = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
                    plain.append((*box, objectness * likely[number], number))
    assert len(plain) > 0
    np.testing.assert_allclose(np.column_stack([boxes, scores, classes]), plain, rtol=1e-4, atol=1e-3)
