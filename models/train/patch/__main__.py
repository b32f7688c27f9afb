"""Train the patch checker: `python -m models.train.patch`; some minutes on one core."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import Progress
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader

from agent.evaluate.patches import Patch, read_patches
from models.train import checkpoint
from models.train.export import export
from models.train.patch.network import SIZE, Checker
from models.train.patch.patches import Augmented, Plan

NAME = "vigie-patch"
_console = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that decides what comes out.

    Attributes:
        epochs: Of `count` patches of each class.
        count: Patches of each class in an epoch.
        seed: Of weights, order and augmentation.
        batch: Patches a step.
        rate: Highest learning rate; it rises and falls along one cycle (Smith, 2018, arXiv:1803.09820).
        decay: Weight decay.
        smoothing: Of labels, so that probabilities stay honest.
    """

    epochs: int = 80
    count: int = 700
    seed: int = 1
    batch: int = 64
    rate: float = 4e-3
    decay: float = 0.05
    smoothing: float = 0.05


SMOKE = Recipe(epochs=3, count=200)


def main(
    data: Annotated[Path, typer.Option(envvar="VIGIE_DATA", help="Shared data.")] = Path("../shared/data"),
    scratch: Annotated[Path, typer.Option(help="Checkpoints.")] = Path(".cache/train/patch"),
    out: Annotated[Path, typer.Option(help="Folder of the finished ONNX files.")] = Path("models"),
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    smoke: Annotated[bool, typer.Option("--smoke", help="A few epochs: shows that the loss falls.")] = False,
) -> None:
    """Make the patch checker from the shared pictures."""
    torch.set_num_threads(threads)
    if smoke:
        scratch = out = scratch / "smoke"
    patches = [patch for patch in read_patches(data) if not patch.held_back]
    network, losses = train(SMOKE if smoke else Recipe(), patches, scratch / "checkpoint.pt")
    _console.print("loss by epoch: " + " ".join(f"{value:.3f}" for value in losses))
    if smoke and not losses[-1] < losses[0]:
        _console.print("the loss did not fall")
        raise typer.Exit(1)
    example = torch.randint(0, 256, (1, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(0)).float()
    out.mkdir(parents=True, exist_ok=True)
    fp16 = out / f"{NAME}-fp16.onnx"
    export(network, example, out / f"{NAME}.onnx", input_name="patches", output_names=["logits"], fp16=fp16)


def train(recipe: Recipe, patches: list[Patch], state_file: Path) -> tuple[nn.Module, list[float]]:
    """Train from random weights, or go on from a checkpoint of the same recipe.

    Returns:
        The network, in evaluation mode, and the mean loss of each epoch.

    Raises:
        ValueError: the checkpoint is of another recipe.
    """
    torch.manual_seed(recipe.seed)
    network = Checker()
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.rate, weight_decay=recipe.decay)
    steps = -(-3 * recipe.count // recipe.batch)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.rate, total_steps=steps * recipe.epochs)
    losses = list[float]()
    parts: dict[str, Any] = {"network": network, "optimiser": optimiser, "cycle": cycle}
    if (state := checkpoint.load(state_file)) is not None:
        if state["recipe"] != asdict(recipe):
            raise ValueError(f"{state_file} is of another recipe: {state['recipe']}; move it away to begin anew")
        for name, part in parts.items():
            part.load_state_dict(state[name])
        losses = list(state["losses"])
    with Progress(console=_console) as progress:
        task = progress.add_task("training", total=recipe.epochs, completed=len(losses))
        for epoch in range(len(losses), recipe.epochs):
            torch.manual_seed(recipe.seed * 1000 + epoch)
            dataset = Augmented(patches, Plan(recipe.seed, epoch, recipe.count))
            total = 0.0
            for images, kinds in DataLoader(dataset, recipe.batch, shuffle=True):
                wrong = functional.cross_entropy(network(images.float()), kinds, label_smoothing=recipe.smoothing)
                optimiser.zero_grad()
                wrong.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                cycle.step()
                total += wrong.item()
            losses.append(total / steps)
            progress.console.print(f"epoch {epoch + 1} of {recipe.epochs}: loss {losses[-1]:.3f}")
            progress.advance(task)
            state = {name: part.state_dict() for name, part in parts.items()}
            checkpoint.save(state_file, state | {"recipe": asdict(recipe), "losses": losses})
    return network.eval(), losses


if __name__ == "__main__":
    typer.run(main)
