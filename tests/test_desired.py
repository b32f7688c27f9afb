"""What a manager may change of a device, and what not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.desired import Wanted, changeable, local_words, with_wanted
from agent.settings import Settings, SettingsError

SQUARE = [[0, 0], [1, 0], [1, 1], [0, 1]]
OWN = Settings.model_validate(
    {
        "device": {"site": "old-port", "name": "cam-07"},
        "camera": [
            {
                "name": "north",
                "source": "rtsp://user:secret@10.0.0.2/h264",
                "zone": [{"name": "quay", "polygon": SQUARE}],
                "rule": [{"type": "crowd.gathering", "zone": "quay", "min_persons": 7}],
            },
            {"name": "south", "source": "csi://0", "fps": 5},
        ],
    }
)


def camera(**more: Any) -> dict[str, Any]:
    return {"camera": [{"name": "north", **more}]}


def test_an_empty_document_changes_nothing() -> None:
    assert with_wanted(OWN, {}).digest() == OWN.digest()


def test_what_it_names_is_replaced_and_all_else_stays() -> None:
    pier = {"name": "pier", "polygon": SQUARE}
    found = with_wanted(OWN, camera(zone=[pier], rule=[{"type": "crowd.density", "zone": "pier"}]))
    assert found.zone_names == ("pier",)
    assert found.cameras[0].source == OWN.cameras[0].source
    assert found.cameras[1] == OWN.cameras[1]
    assert with_wanted(OWN, camera(fps=2)).cameras[0].zones == OWN.cameras[0].zones


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ({"policy_file": "/tmp/mine"}, "unknown key"),
        ({"fleet": {"trust_file": "/tmp/mine"}}, "unknown key"),
        ({"mqtt": {"host": "elsewhere"}}, "unknown key"),
        ({"device": {"name": "cam-08"}}, "unknown key"),
        ({"inference": {"models": "/tmp"}}, "unknown key"),
        ({"microphone": {"source": "device:x"}}, "unknown key"),
        ({"camera": [{"name": "west"}]}, "no camera 'west'"),
        (camera(source="rtsp://elsewhere/x"), "pattern"),
        (camera(source="file:/etc/passwd"), "pattern"),
        (camera(source="v4l2:/dev/../etc/passwd"), "pattern"),
        (camera(fps=1000), "less than"),
        (camera(rule=[{"type": "crowd.density", "zone": "roof"}]), "not on camera"),
        (camera(zone=[]), "not on camera"),
        ({"camera": [{"name": "north"}, {"name": "north"}]}, "twice"),
    ],
)
def test_what_a_manager_may_not_change_is_refused(table: dict[str, Any], why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        with_wanted(OWN, table)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["camera", "microphone", "name", "zone", "rule", "source", "fps", "type", "polygon", "x"]
                ),
                inner,
                max_size=3,
            )
        ),
        max_leaves=12,
    )
)
def test_any_table_is_taken_whole_or_refused_in_words(table: Any) -> None:
    try:
        found = with_wanted(OWN, table)
    except SettingsError:
        return
    assert found.mqtt == OWN.mqtt
    assert found.policy_file == OWN.policy_file
    assert found.fleet == OWN.fleet


def test_what_is_told_of_the_settings_has_no_password_and_can_be_wanted_again() -> None:
    told = changeable(OWN)
    assert "secret" not in str(told)
    assert told["camera"][0]["source"] == "rtsp://***@10.0.0.2/h264"
    for table in told["camera"]:
        del table["source"]
    assert with_wanted(OWN, told).digest() == OWN.digest()


def test_an_update_of_the_agent_is_no_local_edit() -> None:
    assert b"fps" not in local_words(Settings.model_validate({"camera": [{"name": "north", "source": "csi://0"}]}))
    edited = with_wanted(OWN, camera(fps=2))
    assert local_words(edited) != local_words(OWN)


def test_only_a_camera_and_a_microphone_have_a_place_in_a_document() -> None:
    assert set(Wanted.model_fields) == {"cameras", "microphone"}
