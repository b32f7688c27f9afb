from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="recipes need the extra `train`")
pytest.importorskip("onnx", reason="recipes need the extra `train`")

import torch
from torch import Tensor, nn

from agent.evaluate.detection import Labelled
from agent.perception.scene import Detections, ObjectClass
from models.train import checkpoint
from models.train.average import blend
from models.train.detector import __main__ as recipe
from models.train.detector.calibrate import _fit
from models.train.detector.labels import Picture, drawn
from models.train.detector.labels import _merge as merge
from models.train.detector.labels import _trusted as trusted
from models.train.detector.loss import Targets, assign, cells, decode, loss
from models.train.detector.network import CLASSES, Detector
from models.train.detector.pictures import Augmented, Plan, _place
from models.train.detector.release import Answer, _write
from models.train.detector.start import StartError, start
from models.train.export import ExportError, _compare

PERSON, CAR, BUS, TRUCK = (CLASSES.index(name) for name in ("person", "car", "bus", "truck"))
SIZE = 96


def targets(*rows: tuple[float, float, float, float, int], unsure: tuple[tuple[float, ...], ...] = ()) -> Targets:
    boxes = torch.tensor(rows, dtype=torch.float32).reshape(1, -1, 5)
    doubts = torch.tensor(unsure, dtype=torch.float32).reshape(1, -1, 5)
    return Targets(boxes[..., :4], boxes[..., 4].long(), torch.ones(boxes.shape[:2]), doubts)


def perfect(there: Targets) -> Tensor:
    """Raw predictions whose every cell names the box around it, if there is one."""
    corners, strides = cells(SIZE, SIZE)
    raw = torch.full((1, len(corners), 4 + len(CLASSES)), -12.0)
    raw[..., :4] = 0
    centres = (corners + 0.5) * strides
    for box, kind in zip(there.boxes[0], there.classes[0], strict=True):
        inside = ((centres > box[:2]) & (centres < box[2:])).all(1)
        middle, sides = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
        raw[0, inside, :2] = (middle / strides - corners)[inside]
        raw[0, inside, 2:4] = (sides / strides).log()[inside]
        raw[0, inside, 4 + int(kind)] = 12.0
    return raw


def test_raw_predictions_are_decoded_to_pixels() -> None:
    there = targets((16, 24, 48, 88, PERSON))
    boxes = decode(perfect(there), *cells(SIZE, SIZE))[0]
    assert (boxes - there.boxes[0]).abs().amax(-1).min() < 1e-3


def test_cells_inside_an_object_answer_for_it() -> None:
    there = targets((16, 24, 48, 88, PERSON), (60, 60, 92, 84, CAR))
    corners, strides = cells(SIZE, SIZE)
    raw, centres = perfect(there), (corners + 0.5) * strides
    place, quality = assign(raw[..., 4:].sigmoid(), decode(raw, corners, strides), centres, strides, there)
    for number, box in enumerate(there.boxes[0]):
        own = centres[place[0] == number]
        assert 0 < len(own) <= 10
        reach = strides[place[0] == number]
        middle = (box[:2] + box[2:]) / 2
        inside = ((own > box[:2]) & (own < box[2:])).all(1)
        assert (inside | ((own - middle).abs() < reach).all(1)).all()
    assert quality[place < 0].max() == 0
    assert quality.max() > 0.99


def test_padding_is_nobodys_object() -> None:
    corners, strides = cells(SIZE, SIZE)
    there = Targets(torch.full((1, 3, 4), -1.0), torch.full((1, 3), -1), torch.ones(1, 3), torch.empty(1, 0, 5))
    raw = torch.zeros(1, len(corners), 4 + len(CLASSES))
    place, _ = assign(raw[..., 4:], decode(raw, corners, strides), corners * strides, strides, there)
    assert (place < 0).all()


