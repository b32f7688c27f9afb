"""detectNet of jetson-inference, against a stand-in that has the traps of the real one (tests/fake_jetson)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.capture.frame import Frame
from agent.contract import DetectorState
from agent.inference.backend import InferenceError
from agent.inference.jetson import DetectNet
from agent.perception.detect import open_detector, selftest
from agent.perception.detectnet import DetectNetDetector
from agent.perception.scene import ObjectClass
from agent.settings import InferenceSettings, SettingsError, load

FAKES = Path(__file__).parents[1] / "fake_jetson"
#: BGR of what the stand-in sees as its classes 0 to 3.
COLOURS = [(0, 0, 255), (0, 255, 0), (255, 0, 0), (0, 255, 255)]
Picture = NDArray[np.uint8]


@pytest.fixture
def jetson(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(FAKES))
    yield
    for name in ("jetson_inference", "jetson_utils"):
        sys.modules.pop(name, None)


def scene(*objects: tuple[int, tuple[int, int, int, int]], size: tuple[int, int] = (60, 80)) -> Picture:
    """A grey picture with boxes, x0 y0 x1 y1, in the colours of the stand-in's classes."""
    picture = np.full((*size, 3), 90, np.uint8)
    for number, (x0, y0, x1, y1) in objects:
        picture[y0:y1, x0:x1] = COLOURS[number]
    return picture


def frame(picture: Picture) -> tuple[int, Frame]:
    return 0, Frame(picture, 0.0, 0)


def settings(**fields: object) -> InferenceSettings:
    return InferenceSettings.model_validate({"jetson_network": "ssd-mobilenet-v2", **fields})


@pytest.mark.usefixtures("jetson")
class TestNet:
    def test_boxes_scores_and_classes_are_those_of_the_picture(self) -> None:
        net = DetectNet("ssd-mobilenet-v2", None, 0.1)
        boxes, scores, numbers = net.run(scene((1, (10, 5, 20, 45)), (3, (40, 30, 70, 50))))
        assert [net.classes[n] for n in numbers] == ["person", "car"]
        assert boxes.tolist() == [[10, 5, 20, 45], [40, 30, 70, 50]]
        assert scores.tolist() == [0.75, 0.75]
        assert (boxes.dtype.name, scores.dtype.name) == ("float32", "float32")

    def test_an_empty_picture_has_no_boxes(self) -> None:
        boxes, scores, numbers = DetectNet("ssd-mobilenet-v2", None, 0.1).run(scene())
        assert (boxes.shape, scores.shape, numbers.shape) == ((0, 4), (0,), (0,))

    def test_nothing_is_drawn_on_the_picture_nor_on_the_shared_memory(self) -> None:
        net = DetectNet("ssd-mobilenet-v2", None, 0.1)
        picture = scene((1, (10, 5, 20, 45)))
        before = picture.copy()
        first = net.run(picture)
        assert np.array_equal(picture, before)
        net._cuda.cudaDeviceSynchronize()
        ((_, shared),) = net._buffers.values()
        assert np.array_equal(shared, before[..., ::-1])
        assert np.array_equal(net.run(picture)[0], first[0])

    def test_each_picture_is_seen_and_not_the_one_before(self) -> None:
        net = DetectNet("ssd-mobilenet-v2", None, 0.1)
        for left in (0, 10, 20):
            assert net.run(scene((1, (left, 5, left + 8, 45))))[0][:, 0] == left

    def test_cameras_of_two_sizes_take_turns_in_memory_of_their_own(self) -> None:
        net = DetectNet("ssd-mobilenet-v2", None, 0.1)
        for size in ((60, 80), (120, 160), (60, 80)):
            assert net.run(scene((1, (10, 5, 20, 45)), size=size))[0].tolist() == [[10, 5, 20, 45]]
        assert len(net._buffers) == 2

    def test_the_lowest_score_is_passed_on(self) -> None:
        assert len(DetectNet("ssd-mobilenet-v2", None, 0.8).run(scene((1, (10, 5, 20, 45))))[0]) == 0

    @pytest.mark.parametrize("kind", ["ssd.onnx", "peoplenet.engine"])
    def test_a_file_is_loaded_with_the_blobs_of_its_kind_and_its_labels(self, kind: str, tmp_path: Path) -> None:
        (tmp_path / kind).touch()
        labels = tmp_path / "labels.txt"
        labels.write_text("BACKGROUND\nperson\n")
        assert DetectNet(str(tmp_path / kind), labels, 0.1).classes == ("BACKGROUND", "person")

    def test_other_files_and_absent_ones_are_refused_in_words(self, tmp_path: Path) -> None:
        with pytest.raises(InferenceError, match=r"SSD \(\.onnx\) and DetectNet_v2 \(\.engine\)"):
            DetectNet("yolo.pt", None, 0.1)
        with pytest.raises(InferenceError, match="no such file"):
            DetectNet(str(tmp_path / "ssd.onnx"), None, 0.1)
        with pytest.raises(InferenceError, match="run `detectnet --model=nothing` once by hand"):
            DetectNet("nothing", None, 0.1)

    def test_a_failure_on_the_device_is_an_inference_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        net = DetectNet("ssd-mobilenet-v2", None, 0.1)

        def fail(*_: object, **__: object) -> None:
            raise Exception("CUDA error")  # noqa: TRY002 - as the bindings do

        monkeypatch.setattr(net._net, "Detect", fail)
        with pytest.raises(InferenceError, match="detectNet: CUDA error"):
            net.run(scene())


