"""detectNet of NVIDIA's jetson-inference (github.com/dusty-nv/jetson-inference), where it is installed; never required.

It scales the picture, runs its own TensorRT engine and clusters the boxes by itself. So it is no `Backend` for the
networks of our registry: a picture goes in, boxes come out. It has not run on a Jetson yet; the calls follow its Python
bindings (PyDetectNet.cpp, PyNumpy.cpp), and the tests a stand-in written from them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.inference.backend import InferenceError

#: What detectNet takes a file for, by the end of its name, and how that kind calls its input and outputs: an SSD head
#: of pytorch-ssd, or DetectNet_v2 of the TAO toolkit.
_BLOBS = {
    ".onnx": {"input_blob": "input_0", "output_cvg": "scores", "output_bbox": "boxes"},
    ".engine": {"input_blob": "input_1", "output_cvg": "output_cov/Sigmoid", "output_bbox": "output_bbox/BiasAdd"},
}


class DetectNet:
    """A network of jetson-inference. Not thread-safe.

    Attributes:
        classes: The names of its classes, in its own words.
    """

    def __init__(self, network: str, labels: Path | None, score: float) -> None:
        """Load a network.

        Args:
            network: Name of one that it brings, or the path of an `.onnx` or `.engine` file.
            labels: Names of the classes, one a line, for a file.
            score: Lowest score of a box, 0 to 1.

        Raises:
            InferenceError: jetson-inference is not installed, or it cannot load the network.
        """
        try:
            import jetson_inference
            import jetson_utils
        except ImportError as error:
            raise InferenceError(f"jetson-inference is not installed: {error}") from error
        self._cuda: Any = jetson_utils
        arguments: dict[str, Any] = {"network": network, "threshold": score}
        suffix = Path(network).suffix
        if suffix:
            if suffix not in _BLOBS:
                raise InferenceError(
                    f"{network}: detectNet reads SSD (.onnx) and DetectNet_v2 (.engine), no other file"
                )
            if not Path(network).is_file():
                raise InferenceError(f"{network}: no such file")
            arguments |= {"model": network, **_BLOBS[suffix]}
        if labels is not None:
            arguments["labels"] = str(labels)
        # `argv` stays empty: anything in it would override all of these.
        try:
            self._net: Any = jetson_inference.detectNet(**arguments)
        except Exception as error:  # the bindings raise nothing narrower
            raise InferenceError(
                f"detectNet cannot load {network}: run `detectnet --model={network}` once by hand, "
                f"which fetches what it brings and builds the engine ({error})"
            ) from error
        self.classes = tuple(str(self._net.GetClassDesc(n)) for n in range(self._net.GetNumClasses()))
        self._buffers: dict[tuple[int, int], tuple[Any, NDArray[np.uint8]]] = {}

    def run(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.intp]]:
        """What it finds in a picture; the picture stays as it is.

        Args:
            image: (H, W, 3) uint8, BGR.

        Returns:
            Boxes, (N, 4) float32, x0 y0 x1 y1 in pixels of the picture, which may lack an area; scores, (N,) float32;
            places in `classes`, (N,).

        Raises:
            InferenceError: detectNet failed.
        """
        try:
            capsule, pixels = self._buffer(*image.shape[:2])
            # The memory is shared, not copied: whatever the GPU still does with it must be over.
            self._cuda.cudaDeviceSynchronize()
            cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=pixels)
            found = self._net.Detect(capsule, overlay="none")
        except Exception as error:  # the bindings raise nothing narrower
            raise InferenceError(f"detectNet: {error}") from error
        boxes = np.array([(d.Left, d.Top, d.Right, d.Bottom) for d in found], np.float32).reshape(-1, 4)
        scores = np.array([d.Confidence for d in found], np.float32)
        return boxes, scores, np.array([d.ClassID for d in found], np.intp)

    def _buffer(self, height: int, width: int) -> tuple[Any, NDArray[np.uint8]]:
        """Memory that processor and GPU share, for the pictures of one size: as detectNet and as numpy know it."""
        if (height, width) not in self._buffers:
            capsule = self._cuda.cudaAllocMapped(width=width, height=height, format="rgb8")
            self._buffers[height, width] = capsule, self._cuda.cudaToNumpy(capsule)
        return self._buffers[height, width]