def test_a_perfect_answer_costs_nearly_nothing_and_a_wrong_class_costs() -> None:
    there = targets((16, 24, 48, 88, PERSON))
    corners, strides = cells(SIZE, SIZE)
    right = perfect(there)
    boxes = decode(right, corners, strides)
    place, _ = assign(right[..., 4:].sigmoid(), boxes, (corners + 0.5) * strides, strides, there)
    right[place < 0] = right[place < 0].clamp(max=0).index_fill(-1, torch.arange(4, right.shape[-1]), -12.0)
    wrong = right.clone()
    wrong[..., 4 + PERSON], wrong[..., 4 + CAR] = -12.0, right[..., 4 + PERSON]
    cost, _ = loss(right, there, corners, strides)
    worse, _ = loss(wrong, there, corners, strides)
    assert cost < 0.1
    assert worse > 5


def test_nothing_is_learned_where_nobody_is_sure() -> None:
    corners, strides = cells(SIZE, SIZE)
    there = targets(unsure=((0, 0, SIZE, SIZE / 2, PERSON),))
    raw = torch.zeros(1, len(corners), 4 + len(CLASSES), requires_grad=True)
    cost, _ = loss(raw, there, corners, strides)
    cost.backward()  # type: ignore[no-untyped-call]
    assert raw.grad is not None
    doubted = ((corners + 0.5) * strides)[:, 1] < SIZE / 2
    assert (raw.grad[0, doubted, 4 + PERSON] == 0).all()
    assert (raw.grad[0, doubted, 4 + CAR] > 0).all()
    assert (raw.grad[0, ~doubted, 4 + PERSON] > 0).all()


def picture(*, turned: bool = False) -> Picture:
    """A white box on black, and where it is."""
    image = np.zeros((120, 160, 3), np.uint8)
    image[30:90, 40:70] = 255
    boxes = np.array([[40, 30, 70, 90, PERSON, 1]], np.float32)
    return Picture(image, boxes, np.empty((0, 5), np.float32))


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("corner", [None, 0, 1, 2, 3])
def test_boxes_move_with_what_they_enclose(seed: int, corner: int | None) -> None:
    canvas = np.full((SIZE * 2, SIZE * 2, 3), 114, np.uint8)
    middle = None if corner is None else np.array([SIZE * 0.9, SIZE * 1.2])
    boxes, unsure = _place(picture(), canvas, middle, corner or 0, np.random.default_rng(seed))
    y, x = np.nonzero(canvas[..., 0] > 200)
    if len(boxes) == 1:
        extent = [x.min(), y.min(), x.max() + 1, y.max() + 1]
        np.testing.assert_allclose(boxes[0, :4], extent, atol=2.5)
    elif len(unsure):
        assert unsure[0, 0] - 2 <= x.min() <= x.max() <= unsure[0, 2] + 2
    else:
        assert len(x) < 40


def test_one_plan_gives_one_picture_and_the_next_epoch_another() -> None:
    pictures = [picture()] * 8
    plan = Plan(seed=3, epoch=0, size=SIZE, mosaics=0.5)
    for index in range(8):
        first, again = (Augmented(pictures, plan)[index] for _ in range(2))
        other = Augmented(pictures, replace(plan, epoch=1))[index]
        np.testing.assert_array_equal(first[0], again[0])
        np.testing.assert_array_equal(first[1], again[1])
        assert not np.array_equal(first[0], other[0])
        assert first[0].shape == (SIZE, SIZE, 3)
        assert ((first[1][:, :4] >= 0) & (first[1][:, :4] <= SIZE)).all()


def rows(*items: tuple[float, ...]) -> np.ndarray:
    return np.array(items, np.float32).reshape(-1, 6)


NOTHING = np.empty((0, 5), np.float32)


def test_drawn_boxes_stay_and_teachers_add_theirs_with_their_trust() -> None:
    known = np.array([[0, 0, 50, 50, PERSON]], np.float32)
    claims = rows((0, 0, 50, 50, PERSON, 0.9), (100, 0, 150, 50, CAR, 0.25))
    boxes, unsure = merge(known, claims, set())
    assert boxes.tolist() == [[0, 0, 50, 50, PERSON, 1], [100, 0, 150, 50, CAR, 0.25]]
    assert not len(unsure)


