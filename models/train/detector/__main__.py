"""Train the detector: `python -m models.train.detector`.

Stop it at any time; the same command goes on after the last whole epoch.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
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
from models.train.detector.labels import Picture, read_image, teach, training
from models.train.detector.loss import Targets, cells, loss
from models.train.detector.network import Detector
from models.train.detector.pictures import Augmented, Plan, collate
from models.train.detector.release import release

_console = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that decides what comes out.

    Attributes:
        seed: Of weights, order and augmentation.
        epochs: Times that each picture is seen.
        coarse: The first of them at 320 pixels: a picture costs 0.6 of the time there.
        plain: The last of them without mosaics, pictures as they are in use.
        batch: Pictures a step.
        rate: Highest learning rate.
        decay: Weight decay.
        warm_up: Steps until the highest learning rate.
        average: Decay of the moving average of the weights, which is what gets shipped.
    """

    seed: int = 1
    epochs: int = 48
    coarse: int = 39
    plain: int = 6
    batch: int = 16
    rate: float = 1.5e-3
    decay: float = 0.03
    warm_up: int = 400
    average: float = 0.9995

    def plan(self, epoch: int) -> Plan:
        """How the pictures of an epoch are made."""
        late = epoch >= self.epochs - self.plain
        return Plan(self.seed, epoch, 320 if epoch < self.coarse else 416, 0.0 if late else 0.7)


SMOKE = Recipe(epochs=30, coarse=30, plain=5, warm_up=20, average=0.9)


def main(
    data: Annotated[Path, typer.Option(envvar="VIGIE_DATA", help="Shared data.")] = Path("../shared/data"),
    scratch: Annotated[Path, typer.Option(help="Checkpoints and caches.")] = Path(".cache/train/detector"),
    out: Annotated[Path, typer.Option(help="Folder of the finished ONNX files.")] = Path("models"),
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="A few pictures and epochs: shows that the loss falls.")
    ] = False,
) -> None:
    """Make the detector from the shared pictures."""
    torch.set_num_threads(threads)
    recipe = SMOKE if smoke else Recipe()
    paths = training(data)
    if smoke:
        paths, scratch, out = paths[::40], scratch / "smoke", scratch / "smoke"
    pictures = read(paths, scratch / "labels.npz", threads)
    network, losses = train(recipe, pictures, scratch / "checkpoint.pt")
    _console.print("loss by epoch: " + " ".join(f"{value:.3f}" for value in losses))
    if smoke and not losses[-1] < losses[0]:
        _console.print("the loss did not fall")
        raise typer.Exit(1)
    release(network, out)


def read(paths: list[Path], cache: Path, threads: int) -> list[Picture]:
    """The pictures with all that is known about them; the teachers look once, and what they saw is kept."""
    if cache.exists():
        kept = np.load(cache)
    else:
        kept = {}
        for path, (boxes, unsure) in zip(
            paths, teach(track(paths, "teachers look", console=_console), threads), strict=True
        ):
            kept[f"{path.name} boxes"], kept[f"{path.name} unsure"] = boxes, unsure
        cache.parent.mkdir(parents=True, exist_ok=True)
        np.savez(cache, **kept)
    known = dict(kept)
    return [Picture(read_image(path), known[f"{path.name} boxes"], known[f"{path.name} unsure"]) for path in paths]


def train(recipe: Recipe, pictures: list[Picture], state_file: Path) -> tuple[nn.Module, list[float]]:
    """Train from random weights, or go on from a checkpoint of the same recipe.

    Returns:
        The averaged network, in evaluation mode on the processor, and the mean loss of each epoch.

    Raises:
        ValueError: the checkpoint is of another recipe.
    """
    torch.manual_seed(recipe.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = Detector().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(network).eval()
    optimiser = torch.optim.AdamW(_groups(network, recipe.decay), lr=recipe.rate)
    steps = len(pictures) // recipe.batch
    done, losses = 0, list[float]()
    if (state := checkpoint.load(state_file)) is not None:
        if state["recipe"] != asdict(recipe):
            raise ValueError(f"{state_file} is of another recipe: {state['recipe']}; move it away to begin anew")
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        losses = state["losses"]
        done = len(losses)
    with Progress(console=_console) as progress:
        task = progress.add_task("training", total=steps * recipe.epochs, completed=steps * done)
        for epoch in range(done, recipe.epochs):
            step, total = epoch * steps, 0.0
            for images, targets in _batches(recipe, pictures, epoch):
                _set_rate(optimiser, recipe, step, steps * recipe.epochs)
                total += _step(network, optimiser, images, targets, device)
                _blend(average, network, min(recipe.average, step / (step + 100)))
                step += 1
                progress.advance(task)
            losses.append(total / steps)
            progress.console.print(f"epoch {epoch + 1} of {recipe.epochs}: loss {losses[-1]:.3f}")
            state = {"recipe": asdict(recipe), "losses": losses, "optimiser": optimiser.state_dict()}
            checkpoint.save(state_file, state | {"network": network.state_dict(), "average": average.state_dict()})
    return average.cpu(), losses


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


def _set_rate(optimiser: torch.optim.Optimizer, recipe: Recipe, step: int, last: int) -> None:
    """Up in a line, down along half a cosine to a hundredth."""
    if step < recipe.warm_up:
        part = (step + 1) / recipe.warm_up
    else:
        part = 0.01 + 0.99 * (1 + math.cos(math.pi * (step - recipe.warm_up) / (last - recipe.warm_up))) / 2
    for group in optimiser.param_groups:
        group["lr"] = recipe.rate * part


def _step(
    network: nn.Module, optimiser: torch.optim.Optimizer, images: Tensor, targets: Targets, device: torch.device
) -> float:
    pictures = images.to(device, non_blocking=True).float()
    corners, strides = (part.to(device) for part in cells(*images.shape[2:]))
    there = Targets(targets.boxes.to(device), targets.classes.to(device), targets.unsure.to(device))
    with torch.autocast(device.type, torch.bfloat16):
        raw = network(pictures)
    wrong, _ = loss(raw.float(), there, corners, strides)
    optimiser.zero_grad()
    wrong.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(network.parameters(), 10.0)
    optimiser.step()
    return wrong.item()


@torch.no_grad()
def _blend(average: nn.Module, network: nn.Module, decay: float) -> None:
    for mean, value in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)


if __name__ == "__main__":
    typer.run(main)