@pytest.mark.usefixtures("jetson")
class TestDetector:
    def test_classes_become_ours_and_faces_and_bags_are_left_out(self) -> None:
        detector = DetectNetDetector(DetectNet("peoplenet", None, 0.1))
        everything = scene((0, (10, 5, 20, 45)), (1, (30, 5, 40, 15)), (2, (50, 5, 55, 10)))
        (found,) = detector.detect([frame(everything)])
        assert found.classes.tolist() == [ObjectClass.PERSON]
        assert found.classes.dtype == np.uint8

    def test_a_network_that_knows_nothing_of_ours_is_refused(self) -> None:
        with pytest.raises(InferenceError, match="classes are face; ours are person"):
            DetectNetDetector(DetectNet("facedetect", None, 0.1))

    def test_other_names_of_our_classes_are_understood(self, tmp_path: Path) -> None:
        (tmp_path / "net.onnx").touch()
        (tmp_path / "labels.txt").write_text("bike\nmotorbike\n")
        detector = DetectNetDetector(DetectNet(str(tmp_path / "net.onnx"), tmp_path / "labels.txt", 0.1))
        (found,) = detector.detect([frame(scene((0, (0, 0, 20, 20)), (1, (40, 20, 60, 50))))])
        assert sorted(found.classes) == [ObjectClass.BICYCLE, ObjectClass.MOTORCYCLE]

    def test_it_passes_the_self_test(self) -> None:
        assert selftest(DetectNetDetector(DetectNet("ssd-mobilenet-v2", None, 0.1)))


class TestChoice:
    @pytest.mark.usefixtures("jetson")
    @pytest.mark.parametrize("backend", ["auto", "jetson-inference"])
    def test_a_network_that_is_named_serves(self, backend: str, tmp_path: Path) -> None:
        detector, state, reasons = open_detector(settings(backend=backend, models=tmp_path))
        assert isinstance(detector, DetectNetDetector)
        assert (state, reasons) == (DetectorState.MODEL, [])

    @pytest.mark.usefixtures("jetson")
    @pytest.mark.parametrize(
        "fields",
        [{"backend": "onnxruntime"}, {"detector": "any-model"}, {"jetson_network": None}, {"detector": "motion"}],
    )
    def test_it_is_not_tried_where_nobody_wants_it(self, fields: dict[str, object], tmp_path: Path) -> None:
        _, state, reasons = open_detector(settings(models=tmp_path, **fields))
        assert state is DetectorState.MOTION
        assert not any("jetson" in reason for reason in reasons)

    def test_where_it_is_not_installed_that_is_said_and_others_are_tried(self, tmp_path: Path) -> None:
        (tmp_path / "registry.toml").touch()
        _, state, reasons = open_detector(settings(models=tmp_path))
        assert state is DetectorState.MOTION
        assert reasons[0].startswith("jetson-inference: jetson-inference is not installed")

    def test_wanted_without_a_network_the_configuration_is_refused(self, tmp_path: Path) -> None:
        config = tmp_path / "vigie.toml"
        config.write_text('[inference]\nbackend = "jetson-inference"\n')
        with pytest.raises(SettingsError, match="backend jetson-inference needs"):
            load(config)
