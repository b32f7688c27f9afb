"""The lessons: to hear as YAMNet does, to name the classes, and to find them in the midst of a street."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from agent.evaluate.sounds import UNKNOWN
from agent.perception.logmel import FLOOR
from models.train import checkpoint
from models.train.average import blend
from models.train.precision import autocast
from models.train.sound.corpus import Corpus
from models.train.sound.network import Pupil


@dataclass(frozen=True, slots=True)
class Lesson:
    """How long and how fast one stage learns.

    Attributes:
        steps: Batches.
        rate: Highest learning rate.
        seed: Of order and augmentation.
        batch: Patches a step.
        decay: Weight decay.
        warm_up: Steps until the highest learning rate.
        keep: Steps from one checkpoint to the next.
    """

    steps: int
    rate: float
    seed: int = 1
    batch: int = 64
    decay: float = 0.02
    warm_up: int = 100
    keep: int = 200


#: What a batch's patches cost, and their features: given indices of the corpus, and their log-mel as augmented.
Cost = Callable[[NDArray[np.intp], Tensor], tuple[Tensor, Tensor]]
#: How much a label counts beside the expert's opinion; a recording with a shot is not all shot.
_TRUST = 0.7
#: How much the first lesson counts in the second: few recordings are soon learnt by heart.
_MEMORY = 1.0
#: How much it costs the reader of classes to leave the reader of YAMNet's names, with which it begins.
_ANCHOR = 0.03
#: YAMNet takes many names for one sound, each with a part of its trust: a class begins with as much more, in logits.
_SHARED = 2.0
#: How much YAMNet's names count beside its embedding: a cross entropy over 521 of them is some tens of times larger.
_NAMES_SHARE = 0.1
#: How sure a label of the last lesson is. YAMNet, by whom the mixtures of the other lessons are named, is half deaf
#: itself to a shot in traffic, and who believes it never dares to be sure.
_SURE = 0.98
#: How often a patch without events is drawn again that is no trouble, beside one that is taken for an event for sure.
_NO_TROUBLE = 0.1
#: Patches that are heard at once where nothing is learnt.
_HEARD = 256
#: Share of the features that the reader of classes must do without.
_DROPPED = 0.2


def teach(
    lesson: Lesson,
    network: Pupil,
    corpus: Corpus,
    likely: NDArray[np.float64],
    cost: Cost,
    state_file: Path,
    show: Callable[[int, float], None],
) -> list[float]:
    """Train in place, or go on from a checkpoint of the same lesson.

    Args:
        lesson: How long and how fast.
        network: Is left in evaluation mode, its weights averaged over the last steps.
        corpus: The patches.
        likely: How likely each patch is drawn, (N,), adding up to 1.
        cost: The loss.
        state_file: The checkpoint.
        show: Told the step and the mean loss since it was last told.

    Returns:
        The mean loss between two checkpoints, from the first steps to the last.

    Raises:
        ValueError: the checkpoint is of another lesson.
    """
    average = copy.deepcopy(network)
    optimiser = torch.optim.AdamW(_groups(network, lesson.decay), lr=lesson.rate)
    device = next(network.parameters()).device
    done, losses = 0, list[float]()
    if (state := checkpoint.load(state_file)) is not None:
        if state["lesson"] != asdict(lesson):
            raise ValueError(f"{state_file} is of another lesson: {state['lesson']}; move it away to begin anew")
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        done, losses = state["done"], state["losses"]
    network.train()
    cumulative = likely.cumsum()
    recent = []
    for step in range(done, lesson.steps):
        random = np.random.default_rng((lesson.seed, step))
        chosen = np.minimum(np.searchsorted(cumulative, random.random(lesson.batch)), len(likely) - 1)
        seen = torch.from_numpy(vary(corpus.logmel[chosen].astype(np.float32), corpus.mixed[chosen], random))
        for group in optimiser.param_groups:
            group["lr"] = lesson.rate * _part(lesson, step)
        # What a step leaves out is its own affair, whether the lesson was stopped before or not.
        torch.manual_seed(int(random.integers(1 << 31)))
        wrong, _ = cost(chosen, seen[:, None].to(device))
        optimiser.zero_grad()
        wrong.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        blend(average, network, 1 - min(0.998, step / (step + 50)))
        recent.append(wrong.item())
        if (step + 1) % lesson.keep == 0 or step + 1 == lesson.steps:
            losses.append(float(np.mean(recent)))
            recent.clear()
            show(step + 1, losses[-1])
            weights = {"network": network.state_dict(), "average": average.state_dict()}
            state = {"lesson": asdict(lesson), "done": step + 1, "losses": losses}
            checkpoint.save(state_file, state | weights | {"optimiser": optimiser.state_dict()})
    network.load_state_dict(average.state_dict())
    network.eval()
    return losses


def vary(patches: NDArray[np.float32], mixed: NDArray[np.bool_], random: np.random.Generator) -> NDArray[np.float32]:
    """Log-mel of the same sounds at another level, with some bands and moments missing (SpecAugment; Park, 2019).

    Args:
        patches: (N, 96, 64) float32; changed in place.
        mixed: (N,): mixtures fill the scale, and are mostly made fainter; recordings are as they are.
        random: Decides.
    """
    count, frames, bands = patches.shape
    gain = np.where(mixed, random.uniform(-36, 3, count), random.uniform(-15, 12, count))
    np.exp(patches, out=patches)
    patches -= FLOOR
    np.maximum(patches, 0, out=patches)
    patches *= (10 ** (gain / 20)).astype(np.float32)[:, None, None]
    patches += FLOOR
    np.log(patches, out=patches)
    for patch in patches[: count // 2]:
        level = patch.mean()
        band, moment = random.integers(bands), random.integers(frames)
        patch[:, band : band + random.integers(1, 9)] = level
        patch[moment : moment + random.integers(1, 13)] = level
    return patches


def distillation(pupil: Pupil, corpus: Corpus, scores: tuple[NDArray[np.float32], NDArray[np.float32]]) -> Cost:
    """How far the embedding is from YAMNet's, and the names from those that YAMNet reads from its own.

    Args:
        pupil: The network.
        corpus: The patches with the teacher's embedding.
        scores: Weights, (521, 1024), and bias, (521,), with which YAMNet reads its own embedding.
    """
    device = pupil.embed.weight.device
    weight, bias = (torch.tensor(part, device=device) for part in scores)
    spread = float(np.sqrt(corpus.embedding[::16].astype(np.float32)).var(axis=0).mean())

    def cost(chosen: NDArray[np.intp], seen: Tensor) -> tuple[Tensor, Tensor]:
        wanted = torch.from_numpy(corpus.embedding[chosen].astype(np.float32)).to(device)
        with autocast(device):
            features = pupil.tagger.features(seen)
            found, names = pupil.embed(features).float(), pupil.name(features).float()
        distance = functional.mse_loss(found, wanted.sqrt()) / spread
        told = functional.linear(wanted, weight, bias).sigmoid()
        confusion = functional.binary_cross_entropy_with_logits(names, told, reduction="sum") / len(chosen)
        return distance + _NAMES_SHARE * confusion, features

    return cost


@torch.no_grad()
def begin_naming(pupil: Pupil, meant: Sequence[Sequence[int]]) -> None:
    """Let the reader of classes begin as the mean of the names that mean each; the pupil has learnt these by itself.

    Args:
        pupil: The network after its first lesson.
        meant: For each class, its names.
    """
    reader = pupil.tagger.classify
    for place, names in enumerate(meant):
        reader.weight[place] = pupil.name.weight[names].mean(0)
        reader.bias[place] = pupil.name.bias[names].mean() + _SHARED


def naming(pupil: Pupil, corpus: Corpus, expert: NDArray[np.float32], hearing: Cost) -> Cost:
    """How far the classes are from the labels, and where these are unknown or too sure, from an expert's opinion.

    Args:
        pupil: The network, its reader of classes as `begin_naming` leaves it.
        corpus: The patches with their labels.
        expert: How likely each class is to one who reads YAMNet's embedding, (N, 7).
        hearing: The first lesson, so that it is not forgotten.
    """
    device = pupil.embed.weight.device
    first = pupil.tagger.classify.weight.detach().clone()

    def cost(chosen: NDArray[np.intp], seen: Tensor) -> tuple[Tensor, Tensor]:
        labels = corpus.labels[chosen]
        opinion = np.where(labels == UNKNOWN, expert[chosen], _TRUST * labels + (1 - _TRUST) * expert[chosen])
        wanted = torch.from_numpy(opinion.astype(np.float32)).to(device)
        forgotten, features = hearing(chosen, seen)
        logits = pupil.tagger.classify(functional.dropout(features.float(), _DROPPED))
        wrong = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="sum") / len(chosen)
        away = (pupil.tagger.classify.weight - first).square().sum()
        return wrong + _MEMORY * forgotten + _ANCHOR * away, features

    return cost


def finding(pupil: Pupil, corpus: Corpus) -> Cost:
    """How far the classes are from the labels, and from these alone.

    Args:
        pupil: The network.
        corpus: The patches with their labels.
    """
    device = pupil.embed.weight.device

    def cost(chosen: NDArray[np.intp], seen: Tensor) -> tuple[Tensor, Tensor]:
        labels = torch.from_numpy(corpus.labels[chosen].astype(np.float32)).to(device)
        with autocast(device):
            features = pupil.tagger.features(seen)
        logits = pupil.tagger.classify(functional.dropout(features.float(), _DROPPED))
        wanted = labels * (2 * _SURE - 1) + (1 - _SURE)
        wrong = functional.binary_cross_entropy_with_logits(logits, wanted, labels != UNKNOWN, reduction="sum")
        return wrong / len(chosen), features

    return cost


@torch.no_grad()
def troublesome(likely: NDArray[np.float64], pupil: Pupil, corpus: Corpus) -> NDArray[np.float64]:
    """How likely each patch is to be drawn, once those without events that are taken for one are drawn more often.

    Args:
        likely: How likely each was, (N,); what is not to be learnt from is not heard either.
        pupil: The network.
        corpus: The patches.

    Returns:
        (N,), adding up to as much; so do mixtures and recordings without events.
    """
    again = likely.copy()
    device = pupil.embed.weight.device
    for mixed in (False, True):
        places = np.flatnonzero((likely > 0) & ~corpus.labels.any(axis=1) & (corpus.mixed == mixed))
        for part in np.array_split(places, -(-len(places) // _HEARD) or 1):
            heard = torch.from_numpy(corpus.logmel[part].astype(np.float32))[:, None].to(device)
            again[part] *= _NO_TROUBLE + pupil.tagger(heard).sigmoid().amax(1).cpu().numpy()
        if len(places):
            again[places] *= likely[places].sum() / again[places].sum()
    return np.asarray(again)


@torch.no_grad()
def merge(pupil: Pupil, pupils: Sequence[Pupil]) -> None:
    """Give a network the mean weights of several that went on from it (model soups; Wortsman et al., ICML 2022).

    Lessons from one beginning end in one valley of the loss, and the mean lies deeper in it than most: what one of them
    owes to the order in which it happened to hear is not in it.

    Args:
        pupil: Is changed.
        pupils: Of the same beginning, their normalisations settled.
    """
    states = [one.state_dict() for one in pupils]
    for name, value in pupil.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.stack([state[name] for state in states]).mean(0))


def _part(lesson: Lesson, step: int) -> float:
    """Of the learning rate: up in a line, down along half a cosine."""
    if step < lesson.warm_up:
        return (step + 1) / lesson.warm_up
    return 0.005 + 0.995 * (1 + math.cos(math.pi * (step - lesson.warm_up) / (lesson.steps - lesson.warm_up))) / 2


def _groups(network: nn.Module, decay: float) -> Iterator[dict[str, object]]:
    """Weights decay; biases and normalisation do not."""
    yield {"params": [part for part in network.parameters() if part.ndim > 1], "weight_decay": decay}
    yield {"params": [part for part in network.parameters() if part.ndim <= 1], "weight_decay": 0.0}
