from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

pytest.importorskip("torch", reason="recipes need the extra `train`")
pytest.importorskip("onnx", reason="recipes need the extra `train`")

import torch

from agent.evaluate.sounds import UNKNOWN, Sound, Use, folds
from agent.perception.logmel import BANDS, FLOOR, FRAMES, PATCH, RATE
from agent.perception.tag import CLASSES
from models.train import checkpoint
from models.train.export import export
from models.train.sound import __main__ as recipe_module
from models.train.sound import corpus as corpus_module
from models.train.sound.__main__ import FURTHER, Course, release
from models.train.sound.augment import LEAD, cut, lay_over, mix
from models.train.sound.corpus import Corpus, Shelf
from models.train.sound.learn import (
    Lesson,
    begin_naming,
    distillation,
    finding,
    merge,
    naming,
    teach,
    troublesome,
    vary,
)
from models.train.sound.network import EMBEDDING, NAMES, Pupil, Tagger
from models.train.sound.start import StartError, keep, start

COUNT = 24
LESSON = Lesson(steps=6, rate=1e-3, batch=4, warm_up=2, keep=2)


@pytest.fixture
def corpus() -> Corpus:
    random = np.random.default_rng(1)
    labels = (random.random((COUNT, len(CLASSES))) < 0.3).astype(np.int8)
    labels[0, 0] = UNKNOWN
    return Corpus(
        logmel=random.normal(-2, 2, (COUNT, FRAMES, BANDS)).astype(np.float16),
        embedding=random.exponential(0.3, (COUNT, EMBEDDING)).astype(np.float16),
        labels=labels,
        sound=np.arange(COUNT, dtype=np.int32),
        mixed=np.arange(COUNT) % 2 == 0,
    )


@pytest.fixture
def pupil() -> Pupil:
    torch.set_num_threads(1)
    torch.manual_seed(1)
    return Pupil(len(CLASSES))


@pytest.fixture
def scores() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(2)
    weight = random.normal(0, 0.1, (NAMES, EMBEDDING)).astype(np.float32)
    return weight, np.full(NAMES, -3, np.float32)


