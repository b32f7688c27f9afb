"""From an address in the settings to a source of frames."""

from __future__ import annotations

from pathlib import Path

from agent.capture.frame import FrameSource, SourceError
from agent.settings import mask_url

SCHEMES = ("csi://", "v4l2:", "rtsp://", "file:", "sim:", "jetson:")


def open_source(source: str, *, fps: float, loop: bool, replay: bool) -> FrameSource:
    """Open a source; scenarios (`sim:`) are opened by `agent.simulate.source`.

    Args:
        source: Its address.
        fps: Frames wanted each second; a file is thinned out before it is converted.
        loop: Begin a file again at its end.
        replay: A file as fast as it is read, on its own clock.

    Raises:
        SourceError: no such kind of source, or it cannot be opened.
    """
    # Each source is imported when it is wanted: a device pays for the libraries of its own cameras alone.
    if source.startswith("file:"):
        from agent.capture.file import FileSource

        return FileSource(Path(source.removeprefix("file:")), fps=fps, loop=loop, replay=replay)
    if source.startswith("rtsp://"):
        from agent.capture.rtsp import RtspSource

        return RtspSource(source)
    if source.startswith("v4l2:"):
        from agent.capture.v4l2 import V4l2Source

        return V4l2Source(Path(source.removeprefix("v4l2:")))
    if source.startswith("csi://"):
        from agent.capture.csi import CsiSource

        return CsiSource(source)
    if source.startswith("jetson:"):
        from agent.capture.jetson import JetsonSource

        return JetsonSource(source)
    raise SourceError(f"{mask_url(source)}: no such kind of source; there are {', '.join(SCHEMES)}")
