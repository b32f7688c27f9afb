"""A stand-in for NVIDIA's jetson-inference, so far as Vigie calls it, with the traps of the real one.

Written from its documentation and source (github.com/dusty-nv/jetson-inference, PyDetectNet.cpp and detectNet.cpp).
What it has of the real one:
- an `argv` that is not empty overrides every other argument;
- a file is read as what its name says, `.onnx` as an SSD head and `.engine` as DetectNet_v2, and only by the right
  names of its blobs; there is no YOLO;
- `Detect` draws on the picture that it is given unless `overlay` is "none", and reads it as RGB;
- boxes end one pixel before the edge of the picture; every failure is a bare `Exception`.

Its limits: no network runs. Class after class is one saturated colour (`COLOURS`), and an object is the box around all
pixels of that colour, with `CONFIDENCE`. Nothing is downloaded, and no engine is built.
"""

# ruff: noqa: N801, N802 - the names are NVIDIA's

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jetson_utils import cudaDeviceSynchronize, cudaImage, later

CONFIDENCE = 0.75
#: Class number, and the colour, RGB, by which it is found.
COLOURS = {0: (255, 0, 0), 1: (0, 255, 0), 2: (0, 0, 255), 3: (255, 255, 0)}
#: The first names of some networks that it brings, as in their files of labels.
NETWORKS = {
    "ssd-mobilenet-v2": ("unlabeled", "person", "bicycle", "car"),
    "peoplenet": ("Person", "Bag", "Face"),
    "facedetect": ("face",),
}
_BLOBS = {
    ".onnx": ("input_0", "scores", "boxes"),
    ".engine": ("input_1", "output_cov/Sigmoid", "output_bbox/BiasAdd"),
}


@dataclass
class Detection:
    ClassID: int
    Confidence: float
    Left: float
    Top: float
    Right: float
    Bottom: float


class detectNet:
    def __init__(
        self,
        network: str = "ssd-mobilenet-v2",
        argv: list[str] | None = None,
        threshold: float = 0.5,
        model: str | None = None,
        labels: str | None = None,
        colors: str | None = None,
        input_blob: str = "data",
        output_cvg: str = "coverage",
        output_bbox: str = "bboxes",
    ) -> None:
        if argv:
            given = dict(part.removeprefix("--").split("=", 1) for part in argv if "=" in part)
            network, model, labels = given.get("network", "ssd-mobilenet-v2"), given.get("model"), given.get("labels")
            threshold = float(given.get("threshold", 0.5))
        name = model or network
        if name not in NETWORKS:
            blobs = _BLOBS.get(Path(name).suffix)
            if blobs != (input_blob, output_cvg, output_bbox) or not Path(name).is_file():
                raise Exception("jetson.inference -- detectNet failed to load network")  # noqa: TRY002
        self._classes = NETWORKS.get(name) or (
            tuple(Path(labels).read_text().splitlines()) if labels else tuple(f"class #{n}" for n in range(4))
        )
        self._threshold = threshold

    def GetNumClasses(self) -> int:
        return len(self._classes)

    def GetClassDesc(self, index: int) -> str:
        return self._classes[index]

    def Detect(
        self, image: cudaImage, width: int = 0, height: int = 0, overlay: str = "box,labels,conf"
    ) -> list[Detection]:
        if not isinstance(image, cudaImage):
            raise Exception("failed to get CUDA image from input")  # noqa: TRY002, TRY004 - as the bindings do
        cudaDeviceSynchronize()  # its post-processing on the processor waits for the network
        found = []
        for number in range(len(self._classes)):
            rows, columns = np.nonzero((image.memory == COLOURS[number]).all(axis=2))
            if len(rows) and self._threshold <= CONFIDENCE:
                right, bottom = min(columns.max() + 1, image.width - 1), min(rows.max() + 1, image.height - 1)
                box = (float(edge) for edge in (columns.min(), rows.min(), right, bottom))
                found.append(Detection(number, CONFIDENCE, *box))
        if overlay != "none" and found:
            later(lambda: np.copyto(image.memory, image.memory // 2))
        return found
