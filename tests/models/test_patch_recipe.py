from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="recipes need the extra `train`")
pytest.importorskip("onnx", reason="recipes need the extra `train`")

import torch

from agent.evaluate.patches import HEAP, NEITHER, WRITING, Patch
from models.train import checkpoint
from models.train.patch import __main__ as recipe
from models.train.patch.network import SIZE, Checker
from models.train.patch.patches import Augmented, Plan, _cut, _scribble

PICTURE = np.random.default_rng(1).integers(0, 256, (90, 120, 3)).astype(np.uint8)
PATCHES = [
    Patch(PICTURE, (20, 20, 70, 60), HEAP, "bag", held_back=False),
    Patch(PICTURE, (0, 0, 120, 90), WRITING, "tags", held_back=False),
    Patch(PICTURE, (50, 30, 119, 89), NEITHER, "street", held_back=False),
    Patch(PICTURE, (0, 0, 120, 90), NEITHER, "clean wall", held_back=False),
]


def test_one_plan_gives_one_patch_and_the_next_epoch_another() -> None:
    plan = Plan(seed=1, epoch=0, count=10)
    first, again, other = (Augmented(PATCHES, one) for one in (plan, plan, replace(plan, epoch=1)))
    assert len(first) == 30
    for index in range(len(first)):
        image, kind = first[index]
        assert kind == index % 3
        assert image.shape == (3, SIZE, SIZE)
        assert image.dtype == torch.uint8
        assert torch.equal(image, again[index][0])
        assert not torch.equal(image, other[index][0])


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.source)
def test_cuts_are_off_by_a_little_and_stay_in_the_picture(patch: Patch) -> None:
    cuts = [_cut(patch, np.random.default_rng(seed)) for seed in range(30)]
    assert all(cut.shape == (SIZE, SIZE, 3) for cut in cuts)
    assert len({cut.tobytes() for cut in cuts}) == 30


def test_scribbles_leave_most_of_a_wall_and_change_some() -> None:
    wall = np.full((SIZE, SIZE, 3), 150, np.uint8)
    parts = [float((_scribble(wall, np.random.default_rng(seed)) != wall).any(axis=2).mean()) for seed in range(40)]
    assert 0.005 < np.median(parts) < 0.8


def test_the_network_is_small() -> None:
    assert sum(parameter.numel() for parameter in Checker().parameters()) <= 150_000


def test_a_stopped_training_ends_where_an_unbroken_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    small = replace(recipe.SMOKE, epochs=2, count=8, batch=8)
    whole, losses = recipe.train(small, PATCHES, tmp_path / "whole.pt")
    saved = checkpoint.save

    def stop(path: Path, state: dict[str, object]) -> None:
        saved(path, state)
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        recipe.train(small, PATCHES, tmp_path / "broken.pt")
    monkeypatch.setattr(checkpoint, "save", saved)
    again, resumed = recipe.train(small, PATCHES, tmp_path / "broken.pt")
    assert resumed == losses
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), again.state_dict().values(), strict=True))
    with pytest.raises(ValueError, match="another recipe"):
        recipe.train(replace(small, seed=2), PATCHES, tmp_path / "broken.pt")
