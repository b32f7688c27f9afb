"""Train the detector: `python -m models.train.detector`.

Stop it at any time; the same command goes on after the last whole epoch.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import Progress, track
from torch import Tensor, nn
from torch.utils.data import DataLoader

from models.train import checkpoint
from models.train.average import blend
from models.train.detector.labels import Picture, label, look, training
from models.train.detector.loss import Targets, cells, loss
from models.train.detector.network import Detector
from models.train.detector.pictures import Augmented, Plan, collate
from models.train.detector.release import SIZE, release
from models.train.detector.start import start
from models.train.precision import autocast

_console = Console(stderr=True)
EPOCHS = 31
#: Checkpoints: before the learning rate falls, and since.
_STABLE, _COOLED = "stable.pt", "cooled.pt"
#: Batches by which a released network's normalisations are set.
_SETTLING = 20


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that decides what comes out.

    The learning rate stays high, and falls in a line over the last epochs alone (Hu et al., 2024, arXiv:2404.06395,
    section 4): a training of more epochs is a longer way along the same path, so it may go on from a shorter one.

    Attributes:
        epochs: Times that each picture is seen.
        cool_down: The last of them, with the learning rate falling, pictures in full size and hardly any mosaics.
        sizes: Sides of the pictures in the other epochs, in turn, pixels; small ones cost less.
        seed: Of weights, order and augmentation.
        batch: Pictures a step.
        rate: Highest learning rate.
        decay: Weight decay.
        warm_up: Steps until the highest learning rate.
        average: Decay of the moving average of the weights, which is what gets shipped.
        begun: SHA-256 of the released detector whose weights it begins with; empty: random weights.
    """

    epochs: int = EPOCHS
    cool_down: int = 6
    sizes: tuple[int, ...] = (256, 384, 320)
    seed: int = 1
    batch: int = 16
    rate: float = 2.5e-3
    decay: float = 0.03
    warm_up: int = 300
    average: float = 0.998
    begun: str = ""

    @property
    def stable(self) -> int:
        """Epochs before the learning rate falls."""
        return self.epochs - self.cool_down

    def plan(self, epoch: int) -> Plan:
        """How the pictures of an epoch are made."""
        if epoch >= self.stable:
            return Plan(self.seed, epoch, SIZE, 0.1)
        return Plan(self.seed, epoch, self.sizes[epoch % len(self.sizes)], 0.7)

    def part_of_rate(self, step: int, steps: int) -> float:
        """Part of the highest learning rate at a step, of so many in an epoch."""
        if step < self.warm_up:
            return (step + 1) / self.warm_up
        return min(1.0, (self.epochs * steps - step) / (self.cool_down * steps))


SMOKE = Recipe(epochs=30, cool_down=5, sizes=(320,), warm_up=20, average=0.9)


def main(
    data: Annotated[Path, typer.Option(envvar="VIGIE_DATA", help="Shared data.")] = Path("../shared/data"),
    scratch: Annotated[Path, typer.Option(help="Checkpoints and caches.")] = Path(".cache/train/detector"),
    out: Annotated[Path, typer.Option(help="Folder of the finished ONNX files.")] = Path("models"),
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    epochs: Annotated[
        int, typer.Option(min=5, help="Times each picture is seen; more go on from what fewer have made.")
    ] = EPOCHS,
    released: Annotated[
        Path | None, typer.Option("--start", help="Released detector (.onnx) to go on from; default: random weights.")
    ] = None,
    keep: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share of the weights that stay those of --start; what it knew is kept so."),
    ] = 0.0,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="A few pictures and epochs: shows that the loss falls.")
    ] = False,
) -> None:
    """Make the detector from the shared pictures.

    A network that went on learning is better on pictures like those it learned from, and may be worse on others.
    Weights between those it began with and its own give up little of what it gained (Wortsman et al., 2022,
    arXiv:2109.01903).
    """
    torch.set_num_threads(threads)
    if keep and not released:
        raise typer.BadParameter("without --start there are no weights to keep")
    recipe = SMOKE if smoke else Recipe(epochs)
    if released:
        recipe = replace(recipe, begun=hashlib.sha256(released.read_bytes()).hexdigest())
    paths = training(data)
    if smoke:
        paths, scratch, out = paths[::40], scratch / "smoke", scratch / "smoke"
    pictures = read(paths, scratch / "seen.npz", threads)
    network, losses = train(recipe, pictures, scratch, released)
    _console.print("loss by epoch: " + " ".join(f"{value:.3f}" for value in losses))
    if smoke and not losses[-1] < losses[0]:
        _console.print("the loss did not fall")
        raise typer.Exit(1)
    if released and keep:
        blend(network, _started(recipe, pictures, released), keep)
    release(network, out, data)


