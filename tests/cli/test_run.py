"""`vigie run` with a configuration that cannot work."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_a_configuration_that_cannot_work_ends_at_once_with_2_and_a_hint(tmp_path: Path) -> None:
    config = tmp_path / "vigie.toml"
    config.write_text("[mqtt]\nhots = 'x'\n")
    command = [sys.executable, "-m", "agent", "run", "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "did you mean 'host'" in done.stderr