def equal(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_the_network_is_small() -> None:
    assert sum(parameter.numel() for parameter in Tagger(len(CLASSES)).parameters()) <= 1_000_000


def test_a_stopped_lesson_ends_where_an_unbroken_one_does(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    corpus: Corpus,
    pupil: Pupil,
) -> None:
    likely = np.full(COUNT, 1 / COUNT)

    def taught(lesson: Lesson, state_file: Path) -> tuple[Pupil, list[float]]:
        network = copy.deepcopy(pupil)
        cost = finding(network, corpus)
        return network, teach(lesson, network, corpus, likely, cost, state_file, lambda *_: None)

    whole, losses = taught(LESSON, tmp_path / "whole.pt")
    assert len(losses) == 3
    saved = checkpoint.save

    def stop(path: Path, state: dict[str, object]) -> None:
        saved(path, state)
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        taught(LESSON, tmp_path / "broken.pt")
    monkeypatch.setattr(checkpoint, "save", saved)
    again, resumed = taught(LESSON, tmp_path / "broken.pt")
    assert resumed == losses
    assert equal(whole, again)
    with pytest.raises(ValueError, match="another lesson"):
        taught(replace(LESSON, seed=9), tmp_path / "broken.pt")


def test_naming_begins_where_hearing_ended(corpus: Corpus, pupil: Pupil) -> None:
    meant = [[2 * place, 2 * place + 1] for place in range(len(CLASSES))]
    begin_naming(pupil, meant)
    features = pupil.tagger.features(torch.from_numpy(corpus.logmel[:4].astype(np.float32))[:, None])
    names = pupil.name(features)
    expected = torch.stack([names[:, pair].mean(1) for pair in meant], 1)
    difference = pupil.tagger.classify(features) - expected
    assert torch.allclose(difference, difference[:1, :1].expand_as(difference), atol=1e-4)


def test_where_a_label_is_unknown_the_expert_is_believed(
    corpus: Corpus, pupil: Pupil, scores: tuple[np.ndarray, np.ndarray]
) -> None:
    hearing = distillation(pupil.eval(), corpus, scores)
    seen = torch.from_numpy(corpus.logmel[:1].astype(np.float32))[:, None]
    chosen = np.zeros(1, np.intp)
    pulls = []
    for opinion in (0.0, 1.0):
        expert = np.full((COUNT, len(CLASSES)), opinion, np.float32)
        pupil.zero_grad()
        wrong, _ = naming(pupil, corpus, expert, hearing)(chosen, seen)
        wrong.backward()  # type: ignore[no-untyped-call]
        assert pupil.tagger.classify.bias.grad is not None
        pulls.append(pupil.tagger.classify.bias.grad[0].item())
    assert pulls[0] > 0 > pulls[1]


def test_varied_patches_keep_their_floor() -> None:
    quiet = np.full((4, FRAMES, BANDS), np.log(FLOOR), np.float32)
    varied = vary(quiet, np.ones(4, np.bool_), np.random.default_rng(1))
    np.testing.assert_allclose(varied, np.log(FLOOR), rtol=1e-5)


@pytest.mark.parametrize("seed", range(20))
def test_a_cut_holds_a_loud_moment_and_a_mixture_fills_the_scale(seed: int) -> None:
    random = np.random.default_rng(seed)
    street = (random.standard_normal(5 * RATE) * 0.01).astype(np.float32)
    bang = street.copy()
    bang[2 * RATE : 2 * RATE + 800] += 0.9
    piece = cut(bang, random, 12)
    assert piece.shape == (LEAD + PATCH,)
    assert np.abs(piece[LEAD:]).max() > 0.5
    patch, louder = mix(piece, cut(street, random, 30), random)
    assert patch.shape == (PATCH,)
    assert patch.dtype == np.float32
    assert 0.4 < np.abs(patch).max() <= 1.2
    assert -5 <= louder <= 20


def test_every_recording_of_a_class_is_drawn_alike() -> None:
    def sound(label: str, recording: str) -> Sound:
        return Sound(file="a", label=label, kind=label, recording=recording, use="ship", seconds=1)

    sounds = [sound("siren", "long")] * 9 + [sound("siren", "short"), sound("background", "street")]
    shelf = Shelf(sounds, range(len(sounds)))
    random = np.random.default_rng(1)
    drawn = [shelf.draw({"event": 1.0}, random) for _ in range(400)]
    assert 150 < sum(index == 9 for index in drawn) < 250
    assert max(drawn) < 10
    assert shelf.draw({"background": 0.5, "hard": 0.5}, random) == 10


def test_the_released_files_answer_as_the_network_does(tmp_path: Path) -> None:
    torch.manual_seed(1)
    release(Tagger(len(CLASSES)).eval(), tmp_path / "a.onnx", tmp_path / "b.onnx")
    assert (tmp_path / "b.onnx").stat().st_size < 0.6 * (tmp_path / "a.onnx").stat().st_size


@pytest.fixture
def released(tmp_path: Path) -> Path:
    torch.manual_seed(2)
    tagger = Tagger(len(CLASSES))
    for norm in tagger.modules():
        if isinstance(norm, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            assert norm.running_mean is not None
            torch.nn.init.uniform_(norm.running_mean, -1, 1)
            torch.nn.init.uniform_(norm.weight, 0.5, 2)
    release(tagger.eval(), tmp_path / "released.onnx")
    return tmp_path / "released.onnx"


def test_one_that_goes_on_answers_as_the_released_one(released: Path, pupil: Pupil) -> None:
    start(pupil, released)
    pupil.train()
    patch = np.random.default_rng(1).normal(-2, 2, (2, 1, FRAMES, BANDS)).astype(np.float32)
    expected = onnxruntime.InferenceSession(released).run(None, {"logmel": patch})[0]
    np.testing.assert_allclose(pupil.tagger(torch.from_numpy(patch)).detach(), expected, atol=1e-4)


def test_another_network_is_no_beginning(tmp_path: Path, pupil: Pupil) -> None:
    network = torch.nn.Conv2d(1, 4, 3).eval()
    export(network, torch.zeros(1, 1, 8, 8), tmp_path / "a.onnx", input_name="x", output_names=["y"])
    with pytest.raises(StartError, match="not a tagger of this architecture"):
        start(pupil, tmp_path / "a.onnx")


def test_only_the_last_layers_go_on(released: Path, tmp_path: Path, pupil: Pupil, corpus: Corpus) -> None:
    start(pupil, released)
    keep(pupil, 4)
    before = copy.deepcopy(pupil)
    likely = np.full(COUNT, 1 / COUNT)
    teach(LESSON, pupil, corpus, likely, finding(pupil, corpus), tmp_path / "state.pt", lambda *_: None)
    same = [equal(old, new) for old, new in zip(before.tagger.layers, pupil.tagger.layers, strict=True)]
    assert same == [True] * 4 + [False] * 2


def test_what_several_have_learnt_goes_on_as_their_mean(pupil: Pupil) -> None:
    pupils = [copy.deepcopy(pupil) for _ in range(3)]
    for more, one in enumerate(pupils):
        torch.nn.init.constant_(one.tagger.classify.bias, more)
    merge(pupil, pupils)
    assert pupil.tagger.classify.bias.tolist() == [1] * len(CLASSES)
    assert torch.allclose(pupil.tagger.classify.weight, pupils[0].tagger.classify.weight)


def test_the_last_lesson_believes_the_labels_and_leaves_out_what_is_unknown(
    released: Path, pupil: Pupil, corpus: Corpus
) -> None:
    start(pupil, released)
    seen = torch.from_numpy(corpus.logmel[:1].astype(np.float32))[:, None]
    wrong, _ = finding(pupil, corpus)(np.zeros(1, np.intp), seen)
    wrong.backward()  # type: ignore[no-untyped-call]
    pull = pupil.tagger.classify.bias.grad
    assert pull is not None
    assert pull[0] == 0
    assert [value > 0 for value in pull[1:].tolist()] == [label == 0 for label in corpus.labels[0, 1:].tolist()]


def test_a_released_network_has_only_its_last_lesson_and_learns_nothing_of_a_fold(
    released: Path,
    tmp_path: Path,
    corpus: Corpus,
    scores: tuple[np.ndarray, np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.set_num_threads(1)
    labels = ["background" if place % 3 else "gunshot" for place in range(COUNT)]
    sounds = [
        Sound(file="a", label=label, kind=label, recording=str(place), use="ship", seconds=1)
        for place, label in enumerate(labels)
    ]
    corpus.labels[:] = [[label == name for name in CLASSES] for label in labels]
    recipe = replace(FURTHER, finding=(LESSON, replace(LESSON, seed=2)), times=2)
    drawn, seeds, pupils = [], [], [Pupil(len(CLASSES))]
    start(pupils[0], released)

    def watch(lesson: Lesson, pupil: Pupil, corpus: Corpus, likely: np.ndarray, *rest: Any) -> list[float]:
        drawn.append(likely)
        seeds.append(lesson.seed)
        pupils.append(pupil)
        return teach(lesson, pupil, corpus, likely, *rest)

    monkeypatch.setattr(recipe_module, "teach", watch)
    course = Course(recipe, sounds, corpus, scores, [], tmp_path, released)
    ((name, network, losses),) = course.attend(0)
    assert name == "vigie-sound-nc"
    assert network(torch.zeros(1, 1, FRAMES, BANDS)).shape == (1, len(CLASSES))
    assert [len(lesson) for lesson in losses] == [6, 6]
    assert sorted(seeds) == [1, 2, 3, 4]
    before, *_, one, other = (each.tagger.classify.weight for each in pupils)
    assert torch.allclose(network.classify.weight, before / 2 + (one + other) / 4)
    for likely in drawn:
        assert likely.sum() == pytest.approx(1)
        assert not likely[folds(sounds) == 0].any()


def test_what_is_taken_for_an_event_is_drawn_more_often(released: Path, pupil: Pupil, corpus: Corpus) -> None:
    start(pupil, released)
    corpus.labels[COUNT // 2 :] = 0
    nothing = ~corpus.labels.any(axis=1)
    likely = np.full(COUNT, 1 / COUNT)
    likely[-2:] = 0
    again = troublesome(likely, pupil, corpus)
    assert again[~nothing] == pytest.approx(likely[~nothing])
    assert again[-2:].tolist() == [0, 0]
    heard = torch.from_numpy(corpus.logmel.astype(np.float32))[:, None]
    taken = pupil.tagger(heard).sigmoid().amax(1).detach().numpy()
    for mixed in (False, True):
        same = nothing & (likely > 0) & (corpus.mixed == mixed)
        assert again[same].sum() == pytest.approx(likely[same].sum())
        assert np.argsort(again[same]).tolist() == np.argsort(taken[same]).tolist()


@pytest.mark.parametrize("seed", range(20))
def test_an_event_lies_over_a_street_by_its_loudest_moments(seed: int) -> None:
    random = np.random.default_rng(seed)
    street = (random.standard_normal(LEAD + PATCH) * 0.01).astype(np.float32)
    bang = np.zeros(LEAD + PATCH, np.float32)
    bang[LEAD + PATCH // 2 : LEAD + PATCH // 2 + 800] = 0.9
    patch, louder = lay_over(bang, street, random)
    assert patch.shape == (PATCH,)
    assert patch.dtype == np.float32
    assert 0.4 < np.abs(patch).max() <= 1.2
    assert -5 <= louder <= 25


def test_an_event_over_a_street_has_its_label_where_it_is_certain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus_module, "_CHUNK", 40)

    class Silent:
        def hear(self, pieces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return np.zeros((len(pieces), len(CLASSES))), np.zeros((len(pieces), EMBEDDING))

    def sound(label: str, kind: str, use: Use) -> Sound:
        return Sound(file="a", label=label, kind=kind, recording=kind, use=use, seconds=3)

    sounds = [sound("background", "bg_street", "ship"), sound("siren", "siren", "noncommercial")]
    noise = (np.random.default_rng(1).standard_normal(3 * RATE) * 0.01).astype(np.float32)
    shelf = Shelf(sounds, [0, 1])
    made = corpus_module._laid(sounds, [(shelf, shelf)], 0, lambda _: noise, Silent())  # type: ignore[arg-type]
    of_siren = made.sound == 1
    assert 0 < of_siren.sum() < 40
    assert not made.labels[~of_siren].any()
    assert {1, UNKNOWN} == set(made.labels[of_siren, CLASSES.index("siren")].tolist())
    assert not np.delete(made.labels, CLASSES.index("siren"), axis=1).any()


def test_a_hard_negative_is_imitated_over_a_street_and_labelled_as_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus_module, "_CHUNK", 6)

    class Silent:
        def hear(self, pieces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return np.zeros((len(pieces), len(CLASSES))), np.zeros((len(pieces), EMBEDDING))

    sounds = [Sound(file="a", label="background", kind="bg_street", recording="a", use="ship", seconds=3)]
    shelf = Shelf(sounds, [0])
    street = (np.random.default_rng(1).standard_normal(3 * RATE) * 0.01).astype(np.float32)
    made = corpus_module._imitations([(shelf, shelf)], 0, lambda _: street, Silent())  # type: ignore[arg-type]
    assert not made.labels.any()
    assert made.mixed.all()
    assert made.sound.tolist() == [0] * 6