def read(paths: list[Path], cache: Path, threads: int) -> list[Picture]:
    """The pictures with all that is known about them; the teachers look once, and what they saw is kept."""
    if not cache.exists():
        cache.parent.mkdir(parents=True, exist_ok=True)
        seen = look(track(paths, "teachers look", console=_console), threads)
        kept: dict[str, Any] = {}
        for path, rows in zip(paths, seen, strict=True):
            kept |= {f"{path.name} {place}": of_one for place, of_one in enumerate(rows)}
        np.savez(cache, **kept)
    known = dict(np.load(cache))
    return [label(path, [known[f"{path.name} {place}"] for place in range(2)]) for path in paths]


def train(
    recipe: Recipe, pictures: list[Picture], scratch: Path, released: Path | None = None
) -> tuple[nn.Module, list[float]]:
    """Train from random weights or a released network, or go on from checkpoints of the same or a shorter recipe.

    Returns:
        The averaged network, in evaluation mode on the processor, and the mean loss of each epoch.

    Raises:
        ValueError: a checkpoint is of another recipe, or the released network of another architecture.
    """
    torch.manual_seed(recipe.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = _started(recipe, pictures, released) if released else Detector()
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(network).eval()
    optimiser = torch.optim.AdamW(_groups(network, recipe.decay), lr=recipe.rate)
    parts = {"network": network, "average": average, "optimiser": optimiser}
    losses = _resume(recipe, scratch, parts)
    steps = len(pictures) // recipe.batch
    with Progress(console=_console) as progress:
        task = progress.add_task("training", total=steps * recipe.epochs, completed=steps * len(losses))
        for epoch in range(len(losses), recipe.epochs):
            step, total = epoch * steps, 0.0
            for images, targets in _batches(recipe, pictures, epoch):
                for group in optimiser.param_groups:
                    group["lr"] = recipe.rate * recipe.part_of_rate(step, steps)
                total += _step(network, optimiser, images, targets, device)
                blend(average, network, 1 - min(recipe.average, step / (step + 100)))
                step += 1
                progress.advance(task)
            losses.append(total / steps)
            progress.console.print(f"epoch {epoch + 1} of {recipe.epochs}: loss {losses[-1]:.3f}")
            file = scratch / (_STABLE if epoch < recipe.stable else _COOLED)
            state = {name: part.state_dict() for name, part in parts.items()}
            known = {"recipe": _comparable(recipe), "epochs": recipe.epochs, "losses": losses}
            checkpoint.save(file, known | state)
    return average.cpu(), losses


def _started(recipe: Recipe, pictures: list[Picture], released: Path) -> Detector:
    """A released network that can learn."""
    network = Detector()
    first = list(itertools.islice(_batches(recipe, pictures, 0), _SETTLING))
    start(network, released, (images.float() for images, _ in first))
    return network


def _resume(recipe: Recipe, scratch: Path, parts: dict[str, Any]) -> list[float]:
    """Take up the checkpoint that is furthest on the way of this recipe.

    Returns:
        The losses of the epochs that are done.
    """
    for name in (_COOLED, _STABLE):
        state = checkpoint.load(scratch / name)
        if state is None:
            continue
        if state["recipe"] != _comparable(recipe):
            raise ValueError(f"{scratch / name} is of another recipe: {state['recipe']}; move it away to begin anew")
        if name == _COOLED and state["epochs"] != recipe.epochs:
            continue  # its learning rate fell too early for this one
        if name == _STABLE and len(state["losses"]) > recipe.stable:
            raise ValueError(f"{scratch / name} has {len(state['losses'])} epochs, more than wanted: move it away")
        for key, part in parts.items():
            part.load_state_dict(state[key])
        return list(state["losses"])
    return []


def _comparable(recipe: Recipe) -> dict[str, Any]:
    """What must be the same for one training to go on from another."""
    return {key: value for key, value in asdict(recipe).items() if key != "epochs"}


def _groups(network: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Weights of convolutions decay; biases and normalisation do not."""
    weights = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    return [{"params": weights, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]


def _batches(recipe: Recipe, pictures: list[Picture], epoch: int) -> Iterator[tuple[Tensor, Targets]]:
    order = torch.Generator().manual_seed(recipe.seed * 1000 + epoch)
    dataset = Augmented(pictures, recipe.plan(epoch))
    return iter(
        DataLoader(
            dataset,
            recipe.batch,
            shuffle=True,
            generator=order,
            num_workers=1,
            collate_fn=collate,
            drop_last=True,
            prefetch_factor=8,
        )
    )


def _step(
    network: nn.Module, optimiser: torch.optim.Optimizer, images: Tensor, targets: Targets, device: torch.device
) -> float:
    pictures = images.to(device, non_blocking=True).float()
    corners, strides = (part.to(device) for part in cells(*images.shape[2:]))
    there = targets.to(device)
    with autocast(device):
        raw = network(pictures)
    wrong, _ = loss(raw.float(), there, corners, strides)
    optimiser.zero_grad()
    wrong.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(network.parameters(), 10.0)
    optimiser.step()
    return wrong.item()


if __name__ == "__main__":
    typer.run(main)