def test_a_drawn_vehicle_is_what_was_drawn_and_a_claimed_one_may_be_another() -> None:
    claims = rows((0, 0, 50, 50, TRUCK, 0.25), (0, 0, 50, 50, CAR, 0.75))
    boxes, unsure = merge(np.array([[0, 0, 50, 50, BUS]], np.float32), claims, set())
    assert boxes.tolist() == [[0, 0, 50, 50, BUS, 1]]
    assert not len(unsure)
    boxes, unsure = merge(NOTHING, claims, set())
    assert boxes.tolist() == [[0, 0, 50, 50, CAR, 0.75]]
    assert unsure.tolist() == [[0, 0, 50, 50, TRUCK]]


def test_two_teachers_that_agree_are_believed_more_than_one() -> None:
    guess = rows((200, 0, 250, 50, CAR, 0.5))
    ((*_, both),), ((*_, first),), none = trusted(guess, guess), trusted(guess, rows()), trusted(rows(), guess)
    assert both == 0.5
    assert both > first > 0.1
    assert not len(none)


def test_a_complete_class_gets_no_box_from_a_teacher() -> None:
    boxes, unsure = merge(NOTHING, rows((0, 0, 50, 50, PERSON, 0.9), (90, 0, 99, 50, PERSON, 0.3)), {PERSON})
    assert not len(boxes)
    assert unsure.tolist() == [[0, 0, 50, 50, PERSON]]


def test_a_class_is_learned_as_far_as_its_box_is_trusted() -> None:
    corners, strides = cells(SIZE, SIZE)
    there = targets((16, 24, 48, 88, PERSON))
    raw = perfect(there)
    quarter = float(torch.tensor(0.25).logit())
    raw[..., 4 + PERSON] = raw[..., 4 + PERSON].clamp(max=quarter)
    _, quality = assign(
        raw[..., 4:].sigmoid(), decode(raw, corners, strides), (corners + 0.5) * strides, strides, there
    )
    best = quality.argmax()
    raw.requires_grad_()
    pulls = []
    for trust in (0.1, 0.25, 1.0):
        cost, _ = loss(raw, replace(there, trust=there.trust * trust), corners, strides)
        (gradient,) = torch.autograd.grad(cost, raw)
        pulls.append(gradient[0, best, 4 + PERSON].item())
    assert pulls[0] > 0 > pulls[2]
    assert pulls[1] == pytest.approx(0, abs=1e-4)


def test_boxes_beyond_the_picture_are_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    cv2.imwrite(str(path), picture().image)
    path.with_suffix(".txt").write_text("3 0.0 0.5 0.5 0.5\n0 0.5 0.5 0.001 0.001\n")
    assert drawn(path, 160, 120).tolist() == [[0, 30, 40, 90, CAR]]
    assert drawn(tmp_path / "b.jpg", 160, 120).shape == (0, 5)


SMALL = replace(recipe.SMOKE, epochs=3, cool_down=1, batch=2, warm_up=1)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> list[Picture]:
    """Pictures that train in no time."""
    monkeypatch.setattr(recipe.Recipe, "plan", lambda self, epoch: Plan(self.seed, epoch, SIZE, 0.5))
    torch.set_num_threads(1)
    return [picture()] * 4


def equal(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_a_stopped_training_ends_where_an_unbroken_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: list[Picture], stop_after: int
) -> None:
    whole, losses = recipe.train(SMALL, small, tmp_path / "whole")
    saved, left = checkpoint.save, iter(range(stop_after - 1, -1, -1))

    def save_and_stop(path: Path, state: dict[str, object]) -> None:
        saved(path, state)
        if next(left) == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        recipe.train(SMALL, small, tmp_path / "broken")
    monkeypatch.setattr(checkpoint, "save", saved)
    again, resumed = recipe.train(SMALL, small, tmp_path / "broken")
    assert resumed == losses
    assert equal(whole, again)


def test_a_longer_training_goes_on_from_a_shorter_one(tmp_path: Path, small: list[Picture]) -> None:
    longer = replace(SMALL, epochs=4)
    whole, losses = recipe.train(longer, small, tmp_path / "whole")
    recipe.train(SMALL, small, tmp_path / "short")
    again, resumed = recipe.train(longer, small, tmp_path / "short")
    assert resumed == losses
    assert equal(whole, again)
    with pytest.raises(ValueError, match="more than wanted"):
        recipe.train(replace(SMALL, epochs=2), small, tmp_path / "short")


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path: Path, small: list[Picture]) -> None:
    recipe.train(SMALL, small, tmp_path)
    with pytest.raises(ValueError, match="another recipe"):
        recipe.train(replace(SMALL, seed=7), small, tmp_path)


