"""From the trained network to the files that the agent loads."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from agent.evaluate.detection import LOWEST_SCORE
from agent.inference.backend import select
from agent.inference.registry import DetectorModel, PictureInput
from agent.perception.detect import ModelDetector
from models.train.detector.calibrate import calibrate
from models.train.detector.network import CLASSES
from models.train.export import export

NAME = "vigie-detector"

SIZE = 416
#: FP16 ends near 6e-5 without losing precision; a class less likely than this is not there.
_LEAST = 1e-4


class Answer(nn.Module):
    """The network with its answer in YOLOX's format: box, objectness, classes; logits stretched and shifted."""

    factors: Tensor
    summands: Tensor

    def __init__(self, network: nn.Module, factors: Tensor, summands: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("factors", factors)
        self.register_buffer("summands", summands)

    def forward(self, pictures: Tensor) -> Tensor:
        """(N, 3, H, W), 0 to 255, to (N, cells, 5 + classes): box as it comes, then 0 to 1.

        Objectness is how likely the likeliest class is, so that a reader may skip whole cells; the classes are
        relative to it, so that their product is the class's own probability.
        """
        raw = self.network(pictures)
        likely = (raw[..., 4:] * self.factors + self.summands).sigmoid().clamp(min=_LEAST)
        objectness = likely.amax(-1, keepdim=True)
        return torch.cat([raw[..., :4], objectness, likely / objectness], -1)


def release(network: nn.Module, folder: Path, data: Path) -> None:
    """Write `vigie-detector.onnx`, its scores calibrated on the held-back pictures, and its FP16 sibling.

    Raises:
        ExportError: onnxruntime does not answer as torch does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{NAME}.onnx"
    classes = len(CLASSES)
    _write(Answer(network, torch.ones(classes), torch.zeros(classes)), path)
    _write(Answer(network, *calibrate(_opened(path), data)), path, folder / f"{NAME}-fp16.onnx")


def _write(answer: Answer, path: Path, fp16: Path | None = None) -> None:
    example = torch.randint(0, 256, (1, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(0)).float()
    export(answer.eval(), example, path, input_name="pictures", output_names=["predictions"], fp16=fp16)


def _opened(path: Path) -> ModelDetector:
    model = DetectorModel(
        name=NAME,
        version="0",
        task="detect",
        decoder="yolox",
        classes={name: place for place, name in enumerate(CLASSES)},
        input=PictureInput(width=SIZE, height=SIZE, colour="bgr", white=255, letterbox=114),
        file=path.name,
        sha256="0" * 64,
        source="",
        licence="Apache-2.0",
    )
    backend, _ = select("onnxruntime", path.read_bytes(), torch.get_num_threads())
    return ModelDetector(backend, model, LOWEST_SCORE)
