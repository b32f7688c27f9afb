"""A camera on a Jetson's CSI connector, through NVIDIA's Argus and GStreamer.

Only `nvarguscamerasrc` reaches the image processor; the rest of the pipeline scales in hardware and keeps the newest
frame alone. It has not run on a Jetson yet: the pipeline follows NVIDIA's Accelerated GStreamer guide.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import numpy as np

from agent.capture.frame import Frame, SourceError

_WEDGED = "Argus may be wedged: sudo systemctl restart nvargus-daemon"


@dataclass(frozen=True, slots=True)
class CsiOptions:
    """What `csi://0?width=1280&height=720&fps=30&flip=2` says.

    Attributes:
        sensor: Number of the sensor.
        width: Pixels.
        height: Pixels.
        fps: Frames a second of the sensor mode.
        flip: `flip-method` of nvvidconv, 0 to 7; 2 turns the picture upside down.
    """

    sensor: int = 0
    width: int = 1280
    height: int = 720
    fps: int = 30
    flip: int = 0

    @classmethod
    def parse(cls, address: str) -> CsiOptions:
        """The options in an address.

        Raises:
            SourceError: it has not this form.
        """
        try:
            parts = urlsplit(address)
            given = {key: int(value) for key, value in parse_qsl(parts.query, strict_parsing=bool(parts.query))}
            options = cls(sensor=int(parts.netloc), **given)
        except (ValueError, TypeError):
            form = "csi://0?width=1280&height=720&fps=30&flip=0"
            raise SourceError(f"{address}: write it as {form}; each option is a whole number") from None
        if not (0 <= options.sensor < 16 and 0 < options.fps <= 240 and 0 <= options.flip < 8):
            raise SourceError(f"{address}: sensor is 0 to 15, fps 1 to 240, flip 0 to 7")
        if not (16 <= options.width <= 8192 and 16 <= options.height <= 8192):
            raise SourceError(f"{address}: width and height are 16 to 8192 pixels")
        return options

    def pipeline(self) -> str:
        """The GStreamer pipeline."""
        return (
            f"nvarguscamerasrc sensor-id={self.sensor} ! video/x-raw(memory:NVMM),width={self.width},"
            f"height={self.height},framerate={self.fps}/1,format=NV12 ! nvvidconv flip-method={self.flip} ! "
            "video/x-raw,format=BGRx ! videoconvert ! video/x-raw,format=BGR ! "
            "appsink name=sink drop=true max-buffers=1 sync=false"
        )


class CsiSource:
    """Frames of a CSI camera as they arrive."""

    live = True
    frames_total = None

    def __init__(self, address: str) -> None:
        """Start the pipeline.

        Args:
            address: See `CsiOptions`.

        Raises:
            SourceError: GStreamer or its Argus plugin is missing (no Jetson), or the camera does not start.
        """
        options = CsiOptions.parse(address)
        self._name = f"csi://{options.sensor}"
        self._number = 0
        try:
            import gi

            gi.require_version("Gst", "1.0")
            gi.require_version("GstApp", "1.0")
            from gi.repository import GLib, Gst, GstApp
        except (ImportError, ValueError) as error:
            raise SourceError(
                f"{self._name}: needs GStreamer for Python: apt install python3-gi gir1.2-gstreamer-1.0 "
                f"gir1.2-gst-plugins-base-1.0, and a venv with --system-site-packages ({error})"
            ) from error
        del GstApp  # importing it gives the sink its methods
        Gst.init(None)
        if Gst.ElementFactory.find("nvarguscamerasrc") is None:
            raise SourceError(f"{self._name}: this machine has no nvarguscamerasrc: a CSI camera needs a Jetson")
        self._gst: Any = Gst
        try:
            self._pipeline: Any = Gst.parse_launch(options.pipeline())
        except GLib.Error as error:
            raise SourceError(f"{self._name}: GStreamer lacks a part of the pipeline: {error.message}") from error
        self._sink: Any = self._pipeline.get_by_name("sink")
        if self._pipeline.set_state(Gst.State.PLAYING) is Gst.StateChangeReturn.FAILURE:
            self.close()
            raise SourceError(f"{self._name}: does not start; {_WEDGED}")

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame, or None when none came within the time.

        Raises:
            SourceError: the pipeline has failed or ended.
        """
        sample = self._sink.try_pull_sample(int(timeout_s * self._gst.SECOND))
        if sample is None:
            self._raise_failure()
            return None
        shape = sample.get_caps().get_structure(0)
        width, height = shape.get_value("width"), shape.get_value("height")
        there, mapped = sample.get_buffer().map(self._gst.MapFlags.READ)
        if not there:
            return None
        try:
            rows = np.frombuffer(mapped.data, np.uint8).reshape(height, -1)
            image = rows[:, : 3 * width].reshape(height, width, 3).copy()  # rows may be padded
        finally:
            sample.get_buffer().unmap(mapped)
        frame = Frame(image, time.monotonic(), self._number)
        self._number += 1
        return frame

    def _raise_failure(self) -> None:
        types = self._gst.MessageType.ERROR | self._gst.MessageType.EOS
        message = self._pipeline.get_bus().pop_filtered(types)
        if message is not None:
            what = message.parse_error()[0].message if message.type == self._gst.MessageType.ERROR else "ended"
            raise SourceError(f"{self._name}: {what}; {_WEDGED}")

    def close(self) -> None:
        """Stop the pipeline; safe to call twice."""
        self._pipeline.set_state(self._gst.State.NULL)