def test_the_learning_rate_rises_stays_and_falls() -> None:
    plan = replace(SMALL, epochs=10, cool_down=2, warm_up=5)
    rates = [plan.part_of_rate(step, 10) for step in range(100)]
    assert rates[:5] == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert set(rates[5:80]) == {1.0}
    assert rates[80:] == sorted(rates[80:], reverse=True)
    assert rates[-1] == 1 / 20


def test_the_network_keeps_within_its_limits() -> None:
    network = Detector().eval()
    multiplications = 0

    def count(module: nn.Module, _given: object, made: Tensor) -> None:
        nonlocal multiplications
        if isinstance(module, nn.Conv2d):
            multiplications += made.shape[2] * made.shape[3] * module.weight.numel()

    for module in network.modules():
        module.register_forward_hook(count)
    with torch.no_grad():
        network(torch.zeros(1, 3, 416, 416))
    assert sum(parameter.numel() for parameter in network.parameters()) <= 1_500_000
    assert 2 * multiplications <= 1_000_000_000


def test_the_released_files_answer_as_the_network_does(tmp_path: Path) -> None:
    torch.manual_seed(0)
    plain = torch.ones(len(CLASSES)), torch.zeros(len(CLASSES))
    single, half = tmp_path / "a.onnx", tmp_path / "b.onnx"
    _write(Answer(Detector().eval(), *plain), single, half)
    assert half.stat().st_size < single.stat().st_size
    other = Answer(Detector().eval(), *plain).eval()
    with pytest.raises(ExportError, match="differs from torch"):
        _compare(other, torch.rand(1, 3, 416, 416) * 255, single, 1e-3)


def test_a_released_network_comes_back_and_can_learn(tmp_path: Path) -> None:
    torch.manual_seed(0)
    known = Detector().eval()
    for module in known.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    released = tmp_path / "a.onnx"
    _write(Answer(known, torch.ones(len(CLASSES)), torch.zeros(len(CLASSES))), released)
    again, pictures = Detector(), torch.rand(4, 3, 64, 64) * 255
    start(again, released, [pictures])
    with torch.no_grad():
        wanted = known(pictures)
        learning = again.train()(pictures)
        torch.testing.assert_close(again.eval()(pictures), wanted, rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(learning, wanted, rtol=0.1, atol=0.1)


def test_a_share_of_the_weights_may_stay() -> None:
    learned, before = nn.BatchNorm2d(1), nn.BatchNorm2d(1)
    for norm, value in ((learned, 1.0), (before, 5.0)):
        nn.init.constant_(norm.weight, value)
        norm.running_mean = torch.full((1,), value)
    blend(learned, before, 0.25)
    assert learned.weight.item() == 2.0
    torch.testing.assert_close(learned.running_mean, torch.tensor([2.0]))


def test_another_network_is_no_start(tmp_path: Path) -> None:
    other = tmp_path / "a.onnx"
    _write(Answer(Detector(neck=32).eval(), torch.ones(len(CLASSES)), torch.zeros(len(CLASSES))), other)
    with pytest.raises(StartError, match="not a detector of this architecture"):
        start(Detector(), other, [torch.zeros(1, 3, 64, 64)])


def test_calibrated_scores_tell_how_often_they_are_right() -> None:
    rng = np.random.default_rng(1)
    scores = rng.uniform(0.05, 0.95, 4000).astype(np.float32)
    right = rng.random(4000) < 1 / (1 + np.exp(-(2 * np.log(scores / (1 - scores)) + 1)))
    box = np.array([[0, 0, 10, 10]], np.float32)
    person = np.zeros(1, np.uint8)
    image = np.empty((0, 0, 3), np.uint8)
    pairs = [
        (Labelled(image, box if hit else box + 50, person), Detections(box, score[None], person))
        for score, hit in zip(scores, right, strict=True)
    ]
    factor, summand = _fit(pairs, (ObjectClass.PERSON,))
    assert float(factor) == pytest.approx(2, abs=0.2)
    assert float(summand) == pytest.approx(1, abs=0.2)
