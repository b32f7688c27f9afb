"""Train the sound tagger: `python -m models.train.sound`.

Five networks a variant: one for each fold, which learns nothing of it and is only tested (`vigie eval sound --folds`),
and one of everything, which is shipped. Stop it at any time; the same command goes on after the last checkpoint.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from agent.evaluate.sounds import FOLDS, Sound, balanced, folds, read_manifest
from agent.evaluate.yamnet import Yamnet, fit
from agent.perception.logmel import BANDS, FRAMES
from agent.perception.tag import CLASSES
from models.train.export import export
from models.train.sound.corpus import Amounts, Corpus, build, yamnet_scores
from models.train.sound.learn import (
    Cost,
    Lesson,
    begin_naming,
    distillation,
    finding,
    merge,
    naming,
    teach,
    troublesome,
)
from models.train.sound.network import Pupil, Tagger
from models.train.sound.start import keep, start

_console = Console(stderr=True)
#: How often a patch as it was recorded is heard, beside one of a mixture: these few are soon learnt by heart.
_AS_RECORDED = 0.4


@dataclass(frozen=True, slots=True)
class Variant:
    """One network to be made.

    Attributes:
        name: Of its files.
        uses: What it may learn from.
        hearing: Its first lesson; each variant goes on with what the one before it has heard. None: it goes on from a
            released network, which can hear and name.
    """

    name: str
    uses: tuple[str, ...]
    hearing: Lesson | None


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that decides what comes out.

    Attributes:
        amounts: Patches made of recordings.
        variants: The networks.
        naming: The second lesson.
        finding: The last lesson; before each part those patches come to the front that are no event and are taken for
            one.
        times: How often each part of it is learnt from the same beginning, in another order each time. The mean of what
            comes of it goes on.
    """

    amounts: Amounts
    variants: tuple[Variant, ...]
    naming: Lesson
    finding: tuple[Lesson, ...]
    times: int = 4


_FINDING = (Lesson(75, 1.2e-3, seed=4, warm_up=10, keep=25), Lesson(75, 8.4e-4, seed=5, warm_up=10, keep=25))
RECIPE = Recipe(
    Amounts(mixtures=38_000, strange=60_000, imitations=2000, laid=3000),
    (
        Variant("vigie-sound", ("ship",), Lesson(5000, 2e-3)),
        Variant("vigie-sound-nc", ("ship", "noncommercial"), Lesson(2000, 1e-3, seed=2)),
    ),
    Lesson(300, 3e-4, seed=3),
    _FINDING,
)
#: The last lesson alone, from a released `vigie-sound`: it has learnt from all that is free, which thus is no test.
FURTHER = Recipe(
    Amounts(mixtures=0, strange=0, imitations=0, laid=3000),
    (Variant("vigie-sound-nc", ("ship", "noncommercial"), None),),
    RECIPE.naming,
    _FINDING,
)
#: So many layers of a released network stay as they are: they know what a sound is made of.
_KEPT_LAYERS = 4
SMOKE = Recipe(
    Amounts(mixtures=1000, strange=1000, imitations=0, laid=1000),
    (Variant("vigie-sound", ("ship",), Lesson(60, 2e-3, warm_up=10, keep=10)),),
    Lesson(30, 5e-4, seed=3, warm_up=5, keep=10),
    (Lesson(30, 5e-4, seed=4, warm_up=5, keep=10),),
    times=2,
)


def main(
    data: Annotated[Path, typer.Option(envvar="VIGIE_DATA", help="Shared data.")] = Path("../shared/data"),
    scratch: Annotated[Path, typer.Option(help="Checkpoints and caches.")] = Path(".cache/train/sound"),
    out: Annotated[Path, typer.Option(help="Folder of the finished ONNX files.")] = Path("models"),
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    released: Annotated[
        Path | None,
        typer.Option(
            "--start", help="Released vigie-sound (.onnx) to go on from: the last lesson makes it vigie-sound-nc."
        ),
    ] = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="A few sounds and steps: shows that the loss falls.")] = False,
) -> None:
    """Make the sound tagger from the shared recordings."""
    torch.set_num_threads(threads)
    sounds = read_manifest(data / "audio" / "manifest.csv")
    recipe = FURTHER if released else RECIPE
    if smoke:
        recipe, sounds, scratch, out = SMOKE, sounds[::12], scratch / "smoke", scratch / "smoke"
    corpus = build(data, sounds, recipe.amounts, scratch / "corpus", _track, taught=not released)
    course = Course(recipe, sounds, corpus, yamnet_scores(data), Yamnet(data / "models").meant, scratch, released)
    for fold in () if smoke else range(FOLDS):
        for name, network, _ in course.attend(fold):
            release(network, scratch / "folds" / f"{name}-{fold}.onnx")
    for name, network, losses in course.attend(None):
        release(network, out / f"{name}.onnx", out / f"{name}-fp16.onnx")
        _console.print(f"{name}: loss {', then '.join(f'{lesson[0]:.3f} to {lesson[-1]:.3f}' for lesson in losses)}")
        if not all(lesson[-1] < lesson[0] for lesson in losses):
            _console.print("the loss did not fall")
            raise typer.Exit(1)


