"""Addresses of cameras: each kind opens what it says, and what cannot be had is refused in words."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.capture.csi import CsiOptions
from agent.capture.frame import SourceError
from agent.capture.open import open_source


def refusal(address: str) -> str:
    with pytest.raises(SourceError) as caught:
        open_source(address, fps=10, loop=False, replay=False)
    return str(caught.value)


def test_an_unknown_kind_names_those_there_are() -> None:
    assert "csi://, v4l2:, rtsp://, file:, sim:" in refusal("http://camera/stream")


def test_a_password_is_never_repeated() -> None:
    assert "secret" not in refusal("http://user:secret@camera/stream")


def test_a_usb_camera_that_is_absent_says_which_there_are(tmp_path: Path) -> None:
    assert "no such device; there are:" in refusal(f"v4l2:{tmp_path}/video9")


def test_a_file_that_is_no_camera_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "video0"
    path.write_bytes(b"")
    assert "cannot be opened" in refusal(f"v4l2:{path}")


def test_a_csi_camera_needs_a_jetson_and_says_so() -> None:
    said = refusal("csi://0")
    assert "python3-gi" in said or "needs a Jetson" in said


@pytest.mark.parametrize(
    "address", ["csi://x", "csi://0?flip=9", "csi://0?colour=1", "csi://0?width=abc", "csi://99", "csi://"]
)
def test_a_csi_address_that_is_wrong_shows_the_form(address: str) -> None:
    with pytest.raises(SourceError, match=r"write it as|sensor is 0 to 15"):
        CsiOptions.parse(address)


@given(st.text(max_size=40))
def test_no_csi_address_gets_anything_but_whole_numbers_into_the_pipeline(text: str) -> None:
    try:
        options = CsiOptions.parse(f"csi://{text}")
    except SourceError:
        return
    assert f"sensor-id={options.sensor} " in options.pipeline()
    assert all(isinstance(v, int) for v in (options.sensor, options.width, options.height, options.fps, options.flip))
