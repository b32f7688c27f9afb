"""Power mode and throttling, from the files of a Jetson."""

from __future__ import annotations

import math
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from agent.device.power import PowerMode, over_currents, power_modes, throttled


def put(root: Path, path: str, text: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_the_present_mode_and_the_boards_own(tmp_path: Path) -> None:
    config = "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n< PM_CONFIG DEFAULT=0 >\n"
    put(tmp_path, "etc/nvpmodel.conf", config)
    own = PowerMode(0, "15W")
    assert power_modes(tmp_path) == (own, own), "before any choice it is the board's own"
    put(tmp_path, "var/lib/nvpmodel/status", "pmode:0002 fmode:quiet\n")
    assert power_modes(tmp_path) == (PowerMode(2, "MAXN_SUPER"), own)
    put(tmp_path, "var/lib/nvpmodel/status", "pmode:0009\n")
    assert power_modes(tmp_path) is None, "a mode that the file does not know"
    assert (own.watts, PowerMode(2, "MAXN").watts) == (15, math.inf)


def test_no_jetson_has_no_modes(tmp_path: Path) -> None:
    assert power_modes(tmp_path) is None
    assert throttled(tmp_path) == []
    assert over_currents(tmp_path) == 0


def test_a_fan_that_turns_slows_nothing_down(tmp_path: Path) -> None:
    for number, (kind, state) in enumerate(
        [("pwm-fan", "3"), ("cpu-throttle-alert", "1"), ("gpu-throttle-alert", "-1")]
    ):
        put(tmp_path, f"sys/class/thermal/cooling_device{number}/type", kind)
        put(tmp_path, f"sys/class/thermal/cooling_device{number}/cur_state", state)
    assert throttled(tmp_path) == ["cpu-throttle-alert"]


def test_over_currents_are_added_up(tmp_path: Path) -> None:
    for name, text in (("oc1_event_cnt", "2\n"), ("oc3_event_cnt", "1\n"), ("oc2_event_cnt", "odd")):
        put(tmp_path, f"sys/class/hwmon/hwmon4/{name}", text)
    assert over_currents(tmp_path) == 3


@given(st.text(), st.text())
def test_no_file_breaks_it(tmp_path_factory: object, config: str, status: str) -> None:
    root = tmp_path_factory.mktemp("root")  # type: ignore[attr-defined]
    put(root, "etc/nvpmodel.conf", config)
    put(root, "var/lib/nvpmodel/status", status)
    power_modes(root)
