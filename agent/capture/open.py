"""From an address in the settings to a source of frames."""

from __future__ import annotations

from pathlib import Path

from agent.capture.frame import FrameSource, SourceError
from agent.settings import mask_url

SCHEMES = ("csi://", "v4l2:", "rtsp://", "file:")


def open_source(source: str, *, fps: float, loop: bool, replay: bool) -> FrameSource:
    """Open a source; scenarios (`sim:`) are opened by `agent.simulate.source`.

    Args:
        source: Its address.
        fps: Frames wanted each second.
        loop: Begin a file again at its end.
        replay: A file as fast as it is read, on its own clock.

    Raises:
        SourceError: no such scheme, or the source cannot be opened.
    """
    if source.startswith("file:"):
        from agent.capture.file import FileSource

        return FileSource(Path(source.removeprefix("file:")), fps=fps, loop=loop, replay=replay)
    raise SourceError(f"{mask_url(source)}: no such kind of source; there are {', '.join(SCHEMES)}")
