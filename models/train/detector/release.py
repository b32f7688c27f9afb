"""From the trained network to the files that the agent loads."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from models.train.export import export

SIZE = 416
#: FP16 ends near 6e-5 without losing precision; a class less likely than this is not there.
_LEAST = 1e-4


class Answer(nn.Module):
    """The network with its answer in YOLOX's format: box, objectness, classes."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pictures: Tensor) -> Tensor:
        """(N, 3, H, W), 0 to 255, to (N, cells, 5 + classes): box as it comes, then 0 to 1.

        Objectness is how likely the likeliest class is, so that a reader may skip whole cells; the classes are
        relative to it, so that their product is the class's own probability.
        """
        raw = self.network(pictures)
        likely = raw[..., 4:].sigmoid().clamp(min=_LEAST)
        objectness = likely.amax(-1, keepdim=True)
        return torch.cat([raw[..., :4], objectness, likely / objectness], -1)


def release(network: nn.Module, folder: Path) -> None:
    """Write `vigie-detector.onnx` and its FP16 sibling.

    Raises:
        ExportError: onnxruntime does not answer as torch does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    example = torch.randint(0, 256, (1, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(0)).float()
    export(
        Answer(network).eval(),
        example,
        folder / "vigie-detector.onnx",
        input_name="pictures",
        output_names=["predictions"],
        fp16=folder / "vigie-detector-fp16.onnx",
    )
