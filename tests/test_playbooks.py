"""What the playbooks promise on paper: documented variables, and settings that the agent reads as they were meant."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from agent.settings import load

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CHECKOUT = Path(__file__).parents[1]
ROLES = CHECKOUT / "ansible" / "roles"
EXAMPLE = CHECKOUT / "ansible" / "inventories" / "example"


def _filter() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "vigie_toml", ROLES / "vigie_agent" / "filter_plugins" / "vigie_toml.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TO_TOML = _filter().to_toml


def _options(role: str) -> dict[str, dict[str, Any]]:
    specs = yaml.safe_load((ROLES / role / "meta" / "argument_specs.yml").read_text())
    options: dict[str, dict[str, Any]] = specs["argument_specs"]["main"]["options"]
    return options


@pytest.mark.parametrize("role", [path.name for path in sorted(ROLES.iterdir())])
def test_every_variable_of_a_role_is_specified(role: str) -> None:
    options = _options(role)
    defaults = yaml.safe_load((ROLES / role / "defaults" / "main.yml").read_text()) or {}
    assert set(defaults) <= set(options)
    texts = "".join(path.read_text() for part in ("tasks", "templates") for path in (ROLES / role / part).glob("*"))
    for name in options:
        assert name in texts or name in str(defaults), f"{name} is specified and not used"


@pytest.mark.parametrize("role", ["jetson_base", "vigie_agent", "vigie_broker", "vigie_models"])
def test_the_integrator_reads_of_every_variable_what_its_role_says(role: str) -> None:
    rows = dict(
        re.findall(r"^\| `(\w+)` \| (.*?) \| .* ?\|$", (CHECKOUT / "docs" / "integrator.md").read_text(), re.MULTILINE)
    )
    for name, option in _options(role).items():
        said = option["description"]
        words = " ".join(" ".join(said).split() if isinstance(said, list) else said.split())
        assert rows.get(name) == re.sub(r"C\(([^)]*)\)", r"`\1`", words)


def test_the_example_sets_what_roles_have() -> None:
    known = {name for role in ROLES.iterdir() for name in _options(role.name)}
    for file in (EXAMPLE / "group_vars").glob("*.yml"):
        names = {name for name in yaml.safe_load(file.read_text()) if name.startswith(("jetson_base_", "vigie_"))}
        assert names - known <= {"vigie_command", "vigie_pki_folder", "vigie_pki_password_file"}


@pytest.mark.parametrize("site", ["site_old_port", "site_market"])
def test_the_agent_reads_the_cameras_of_the_example(site: str, tmp_path: Path) -> None:
    said = yaml.safe_load((EXAMPLE / "group_vars" / f"{site}.yml").read_text())
    table = {
        "device": {"site": said["vigie_agent_site"], "name": "cam-01", "labels": said.get("vigie_agent_labels", [])},
        "camera": said["vigie_agent_cameras"],
        "microphone": said.get("vigie_agent_microphone", {}),
    }
    file = tmp_path / "vigie.toml"
    file.write_text(TO_TOML(table))
    settings = load(file)
    assert settings.device.site == said["vigie_agent_site"]
    assert [camera.name for camera in settings.cameras] == [camera["name"] for camera in table["camera"]]


VALUES = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1), inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.text(min_size=1), VALUES, max_size=4))
def test_a_table_is_in_toml_what_it_is_in_yaml(table: dict[str, Any]) -> None:
    assert tomllib.loads(TO_TOML(table)) == table


def test_what_toml_cannot_say_is_refused_with_its_place() -> None:
    with pytest.raises(TypeError, match=r"camera\.since: TOML has no form for"):
        TO_TOML({"camera": {"since": object()}})