class Course:
    """The lessons of a recipe on one corpus."""

    def __init__(
        self,
        recipe: Recipe,
        sounds: Sequence[Sound],
        corpus: Corpus,
        scores: tuple[NDArray[np.float32], NDArray[np.float32]],
        meant: Sequence[Sequence[int]],
        scratch: Path,
        released: Path | None = None,
    ) -> None:
        self._released = released
        self._recipe, self._sounds, self._corpus, self._scratch = recipe, sounds, corpus, scratch
        self._scores, self._meant = scores, meant
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._fold = folds(sounds)[corpus.sound]
        self._use = np.array([sound.use for sound in sounds])[corpus.sound]

    def attend(self, fold: int | None) -> Iterable[tuple[str, Tagger, list[list[float]]]]:
        """Each variant without one fold, or of all: its name, its network on the processor, its losses by lesson."""
        place = self._scratch / ("all" if fold is None else f"fold-{fold}")
        torch.manual_seed(1)
        pupil = Pupil(len(CLASSES))
        if self._released:
            start(pupil, self._released)
            keep(pupil, _KEPT_LAYERS)
        pupil = pupil.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        for variant in self._recipe.variants:
            learnt = np.isin(self._use, variant.uses) & (self._fold != fold)
            losses = []
            if variant.hearing:
                cost = distillation(pupil, self._corpus, self._scores)
                likely = learnt * np.where(self._corpus.mixed, 1.0, _AS_RECORDED)
                state_file = place / f"{variant.name}-hearing.pt"
                losses.append(self._teach(variant.hearing, pupil, likely / likely.sum(), cost, state_file))
            graduate = copy.deepcopy(pupil)
            if variant.hearing:
                begin_naming(graduate, self._meant)
                losses.append(self._name(graduate, learnt, place / f"{variant.name}-naming.pt"))
            losses += self._find(graduate, learnt, place / f"{variant.name}-finding")
            yield variant.name, graduate.tagger.cpu(), losses

    def _name(self, pupil: Pupil, learnt: NDArray[np.bool_], state_file: Path) -> list[float]:
        likely = self._likely(learnt)
        places = np.flatnonzero(learnt)
        expert = fit(self._corpus.embedding[places].astype(np.float32), self._corpus.labels[places], likely[places])
        opinion = expert.read(self._corpus.embedding.astype(np.float32))
        cost = naming(pupil, self._corpus, opinion, distillation(pupil, self._corpus, self._scores))
        return self._teach(self._recipe.naming, pupil, likely, cost, state_file)

    def _find(self, pupil: Pupil, learnt: NDArray[np.bool_], state_files: Path) -> list[list[float]]:
        """The last lesson, and half the way back, which keeps what was known (WiSE-FT; Wortsman et al., CVPR 2022)."""
        likely = self._likely(
            learnt & ((self._corpus.labels == 1).any(axis=1) | (self._corpus.labels == 0).all(axis=1))
        )
        # A mean of weights has no normalisation of its own.
        pupil.settled = True
        before = copy.deepcopy(pupil)
        losses = [list[float]() for _ in range(self._recipe.times)]
        for part, lesson in enumerate(self._recipe.finding):
            likely = troublesome(likely, pupil, self._corpus)
            pupils = [copy.deepcopy(pupil) for _ in range(self._recipe.times)]
            for time, one in enumerate(pupils):
                state_file = state_files.with_name(f"{state_files.name}-{part}-{time}.pt")
                again = replace(lesson, seed=lesson.seed + len(self._recipe.finding) * time)
                losses[time] += self._teach(again, one, likely, finding(one, self._corpus), state_file)
            merge(pupil, pupils)
        merge(pupil, [before, pupil])
        return losses

    def _likely(self, learnt: NDArray[np.bool_]) -> NDArray[np.float64]:
        """How likely each patch is drawn for naming: mixtures and recordings half and half."""
        likely = (learnt & self._corpus.mixed) / (2 * (learnt & self._corpus.mixed).sum())
        recorded = learnt & ~self._corpus.mixed
        likely[recorded] = balanced(self._sounds, self._corpus.sound[recorded]) / 2
        return np.asarray(likely)

    def _teach(
        self, lesson: Lesson, pupil: Pupil, likely: NDArray[np.float64], cost: Cost, state_file: Path
    ) -> list[float]:
        def show(step: int, loss: float) -> None:
            _console.print(
                f"{state_file.parent.name} {state_file.stem}: step {step} of {lesson.steps}, loss {loss:.3f}"
            )

        return teach(lesson, pupil, self._corpus, likely, cost, state_file, show)


def release(network: Tagger, path: Path, fp16: Path | None = None) -> None:
    """Write a network as ONNX.

    Raises:
        ExportError: onnxruntime does not answer as torch does.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    example = torch.randn(1, 1, FRAMES, BANDS, generator=torch.Generator().manual_seed(0)) * 2 - 2
    export(network.eval(), example, path, input_name="logmel", output_names=["logits"], fp16=fp16)


def _track(items: Sequence[Any], what: str) -> Iterable[Any]:
    return track(items, what, console=_console)


if __name__ == "__main__":
    typer.run(main)
