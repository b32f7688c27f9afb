from __future__ import annotations

from pathlib import Path

import pytest

from agent.device.l4t import L4t, l4t

RELEASE = (
    "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8 01:49:37 UTC\n"
)
STATUS = """Package: nano
Status: install ok installed
Version: 6.2-1

Package: nvidia-l4t-core
Status: install ok installed
Architecture: arm64
Version: 38.2.0-20250821174705

Package: zip
Version: 3.0-12
"""


def device(root: Path, *, release: str | None = None, status: str | None = None) -> Path:
    if release is not None:
        (root / "etc").mkdir()
        (root / "etc" / "nv_tegra_release").write_text(release)
    if status is not None:
        info = root / "var" / "lib" / "dpkg" / "info"
        info.mkdir(parents=True)
        (info / "nvidia-l4t-core.list").touch()
        (info.parent / "status").write_text(status)
    return root


def test_the_release_file_tells(tmp_path: Path) -> None:
    found = l4t(device(tmp_path, release=RELEASE, status=STATUS))
    assert found == L4t(36, "4.3")
    assert (str(found), found and found.jetpack) == ("36.4.3", "6.1 or 6.2")


def test_without_the_file_the_package_tells(tmp_path: Path) -> None:
    found = l4t(device(tmp_path, status=STATUS))
    assert (str(found), found and found.jetpack) == ("38.2.0", "7.0")


@pytest.mark.parametrize("release", ["", "R36", "# R (release)", "\0\0\0"])
def test_a_file_that_says_nothing_falls_back_to_the_package(tmp_path: Path, release: str) -> None:
    assert str(l4t(device(tmp_path, release=release, status=STATUS))) == "38.2.0"


def test_an_unknown_l4t_is_named_as_it_is(tmp_path: Path) -> None:
    found = l4t(device(tmp_path, release="# R41 (release), REVISION: 0, GCID: 1\n"))
    assert (str(found), found and found.jetpack) == ("41.0", None)


@pytest.mark.parametrize("status", [None, "", STATUS.replace("nvidia-l4t-core", "other")])
def test_any_other_machine_is_no_jetson(tmp_path: Path, status: str | None) -> None:
    assert l4t(device(tmp_path, status=status)) is None
